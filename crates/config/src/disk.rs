//! A disk: the tree of devices under it, what it needs on each node, how it grows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use strum::{Display, EnumString, IntoStaticStr};

use crate::device::{LogicalDevice, LogicalId};
use crate::json::{self, JsonError, Object, Origin, json_object, or_default};
use crate::kept::Kept;
use crate::size::Mebibytes;
use crate::template;

/// Whether an instance may write to a disk (`constants.DISK_ACCESS_SET`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Display,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum AccessMode {
    /// Read and write.
    #[default]
    Rw,
    /// Read only.
    Ro,
}

/// What a drbd disk needs to know on one node; computed when it is sent there and never stored (`Disk.dynamic_params`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DynamicParams {
    /// Address of this node.
    pub local_ip: String,
    /// Address of the other node.
    pub remote_ip: String,
    /// Minor on this node.
    pub local_minor: u32,
    /// Minor on the other node.
    pub remote_minor: u32,
}

/// One device and those that it is built of (`objects.Disk`).
#[derive(Debug, Clone, Serialize)]
#[serde(remote = "Self")]
pub struct Disk {
    /// Empty only in the short form that some node calls use.
    pub uuid: String,
    /// A name chosen by the user.
    pub name: Option<String>,
    /// What drives it.
    pub dev_type: LogicalDevice,
    /// What names it.
    #[serde(serialize_with = "tuple")]
    pub logical_id: LogicalId,
    /// The devices it is built of: data and metadata volume for drbd, otherwise none.
    pub children: Vec<Disk>,
    /// UUIDs of the nodes that hold its data; empty for templates that no node owns.
    pub nodes: Vec<String>,
    /// `disk/N`, its name inside the instance; none for children.
    pub iv_name: Option<String>,
    /// Size as configured.
    pub size: Mebibytes,
    /// None for children of a disk just generated.
    pub mode: Option<AccessMode>,
    /// Parameters set on this disk; filled with those of its template when it is sent to a node.
    pub params: Object,
    /// Number of spindles, where exclusive storage is used.
    pub spindles: Option<u64>,
    /// Set only while a drbd disk is sent to a node.
    pub dynamic_params: Option<DynamicParams>,
    /// UUID of the disk of which it is a snapshot that nobody has attached yet. Only ours: no `config.data` has it.
    #[serde(rename = "gnt-disk:snapshot-of")]
    pub snapshot_of: Option<String>,
    /// What its volume is to keep; set only while it is sent to a node. Ganeti has no such key.
    pub kept: Option<Box<Kept>>,
    /// What it was read from.
    #[serde(skip)]
    pub origin: Origin,
}

json_object!(Disk, read: Disk::read);

/// A question that a disk's configuration has no answer to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The drbd disk does not live on this node (`errors.ConfigurationError` in `Disk.GetNodes`).
    #[error("{disk} does not live on node {node}")]
    UnknownNode {
        /// The disk.
        disk: String,
        /// UUID of the node.
        node: String,
    },
    /// No address is known for one of the disk's nodes.
    #[error("{disk} needs the address of node {node}, which is not known")]
    NoAddress {
        /// The disk.
        disk: String,
        /// UUID of the node.
        node: String,
    },
    /// The template is not in [`template::GROWABLE`].
    #[error("{disk} cannot grow: disks of type {device} have a fixed size")]
    NotGrowable {
        /// The disk.
        disk: String,
        /// Its type.
        device: LogicalDevice,
    },
    /// The new size does not fit.
    #[error("{disk} cannot grow by {amount}: nothing in Linux is larger than 8 EiB")]
    TooLarge {
        /// The disk.
        disk: String,
        /// The growth.
        amount: Mebibytes,
    },
}

impl Disk {
    /// A disk without children, mode rw.
    pub fn new(dev_type: LogicalDevice, logical_id: LogicalId, size: Mebibytes) -> Self {
        Self {
            uuid: String::new(),
            name: None,
            dev_type,
            logical_id,
            children: Vec::new(),
            nodes: Vec::new(),
            iv_name: None,
            size,
            mode: None,
            params: Object::new(),
            spindles: None,
            dynamic_params: None,
            snapshot_of: None,
            kept: None,
            origin: Origin::default(),
        }
    }

    /// Its place among the instance's disks, as `iv_name` says.
    pub fn index(&self) -> Option<u32> {
        self.iv_name.as_deref()?.strip_prefix("disk/")?.parse().ok()
    }

