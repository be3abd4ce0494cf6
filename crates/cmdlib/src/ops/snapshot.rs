//! Snapshots of disks.

use gnt_bdev::Operation;
use gnt_config::template::{HAVE_SNAPSHOTS, NODE_LOCAL};
use gnt_config::{Disk, DiskTemplate, Mebibytes};
use gnt_store::{Change, Store};

use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::modify::{find_detached, uuid_of_detached};
use crate::ops::remove::removal;
use crate::ops::sizes::sizes;
use crate::ops::{Subject, ids, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Pace, Place, Step, Transfer};

/// A wish for a snapshot of one disk.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    /// Index, name or UUID of the disk.
    pub disk: String,
    /// Name of the snapshot's volume; by default that of the disk with `.snap` appended.
    pub name: Option<String>,
    /// Room for the snapshot, by default as much as the disk has. As a disk it has the size of the other.
    pub size: Option<Mebibytes>,
}

/// Copies disks as they are now to volumes of their own. Each becomes a detached disk, which `modify` can attach.
pub async fn snapshot<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    requests: &[SnapshotRequest],
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Snapshot, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let mut ids = ids(engine.store, begun.id);
            let mut steps = Vec::new();
            for request in requests {
                let source = &subject.disks[subject.index_of(&request.disk)?];
                let disk = snapshot_source(source)?;
                let mut snapshot = snapshot_of(disk, request, ids.unique_id())?;
                snapshot.snapshot_of = Some(source.uuid.clone());
                if NODE_LOCAL.contains(snapshot.dev_type.template()) {
                    // The other half of a mirror has none.
                    snapshot.nodes = vec![subject.node.uuid.clone()];
                }
                let (at, mut taken) = (subject.place(disk)?, subject.place(&snapshot)?);
                let node = at.on(begun.nodes)?;
                node.check(&at.disk, &at.instance, Operation::Snapshot).await?;
                // That it cannot be told is no reason not to try: of a volume that is not there, many a provider only
                // says that something failed.
                if let Ok(Some(_)) = node.find(&taken.disk, &taken.instance).await {
                    return Err(Error::VolumeExists {
                        volume: snapshot.logical_id.to_string(),
                    });
                }
                taken.disk.size = request.size.unwrap_or(disk.size);
                let (apply, revert) = (
                    vec![Change::Disk(snapshot.clone())],
                    vec![Change::RemoveDisk(snapshot.uuid.clone())],
                );
                steps.push(Step::Configure { apply, revert });
                steps.push(Step::SnapshotDisk {
                    at,
                    snapshot: taken.disk,
                });
                steps.extend(subject.relabel(&snapshot, None)?);
            }
            Ok(steps)
        })
        .await
}

/// Makes a disk, named by index, name or UUID, of an instance that does not use it what a snapshot of it is; the snapshot stays. It is the
/// detached disk with that name or UUID. If its disk is no more, another of the instance may become what it is. Only what differs is written.
/// If the disk has grown since, what is behind the snapshot's end stays.
pub async fn restore<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    disk: &str,
    snapshot: &str,
    pace: Pace,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    // As long as it is read nobody may take it out of use.
    let found = uuid_of_detached(engine.store, snapshot)?;
    engine
        .run(Kind::RestoreSnapshot, &[instance, &found], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            subject.ensure_inactive()?;
            let index = subject.index_of(disk)?;
            let snapshot = snapshot_for(engine.store, &subject, &found)?;
            ensure_of(&snapshot, &subject, index)?;
            let subject = subject.alone(index);
            subject.ensure_in_reach(begun.nodes, &subject.disks)?;
            let node = subject.reach(begun.nodes, &subject.node.uuid)?;
            let sizes = sizes(&subject, node).await?;
            let mut steps = Vec::new();
            for (disk, size) in subject.disks.iter().zip(sizes) {
                let Some(from) = subject.homes(&snapshot)?.pop() else {
                    continue;
                };
                let source = subject.reach(begun.nodes, &from.node)?;
                let bytes = seen_of(&snapshot, &from, source, disk, size).await?;
                if bytes > size {
                    return Err(Error::TooSmall {
                        disk: disk.to_string(),
                        instance: instance.clone(),
                        has: Mebibytes::from_bytes(size),
                        what: snapshot.to_string(),
                        needs: bytes,
                    });
                }
                let to = subject.place(disk)?;
                let mut uses = subject.places()?;
                uses.push(from.clone().alone());
                let transfer = Transfer {
                    bytes,
                    fresh: false,
                    uses,
                    pace,
                };
                steps.extend(transfer.assembled());
                steps.push(Step::CopyDisk { from, to, transfer });
            }
            Ok(steps)
        })
        .await
}

