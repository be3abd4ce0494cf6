//! Devices of volumes that several nodes can have, where they should not be.

use std::collections::BTreeMap;

use gnt_bdev::DrbdMinor;
use gnt_config::{self as config, Disk, Instance, LogicalDevice, LogicalId, Mebibytes};
use gnt_store::Store;

use super::{Finding, FindingKind, Repair, UnderWay};
use crate::error::Result;

/// Whether a disk is to have a device on the node (UUID): where its instance runs, and of a mirror on both sides.
pub(super) fn is_wanted(owner: Option<&Instance>, disk: &Disk, node: &str) -> bool {
    owner.is_some_and(|owner| {
        owner.uses_disks_on(node) || (owner.disks_active && disk.all_nodes().contains(node))
    })
}

/// Of the drbd minors that are set up on the node, those that no disk in use has, and those that are primary where they should not be.
pub(super) fn left_over_minors(
    store: &Store,
    node: &config::Node,
    minors: &[DrbdMinor],
    under_way: &UnderWay,
) -> Result<Vec<Finding>> {
    let ours = minors
        .iter()
        .filter(|minor| minor.ours && !under_way.has_minor(&node.uuid, minor.minor));
    let ours: Vec<_> = ours.collect();
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    let mut disks = BTreeMap::new();
    for disk in store.disks_on(&node.uuid)? {
        let here = disk.drbd_minors().into_iter().find(|(at, _)| *at == node.uuid);
        if let Some((_, minor)) = here {
            disks.insert(minor, disk);
        }
    }
    let mut findings = Vec::new();
    for DrbdMinor { minor, primary, .. } in ours {
        let Some(disk) = disks.remove(minor) else {
            let message = format!("drbd{minor} is set up there, and no disk has it");
            let mend = format!("drbdsetup down resource{minor}");
            findings.push(Finding::new(FindingKind::LeftOverMapping, message, mend).on(node));
            continue;
        };
        let owner = owner(store, &disk.uuid)?;
        let finding = if !is_wanted(owner.as_ref(), &disk, &node.uuid) {
            left_over(&disk.uuid, &disk.to_string(), owner.as_ref(), node)
        } else if *primary
            && owner
                .as_ref()
                .is_some_and(|owner| !owner.uses_disks_on(&node.uuid))
        {
            let message = format!("{disk} is primary there, where its instance does not run");
            let mend = format!("drbdsetup secondary {minor}");
            Finding::new(FindingKind::LeftOverMapping, message, mend).on(node)
        } else {
            continue;
        };
        findings.push(Finding {
            instance: owner.map(|owner| owner.name),
            disk: Some(disk.to_string()),
            ..finding
        });
    }
    Ok(findings)
}

fn owner(store: &Store, disk: &str) -> Result<Option<Instance>> {
    Ok(match store.owner_of_disk(disk)? {
        Some(owner) => store.instance(&owner)?,
        None => None,
    })
}

fn left_over(uuid: &str, what: &str, owner: Option<&Instance>, node: &config::Node) -> Finding {
    let why = match owner {
        Some(owner) if owner.disks_active => "where its instance does not run",
        Some(_) => "and its instance is not active",
        None => "and no instance has it",
    };
    let message = format!("{what} has a device there, {why}");
    Finding::new(FindingKind::LeftOverMapping, message, "gnt-disk verify --repair")
        .on(node)
        .repaired_by(Repair::Unmap {
            node: node.uuid.clone(),
            disk: uuid.to_owned(),
        })
}

/// Of the volumes that have a device on the node, those whose disk is not in use there.
pub(super) fn left_over_mappings(
    store: &Store,
    node: &config::Node,
    device: LogicalDevice,
    attached: &[LogicalId],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for id in attached {
        let key = Disk::new(device, id.clone(), Mebibytes(0)).volume_keys().concat();
        // Of what is no disk nobody knows who uses it.
        let Some(uuid) = store.owner_of_volume(&key)? else {
            continue;
        };
        let owner = owner(store, &uuid)?;
        let is_used = |owner: &Instance| owner.uses_disks_on(&node.uuid);
        if owner.as_ref().is_some_and(is_used) {
            continue;
        }
        let finding = left_over(&uuid, &id.to_string(), owner.as_ref(), node);
        findings.push(Finding {
            instance: owner.map(|owner| owner.name),
            disk: Some(id.to_string()),
            ..finding
        });
    }
    Ok(findings)
}
