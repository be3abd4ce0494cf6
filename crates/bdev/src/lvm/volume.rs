//! One logical volume: what is done with it, and what LVM says about it.

use std::path::PathBuf;

use gnt_config::params::{LvmParams, Parameters as _};
use gnt_config::{LogicalId, Mebibytes, names};

use super::cache;
use super::commands::{self, Growth, NewVolume};
use super::error::LvmError;
use super::layout::{Group, Layout, rounded};
use super::report::LogicalVolume;
use super::{tags, wrong_id};
use crate::device::{self, DeviceError};
use crate::driver::{BlockDevice, Owner, Target};
use crate::error::{Cause, ErrorKind};
use crate::host::Host;

/// The volume that is a target's.
#[derive(Clone, Copy)]
pub(super) struct Volume<'a> {
    pub(super) vg: &'a str,
    pub(super) lv: &'a str,
    target: &'a Target<'a>,
}

impl<'a> Volume<'a> {
    pub(super) fn of(target: &'a Target<'a>) -> Result<Self, Cause> {
        match &target.disk.logical_id {
            LogicalId::Lv { vg, lv } => Ok(Self::named(target, vg, lv)?),
            id => Err(wrong_id(id)),
        }
    }

    pub(super) fn named(target: &'a Target<'a>, vg: &'a str, lv: &'a str) -> Result<Self, LvmError> {
        names::volume_group(vg)?;
        names::logical_volume(lv)?;
        Ok(Self { vg, lv, target })
    }

    pub(super) fn full_name(&self) -> String {
        commands::full_name(self.vg, self.lv)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/{}/{}", self.vg, self.lv))
    }

    /// What a volume tells of its owner from the beginning.
    pub(super) fn owner(&self) -> Owner {
        Owner::of(self.target, None)
    }

    pub(super) fn find(&self, host: &Host) -> Result<Option<LogicalVolume>, LvmError> {
        let all = cache::logical_volumes(host)?;
        let mut found = all
            .iter()
            .filter(|other| other.vg == self.vg && other.lv == self.lv);
        let (first, second) = (found.next(), found.next());
        match (first, second) {
            (Some(first), Some(second)) => Err(LvmError::Ambiguous {
                vg: self.vg.to_owned(),
                uuids: vec![first.vg_uuid.clone(), second.vg_uuid.clone()],
            }),
            (first, _) => Ok(first.cloned()),
        }
    }

    pub(super) fn existing(&self, host: &Host) -> Result<LogicalVolume, LvmError> {
        self.find(host)?.ok_or_else(|| self.missing())
    }

    pub(super) fn missing(&self) -> LvmError {
        LvmError::NotFound {
            volume: self.full_name(),
        }
    }

    /// LVM would remove them with the volume.
    pub(super) fn ensure_no_snapshots(&self, host: &Host) -> Result<(), LvmError> {
        let all = cache::logical_volumes(host)?;
        let shows_this =
            |other: &&LogicalVolume| other.vg == self.vg && other.origin.as_deref() == Some(self.lv);
        let snapshots: Vec<_> = all
            .iter()
            .filter(shows_this)
            .map(|other| other.lv.clone())
            .collect();
        if snapshots.is_empty() {
            return Ok(());
        }
        Err(LvmError::HasSnapshots {
            volume: self.full_name(),
            snapshots,
        })
    }

    /// Whether the volume is there, as it would be created.
    pub(super) fn is_there_already(&self, host: &Host) -> Result<bool, LvmError> {
        let Some(found) = self.find(host)? else {
            return Ok(false);
        };
        let size = rounded(self.target.disk.size.bytes(), found.extent, found.stripes);
        let is_this = tags::owner(&found.tags).is_some_and(|owner| self.is_owned_by(&owner));
        if found.bytes != size || !is_this {
            return Err(self.taken_by(&found));
        }
        Ok(true)
    }

    /// Whether the tags name this disk: by its UUID, or as far as callers know it.
    fn is_owned_by(&self, owner: &Owner) -> bool {
        let mine = self.owner();
        match &mine.uuid {
            Some(_) => owner.uuid == mine.uuid,
            None => mine.instance.is_some() && (&owner.instance, owner.index) == (&mine.instance, mine.index),
        }
    }

