//! What is on the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gnt_bdev::{Owner, SyncStatus};
use gnt_config::template::NODE_LOCAL;
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};

use crate::sim::content::Bytes;

/// Everything that nodes have, apart from what the configuration says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    /// By [key](Disk::volume_keys), which has the node in it where the volume is that node's own.
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// By UUID of the node.
    pub(crate) machines: BTreeMap<String, Machine>,
    /// How well everything is mirrored.
    pub(crate) sync: SyncStatus,
}

impl Default for World {
    fn default() -> Self {
        Self {
            volumes: BTreeMap::new(),
            machines: BTreeMap::new(),
            sync: SyncStatus::OKAY,
        }
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Volume {
    pub(crate) device: LogicalDevice,
    pub(crate) logical_id: LogicalId,
    /// The node that has it; none if all see the same.
    pub(crate) node: Option<String>,
    pub(crate) size: Mebibytes,
    pub(crate) owner: Owner,
    /// What was written to it.
    pub(crate) data: Bytes,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Machine {
    pub(crate) directories: BTreeSet<String>,
    /// By instance and index.
    pub(crate) links: BTreeMap<(String, u32), PathBuf>,
    /// Keys of the volumes that have a device here.
    pub(crate) attached: BTreeSet<String>,
    /// Files that are no disks, by path, with their sizes.
    pub(crate) images: BTreeMap<String, (Bytes, u64)>,
    /// Block devices that are there without us, by path.
    pub(crate) devices: BTreeMap<String, Mebibytes>,
}

/// The key of a volume as `node` sees it.
pub(crate) fn key(node: &str, device: LogicalDevice, id: &LogicalId) -> String {
    let mut disk = Disk::new(device, id.clone(), Mebibytes(0));
    disk.nodes = vec![node.to_owned()];
    disk.volume_keys().swap_remove(0)
}

/// The node that alone has volumes of this type which are made on it.
pub(crate) fn home(node: &str, device: LogicalDevice) -> Option<String> {
    NODE_LOCAL.contains(device.template()).then(|| node.to_owned())
}

/// Where the device of a volume is: for files they themselves, for others only while they are attached.
pub(crate) fn device_path(device: LogicalDevice, id: &LogicalId) -> PathBuf {
    match id {
        LogicalId::File { path, .. } | LogicalId::BlockDev { path } => path.into(),
        id => format!("/dev/sim/{device}/{}", id.volume()).into(),
    }
}
