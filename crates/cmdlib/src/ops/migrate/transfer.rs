//! What moves the running instance.

use std::future::{Future, ready};
use std::path::PathBuf;

use gnt_config::{Migration, Node};

use crate::ops::route::Route;
use crate::saga::Report;

/// What a manager says of a move that failed.
pub type TransferError = Box<dyn std::error::Error + Send + Sync>;

/// A manager's way to move a running instance to another node. Its disks are usable on both while it does.
pub trait Transfer {
    /// Moves the instance, and tells what came of it.
    fn transfer(&self, handover: &Handover) -> impl Future<Output = Transferred>;

    /// Name or UUID of the one node that the instance runs on; none if it runs on none or on two, or that cannot be told.
    fn locate(&self, _handover: &Handover) -> impl Future<Output = Option<String>> {
        ready(None)
    }
}

/// What came of moving an instance.
#[derive(Debug)]
pub enum Transferred {
    /// It runs on the target, and nowhere else.
    Moved,
    /// It runs on the source, and nowhere else.
    Stayed(TransferError),
    /// It may run on either: the manager is asked to [locate](Transfer::locate) it.
    Unknown(TransferError),
}

/// What is moved from where to where.
#[derive(Debug, Clone)]
pub struct Handover {
    /// Name of the instance.
    pub instance: String,
    /// The node that it runs on.
    pub source: Node,
    /// The node that it is to run on.
    pub target: Node,
    /// Its disks there, in order.
    pub disks: Vec<HandoverDisk>,
}

/// Where a disk is on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverDisk {
    /// The link to its device; the same on every node, but for disks that have no path.
    pub link: Option<PathBuf>,
    /// What the hypervisor reaches it with, if its parameter `access` is `userspace`.
    pub uri: Option<String>,
}

impl Handover {
    /// Along `route`, with what the `report` of its preparation tells of the disks.
    pub(super) fn of(instance: &str, route: Route, report: &Report) -> Self {
        let assembled = report.assembled.iter();
        let disks = assembled.map(|disk| HandoverDisk {
            link: disk.assembled.link.clone(),
            uri: disk.assembled.uri.clone(),
        });
        Self {
            instance: instance.to_owned(),
            disks: disks.collect(),
            source: route.source,
            target: route.target,
        }
    }

    /// The mark that the instance has meanwhile, which `operation` made.
    pub(super) fn migration(&self, operation: Option<String>) -> Migration {
        Migration {
            source: self.source.uuid.clone(),
            target: self.target.uuid.clone(),
            operation,
        }
    }
}
