//! What the volumes of a disk keep, so that losing the configuration does not lose the data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use crate::device::{FileDriver, LogicalId};
use crate::disk::{AccessMode, Disk};
use crate::json::Object;
use crate::size::Mebibytes;

/// What a volume keeps of its disk and instance beside names, UUID and index. Nodes are called by their names: their UUIDs are lost with
/// the configuration. Everything may be missing, as in what older versions or Ganeti wrote. How many disks the instance has is
/// not kept: to add or take one would have to reach the volumes of all others. So that the last one is lost cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Kept {
    /// Name of the cluster: others may use the same pool, directory or disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// UUID of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_uuid: Option<String>,
    /// Name of the instance's primary node when this was written. A hint: to move an instance does not change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// No instance has the disk; the instance is the one that had it last.
    #[serde(skip_serializing_if = "is_false")]
    pub detached: bool,
    /// Size as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Mebibytes>,
    /// Whether the instance may write; none stands for read and write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<AccessMode>,
    /// Number of spindles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spindles: Option<u64>,
    /// UUID of the disk of which it is a snapshot that nobody has attached yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_of: Option<String>,
    /// How a file is presented, if not as a loop device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<FileDriver>,
    /// Parameters set on the disk.
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub params: Object,
    /// Of which device it is a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
}

/// The drbd disk that a volume is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// UUID of the disk.
    pub disk: String,
    /// Which part of it.
    pub part: Part,
    /// Index of the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The disk's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of its nodes, in the order of its logical id. Kept with the data alone, as is what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<[String; 2]>,
    /// TCP port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Minors on the two nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minors: Option<[u32; 2]>,
}

/// The parts of a drbd disk.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Display,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Part {
    /// Its data.
    Data,
    /// Its metadata.
    Meta,
}

/// Whose a disk is, for its volumes.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// UUID of the instance.
    pub instance_uuid: &'a str,
    /// Name of its primary node.
    pub primary: &'a str,
    /// Names of nodes, by UUID.
    pub names: &'a BTreeMap<String, String>,
}

impl Disk {
    /// Fills in what its volumes are to keep; `stored` is the disk as the configuration has it. One without an index is nobody's.
    pub fn set_kept(&mut self, stored: &Disk, holder: &Holder<'_>) {
        let cluster = Some(holder.cluster.to_owned());
        let common = Kept {
            cluster: cluster.clone(),
            instance_uuid: Some(holder.instance_uuid.to_owned()).filter(|uuid| !uuid.is_empty()),
            primary: Some(holder.primary.to_owned()),
            detached: stored.index().is_none(),
            ..Kept::default()
        };
        let LogicalId::Drbd8 {
            nodes, port, minors, ..
        } = &stored.logical_id
        else {
            self.kept = Some(Box::new(common.of(stored)));
            return;
        };
        let name = |uuid: &String| holder.names.get(uuid).cloned();
        let names = nodes.each_ref().map(name);
        for (child, part) in self.children.iter_mut().zip([Part::Data, Part::Meta]) {
            let mirror = Mirror {
                disk: stored.uuid.clone(),
                part,
                index: stored.index(),
                name: None,
                nodes: None,
                port: None,
                minors: None,
            };
            child.kept = Some(Box::new(match part {
                Part::Data => Kept {
                    mirror: Some(Mirror {
                        name: stored.name.clone(),
                        nodes: all(&names),
                        port: *port,
                        minors: Some(*minors),
                        ..mirror
                    }),
                    ..common.clone().of(stored)
                },
                Part::Meta => Kept {
                    cluster: cluster.clone(),
                    detached: common.detached,
                    mirror: Some(mirror),
                    ..Kept::default()
                },
            }));
        }
    }
}

impl Kept {
    fn of(self, stored: &Disk) -> Self {
        let driver = match &stored.logical_id {
            LogicalId::File { driver, .. } | LogicalId::Gluster { driver, .. } => Some(*driver),
            _ => None,
        };
        Self {
            size: Some(stored.size),
            mode: stored.mode.filter(|mode| *mode != AccessMode::default()),
            spindles: stored.spindles,
            snapshot_of: stored.snapshot_of.clone(),
            driver: driver.filter(|driver| *driver != FileDriver::Loop),
            params: stored.params.clone(),
            ..self
        }
    }
}

fn all(names: &[Option<String>; 2]) -> Option<[String; 2]> {
    match names {
        [Some(first), Some(second)] => Some([first.clone(), second.clone()]),
        _ => None,
    }
}

/// For serde, which passes a reference.
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(disk: serde_json::Value) -> Vec<serde_json::Value> {
        let stored: Disk = serde_json::from_value(disk).unwrap();
        let names = ["a", "b"].map(|uuid| (uuid.to_owned(), format!("node-{uuid}")));
        let mut sent = stored.clone();
        sent.params.insert("filled-in".to_owned(), 1.into());
        let holder = Holder {
            cluster: "prod",
            instance_uuid: "i",
            primary: "node-a",
            names: &names.into(),
        };
        sent.set_kept(&stored, &holder);
        // As it gets to the node.
        let sent: Disk = serde_json::from_value(json!(sent)).unwrap();
        sent.walk().map(|disk| json!(disk.kept)).collect()
    }

    #[test]
    fn a_volume_keeps_what_was_set_and_not_what_was_filled_in() {
        let disk = json!({
            "uuid": "d", "dev_type": "ext", "logical_id": ["san", "v"], "size": 64, "iv_name": "disk/0", "mode": "ro",
            "params": {"pool": "p"},
        });
        let expected = json!({
            "cluster": "prod", "instance-uuid": "i", "primary": "node-a", "size": 64, "mode": "ro", "params": {"pool": "p"},
        });
        assert_eq!(kept(disk), [expected]);
    }

    #[test]
    fn the_data_of_a_mirror_keeps_all_of_it_and_the_metadata_whose_it_is() {
        let volume = |name| json!({"dev_type": "plain", "logical_id": ["vg", name], "size": 64});
        let disk = json!({
            "uuid": "d", "dev_type": "drbd", "logical_id": ["a", "b", 11000, 0, 4, "sekrit"], "size": 64, "name": "root",
            "children": [volume("data"), volume("meta")], "mode": "rw",
        });
        let data = json!({
            "cluster": "prod", "instance-uuid": "i", "primary": "node-a", "detached": true, "size": 64,
            "mirror": {
                "disk": "d", "part": "data", "name": "root", "nodes": ["node-a", "node-b"], "port": 11000, "minors": [0, 4],
            },
        });
        let meta = json!({"cluster": "prod", "detached": true, "mirror": {"disk": "d", "part": "meta"}});
        assert_eq!(kept(disk), [json!(null), data, meta]);
    }
}
