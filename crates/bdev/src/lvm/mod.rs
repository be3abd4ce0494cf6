//! The lvm driver, for plain disks and the volumes below drbd: a logical volume.
//!
//! What there is, `lvs` and `pvs` tell for the whole node at once, which a [`Host::batch`] remembers. So work on many volumes costs as many
//! commands as work on one.

mod cache;
mod commands;
mod error;
mod layout;
mod listing;
mod report;
mod tags;
#[cfg(test)]
mod tests;
mod units;
mod volume;

use enumset::enum_set;
use gnt_config::{GeneratedName, LogicalDevice, LogicalId, Mebibytes, Object};

use crate::driver::{
    BlockDevice, Capabilities, Change, Driver, FoundVolume, LocalDiskStatus, Operation, Owner, Space,
    SyncStatus, Target, refuse,
};
use crate::error::{Cause, Error, ErrorKind};
use crate::host::Host;
pub(crate) use cache::Cache;
pub use error::LvmError;
use layout::Group;
pub use listing::{ListedVolume, listed_volumes, volume_groups};
use report::{Health, LogicalVolume};
pub(crate) use units::{physical_volume_units, remove_missing, set_allocatable, volume_group_units};
use volume::Volume;

/// Ganeti's `LogicalVolume`.
#[derive(Debug)]
pub(crate) struct LvmDriver;

const CAPABILITIES: Capabilities = enum_set!(
    Operation::Create
        | Operation::Find
        | Operation::Assemble
        | Operation::Open
        | Operation::Close
        | Operation::Shutdown
        | Operation::Grow
        | Operation::Remove
        | Operation::Rename
        | Operation::SetInfo
        | Operation::Snapshot
        | Operation::ActualSize
        | Operation::Volumes
        | Operation::Space
);

impl Driver for LvmDriver {
    fn device(&self) -> LogicalDevice {
        LogicalDevice::Plain
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    /// A new volume has a name that is free and room in its group; one that is renamed is there, and nothing uses it; one that is removed
    /// has no snapshots.
    fn check(&self, host: &Host, target: &Target<'_>, operation: Operation) -> Result<(), Error> {
        if !CAPABILITIES.contains(operation) {
            return refuse(self.device(), operation);
        }
        doing(operation, host, target, |host, volume| {
            match operation {
                Operation::Create if !volume.is_there_already(host)? => {
                    volume.layout(host)?;
                }
                Operation::Rename if volume.existing(host)?.state.open => {
                    let volume = volume.full_name();
                    return Err(LvmError::InUse { volume });
                }
                Operation::Remove => volume.ensure_no_snapshots(host)?,
                _ => {}
            }
            Ok(())
        })
    }

    /// Activates at once what is not active.
    fn prepare(&self, host: &Host, targets: &[Target<'_>], operation: Operation) {
        if operation != Operation::Assemble || host.is_dry_run() {
            return;
        }
        let inactive = |target: &Target<'_>| {
            let volume = Volume::of(target).ok()?;
            let found = volume.find(host).ok()??;
            (!found.state.active).then(|| volume.full_name())
        };
        let inactive: Vec<_> = targets.iter().filter_map(inactive).collect();
        if !inactive.is_empty() {
            let _ = cache::change(host, &commands::activate(&inactive, true));
        }
    }

    /// The volume is active afterwards: LVM has to write to it. A volume that has the name already is this one only if its tags say so.
    fn create(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::Create, host, target, |host, volume| {
            if volume.is_there_already(host)? {
                return Ok(Change::AlreadyThere);
            }
            volume.create(host, &volume.layout(host)?)?;
            Ok(Change::Made)
        })
    }

    /// One that is not active has no path.
    fn find(&self, host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        doing(Operation::Find, host, target, |host, volume| {
            Ok(volume.find(host)?.map(|found| volume.device(&found)))
        })
    }

    fn assemble(&self, host: &Host, target: &Target<'_>) -> Result<BlockDevice, Error> {
        doing(Operation::Assemble, host, target, |host, volume| {
            match volume.find(host)? {
                Some(found) if found.state.active => {}
                None if host.is_dry_run() => {}
                None => return Err(volume.missing()),
                Some(_) => {
                    cache::change(host, &commands::activate(&[volume.full_name()], true))?;
                }
            }
            volume.device_node(host)
        })
    }

