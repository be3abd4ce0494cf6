//! From which node to which an instance goes whose disks are mirrored.

use gnt_config::template::{COPYABLE, EXT_MIRROR, INT_MIRROR};
use gnt_config::{Disk, Node, TemplateSet};
use gnt_store::Store;

use crate::error::{Error, Result};
use crate::ops::{Subject, find_node};

/// The two nodes of an instance that goes from one to the other.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) source: Node,
    pub(crate) target: Node,
    pub(crate) mirror: Mirror,
}

/// What sees to it that both nodes have an instance's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mirror {
    /// Each has a half of its own, and drbd keeps them alike ([`INT_MIRROR`]).
    Internal,
    /// Both reach the same volumes ([`EXT_MIRROR`]).
    External,
}

impl Route {
    /// The way of `subject` to the node that `target` names. An instance with halves can only go to where the other half is, and needs no
    /// target. `verb` is what is done to it, for messages.
    pub(crate) fn plan(store: &Store, subject: &Subject, target: Option<&str>, verb: &str) -> Result<Self> {
        let mirror = Mirror::of(subject, verb)?;
        let name = &subject.instance.name;
        let named = target.map(|target| find_node(store, target)).transpose()?;
        let target = match (mirror, named) {
            (Mirror::External, Some(named)) => named,
            (Mirror::External, None) => {
                return Err(Error::Unfit {
                    what: format!("instance {name} can be {verb} to any node, and none is named"),
                    hint: "name the node with -n NODE",
                });
            }
            (Mirror::Internal, named) => {
                let secondary = subject.secondary()?.unwrap_or_default();
                let secondary = find_node(store, secondary)?;
                if named.is_some_and(|named| named.uuid != secondary.uuid) {
                    return Err(Error::Unfit {
                        what: format!(
                            "instance {name} can only be {verb} to its secondary node, {}",
                            secondary.name
                        ),
                        hint: "'gnt-disk replace-disks' gives it another secondary node",
                    });
                }
                secondary
            }
        };
        let route = Self {
            source: subject.node.clone(),
            target,
            mirror,
        };
        route.check_target(name)?;
        Ok(route)
    }

    /// The way of an instance that is on it already.
    pub(crate) fn begun(store: &Store, subject: &Subject, migration: &gnt_config::Migration) -> Result<Self> {
        Ok(Self {
            source: find_node(store, &migration.source)?,
            target: find_node(store, &migration.target)?,
            mirror: Mirror::of(subject, "migrated")?,
        })
    }

    fn check_target(&self, instance: &str) -> Result<()> {
        let Node { name, .. } = &self.target;
        let (what, hint) = if self.target.uuid == self.source.uuid {
            (
                format!("instance {instance} is on node {name} already"),
                "name another node with -n NODE",
            )
        } else if self.target.offline {
            (
                format!("node {name} is marked offline"),
                "name another node with -n NODE; one that is back is marked with 'gnt-disk node modify NODE --offline no'",
            )
        } else if self.target.drained {
            (
                format!("node {name} is drained: it gets no instances"),
                "name another node with -n NODE, or let it have instances again with 'gnt-disk node modify NODE --drained no'",
            )
        } else {
            return Ok(());
        };
        Err(Error::Unfit { what, hint })
    }

    /// The other one of the two nodes.
    pub(crate) fn other(&self, uuid: &str) -> &Node {
        match self.source.uuid == uuid {
            true => &self.target,
            false => &self.source,
        }
    }
}

impl Mirror {
    fn of(subject: &Subject, verb: &str) -> Result<Self> {
        let all_in = |set: TemplateSet| {
            let mut disks = subject.disks.iter();
            disks.all(|disk| set.contains(disk.dev_type.template()))
        };
        let name = &subject.instance.name;
        if all_in(EXT_MIRROR) {
            return Ok(Self::External);
        }
        if all_in(INT_MIRROR) {
            return Ok(Self::Internal);
        }
        let mirrored = INT_MIRROR | EXT_MIRROR;
        let is_local = |disk: &&Disk| !mirrored.contains(disk.dev_type.template());
        let (what, hint) = match subject.disks.iter().find(is_local) {
            Some(disk) => (
                format!(
                    "instance {name} cannot be {verb}: only node {} has {disk}",
                    subject.node.name
                ),
                match COPYABLE.contains(disk.dev_type.template()) {
                    true => {
                        "'gnt-disk move' copies the disks to another node; 'gnt-disk convert' makes mirrored ones of them"
                    }
                    false => "'gnt-disk convert' makes mirrored disks of them",
                },
            ),
            None => (
                format!(
                    "instance {name} cannot be {verb}: some of its disks are mirrored by drbd, some are not"
                ),
                "'gnt-disk convert' gives all its disks the same template",
            ),
        };
        Err(Error::Unfit { what, hint })
    }
}
