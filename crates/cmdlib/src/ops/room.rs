//! Whether there is room for what is to be made.

use std::collections::BTreeMap;

use gnt_bdev::ErrorKind;
use gnt_config::template::{MUST_ADOPT, NO_FREE_SPACE_CHECK};
use gnt_config::{Disk, LogicalId, Mebibytes};

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
                Err(error) if is_unknown(&error) => return Ok(()),
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