    fn open(&self, _host: &Host, _target: &Target<'_>, _exclusive: bool) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Deactivates it, where Ganeti leaves it active: so one that is still in use is told, and the node forgets what it does not need. A
    /// snapshot is active as long as its origin is.
    fn shutdown(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::Shutdown, host, target, |host, volume| {
            match volume.find(host)? {
                Some(found) if found.state.active && found.origin.is_none() => {
                    cache::change(host, &commands::activate(&[volume.full_name()], false))?;
                    Ok(Change::Made)
                }
                _ => Ok(Change::AlreadyThere),
            }
        })
    }

    /// What is added has as many stripes as the end of the volume, or fewer where the room is not so well distributed. With exclusive
    /// storage it grows only on the disks that it has.
    fn grow(&self, host: &Host, target: &Target<'_>, to: Mebibytes, dry_run: bool) -> Result<Change, Error> {
        target.doing(Operation::Grow, host, || {
            target.check_growth(to)?;
            let volume = Volume::of(target)?;
            let found = volume.existing(host)?;
            if found.bytes >= to.bytes() {
                return Ok(Change::AlreadyThere);
            }
            if let Some(origin) = found.origin {
                let volume = volume.full_name();
                return Err(LvmError::IsSnapshot { volume, origin }.into());
            }
            volume.grow(host, &found, to, dry_run)?;
            Ok(Change::Made)
        })
    }

    /// LVM would remove its snapshots too; they are disks that somebody wants, so they must be gone first.
    fn remove(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::Remove, host, target, |host, volume| {
            if volume.find(host)?.is_none() {
                return Ok(Change::AlreadyThere);
            }
            volume.ensure_no_snapshots(host)?;
            match cache::change(host, &commands::remove(volume.vg, volume.lv)) {
                Ok(()) => Ok(Change::Made),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Change::AlreadyThere),
                Err(error) => Err(error),
            }
        })
    }

    fn rename(&self, host: &Host, target: &Target<'_>, to: &LogicalId) -> Result<Change, Error> {
        let LogicalId::Lv { vg, lv } = to else {
            return Err(target.failed(Operation::Rename, host, wrong_id(to)));
        };
        doing(Operation::Rename, host, target, |host, volume| {
            let new = Volume::named(target, vg, lv)?;
            if new.vg != volume.vg {
                return Err(LvmError::OtherVolumeGroup {
                    from: volume.vg.to_owned(),
                    to: new.vg.to_owned(),
                });
            }
            match (volume.find(host)?, new.find(host)?) {
                (Some(_), _) if new.lv == volume.lv => Ok(Change::AlreadyThere),
                (Some(_), None) => {
                    cache::change(host, &commands::rename(volume.vg, volume.lv, new.lv))?;
                    Ok(Change::Made)
                }
                (None, Some(found)) if !new.is_another_disks(&found) => Ok(Change::AlreadyThere),
                (_, Some(found)) => Err(new.taken_by(&found)),
                (None, None) => Err(volume.missing()),
            }
        })
    }

    /// As the tag that Ganeti makes of the text, and as tags of ours. Those of others stay.
    fn set_info(&self, host: &Host, target: &Target<'_>, text: &str) -> Result<(), Error> {
        doing(Operation::SetInfo, host, target, |host, volume| {
            let there = match volume.find(host)? {
                Some(found) => found.tags,
                None if host.is_dry_run() => tags::ours(&volume.owner()),
                None => return Err(volume.missing()),
            };
            let wanted = tags::all(&Owner::of(target, Some(text)));
            let except = |tags: Vec<String>, others: &[String]| -> Vec<_> {
                tags.into_iter().filter(|tag| !others.contains(tag)).collect()
            };
            let remove = except(tags::replaced(&there), &wanted);
            let add = except(wanted, &there);
            if add.is_empty() && remove.is_empty() {
                return Ok(());
            }
            cache::change(host, &commands::tag(volume.vg, volume.lv, &add, &remove))
        })
    }

    /// Copies nothing: the snapshot shows what the volume had, as long as `size` has room for what changes. It goes by the name of the
    /// instance until it becomes a disk.
    fn snapshot(
        &self,
        host: &Host,
        target: &Target<'_>,
        name: &str,
        size: Mebibytes,
    ) -> Result<LogicalId, Error> {
        doing(Operation::Snapshot, host, target, |host, volume| {
            let copy = Volume::named(target, volume.vg, name)?;
            if let Some(found) = copy.find(host)? {
                return Err(copy.taken_by(&found));
            }
            if volume.find(host)?.is_none() && !host.is_dry_run() {
                return Err(volume.missing());
            }
            let pvs = cache::physical_volumes(host)?;
            let group = Group::of(volume.vg, &pvs)?;
            let bytes = group.whole_extents(with_records(size.bytes()));
            group.check_free(bytes)?;
            let tags = tags::ours(&Owner {
                instance: volume.owner().instance,
                ..Owner::default()
            });
            cache::change(
                host,
                &commands::snapshot(volume.vg, volume.lv, name, bytes, &tags),
            )?;
            Ok(LogicalId::Lv {
                vg: volume.vg.to_owned(),
                lv: name.to_owned(),
            })
        })
    }

    /// A volume on a disk that is lost is degraded, and its data faulty unless there is another copy of it in LVM.
    fn sync_status(&self, host: &Host, target: &Target<'_>) -> Result<SyncStatus, Error> {
        doing(Operation::Find, host, target, |host, volume| {
            Ok(status(&volume.existing(host)?))
        })
    }

    fn actual_size(&self, host: &Host, target: &Target<'_>) -> Result<u64, Error> {
        doing(Operation::ActualSize, host, target, |host, volume| {
            Ok(volume.existing(host)?.bytes)
        })
    }

    /// Those whose tags or names say that they are disks, in whatever group. A node without LVM has none.
    fn volumes(&self, host: &Host, _params: &Object) -> Result<Vec<FoundVolume>, Error> {
        match cache::logical_volumes(host) {
            Ok(all) => Ok(all.iter().filter_map(found_volume).collect()),
            Err(LvmError::Tool(error)) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(Error::Volumes {
                device: self.device(),
                node: host.name.clone(),
                cause: Box::new(error.into()),
            }),
        }
    }

    /// Of every volume group, in order of their names. A node without LVM has none.
    fn space(&self, host: &Host, _params: &Object) -> Result<Vec<Space>, Error> {
        match cache::physical_volumes(host) {
            Ok(pvs) => Ok(layout::space(&pvs)),
            Err(LvmError::Tool(error)) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(Error::Space {
                device: self.device(),
                node: host.name.clone(),
                cause: Box::new(error.into()),
            }),
        }
    }
}

