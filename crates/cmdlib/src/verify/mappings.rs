//! Devices of volumes that several nodes can have, where they should not be.

use gnt_config::{self as config, Disk, LogicalDevice, LogicalId, Mebibytes};
use gnt_store::Store;

use super::{Finding, FindingKind, Repair};
use crate::error::Result;

/// Of the volumes that have a device on the node, those whose disk is not in use there.
pub(super) fn left_over_mappings(
    store: &Store,
    node: &config::Node,
    attached: &[(LogicalDevice, LogicalId)],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (device, id) in attached {
        let key = Disk::new(*device, id.clone(), Mebibytes(0))
            .volume_keys()
            .concat();
        // Of what is no disk nobody knows who uses it.
        let Some(uuid) = store.owner_of_volume(&key)? else {
            continue;
        };
        let owner = match store.owner_of_disk(&uuid)? {
            Some(owner) => store.instance(&owner)?,
            None => None,
        };
        if owner
            .as_ref()
            .is_some_and(|owner| owner.uses_disks_on(&node.uuid))
        {
            continue;
        }
        let why = match &owner {
            Some(owner) if owner.disks_active => "where its instance does not run",
            Some(_) => "and its instance is not active",
            None => "and no instance has it",
        };
        let message = format!("{id} has a device there, {why}");
        findings.push(Finding {
            instance: owner.map(|owner| owner.name),
            disk: Some(id.to_string()),
            ..Finding::new(FindingKind::LeftOverMapping, message)
                .on(node)
                .mended_by("gnt-disk verify --repair")
                .repaired_by(Repair::Unmap {
                    node: node.uuid.clone(),
                    disk: uuid,
                })
        });
    }
    Ok(findings)
}
