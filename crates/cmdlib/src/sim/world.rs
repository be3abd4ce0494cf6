//! What is on the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gnt_bdev::{Owner, SyncStatus};
use gnt_config::template::NODE_LOCAL;
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};

use crate::sim::content::Bytes;
use crate::sim::drbd::{Drbd, Metadata, Minor};
use crate::sim::guest::Guest;
use crate::sim::network::Network;

/// Everything that nodes have, apart from what the configuration says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// By [key](Disk::volume_keys), which has the node in it where the volume is that node's own.
    pub volumes: BTreeMap<String, Volume>,
    /// By UUID of the node.
    pub machines: BTreeMap<String, Machine>,
    /// Directories that all nodes see.
    pub shared_directories: BTreeSet<String>,
    /// Below which directories are seen by all nodes.
    pub shared_root: Option<String>,
    /// What can reach what.
    pub network: Network,
    /// What drbd does by itself.
    pub drbd: Drbd,
    /// How well everything is mirrored that is not drbd's.
    pub sync: SyncStatus,
    /// The instances that run, by name.
    pub guests: BTreeMap<String, Guest>,
    /// What should never have happened.
    pub violations: Vec<String>,
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
            guests: BTreeMap::new(),
            violations: Vec::new(),
        }
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Its type.
    pub device: LogicalDevice,
    /// Its name.
    pub logical_id: LogicalId,
    /// The node that has it; none if all see the same.
    pub node: Option<String>,
    /// As large as it was made.
    pub size: Mebibytes,
    /// Whose it says it is.
    pub owner: Owner,
    /// What was written to it.
    pub data: Bytes,
    /// What drbd keeps on it, if it is a metadata volume.
    pub meta: Option<Metadata>,
    /// What its provider keeps about which nodes have it open, also of a node that died: by name, whether for it alone.
    pub open: BTreeMap<String, bool>,
}

impl Volume {
    /// An empty one.
    pub fn new(node: &str, device: LogicalDevice, logical_id: &LogicalId, size: Mebibytes) -> Self {
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
pub struct Machine {
    /// Whether it has no power.
    pub is_dead: bool,
    /// Those of file-based instances, by path.
    pub directories: BTreeSet<String>,
    /// By instance and index.
    pub links: BTreeMap<(String, u32), PathBuf>,
    /// Keys of the volumes that have a device here.
    pub attached: BTreeSet<String>,
    /// Keys of the volumes that are open here, and whether for this node alone.
    pub open: BTreeMap<String, bool>,
    /// What drbd runs here.
    pub minors: BTreeMap<u32, Minor>,
    /// Files that are no disks, by path, with their sizes.
    pub images: BTreeMap<String, (Bytes, u64)>,
    /// How much its volume groups hold in all; none if there is always room.
    pub room: Option<Mebibytes>,
}

impl World {
    /// The machine of a node. There is one for each.
    pub fn machine(&mut self, node: &str) -> &mut Machine {
        self.machines.entry(node.to_owned()).or_default()
    }

    /// A block device that is there without us, seen from all nodes.
    pub fn add_device(&mut self, path: &str, size: Mebibytes) {
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
    pub fn directories(&mut self, node: &str, path: &str) -> &mut BTreeSet<String> {
        match &self.shared_root {
            Some(root) if path.starts_with(root.as_str()) => &mut self.shared_directories,
            _ => &mut self.machine(node).directories,
        }
    }

    /// Cuts the power: what the node's kernel had is gone, what is on disks stays.
    pub fn kill(&mut self, node: &str) {
        let minors: Vec<u32> = self.machine(node).minors.keys().copied().collect();
        for minor in minors {
            self.drop_minor(node, minor);
        }
        let here: Vec<String> = self
            .guests
            .keys()
            .filter(|name| self.guest(name) == Some(node))
            .cloned()
            .collect();
        here.iter().for_each(|instance| self.stop_guest(instance));
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
    pub fn boot(&mut self, node: &str) {
        self.machine(node).is_dead = false;
    }

    /// How much is in a node's volume groups.
    pub fn used(&self, node: &str) -> Mebibytes {
        let of_node =
            |volume: &&Volume| volume.device == LogicalDevice::Plain && volume.node.as_deref() == Some(node);
        let sizes = self.volumes.values().filter(of_node).map(|volume| volume.size.0);
        Mebibytes(sizes.sum())
    }
}

/// The key of a volume as `node` sees it.
pub fn key(node: &str, device: LogicalDevice, id: &LogicalId) -> String {
    let mut disk = Disk::new(device, id.clone(), Mebibytes(0));
    disk.nodes = vec![node.to_owned()];
    disk.volume_keys().swap_remove(0)
}

/// The node that alone has volumes of this type which are made on it.
pub(super) fn home(node: &str, device: LogicalDevice) -> Option<String> {
    NODE_LOCAL.contains(device.template()).then(|| node.to_owned())
}

/// Where the device of a disk is on a node: for files they themselves, for others only while they are attached.
pub fn device_path(node: &str, device: LogicalDevice, id: &LogicalId) -> PathBuf {
    match id {
        LogicalId::File { path, .. } | LogicalId::BlockDev { path } => path.into(),
        LogicalId::Drbd8 { nodes, minors, .. } => {
            let minor = minors[usize::from(nodes[0] != node)];
            format!("/dev/drbd{minor}").into()
        }
        LogicalId::Lv { vg, lv } => format!("/dev/{vg}/{lv}").into(),
        id => format!("/dev/sim/{device}/{}", id.volume()).into(),
    }
}