/// Works on the volume of a target. What LVM told is asked again only after a change.
fn doing<T>(
    operation: Operation,
    host: &Host,
    target: &Target<'_>,
    work: impl FnOnce(&Host, Volume<'_>) -> Result<T, LvmError>,
) -> Result<T, Error> {
    let host = &host.batch();
    target.doing(operation, host, || Ok(work(host, Volume::of(target)?)?))
}

fn status(volume: &LogicalVolume) -> SyncStatus {
    let ldisk_status = match volume.state.health {
        Health::Whole => LocalDiskStatus::Okay,
        Health::Partial if volume.state.mirrored => LocalDiskStatus::Okay,
        Health::Partial | Health::Lost => LocalDiskStatus::Faulty,
        Health::Unknown => LocalDiskStatus::Unknown,
    };
    SyncStatus {
        is_degraded: volume.state.health != Health::Whole,
        ldisk_status,
        ..SyncStatus::OKAY
    }
}

fn found_volume(found: &LogicalVolume) -> Option<FoundVolume> {
    let named = index_in(&found.lv);
    let tagged = tags::owner(&found.tags);
    if named.is_none() && tagged.is_none() {
        return None;
    }
    let owner = tagged.unwrap_or_default();
    Some(FoundVolume {
        device: LogicalDevice::Plain,
        logical_id: LogicalId::Lv {
            vg: found.vg.clone(),
            lv: found.lv.clone(),
        },
        bytes: Some(found.bytes),
        owner: Owner {
            index: owner.index.or(named.filter(|_| !owner.kept.detached)),
            ..owner
        },
    })
}

/// N of `UUID.diskN`, `UUID.diskN_data` and whatever else begins so.
fn index_in(name: &str) -> Option<u32> {
    GeneratedName::of(LogicalDevice::Plain, name).map(|name| name.index)
}

fn wrong_id(id: &LogicalId) -> Cause {
    Cause::WrongId {
        device: LogicalDevice::Plain,
        id: id.clone(),
    }
}

/// What a snapshot takes to hold `bytes` of changes: of each chunk of 4 KiB it records, in 16 bytes, where it is; and it has a header of one
/// (kernel, `dm-snap-persistent.c`). More than all chunks can take LVM cuts off by itself.
fn with_records(bytes: u64) -> u64 {
    const CHUNK: u64 = 4096;
    const RECORD: u64 = 16;
    bytes + (bytes / CHUNK + 1) * RECORD + 2 * CHUNK
}