    pub(super) fn is_another_disks(&self, found: &LogicalVolume) -> bool {
        let theirs = tags::owner(&found.tags).and_then(|owner| owner.uuid);
        let mine = self.owner().uuid;
        theirs.zip(mine).is_some_and(|(theirs, mine)| theirs != mine)
    }

    pub(super) fn taken_by(&self, found: &LogicalVolume) -> LvmError {
        let owner = tags::owner(&found.tags);
        LvmError::Exists {
            volume: self.full_name(),
            size: Mebibytes::from_bytes(found.bytes),
            owner: owner.map(|owner| {
                owner
                    .instance
                    .or(owner.uuid)
                    .unwrap_or_else(|| "a disk".to_owned())
            }),
        }
    }

    pub(super) fn layout(&self, host: &Host) -> Result<Layout, LvmError> {
        let pvs = cache::physical_volumes(host)?;
        let group = Group::of(self.vg, &pvs)?;
        let disk = self.target.disk;
        if host.exclusive_storage {
            return group.exclusive(disk.size, disk.spindles);
        }
        let stripes = LvmParams::from_object(&disk.params)?.stripes;
        group.shared(disk.size, stripes.get())
    }

    pub(super) fn create(&self, host: &Host, layout: &Layout) -> Result<(), LvmError> {
        let tags = tags::ours(&self.owner());
        first_with_room(&layout.attempts, |(stripes, bytes)| {
            let new = NewVolume {
                vg: self.vg,
                lv: self.lv,
                bytes,
                stripes,
                tags: &tags,
                pvs: &layout.pvs,
            };
            cache::change(host, &commands::create(&new))
        })
    }

    pub(super) fn grow(
        &self,
        host: &Host,
        found: &LogicalVolume,
        to: Mebibytes,
        dry_run: bool,
    ) -> Result<(), LvmError> {
        let grown = |stripes| {
            let more = rounded(to.bytes().saturating_sub(found.bytes), found.extent, stripes);
            (stripes, found.bytes.saturating_add(more))
        };
        let pvs = cache::physical_volumes(host)?;
        let group = Group::of(self.vg, &pvs)?;
        let (attempts, pvs) = if host.exclusive_storage {
            let own = group.own_disks(found, grown(found.stripes).1 - found.bytes)?;
            (vec![grown(found.stripes)], own)
        } else {
            group.check_free(grown(1).1 - found.bytes)?;
            ((1..=found.stripes).rev().map(grown).collect(), Vec::new())
        };
        first_with_room(&attempts, |(stripes, bytes)| {
            let growth = Growth {
                vg: self.vg,
                lv: self.lv,
                bytes,
                stripes,
                pvs: &pvs,
            };
            if dry_run {
                cache::try_out(host, &commands::test_extend(&growth))
            } else {
                cache::change(host, &commands::extend(&growth))
            }
        })
    }

    pub(super) fn device(&self, found: &LogicalVolume) -> BlockDevice {
        BlockDevice {
            path: found.state.active.then(|| self.path()),
            major: found.numbers.map(|(major, _)| major),
            minor: found.numbers.map(|(_, minor)| minor),
            bytes: Some(found.bytes),
            uris: Vec::new(),
        }
    }

    /// The device of an active volume. In a dry run it may not be there.
    pub(super) fn device_node(&self, host: &Host) -> Result<BlockDevice, LvmError> {
        let path = self.path();
        match device::at(&path) {
            Err(DeviceError::NotFound { .. }) if host.is_dry_run() => Ok(BlockDevice {
                path: Some(path),
                bytes: Some(self.target.disk.size.bytes()),
                ..BlockDevice::default()
            }),
            Err(DeviceError::NotFound { path }) => Err(LvmError::NoDeviceNode { path }),
            found => Ok(found?),
        }
    }
}

/// Tries one number of stripes after the other, as long as it is the room that is lacking. If none fits, the last one tells why.
fn first_with_room(
    attempts: &[(u32, u64)],
    mut attempt: impl FnMut((u32, u64)) -> Result<(), LvmError>,
) -> Result<(), LvmError> {
    let mut result = Ok(());
    for one in attempts {
        result = attempt(*one);
        match &result {
            Err(error) if error.kind() == ErrorKind::NoSpace => {}
            _ => break,
        }
    }
    result
}
