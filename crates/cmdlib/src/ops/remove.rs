//! Removing an instance's disks and forgetting the instance.

use std::path::Path;

use gnt_config::template::INSTANCE_DEPENDENT_PATH;
use gnt_config::{Disk, Instance, LogicalId};
use gnt_store::Change;

use crate::compute::calculate_file_storage_dir;
use crate::error::Result;
use crate::kind::Kind;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::Step;

/// Removes the instance with its disks, last disk first (`gnt-instance remove`). All are taken out of use before the first is removed,
/// and the configuration follows disk by disk: if one cannot be removed, the instance is left with those that are still there.
pub async fn remove<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Remove, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            subject.ensure_in_reach(begun.nodes, &subject.disks)?;
            let was_active = subject.instance.disks_active;
            let places = subject.places()?.into_iter().rev();
            let mut steps: Vec<_> = places.map(|at| Step::ShutdownDisks { at, was_active }).collect();
            if was_active {
                steps.push(subject.record_active(false));
            }
            let mut left = Instance {
                disks_active: false,
                ..subject.instance.clone()
            };
            for disk in subject.disks.iter().rev() {
                left.disks.retain(|uuid| *uuid != disk.uuid);
                steps.push(Step::RemoveDisk {
                    at: subject.place(disk)?,
                    record: vec![
                        Change::Instance(left.clone()),
                        Change::RemoveDisk(disk.uuid.clone()),
                    ],
                });
            }
            let dirs = match subject.disks.is_empty() {
                true => default_dirs(&subject),
                false => storage_dirs(&subject.disks),
            };
            for path in dirs {
                let node = subject.node.uuid.clone();
                steps.push(Step::RemoveStorageDir { node, path });
            }
            steps.push(Step::Configure {
                apply: vec![Change::RemoveInstance(left.uuid.clone())],
                revert: vec![Change::Instance(left)],
            });
            Ok(steps)
        })
        .await
}

/// Where an instance that has no disks any more may have had some, if its removal was broken off.
fn default_dirs(subject: &Subject) -> Vec<String> {
    let dir = |template| {
        calculate_file_storage_dir(template, &subject.cluster, &subject.instance.name, None).ok()?
    };
    INSTANCE_DEPENDENT_PATH.iter().filter_map(dir).collect()
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
