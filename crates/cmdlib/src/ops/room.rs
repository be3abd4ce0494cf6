//! Whether there is room for what is to be made, and its names are free.

use std::collections::BTreeMap;

use gnt_bdev::ErrorKind;
use gnt_config::template::{MUST_ADOPT, NO_FREE_SPACE_CHECK, NODE_LOCAL};
use gnt_config::{Disk, LogicalId, Mebibytes};
use gnt_store::Store;

use crate::error::{Error, Result};
use crate::node::{Node, NodeError};
use crate::saga::Nodes;
use crate::step::Place;

/// Refuses to make disks for which the nodes' volume groups have no room, all of one request together (`CheckNodesFreeDiskPerVG`). What
/// checks its own room, or none, is not asked (`DTS_NO_FREE_SPACE_CHECK`).
pub(crate) async fn check_room<N: Nodes>(nodes: &N, new: &[Place]) -> Result<()> {
    let mut needed: BTreeMap<&str, BTreeMap<&str, (Mebibytes, &Disk)>> = BTreeMap::new();
    for place in new {
        for (vg, volume) in place.disk.walk().filter_map(in_group) {
            let groups = needed.entry(&place.node).or_default();
            let (sum, _) = groups.entry(vg).or_insert((Mebibytes(0), volume));
            *sum = Mebibytes(sum.0.saturating_add(volume.size.0));
        }
    }
    for (uuid, groups) in needed {
        let node = nodes.node(uuid)?;
        for (vg, (needed, volume)) in groups {
            let space = match node.space(volume.dev_type, &volume.params).await {
                Ok(space) => space,
                // It is found out when the first volume does not fit.
                Err(error) if is_unknown(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            let free = space
                .iter()
                .find(|space| space.name == vg)
                .map(|space| space.free);
            if let Some(free) = free.filter(|free| *free < needed) {
                return Err(Error::NoRoom {
                    node: node.name().to_owned(),
                    group: vg.to_owned(),
                    needed,
                    free,
                });
            }
        }
    }
    Ok(())
}

/// Refuses to make disks on nodes that have volumes of these names, or are to have some of other disks: they would be overwritten, or be
/// removed when that is undone.
pub(crate) async fn check_free<N: Nodes>(store: &Store, nodes: &N, new: &[Place]) -> Result<()> {
    for at in new {
        let node = at.on(nodes)?;
        let volumes = at.disk.walk();
        for volume in volumes
            .filter(|volume| volume.children.is_empty() && NODE_LOCAL.contains(volume.dev_type.template()))
        {
            let here = Disk {
                nodes: vec![at.node.clone()],
                ..volume.clone()
            };
            let mut taken = false;
            for key in here.volume_keys() {
                let owner = store.owner_of_volume(&key)?;
                taken |= owner.is_some_and(|owner| owner != at.disk.uuid);
            }
            // That it cannot be told is no reason not to try.
            if taken || matches!(node.find(volume, &at.instance).await, Ok(Some(_))) {
                return Err(Error::NameTaken {
                    node: node.name().to_owned(),
                    volume: volume.logical_id.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// A volume whose room is looked at, and the volume group that it is in.
pub(crate) fn in_group(volume: &Disk) -> Option<(&str, &Disk)> {
    let template = volume.dev_type.template();
    let LogicalId::Lv { vg, .. } = &volume.logical_id else {
        return None;
    };
    let is_checked = !NO_FREE_SPACE_CHECK.contains(template) && !MUST_ADOPT.contains(template);
    is_checked.then_some((vg, volume))
}

/// Whether the node, or what drives its volumes, cannot tell.
pub(crate) fn is_unknown(error: &NodeError) -> bool {
    matches!(error, NodeError::NoSuchCall { .. }) || error.kind() == ErrorKind::Unsupported
}
