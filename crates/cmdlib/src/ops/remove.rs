//! Removing an instance's disks and forgetting the instance.

use std::path::Path;

use gnt_bdev::Operation;
use gnt_config::template::INSTANCE_DEPENDENT_PATH;
use gnt_config::{Disk, Instance, LogicalId};
use gnt_store::Change;

use crate::compute::calculate_file_storage_dir;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::{Node, NodeError};
use crate::ops::label::detached;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Place, Places, Step};

/// Removes the instance with its disks, last disk first (`gnt-instance remove`). Nothing begins unless all can be removed, as far as that can
/// be told. All are taken out of use before the first is removed, and the configuration follows disk by disk: if one cannot be removed, the
/// instance is left with those that are still there. What a secondary node has that is set offline is left there, and told.
pub async fn remove<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    let mut warnings = Vec::new();
    let mut report = engine
        .run(Kind::Remove, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let was_active = subject.instance.disks_active;
            let places = subject.places_within_reach(begun.nodes)?;
            ensure_rest_offline(&subject, begun.nodes, &places)?;
            let mut steps = Vec::new();
            for at in places.into_iter().rev() {
                steps.push(Step::ShutdownDisks { at, was_active });
            }
            if was_active {
                steps.push(subject.record_active(false));
            }
            let mut left = Instance {
                disks_active: false,
                ..subject.instance.clone()
            };
            for disk in removable(&subject, begun.nodes).await? {
                left.disks.retain(|uuid| *uuid != disk.uuid);
                let mut halves = subject.halves(disk)?;
                halves.retain(|half| subject.reach(begun.nodes, &half.node).is_ok());
                let mut detach = vec![Change::Instance(left.clone())];
                if halves.len() > 1 {
                    detach.push(Change::Disk(detached(disk)));
                }
                let forget = vec![Change::RemoveDisk(disk.uuid.clone())];
                steps.extend(removal(halves, detach, forget));
            }
            warnings = subject.offline_halves("is left there");
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
        .await?;
    report.warnings.append(&mut warnings);
    Ok(report)
}

/// The steps that remove a disk on each of its nodes. With the first the configuration says that no instance has it, with the last that
/// it is no more.
pub(crate) fn removal(halves: Vec<Place>, detach: Vec<Change>, forget: Vec<Change>) -> Vec<Step> {
    let last = halves.len().saturating_sub(1);
    let remove = |(number, at)| {
        let detach = detach.iter().filter(|_| number == 0);
        let forget = forget.iter().filter(|_| number == last);
        Step::RemoveDisk {
            at,
            record: detach.chain(forget).cloned().collect(),
        }
    };
    halves.into_iter().enumerate().map(remove).collect()
}

/// Only what is on a secondary node that is set offline may be left.
fn ensure_rest_offline<N: Nodes>(subject: &Subject, nodes: &N, within_reach: &[Places]) -> Result<()> {
    subject.reach(nodes, &subject.node.uuid)?;
    for at in subject.places()? {
        if within_reach.iter().any(|there| there.node == at.node) {
            continue;
        }
        match subject.reach(nodes, &at.node) {
            Ok(_) | Err(Error::NodeOffline { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The disks in the order in which they can be removed: the last first, but what has snapshots that are disks of the instance too after those.
async fn removable<'s, N: Nodes>(subject: &'s Subject, nodes: &N) -> Result<Vec<&'s Disk>> {
    let (mut first, mut after_snapshots) = (Vec::new(), Vec::new());
    for disk in subject.disks.iter().rev() {
        let mut order = &mut first;
        for half in subject.halves(disk)? {
            let Ok(node) = subject.reach(nodes, &half.node) else {
                continue;
            };
            for device in half.disk.walk() {
                match node.check(device, &half.instance, Operation::Remove).await {
                    Ok(()) => {}
                    Err(error) if has_only_snapshots(&error, &subject.disks) => order = &mut after_snapshots,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        order.push(disk);
    }
    first.append(&mut after_snapshots);
    Ok(first)
}

/// Whether all that is in the way of a volume's removal are snapshots that are among `disks`.
fn has_only_snapshots(error: &NodeError, disks: &[Disk]) -> bool {
    let is_a_disk = |snapshot: &String| {
        let mut devices = disks.iter().flat_map(Disk::walk);
        devices.any(|disk| disk.logical_id.volume() == snapshot.as_str())
    };
    matches!(error, NodeError::Storage(error) if error.snapshots().is_some_and(|all| all.iter().all(is_a_disk)))
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

#[cfg(test)]
mod tests {
    use gnt_bdev::{ErrorKind, Told};
    use gnt_config::{LogicalDevice, Mebibytes};

    use super::*;

    #[test]
    fn snapshots_that_another_node_told_of_are_told_from_other_reasons() {
        let id = LogicalId::Lv {
            vg: "xenvg".to_owned(),
            lv: "copy".to_owned(),
        };
        let disks = [Disk::new(LogicalDevice::Plain, id, Mebibytes(64))];
        let refused = |snapshots: Option<&[&str]>| {
            let told = Told {
                message: "no".to_owned(),
                kind: ErrorKind::Busy,
                hint: None,
                snapshots: snapshots.map(|names| names.iter().map(ToString::to_string).collect()),
                cause: None,
            };
            NodeError::Storage(told.into())
        };
        assert!(has_only_snapshots(&refused(Some(&["copy"])), &disks));
        assert!(!has_only_snapshots(&refused(Some(&["copy", "other"])), &disks));
        assert!(!has_only_snapshots(&refused(None), &disks));
    }
}
