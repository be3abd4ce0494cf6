//! What operations work on that are not over. They are told of by themselves, or end soon.

use std::collections::BTreeSet;

use gnt_store::{Filter, Store};

use super::{Finding, Repair};
use crate::error::Result;
use crate::step::Step;

/// What operations work on.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// Names.
    instances: BTreeSet<String>,
    /// UUIDs.
    disks: BTreeSet<String>,
    /// Nodes (UUIDs) with drbd minors.
    minors: BTreeSet<(String, u32)>,
}

impl UnderWay {
    /// Adds what the journal tells now, but for the operation `except`.
    pub(super) fn note(&mut self, store: &Store, except: Option<&str>) -> Result<()> {
        for record in store.operations(Filter::Unfinished)? {
            if Some(record.id.as_str()) == except {
                continue;
            }
            self.instances.insert(record.instance);
            for step in record.steps {
                let Ok(step) = serde_json::from_value::<Step>(step.data) else {
                    continue;
                };
                for disk in step.disks() {
                    self.disks.insert(disk.uuid.clone());
                    let minors = disk.drbd_minors().into_iter();
                    self.minors
                        .extend(minors.map(|(node, minor)| (node.to_owned(), minor)));
                }
            }
        }
        Ok(())
    }

    pub(super) fn has_instance(&self, name: &str) -> bool {
        self.instances.contains(name)
    }

    pub(super) fn has_disk(&self, uuid: &str) -> bool {
        self.disks.contains(uuid)
    }

    pub(super) fn has_minor(&self, node: &str, minor: u32) -> bool {
        self.minors.contains(&(node.to_owned(), minor))
    }

    /// Whether it is for an operation to mend what was found.
    pub(super) fn concerns(&self, finding: &Finding) -> bool {
        let of_instance = finding
            .instance
            .as_deref()
            .is_some_and(|name| self.has_instance(name));
        match &finding.repair {
            None => false,
            Some(Repair::Unmap { disk, .. } | Repair::Label { disk, .. }) => {
                of_instance || self.has_disk(disk)
            }
            Some(Repair::RemoveLink { .. } | Repair::Activate { .. }) => of_instance,
        }
    }
}
