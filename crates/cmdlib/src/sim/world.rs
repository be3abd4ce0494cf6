//! What is on the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gnt_bdev::{Owner, SyncStatus};
use gnt_config::template::NODE_LOCAL;
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};

use crate::sim::content::Bytes;
use crate::sim::drbd::{Drbd, Metadata, Minor};
use crate::sim::network::Network;

/// Everything that nodes have, apart from what the configuration says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    /// By [key](Disk::volume_keys), which has the node in it where the volume is that node's own.
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// By UUID of the node.
    pub(crate) machines: BTreeMap<String, Machine>,
    /// Directories that all nodes see.
    pub(crate) shared_directories: BTreeSet<String>,
    /// Below which directories are seen by all nodes.
    pub(crate) shared_root: Option<String>,
    /// What can reach what.
    pub(crate) network: Network,
    /// What drbd does by itself.
    pub(crate) drbd: Drbd,
    /// How well everything is mirrored that is not drbd's.
    pub(crate) sync: SyncStatus,
    /// What should never have happened.
    pub(crate) violations: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            volumes: BTreeMap::new(),
            machines: BTreeMap::new(),
            shared_directories: BTreeSet::new(),
            shared_root: None,
            network: Network::default(),
            drbd: Drbd::default(),
            sync: SyncStatus::OKAY,
            violations: Vec::new(),
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
    /// What drbd keeps on it, if it is a metadata volume.
    pub(crate) meta: Option<Metadata>,
    /// What its provider keeps about which nodes have it open, also of a node that died: by UUID, whether for it alone.
    pub(crate) open: BTreeMap<String, bool>,
}

impl Volume {
    /// An empty one.
    pub(crate) fn new(node: &str, device: LogicalDevice, logical_id: &LogicalId, size: Mebibytes) -> Self {
        Self {
            device,
            logical_id: logical_id.clone(),
            node: home(node, device),
            size,
            owner: Owner::default(),
            data: Bytes::default(),
            meta: None,
            open: BTreeMap::new(),
        }
    }
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Machine {
    /// Whether it has no power.
    pub(crate) is_dead: bool,
    pub(crate) directories: BTreeSet<String>,
    /// By instance and index.
    pub(crate) links: BTreeMap<(String, u32), PathBuf>,
    /// Keys of the volumes that have a device here.
    pub(crate) attached: BTreeSet<String>,
    /// Keys of the volumes that are open here, and whether for this node alone.
    pub(crate) open: BTreeMap<String, bool>,
    /// What drbd runs here.
    pub(crate) minors: BTreeMap<u32, Minor>,
    /// Files that are no disks, by path, with their sizes.
    pub(crate) images: BTreeMap<String, (Bytes, u64)>,
    /// How much its volume groups hold in all; none if there is always room.
    pub(crate) room: Option<Mebibytes>,
}

impl World {
    /// The machine of a node. There is one for each.
    pub(crate) fn machine(&mut self, node: &str) -> &mut Machine {
        self.machines.entry(node.to_owned()).or_default()
    }

    /// A block device that is there without us, seen from all nodes.
    pub(crate) fn add_device(&mut self, path: &str, size: Mebibytes) {
        let (device, id) = (
            LogicalDevice::Blockdev,
            LogicalId::BlockDev {
                path: path.to_owned(),
            },
        );
        self.volumes
            .insert(key("", device, &id), Volume::new("", device, &id, size));
    }

    /// The directories that a node sees, of which `path` is or would be one.
    pub(crate) fn directories(&mut self, node: &str, path: &str) -> &mut BTreeSet<String> {
        match &self.shared_root {
            Some(root) if path.starts_with(root.as_str()) => &mut self.shared_directories,
            _ => &mut self.machine(node).directories,
        }
    }

    /// Cuts the power: what the node's kernel had is gone, what is on disks stays.
    pub(crate) fn kill(&mut self, node: &str) {
        let minors: Vec<u32> = self.machine(node).minors.keys().copied().collect();
        for minor in minors {
            self.drop_minor(node, minor);
        }
        let machine = self.machine(node);
        *machine = Machine {
            is_dead: true,
            directories: std::mem::take(&mut machine.directories),
            images: std::mem::take(&mut machine.images),
            room: machine.room,
            ..Machine::default()
        };
    }

    /// Gives it power again.
    pub(crate) fn boot(&mut self, node: &str) {
        self.machine(node).is_dead = false;
    }

    /// How much is in a node's volume groups.
    pub(crate) fn used(&self, node: &str) -> Mebibytes {
        let of_node =
            |volume: &&Volume| volume.device == LogicalDevice::Plain && volume.node.as_deref() == Some(node);
        let sizes = self.volumes.values().filter(of_node).map(|volume| volume.size.0);
        Mebibytes(sizes.sum())
    }
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

/// Where the device of a disk is on a node: for files they themselves, for others only while they are attached.
pub(crate) fn device_path(node: &str, device: LogicalDevice, id: &LogicalId) -> PathBuf {
    match id {
        LogicalId::File { path, .. } | LogicalId::BlockDev { path } => path.into(),
        LogicalId::Drbd8 { nodes, minors, .. } => {
            let minor = minors[usize::from(nodes[0] != node)];
            format!("/dev/drbd{minor}").into()
        }
        id => format!("/dev/sim/{device}/{}", id.volume()).into(),
    }
}