    /// The disk and all below it, from the top down.
    pub fn walk(&self) -> impl Iterator<Item = &Disk> {
        let mut pending = vec![self];
        std::iter::from_fn(move || {
            let disk = pending.pop()?;
            pending.extend(disk.children.iter().rev());
            Some(disk)
        })
    }

    /// Nodes named by the tree's drbd devices (`Disk.all_nodes`).
    pub fn all_nodes(&self) -> BTreeSet<&str> {
        self.walk()
            .flat_map(|disk| disk.drbd_nodes().into_iter().flatten())
            .map(String::as_str)
            .collect()
    }

    fn drbd_nodes(&self) -> Option<&[String; 2]> {
        match &self.logical_id {
            LogicalId::Drbd8 { nodes, .. } => Some(nodes),
            _ => None,
        }
    }

    /// Nodes on which the device is to be assembled, when its parent lives on `node`; for a top-level disk that is the
    /// instance's primary node (`Disk.GetNodes`).
    pub fn nodes_from<'a>(&'a self, node: &'a str) -> Result<Vec<&'a str>, DiskError> {
        match self.drbd_nodes() {
            None => Ok(vec![node]),
            Some([a, b]) if a == node || b == node => Ok(vec![a, b]),
            Some(_) => Err(DiskError::UnknownNode {
                disk: self.to_string(),
                node: node.to_owned(),
            }),
        }
    }

