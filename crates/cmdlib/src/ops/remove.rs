//! Removing an instance's disks and forgetting the instance.

use std::path::Path;

use gnt_config::template::INSTANCE_DEPENDENT_PATH;
use gnt_config::{Disk, Instance, LogicalId};
use gnt_store::Change;

use crate::error::Result;
use crate::kind::Kind;
use crate::ops::Subject;
use crate::saga::{Engine, Nodes, Report};
use crate::step::Step;

/// Removes the instance with its disks, last disk first (`gnt-instance remove`). The configuration follows disk by disk: if one
/// cannot be removed, the instance is left with those that are still there.
pub async fn remove<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    engine
        .run(Kind::Remove, &[instance], async |_| {
            let subject = Subject::load(engine.store, instance)?;
            let mut steps = Vec::new();
            let mut left = subject.instance.clone();
            for disk in subject.disks.iter().rev() {
                steps.extend(remove_disk(&subject, disk)?);
                steps.push(forget_disk(&mut left, disk));
            }
            let node = &subject.node.uuid;
            for path in storage_dirs(&subject.disks) {
                steps.push(Step::RemoveStorageDir {
                    node: node.clone(),
                    path,
                });
            }
            steps.push(Step::Configure {
                apply: vec![Change::RemoveInstance(left.uuid.clone())],
                revert: vec![Change::Instance(left)],
            });
            Ok(steps)
        })
        .await
}

/// Takes a disk out of use and removes it.
pub(crate) fn remove_disk(subject: &Subject, disk: &Disk) -> Result<[Step; 2]> {
    let at = subject.place(disk)?;
    let shutdown = Step::ShutdownDisk {
        at: at.clone(),
        was_active: subject.instance.disks_active,
    };
    Ok([shutdown, Step::RemoveDisk { at }])
}

/// Takes `disk` out of `instance` and out of the configuration.
fn forget_disk(instance: &mut Instance, disk: &Disk) -> Step {
    let before = Change::Instance(instance.clone());
    instance.disks.retain(|uuid| *uuid != disk.uuid);
    Step::Configure {
        apply: vec![
            Change::Instance(instance.clone()),
            Change::RemoveDisk(disk.uuid.clone()),
        ],
        revert: vec![Change::Disk(disk.clone()), before],
    }
}

/// The directories that file-based disks of one instance are in.
pub(crate) fn storage_dirs(disks: &[Disk]) -> Vec<String> {
    let mut dirs: Vec<String> = disks
        .iter()
        .filter(|disk| INSTANCE_DEPENDENT_PATH.contains(disk.dev_type.template()))
        .filter_map(|disk| match &disk.logical_id {
            LogicalId::File { path, .. } => Some(Path::new(path).parent()?.to_str()?.to_owned()),
            _ => None,
        })
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs
}
