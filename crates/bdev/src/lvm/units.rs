//! Physical volumes and volume groups as units of storage.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use gnt_config::Mebibytes;

use super::cache;
use super::commands;
use super::error::LvmError;
use super::layout::Group;
use super::report::PhysicalVolume;
use crate::driver::Change;
use crate::host::Host;
use crate::storage::StorageUnit;

/// The physical volume called `name`, or all, also those in no group. A node without LVM has none.
pub(crate) fn physical_volume_units(host: &Host, name: Option<&str>) -> Result<Vec<StorageUnit>, LvmError> {
    let all = none_without_lvm(cache::all_physical_volumes(host))?;
    let unit = |pv: &PhysicalVolume| unit(&pv.name, pv.bytes, pv.free, pv.allocatable);
    Ok(match name {
        None => all.iter().map(unit).collect(),
        Some(name) => vec![unit(called(name, &all)?)],
    })
}

/// The volume group called `name`, or all. A node without LVM has none.
pub(crate) fn volume_group_units(host: &Host, name: Option<&str>) -> Result<Vec<StorageUnit>, LvmError> {
    let pvs = none_without_lvm(cache::physical_volumes(host))?;
    if let Some(name) = name {
        Group::of(name, &pvs)?;
    }
    let mut groups: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for pv in pvs.iter().filter(|pv| name.is_none_or(|name| pv.vg == name)) {
        let [bytes, free] = groups.entry(&pv.vg).or_default();
        *bytes = bytes.saturating_add(pv.bytes);
        *free = free.saturating_add(pv.free);
    }
    let units = groups.into_iter();
    Ok(units
        .map(|(vg, [bytes, free])| unit(vg, bytes, free, true))
        .collect())
}

/// Sets whether new volumes may be put on a physical volume.
pub(crate) fn set_allocatable(host: &Host, name: &str, allocatable: bool) -> Result<Change, LvmError> {
    let all = cache::all_physical_volumes(host)?;
    let pv = called(name, &all)?;
    if pv.allocatable == allocatable {
        return Ok(Change::AlreadyThere);
    }
    cache::change(host, &commands::set_allocatable(&pv.name, allocatable))?;
    Ok(Change::Made)
}

/// Removes lost physical volumes from a group, and what was on them. LVM does without `--force` only where nothing was, and Ganeti repeats it with.
pub(crate) fn remove_missing(host: &Host, vg: &str) -> Result<Change, LvmError> {
    if missing(host, vg)? == 0 {
        return Ok(Change::AlreadyThere);
    }
    cache::change(host, &commands::remove_missing(vg))?;
    if host.is_dry_run() {
        return Ok(Change::Made);
    }
    match missing(host, vg)? {
        0 => Ok(Change::Made),
        missing => Err(LvmError::StillMissing {
            vg: vg.to_owned(),
            missing,
        }),
    }
}

/// How many physical volumes a group has lost.
fn missing(host: &Host, vg: &str) -> Result<usize, LvmError> {
    let pvs = cache::physical_volumes(host)?;
    Group::of(vg, &pvs)?;
    Ok(pvs.iter().filter(|pv| pv.vg == vg && pv.missing).count())
}

fn unit(name: &str, bytes: u64, free: u64, allocatable: bool) -> StorageUnit {
    StorageUnit {
        name: name.to_owned(),
        size: Mebibytes::from_bytes(bytes),
        free: Mebibytes::from_bytes(free),
        used: Some(Mebibytes::from_bytes(bytes.saturating_sub(free))),
        allocatable,
    }
}

/// The physical volume with this name, or one that leads to the same device.
fn called<'a>(name: &str, pvs: &'a [PhysicalVolume]) -> Result<&'a PhysicalVolume, LvmError> {
    let device = fs::canonicalize(name).ok();
    let same = |pv: &&PhysicalVolume| {
        pv.name == name || (device.is_some() && fs::canonicalize(&pv.name).ok() == device)
    };
    pvs.iter().find(same).ok_or_else(|| LvmError::NoPhysicalVolume {
        pv: name.to_owned(),
        others: pvs.iter().map(|pv| pv.name.clone()).collect(),
    })
}

fn none_without_lvm<T>(answer: Result<Arc<[T]>, LvmError>) -> Result<Arc<[T]>, LvmError> {
    match answer {
        Err(LvmError::Tool(error)) if error.is_missing() => Ok(Arc::new([])),
        answer => answer,
    }
}