    /// The shortest list of node and device that names everything the disk consists of (`Disk.ComputeNodeTree`).
    pub fn node_tree<'a>(&'a self, parent_node: &'a str) -> Result<Vec<(&'a str, &'a Disk)>, DiskError> {
        let own = self.nodes_from(parent_node)?;
        let mut tree: Vec<_> = own.iter().map(|node| (*node, self)).collect();
        for node in &own {
            for child in &self.children {
                let below = child.node_tree(node)?;
                // A child on one node only is described by its parent.
                if below.len() > 1 {
                    tree.extend(below.into_iter().filter(|(node, _)| !own.contains(node)));
                }
            }
        }
        Ok(tree)
    }

    /// Space needed in each volume group to grow the disk by `amount` (`Disk.ComputeGrowth`).
    pub fn growth(&self, amount: Mebibytes) -> BTreeMap<&str, Mebibytes> {
        match (&self.logical_id, self.children.first()) {
            (LogicalId::Lv { vg, .. }, _) => BTreeMap::from([(vg.as_str(), amount)]),
            (LogicalId::Drbd8 { .. }, Some(data)) => data.growth(amount),
            _ => BTreeMap::new(),
        }
    }

    /// Records that the disk, and the data device below it, grew by `amount` (`Disk.RecordGrow`). Nothing is changed on error.
    pub fn record_grow(&mut self, amount: Mebibytes) -> Result<(), DiskError> {
        if !template::GROWABLE.contains(self.dev_type.template()) {
            return Err(DiskError::NotGrowable {
                disk: self.to_string(),
                device: self.dev_type,
            });
        }
        let grown = self.size.checked_add(amount);
        let size = grown
            .filter(|size| *size <= Mebibytes::MAX)
            .ok_or_else(|| DiskError::TooLarge {
                disk: self.to_string(),
                amount,
            })?;
        if let Some(data) = self.data_device_mut() {
            data.record_grow(amount)?;
        }
        self.size = size;
        Ok(())
    }

    /// Sets the access mode of the disk and of the data device below it (`Disk.Update`).
    pub fn set_mode(&mut self, mode: AccessMode) {
        self.mode = Some(mode);
        if let Some(data) = self.data_device_mut() {
            data.set_mode(mode);
        }
    }

    /// The device with the disk's data: the disk itself, or the first below a mirror.
    pub fn data_device(&self) -> &Self {
        self.children.first().unwrap_or(self)
    }

    /// The child that holds a drbd disk's data; children of anything else are not part of its size.
    fn data_device_mut(&mut self) -> Option<&mut Disk> {
        match self.logical_id {
            LogicalId::Drbd8 { .. } => self.children.first_mut(),
            _ => None,
        }
    }

    /// How many children must be there to activate the device; none means all (`Disk.ChildrenNeeded`). A drbd device
    /// can run without any, on the other node's data.
    pub fn children_needed(&self) -> Option<usize> {
        (self.dev_type == LogicalDevice::Drbd).then_some(0)
    }

    /// The path under `/dev` of devices that have a fixed one, attached or not (`Disk.StaticDevPath`).
    pub fn static_dev_path(&self) -> Option<String> {
        match &self.logical_id {
            LogicalId::Lv { vg, lv } => Some(format!("/dev/{vg}/{lv}")),
            LogicalId::BlockDev { path } => Some(path.clone()),
            LogicalId::Rbd { volume } => Some(format!("/dev/rbd/{volume}")),
            _ => None,
        }
    }

    /// Whether the device or one below it is of type `device` (`Disk.IsBasedOnDiskType`).
    pub fn is_based_on(&self, device: LogicalDevice) -> bool {
        self.walk().any(|disk| disk.dev_type == device)
    }

    /// What no other disk of the cluster may name, for the whole tree: `plain:NODE:VG/LV` and `file:NODE:PATH` for each
    /// node that holds the volume (`plain::VG/LV` where that is not recorded), and without a node, as it is the same volume
    /// seen from everywhere, `ext:PROVIDER/VOLUME`, `sharedfile:PATH` and so on. A drbd device has no volume of its own but
    /// those of its children, and [minors](Self::drbd_minors) and [ports](Self::drbd_ports).
    pub fn volume_keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        self.collect_volume_keys(&[], &mut keys);
        keys
    }

    /// `parent_nodes` hold a child that does not name its own.
    fn collect_volume_keys(&self, parent_nodes: &[String], keys: &mut Vec<String>) {
        let nodes = match self.drbd_nodes() {
            Some(nodes) => nodes,
            None if self.nodes.is_empty() => parent_nodes,
            None => self.nodes.as_slice(),
        };
        let (device, name) = (self.dev_type, &self.logical_id);
        if self.drbd_nodes().is_none() {
            if !template::NODE_LOCAL.contains(device.template()) {
                keys.push(format!("{device}:{name}"));
            } else if nodes.is_empty() {
                keys.push(format!("{device}::{name}"));
            } else {
                keys.extend(nodes.iter().map(|node| format!("{device}:{node}:{name}")));
            }
        }
        for child in &self.children {
            child.collect_volume_keys(nodes, keys);
        }
    }

    /// Node (UUID) and minor of every drbd device in the tree; no other disk may use the same.
    pub fn drbd_minors(&self) -> Vec<(&str, u32)> {
        self.walk()
            .filter_map(|disk| match &disk.logical_id {
                LogicalId::Drbd8 { nodes, minors, .. } => Some(nodes.iter().map(String::as_str).zip(*minors)),
                _ => None,
            })
            .flatten()
            .collect()
    }

    /// TCP port of every drbd device in the tree that has one; no other disk may use the same.
    pub fn drbd_ports(&self) -> Vec<u16> {
        self.walk()
            .filter_map(|disk| match disk.logical_id {
                LogicalId::Drbd8 { port, .. } => port,
                _ => None,
            })
            .collect()
    }

    /// Fills in what the device and those below it need to know on `node` (`Disk.UpdateDynamicDiskParams`); `addresses`
    /// are the nodes' replication addresses by UUID. On a node that holds none of the data there is nothing to know.
    pub fn set_dynamic_params(
        &mut self,
        node: &str,
        addresses: &BTreeMap<String, String>,
    ) -> Result<(), DiskError> {
        for child in &mut self.children {
            child.set_dynamic_params(node, addresses)?;
        }
        self.dynamic_params = match &self.logical_id {
            LogicalId::Drbd8 { nodes, minors, .. } => match nodes.iter().position(|n| n == node) {
                None => None,
                Some(local) => {
                    let remote = 1 - local;
                    let address = |node: &String| {
                        let unknown = || DiskError::NoAddress {
                            disk: self.to_string(),
                            node: node.clone(),
                        };
                        addresses.get(node).cloned().ok_or_else(unknown)
                    };
                    Some(DynamicParams {
                        local_ip: address(&nodes[local])?,
                        remote_ip: address(&nodes[remote])?,
                        local_minor: minors[local],
                        remote_minor: minors[remote],
                    })
                }
            },
            _ => None,
        };
        Ok(())
    }
}

/// `disk/0 (ext/UUID.ext.disk0)`: what errors call a disk.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.iv_name {
            Some(name) => write!(f, "{name} ({})", self.logical_id),
            None => write!(f, "{}", self.logical_id),
        }
    }
}

