//! Making the configuration what was proposed.

use std::collections::BTreeSet;

use gnt_config::{Disk, Instance};
use gnt_store::Change;

use super::{Loose, Proposal, Recovered};
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::ops::Subject;
use crate::ops::label::{detached, is_stale};
use crate::saga::{Engine, Nodes, Report};
use crate::step::Step;

/// Which part of a proposal is wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Names of instances; all, and the disks that no instance has, where none is named.
    pub instances: Vec<String>,
    /// Instances of which disks are missing too: those behind a gap move up.
    pub incomplete: bool,
}

impl Proposal {
    /// The part that is wanted.
    ///
    /// # Errors
    /// When an instance is named that is not in it, or that is incomplete.
    pub fn select(&self, wanted: &Selection) -> Result<Self> {
        for name in &wanted.instances {
            let found = self.instances.iter().find(|found| found.instance.name == *name);
            let Some(found) = found else {
                return Err(Error::NothingFound {
                    instance: name.clone(),
                });
            };
            if !found.missing.is_empty() && !wanted.incomplete {
                return Err(Error::Unfit {
                    what: format!("of {name}, {} disks were not found", found.missing.len()),
                    hint: "recover it without them with --incomplete: those behind them move up",
                });
            }
        }
        let is_named = |name: &String| wanted.instances.is_empty() || wanted.instances.contains(name);
        let mut selected = self.clone();
        selected.instances.retain(|found| {
            is_named(&found.instance.name) && (found.missing.is_empty() || wanted.incomplete)
        });
        let of_named = |loose: &Loose| match &loose.last {
            _ if wanted.instances.is_empty() => true,
            Some(last) => wanted.instances.contains(last),
            None => false,
        };
        selected.detached.retain(of_named);
        Ok(selected)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.detached.is_empty()
    }
}

/// Adds what is proposed to the configuration, in one operation, and tells volumes that do not know it whose they are.
pub async fn import<N: Nodes>(engine: &Engine<'_, N>, proposal: &Proposal) -> Result<Report> {
    let instances = proposal
        .instances
        .iter()
        .map(|found| found.instance.name.as_str());
    let last = proposal.detached.iter().filter_map(|loose| loose.last.as_deref());
    let names: BTreeSet<&str> = instances.chain(last).collect();
    let names: Vec<&str> = names.into_iter().collect();
    engine
        .run(Kind::Recover, &names, async |begun| {
            let (mut steps, mut labels) = (Vec::new(), Vec::new());
            for Recovered { instance, disks, .. } in &proposal.instances {
                if engine.store.instance(&instance.name)?.is_some() {
                    return Err(Error::InstanceExists {
                        instance: instance.name.clone(),
                    });
                }
                steps.push(add(Some(instance), disks));
                let subject = Subject::new(engine.store, instance.clone(), disks.clone())?;
                for disk in disks {
                    labels.extend(subject.relabel(disk, None)?);
                }
            }
            for Loose {
                disk,
                last,
                last_uuid,
            } in &proposal.detached
            {
                steps.push(add(None, std::slice::from_ref(disk)));
                let subject = Subject::of_nobody(engine.store, last.as_deref(), last_uuid.as_deref(), disk)?;
                labels.extend(subject.relabel(&detached(disk), None)?);
            }
            labels.retain(|step| match step {
                Step::SetInfo { label, .. } => {
                    let mut volumes = label.volumes();
                    let is_new = volumes.any(|(device, key, wanted)| {
                        let told = proposal.told.get(&key);
                        told.is_some_and(|told| is_stale(device, told, &wanted))
                    });
                    is_new && begun.nodes.node(&label.at.node).is_ok()
                }
                _ => true,
            });
            steps.extend(labels);
            Ok(steps)
        })
        .await
}

fn add(instance: Option<&Instance>, disks: &[Disk]) -> Step {
    let apply = disks.iter().cloned().map(Change::Disk);
    let removed = disks.iter().map(|disk| Change::RemoveDisk(disk.uuid.clone()));
    let left = instance.map(|instance| Change::RemoveInstance(instance.uuid.clone()));
    Step::Configure {
        apply: apply.chain(instance.cloned().map(Change::Instance)).collect(),
        revert: left.into_iter().chain(removed).collect(),
    }
}
