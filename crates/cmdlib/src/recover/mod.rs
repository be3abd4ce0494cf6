//! Rebuilding the configuration from what is on the nodes, in two steps: [`propose`] looks and says what it would do and what is missing,
//! [`import`] does it.
//!
//! Nothing that the configuration has is ever changed: what is proposed is added to it. The nodes must be in it before.

mod candidate;
mod clusters;
mod import;
mod instances;
mod known;
mod mirrors;
mod running;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use gnt_bdev::{ErrorKind, Owner};
use gnt_config::template::REACHED_BY_SOME;
use gnt_config::{Disk, Instance};
use gnt_store::Store;
use serde::Serialize;
use strum::Display;

use crate::error::{Result, chain};
use crate::node::NodeError;
use crate::saga::Nodes;
use crate::survey::{Seen, Survey, is_absent, is_shared, survey};
pub use import::{Selection, import};
use known::Known;

/// What can be rebuilt, and what is to be said of it.
#[derive(Debug, Clone, Default)]
pub struct Proposal {
    /// The instances with their disks.
    pub instances: Vec<Recovered>,
    /// Disks that no instance has.
    pub detached: Vec<Loose>,
    /// What is missing, contradicts itself, or will not be as it was.
    pub remarks: Vec<Remark>,
    /// What volumes say, by their keys.
    told: BTreeMap<String, Owner>,
}

/// An instance as it would be.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The instance.
    pub instance: Instance,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// Indexes of which nothing was found. Those behind them move up.
    pub missing: Vec<u32>,
}

/// A disk that no instance has.
#[derive(Debug, Clone)]
pub struct Loose {
    /// The disk.
    pub disk: Disk,
    /// Name of the instance that had it last.
    pub last: Option<String>,
    /// UUID of that instance, where it is known.
    last_uuid: Option<String>,
}

/// Something to know before a proposal is accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Remark {
    /// What kind it is.
    pub kind: RemarkKind,
    /// Name of the instance that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Name of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What was found.
    pub message: String,
    /// What can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What kind of thing is to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, Serialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum RemarkKind {
    /// A node, or storage that it has, could not be asked.
    Unasked,
    /// A storage system is not on a node, or does not answer any; if no disk was ever there, that is as it should be.
    NoStorage,
    /// Volumes of other clusters, which use the same storage, are not looked at.
    OtherCluster,
    /// A volume names a node that the configuration does not have: it may be another cluster's.
    UnknownNode,
    /// An instance has no disk of some index.
    Missing,
    /// Of a mirror one half was found.
    HalfMirror,
    /// Two volumes, or a volume and the configuration, claim the same.
    Conflict,
    /// A volume has another size than it should.
    WrongSize,
    /// No instance is named by a volume that has a disk's name.
    Unowned,
    /// It is not known and was chosen: a node, a number, a secret.
    Chosen,
}

/// Looks at all nodes, and says what the configuration could be rebuilt to.
///
/// Volumes that a disk of the configuration has already are passed over. What volumes say is believed in this order: what runs on a
/// node, where a volume is found, what it says of itself. Lost are what no volume has: hardware, network cards and tags of
/// instances, blockdev disks, parameters that are secret.
///
/// What is said to be another cluster's, or was on nodes that the configuration does not have, is proposed only if the instance is among
/// those `named`: that tells that it is this cluster's.
pub async fn propose<N: Nodes>(store: &Store, nodes: &N, named: &[String]) -> Result<Proposal> {
    let survey = survey(store, nodes).await?;
    from_survey(&survey, &Known::read(store)?, named)
}

/// Which disks were found and cannot be rebuilt: instance and index.
type Refused = BTreeSet<(String, u32)>;

fn from_survey(survey: &Survey, known: &Known, named: &[String]) -> Result<Proposal> {
    let mut proposal = Proposal {
        remarks: unasked(survey),
        ..Proposal::default()
    };
    let claims = candidate::claims(survey, known);
    let mut claims = clusters::ours(claims, known, named, &mut proposal.remarks);
    proposal.told = candidate::told(&claims);
    let mut refused = Refused::new();
    if claims.iter().any(|claim| claim.part().is_some()) {
        proposal.remarks.extend(unknown_minors(survey));
    }
    let mut candidates = mirrors::mirrors(&mut claims, survey, known, &mut proposal.remarks, &mut refused);
    candidates.extend(candidate::single(claims, known, &mut proposal.remarks));
    instances::assemble(candidates, survey, known, named, refused, &mut proposal)?;
    proposal.remarks.sort();
    proposal.remarks.dedup();
    Ok(proposal)
}

fn unasked(survey: &Survey) -> Vec<Remark> {
    let silent = survey.silent.iter().map(|(node, error)| {
        let (message, mend) = match error {
            None => ("the node is offline".to_owned(), None),
            Some(error) => (chain(error), error.hint()),
        };
        Remark {
            node: Some(node.name.clone()),
            mend,
            ..Remark::new(RemarkKind::Unasked, message)
        }
    });
    let others = survey.seen.iter().flat_map(|seen| {
        let volumes = seen
            .volumes
            .iter()
            .filter_map(|(device, volumes)| Some((*device, volumes.as_ref().err()?)));
        let volumes = volumes.map(|(device, error)| {
            match is_shared(device) && !REACHED_BY_SOME.contains(device.template()) {
                true => (RemarkKind::NoStorage, error),
                false => (unasked_storage(error), error),
            }
        });
        let links = seen
            .links
            .as_ref()
            .err()
            .map(|error| (RemarkKind::Unasked, error));
        let errors = volumes.chain(links).filter(|(_, error)| !is_absent(error));
        errors.map(|(kind, error)| failed(kind, seen, error))
    });
    silent.chain(others).collect()
}

/// Storage that a node does not have holds nothing; of any other that does not answer, nobody knows.
fn unasked_storage(error: &NodeError) -> RemarkKind {
    match error.kind() {
        ErrorKind::NotInstalled => RemarkKind::NoStorage,
        _ => RemarkKind::Unasked,
    }
}

fn unknown_minors(survey: &Survey) -> impl Iterator<Item = Remark> {
    survey.seen.iter().filter_map(|seen| {
        let error = seen.minors.as_ref().err()?;
        (!is_absent(error)).then(|| failed(unasked_storage(error), seen, error))
    })
}

fn failed(kind: RemarkKind, seen: &Seen, error: &NodeError) -> Remark {
    let message = chain(error);
    Remark {
        node: Some(seen.node.name.clone()),
        mend: error.hint(),
        // What a tool said in many lines is for whoever runs it.
        ..Remark::new(kind, message.lines().next().unwrap_or_default())
    }
}

impl Remark {
    fn new(kind: RemarkKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            instance: None,
            node: None,
            message: message.into(),
            mend: None,
        }
    }

    fn of(self, instance: Option<&str>) -> Self {
        Self {
            instance: instance.map(str::to_owned),
            ..self
        }
    }

    fn mended_by(self, mend: impl Into<String>) -> Self {
        Self {
            mend: Some(mend.into()),
            ..self
        }
    }
}