fn tuple<S: Serializer>(id: &LogicalId, serializer: S) -> Result<S::Ok, S::Error> {
    id.to_json().serialize(serializer)
}

/// A disk as it is written, before the parts are read whose form depends on others.
#[derive(Deserialize)]
struct DiskForm {
    #[serde(default, deserialize_with = "or_default")]
    uuid: String,
    #[serde(default)]
    name: Option<String>,
    dev_type: LogicalDevice,
    logical_id: Value,
    #[serde(default, deserialize_with = "or_default")]
    children: Vec<Object>,
    #[serde(default, deserialize_with = "or_default")]
    nodes: Vec<String>,
    #[serde(default)]
    iv_name: Option<String>,
    size: Mebibytes,
    #[serde(default)]
    mode: Option<AccessMode>,
    #[serde(default, deserialize_with = "or_default")]
    params: Object,
    #[serde(default)]
    spindles: Option<u64>,
    #[serde(default)]
    dynamic_params: Option<Object>,
    #[serde(rename = "gnt-disk:snapshot-of", default)]
    snapshot_of: Option<String>,
    #[serde(default)]
    kept: Option<Box<Kept>>,
}

impl Disk {
    fn read(object: &Object) -> Result<Self, JsonError> {
        let form = json::read(object, |d| DiskForm::deserialize(d))?;
        let logical_id = LogicalId::from_json(form.dev_type, &form.logical_id)
            .map_err(|error| JsonError::at("logical_id", error))?;
        let read_child = |(index, child)| {
            Disk::from_object(child).map_err(|error| error.below(format_args!("children/{index}")))
        };
        let dynamic_params = match form.dynamic_params {
            None => None,
            Some(params) if params.is_empty() => None,
            Some(params) => Some(
                json::read(&params, |d| DynamicParams::deserialize(d))
                    .map_err(|error| error.below("dynamic_params"))?,
            ),
        };
        Ok(Self {
            uuid: form.uuid,
            name: form.name,
            dev_type: form.dev_type,
            logical_id,
            children: form
                .children
                .into_iter()
                .enumerate()
                .map(read_child)
                .collect::<Result<_, _>>()?,
            nodes: form.nodes,
            iv_name: form.iv_name.filter(|name| !name.is_empty()),
            size: form.size,
            mode: form.mode,
            params: form.params,
            spindles: form.spindles,
            dynamic_params,
            snapshot_of: form.snapshot_of,
            kept: form.kept,
            origin: Origin::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disk(value: Value) -> Disk {
        serde_json::from_value(value).unwrap()
    }

    fn drbd() -> Disk {
        disk(json!({
            "dev_type": "drbd", "logical_id": ["a", "b", 11000, 0, 4, "sekrit"], "nodes": ["a", "b"], "size": 64,
            "children": [
                {"dev_type": "plain", "logical_id": ["vg", "data"], "nodes": ["a", "b"], "size": 64},
                {"dev_type": "plain", "logical_id": ["vg", "meta"], "size": 128},
            ],
        }))
    }

    #[test]
    fn volumes_of_a_tree_are_named_for_each_node_that_holds_them() {
        assert_eq!(
            drbd().volume_keys(),
            [
                "plain:a:vg/data",
                "plain:b:vg/data",
                "plain:a:vg/meta",
                "plain:b:vg/meta"
            ]
        );
        let ext =
            json!({"dev_type": "ext", "logical_id": ["san", "id.ext.disk0"], "nodes": ["a"], "size": 64});
        assert_eq!(disk(ext).volume_keys(), ["ext:san/id.ext.disk0"]);
        let file = json!({"dev_type": "file", "logical_id": ["loop", "/srv/x"], "nodes": ["a"], "size": 64});
        assert_eq!(disk(file).volume_keys(), ["file:a:/srv/x"]);
        let nowhere = json!({"dev_type": "plain", "logical_id": ["vg", "lv"], "size": 64});
        assert_eq!(disk(nowhere).volume_keys(), ["plain::vg/lv"]);
    }

    #[test]
    fn minors_and_ports_of_a_drbd_disk_are_found() {
        assert_eq!(drbd().drbd_minors(), [("a", 0), ("b", 4)]);
        assert_eq!(drbd().drbd_ports(), [11000]);
        let without_network =
            json!({"dev_type": "drbd", "logical_id": ["a", "b", null, 0, 4, "s"], "size": 64});
        assert!(disk(without_network).drbd_ports().is_empty());
    }
}