/// How many bytes of a snapshot are what an instance saw of `disk`, of which it sees `size` now: as many as the storage made of it, but below
/// a mirror there is more than the mirror shows.
async fn seen_of(snapshot: &Disk, from: &Place, node: &impl Node, disk: &Disk, size: u64) -> Result<u64> {
    let found = node.find(&from.disk, &from.instance).await?;
    let status = found.ok_or_else(|| Error::Gone {
        disk: snapshot.to_string(),
        instance: from.instance.clone(),
    })?;
    let configured = snapshot.size.bytes();
    let real = status.device.bytes.unwrap_or(configured);
    Ok(match disk.children.is_empty() {
        true => real,
        false => real.min(size).max(configured),
    })
}

/// Only a snapshot of the disk itself shows what was on it.
fn ensure_of(snapshot: &Disk, subject: &Subject, index: usize) -> Result<()> {
    let is_source = |disk: &&Disk| Some(&disk.uuid) == snapshot.snapshot_of.as_ref();
    match subject.disks.iter().find(is_source) {
        Some(source) if source.uuid != subject.disks[index].uuid => Err(Error::Unfit {
            what: format!(
                "{snapshot} is a snapshot of {source}, not of {}",
                subject.disks[index]
            ),
            hint: "restore the disk that it is of",
        }),
        _ => Ok(()),
    }
}

/// Removes a snapshot: the detached disk with that name or UUID, and its data.
pub async fn remove_snapshot<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    snapshot: &str,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    let found = uuid_of_detached(engine.store, snapshot)?;
    engine
        .run(Kind::RemoveSnapshot, &[instance, &found], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let snapshot = snapshot_for(engine.store, &subject, &found)?;
            let homes = subject.homes(&snapshot)?;
            for at in &homes {
                subject.reach(begun.nodes, &at.node)?;
            }
            Ok(removal(
                homes,
                Vec::new(),
                vec![Change::RemoveDisk(snapshot.uuid.clone())],
            ))
        })
        .await
}

/// The detached disk with this UUID, if it is a snapshot, and not one of another instance's disk.
fn snapshot_for(store: &Store, subject: &Subject, uuid: &str) -> Result<Disk> {
    let snapshot = find_detached(store, uuid)?;
    let Some(source) = &snapshot.snapshot_of else {
        return Err(Error::Unfit {
            what: format!("{snapshot} is no snapshot, but a detached disk"),
            hint: "give it to an instance with 'gnt-disk modify INSTANCE --disk attach:UUID', which can also remove it then",
        });
    };
    match store.owner_of_disk(source)? {
        Some(owner) if owner != subject.instance.uuid => Err(Error::Unfit {
            what: format!("{snapshot} is a snapshot of another instance's disk"),
            hint: "name the instance that has the disk; 'gnt-disk modify INSTANCE --disk attach:UUID' gives the snapshot to any",
        }),
        _ => Ok(snapshot),
    }
}

/// The device of which a snapshot is taken: the disk itself, or the data below a mirror.
fn snapshot_source(disk: &Disk) -> Result<&Disk> {
    let template = disk.dev_type.template();
    if !HAVE_SNAPSHOTS.contains(template) {
        let capable: Vec<_> = HAVE_SNAPSHOTS.iter().map(DiskTemplate::as_str).collect();
        return Err(Error::Unfit {
            what: format!(
                "{disk} cannot be snapshot: only {} disks have snapshots",
                capable.join(", ")
            ),
            hint: "copy the data while the disk is not in use",
        });
    }
    Ok(disk.data_device())
}

fn snapshot_of(disk: &Disk, request: &SnapshotRequest, uuid: String) -> Result<Disk> {
    let name = request
        .name
        .clone()
        .unwrap_or_else(|| format!("{}.snap", disk.logical_id.volume()));
    gnt_config::names::volume(&name)?;
    let mut snapshot = Disk::new(disk.dev_type, disk.logical_id.with_volume(name), disk.size);
    snapshot.uuid = uuid;
    snapshot.name.clone_from(&request.name);
    snapshot.mode = Some(disk.mode.unwrap_or_default());
    snapshot.nodes.clone_from(&disk.nodes);
    snapshot.params.clone_from(&disk.params);
    Ok(snapshot)
}
