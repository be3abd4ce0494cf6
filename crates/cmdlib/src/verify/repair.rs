//! Mending what can be mended without losing anything.

use std::collections::BTreeSet;

use gnt_config::Instance;
use gnt_store::{Store, StoreError};

use super::mappings::is_wanted;
use super::{Finding, UnderWay};
use crate::error::{Error, Result, chain};
use crate::kind::Kind;
use crate::node::Role;
use crate::ops::Subject;
use crate::ops::activate::activate;
use crate::ops::label::detached;
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Place, Places, Step};

/// How a finding is mended. What it says is looked at again when that is done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(strum::EnumDiscriminants))]
#[cfg_attr(test, strum_discriminants(name(RepairKind), derive(strum::EnumIter)))]
pub(crate) enum Repair {
    /// Removes a link that is no active disk's.
    RemoveLink {
        /// UUID of the node.
        node: String,
        /// Name of the instance.
        instance: String,
        /// Index of the disk.
        index: u32,
    },
    /// Takes a disk out of use on a node.
    Unmap {
        /// UUID of the node.
        node: String,
        /// UUID of the disk.
        disk: String,
    },
    /// Tells the volumes of a disk whose they are.
    Label {
        /// UUID of the disk.
        disk: String,
        /// Name of the instance that had it last, if none has it.
        last: Option<String>,
        /// The UUID of that.
        last_uuid: Option<String>,
    },
    /// Puts an instance's disks into use.
    Activate {
        /// Name of the instance.
        instance: String,
    },
}

/// Mends those of the findings that can be, each in an operation of its own. What cannot be mended is told by the report's warnings.
pub async fn repair<N: Nodes>(engine: &Engine<'_, N>, findings: &[Finding]) -> Result<Report> {
    let repairs: BTreeSet<&Repair> = findings
        .iter()
        .filter_map(|finding| finding.repair.as_ref())
        .collect();
    let mut report = Report::default();
    for repair in repairs {
        match mend(engine, repair).await {
            Ok(done) => {
                report.operation = done.operation.or(report.operation);
                report.assembled.extend(done.assembled);
                report.warnings.extend(done.warnings);
            }
            // Another operation is at it.
            Err(error @ Error::Store(StoreError::Locked { .. })) => report.warnings.push(chain(&error)),
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => report.warnings.push(chain(&error)),
        }
    }
    Ok(report)
}

/// Mends one thing, if it still is to be mended. What a failure leaves is no worse than it was, and can be mended again.
pub(crate) async fn mend<N: Nodes>(engine: &Engine<'_, N>, repair: &Repair) -> Result<Report> {
    let lock = match repair {
        Repair::Activate { instance } => return activate(engine, instance).await,
        Repair::RemoveLink { instance, .. } => instance.clone(),
        // A detached disk is locked by itself.
        Repair::Unmap { disk, .. } | Repair::Label { disk, .. } => {
            owner(engine.store, disk)?.map_or_else(|| disk.clone(), |owner| owner.name)
        }
    };
    engine
        .run(Kind::Repair, &[&lock], async |begun| {
            steps(engine.store, repair, begun.id)
        })
        .await
}

fn owner(store: &Store, disk: &str) -> Result<Option<Instance>> {
    match store.owner_of_disk(disk)? {
        Some(uuid) => Ok(store.instance(&uuid)?),
        None => Ok(None),
    }
}

/// What is to be done by `operation`, if it still is. A disk that no instance has may be in the hands of one that works on an instance.
fn steps(store: &Store, repair: &Repair, operation: &str) -> Result<Vec<Step>> {
    if let Repair::Unmap { disk, .. } | Repair::Label { disk, .. } = repair {
        let mut others = UnderWay::default();
        others.note(store, Some(operation))?;
        if others.has_disk(disk) {
            return Ok(Vec::new());
        }
    }
    match repair {
        Repair::RemoveLink {
            node,
            instance,
            index,
        } => {
            let owner = store.instance(instance)?;
            let wanted =
                owner.is_some_and(|owner| owner.uses_disks_on(node) && (*index as usize) < owner.disks.len());
            Ok(match wanted {
                true => Vec::new(),
                false => vec![Step::RemoveLink {
                    node: node.clone(),
                    instance: instance.clone(),
                    index: *index,
                }],
            })
        }
        Repair::Unmap { node, disk } => {
            let owner = owner(store, disk)?;
            let Some(stored) = store.disk(disk)? else {
                return Ok(Vec::new());
            };
            if is_wanted(owner.as_ref(), &stored, node) {
                return Ok(Vec::new());
            }
            let subject = match owner {
                Some(owner) => Subject::load(store, &owner.uuid)?,
                None => Subject::of_nobody(store, None, None, &stored)?,
            };
            let Place { instance, disk, .. } = subject.place_on(node, &stored)?;
            let at = Places {
                node: node.clone(),
                role: Role::Secondary,
                instance,
                disks: vec![*disk],
            };
            Ok(vec![Step::ShutdownDisks {
                at,
                was_active: false,
            }])
        }
        Repair::Label {
            disk,
            last,
            last_uuid,
        } => {
            let Some(stored) = store.disk(disk)? else {
                return Ok(Vec::new());
            };
            match owner(store, disk)? {
                Some(owner) => Subject::load(store, &owner.uuid)?.relabel(&stored, None),
                None => Subject::of_nobody(store, last.as_deref(), last_uuid.as_deref(), &stored)?
                    .relabel(&detached(&stored), None),
            }
        }
        Repair::Activate { .. } => Ok(Vec::new()),
    }
}
