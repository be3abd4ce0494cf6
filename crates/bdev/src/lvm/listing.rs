//! What a node has of LVM, for calls that ask for no disk.

use std::collections::BTreeMap;

use gnt_config::{LogicalDevice, Mebibytes};

use super::cache;
use super::error::LvmError;
use crate::error::Error;
use crate::host::Host;

/// A logical volume, whoever has made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVolume {
    /// Its group.
    pub vg: String,
    /// Its name.
    pub lv: String,
    /// The size of its device.
    pub bytes: u64,
    /// Whether it has a device.
    pub active: bool,
    /// Whether something has its device open.
    pub open: bool,
    /// The physical volumes that it is on, one for each piece.
    pub pvs: Vec<String>,
}

/// The volume groups of the node and their sizes (`backend.ListVolumeGroups`). A node without LVM has none.
pub fn volume_groups(host: &Host) -> Result<BTreeMap<String, Mebibytes>, Error> {
    let Some(pvs) = told(host, cache::physical_volumes(host))? else {
        return Ok(BTreeMap::new());
    };
    let mut groups: BTreeMap<String, u64> = BTreeMap::new();
    for pv in pvs.iter() {
        *groups.entry(pv.vg.clone()).or_default() += pv.bytes;
    }
    let groups = groups.into_iter();
    Ok(groups
        .map(|(vg, bytes)| (vg, Mebibytes::from_bytes(bytes)))
        .collect())
}

/// The logical volumes of the node (`backend.GetVolumeList`).
pub fn listed_volumes(host: &Host) -> Result<Vec<ListedVolume>, Error> {
    let Some(volumes) = told(host, cache::logical_volumes(host))? else {
        return Ok(Vec::new());
    };
    let listed = volumes.iter().map(|volume| ListedVolume {
        vg: volume.vg.clone(),
        lv: volume.lv.clone(),
        bytes: volume.bytes,
        active: volume.state.active,
        open: volume.state.open,
        pvs: volume.pvs.clone(),
    });
    Ok(listed.collect())
}

fn told<T>(host: &Host, answer: Result<T, LvmError>) -> Result<Option<T>, Error> {
    match answer {
        Ok(told) => Ok(Some(told)),
        Err(LvmError::Tool(error)) if error.is_missing() => Ok(None),
        Err(error) => Err(Error::Volumes {
            device: LogicalDevice::Plain,
            node: host.name.clone(),
            cause: Box::new(error.into()),
        }),
    }
}
