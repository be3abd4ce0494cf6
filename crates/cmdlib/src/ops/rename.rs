//! Renaming an instance.

use std::collections::BTreeMap;
use std::path::Path;

use gnt_config::{Disk, Instance, LogicalId};
use gnt_store::{Change, Store};

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::ops::remove::storage_dirs;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::Step;

/// Renames an instance whose disks are not in use (`gnt-instance rename`). Directories that carry its name follow, and every volume
/// is told whose it is now.
pub async fn rename<N: Nodes>(engine: &Engine<'_, N>, instance: &str, to: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Rename, &[instance, to], async |begun| {
            gnt_config::names::instance(to)?;
            let subject = Subject::load(engine.store, instance)?;
            subject.ensure_inactive()?;
            subject.ensure_in_reach(begun.nodes, &subject.disks)?;
            if engine.store.instance(to)?.is_some() {
                return Err(Error::InstanceExists {
                    instance: to.to_owned(),
                });
            }
            let from = subject.instance.name.clone();
            let moves = moved_dirs(engine.store, &subject, to)?;
            let mut steps = Vec::new();
            for (from, to) in &moves {
                steps.push(Step::RenameStorageDir {
                    node: subject.node.uuid.clone(),
                    from: from.clone(),
                    to: to.clone(),
                });
            }
            let renamed: Vec<Disk> = subject
                .disks
                .iter()
                .map(|disk| moved_disk(disk, &moves))
                .collect();
            let after = Subject {
                instance: Instance {
                    name: to.to_owned(),
                    ..subject.instance.clone()
                },
                ..subject.clone()
            };
            for disk in &renamed {
                steps.extend(after.relabel(disk, Some((&from, disk)))?);
            }
            let changes = |instance: Instance, disks: &[Disk]| {
                disks
                    .iter()
                    .cloned()
                    .map(Change::Disk)
                    .chain([Change::Instance(instance)])
                    .collect()
            };
            steps.push(Step::Configure {
                apply: changes(after.instance, &renamed),
                revert: changes(subject.instance.clone(), &subject.disks),
            });
            Ok(steps)
        })
        .await
}

/// The directories that have the instance's name, and what they are called then. One in which others have disks too, a detached one
/// for example, stays.
fn moved_dirs(store: &Store, subject: &Subject, to: &str) -> Result<BTreeMap<String, String>> {
    let mut moves = BTreeMap::new();
    for disk in &subject.disks {
        for dir in storage_dirs(std::slice::from_ref(disk)) {
            let path = Path::new(&dir);
            let has_its_name = path.file_name() == Some(subject.instance.name.as_ref());
            if let (true, Some(moved)) = (has_its_name, path.with_file_name(to).to_str())
                && !has_disks_of_others(store, subject, disk)?
            {
                moves.insert(dir.clone(), moved.to_owned());
            }
        }
    }
    Ok(moves)
}

/// Whether a disk that is not the instance's has a volume in the directory of `disk`.
fn has_disks_of_others(store: &Store, subject: &Subject, disk: &Disk) -> Result<bool> {
    for key in disk.volume_keys() {
        if let Some((dir, _)) = key.rsplit_once('/') {
            let there = store.owners_of_volumes_in(dir)?;
            if there.iter().any(|uuid| !subject.instance.disks.contains(uuid)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn moved_disk(disk: &Disk, moves: &BTreeMap<String, String>) -> Disk {
    let mut moved = disk.clone();
    if let LogicalId::File { path, .. } = &mut moved.logical_id
        && let Some((dir, file)) = path.rsplit_once('/')
        && let Some(dir) = moves.get(dir)
    {
        *path = format!("{dir}/{file}");
    }
    moved
}
