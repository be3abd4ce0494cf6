//! Whether the objects of a configuration fit together.

use std::collections::HashMap;
use std::fmt;

use super::Config;
use crate::device::{LogicalDevice, LogicalId};
use crate::disk::Disk;
use crate::names::{self, NameError};
use crate::params::{DiskParams, ParamError, check_device};

/// A contradiction in a configuration. Paths are those in the file, such as `disks/UUID/logical_id`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The object says that it has another UUID.
    #[error("{path} has the UUID {uuid:?}")]
    Index {
        /// The object.
        path: String,
        /// Its UUID.
        uuid: String,
    },
    /// What is named is not there.
    #[error("{path}: there is no {kind} {uuid:?}")]
    Dangling {
        /// Where it is named.
        path: String,
        /// Disk, node or group.
        kind: &'static str,
        /// Its UUID.
        uuid: String,
    },
    /// What only one may have has another already.
    #[error("{path}: {what} belongs to {first} already")]
    Duplicate {
        /// Where it is named.
        path: String,
        /// What it is.
        what: Unique,
        /// Where it is named, too.
        first: String,
    },
    /// A drbd disk has two volumes below it, any other disk nothing.
    #[error("{path}: a {device} disk has {expected} below it; found {found} devices")]
    Children {
        /// The disk.
        path: String,
        /// Its type.
        device: LogicalDevice,
        /// What it should have.
        expected: &'static str,
        /// What it has.
        found: usize,
    },
    /// A drbd disk between a node and itself.
    #[error("{path}: both nodes are {node}")]
    SameNode {
        /// The disk's logical id.
        path: String,
        /// UUID of the node.
        node: String,
    },
    /// An instance runs on a node that has no part of its drbd disk.
    #[error("{path}: disk {disk} is not on the primary node {node}")]
    NotOnPrimary {
        /// Where the instance names the disk.
        path: String,
        /// UUID of the disk.
        disk: String,
        /// UUID of the node.
        node: String,
    },
    /// A name that would do harm in a path or a command.
    #[error("{path}")]
    Name {
        /// The name.
        path: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// A disk parameter that there is not, or a value that it cannot have.
    #[error("{path}")]
    Params {
        /// The parameters.
        path: String,
        /// What is wrong with them.
        #[source]
        source: ParamError,
    },
}

/// What only one object can have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unique {
    /// A node's name.
    NodeName(String),
    /// A node group's name.
    GroupName(String),
    /// An instance's name.
    InstanceName(String),
    /// A disk's UUID; children count.
    Disk(String),
    /// A disk that is attached to an instance.
    AttachedDisk(String),
    /// A volume, as [`Disk::volume_keys`] has it.
    Volume(String),
    /// A drbd minor.
    Minor {
        /// UUID of the node.
        node: String,
        /// The minor.
        minor: u32,
    },
    /// A TCP port.
    Port(u16),
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeName(name) => write!(f, "node name {name:?}"),
            Self::GroupName(name) => write!(f, "group name {name:?}"),
            Self::InstanceName(name) => write!(f, "instance name {name:?}"),
            Self::Disk(uuid) => write!(f, "UUID {uuid:?}"),
            Self::AttachedDisk(uuid) => write!(f, "disk {uuid:?}"),
            Self::Volume(key) => write!(f, "volume {key}"),
            Self::Minor { node, minor } => write!(f, "drbd minor {minor} on node {node}"),
            Self::Port(port) => write!(f, "TCP port {port}"),
        }
    }
}

/// A configuration that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Inconsistent {
    /// The contradictions, at least one, in the order of the file's objects.
    pub problems: Vec<Problem>,
}

/// One problem a line, with its cause.
impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration contradicts itself:")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
            let mut cause = std::error::Error::source(problem);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl Config {
    /// Checks that the objects fit together: all that is named is there, nothing is used twice, disk trees are well
    /// formed, names and disk parameters are usable. A disk that no instance has is well.
    pub fn validate(&self) -> Result<(), Inconsistent> {
        let mut check = Check::default();
        self.check_cluster(&mut check);
        self.check_nodes(&mut check);
        for (key, disk) in &self.disks {
            let path = format!("disks/{key}");
            check.index(&path, key, &disk.uuid);
            self.check_disk(&mut check, &path, disk);
            check.resources(&path, disk);
        }
        self.check_instances(&mut check);
        for (index, port) in self.cluster.tcpudp_port_pool.iter().enumerate() {
            check.unique(format!("cluster/tcpudp_port_pool/{index}"), Unique::Port(*port));
        }
        match check.problems {
            problems if problems.is_empty() => Ok(()),
            problems => Err(Inconsistent { problems }),
        }
    }

    fn check_cluster(&self, check: &mut Check) {
        self.check_node(check, "cluster/master_node", &self.cluster.master_node);
        check.params(
            "cluster/diskparams",
            DiskParams::layered([&self.cluster.diskparams]),
        );
    }

    fn check_nodes(&self, check: &mut Check) {
        for (key, group) in &self.nodegroups {
            let path = format!("nodegroups/{key}");
            check.index(&path, key, &group.uuid);
            check.unique(format!("{path}/name"), Unique::GroupName(group.name.clone()));
            check.params(
                &format!("{path}/diskparams"),
                DiskParams::layered([&group.diskparams]),
            );
        }
        for (key, node) in &self.nodes {
            let path = format!("nodes/{key}");
            check.index(&path, key, &node.uuid);
            check.unique(format!("{path}/name"), Unique::NodeName(node.name.clone()));
            let known = self.nodegroups.contains_key(&node.group);
            check.reference(&format!("{path}/group"), "node group", &node.group, known);
        }
    }

    fn check_node(&self, check: &mut Check, path: &str, node: &str) {
        check.reference(path, "node", node, self.nodes.contains_key(node));
    }

    fn check_disk(&self, check: &mut Check, path: &str, disk: &Disk) {
        if !disk.uuid.is_empty() {
            check.unique(format!("{path}/uuid"), Unique::Disk(disk.uuid.clone()));
        }
        for (index, node) in disk.nodes.iter().enumerate() {
            self.check_node(check, &format!("{path}/nodes/{index}"), node);
        }
        let id_path = format!("{path}/logical_id");
        if let LogicalId::Drbd8 { nodes: [a, b], .. } = &disk.logical_id {
            self.check_node(check, &format!("{id_path}/0"), a);
            self.check_node(check, &format!("{id_path}/1"), b);
            if a == b {
                check.problems.push(Problem::SameNode {
                    path: id_path.clone(),
                    node: a.clone(),
                });
            }
        }
        check.names_of(&id_path, &disk.logical_id);
        check.params(
            &format!("{path}/params"),
            check_device(disk.dev_type, &disk.params),
        );
        check.children(path, disk);
        for (index, child) in disk.children.iter().enumerate() {
            self.check_disk(check, &format!("{path}/children/{index}"), child);
        }
    }

    fn check_instances(&self, check: &mut Check) {
        for (key, instance) in &self.instances {
            let path = format!("instances/{key}");
            check.index(&path, key, &instance.uuid);
            check.name(format!("{path}/name"), names::instance(&instance.name));
            check.unique(
                format!("{path}/name"),
                Unique::InstanceName(instance.name.clone()),
            );
            if let Some(node) = &instance.primary_node {
                self.check_node(check, &format!("{path}/primary_node"), node);
            }
            for (index, uuid) in instance.disks.iter().enumerate() {
                let path = format!("{path}/disks/{index}");
                check.unique(path.clone(), Unique::AttachedDisk(uuid.clone()));
                let disk = self.disks.get(uuid);
                check.reference(&path, "disk", uuid, disk.is_some());
                if let (Some(disk), Some(node)) = (disk, &instance.primary_node)
                    && disk.nodes_from(node).is_err()
                {
                    check.problems.push(Problem::NotOnPrimary {
                        path,
                        disk: uuid.clone(),
                        node: node.clone(),
                    });
                }
            }
            if let Some(port) = instance
                .origin
                .get("network_port")
                .and_then(|port| port.as_u64()?.try_into().ok())
            {
                check.unique(format!("{path}/network_port"), Unique::Port(port));
            }
        }
    }
}

/// What was found so far.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
    used: HashMap<Unique, String>,
}

impl Check {
    fn index(&mut self, path: &str, key: &str, uuid: &str) {
        if key != uuid {
            self.problems.push(Problem::Index {
                path: path.to_owned(),
                uuid: uuid.to_owned(),
            });
        }
    }

    fn reference(&mut self, path: &str, kind: &'static str, uuid: &str, known: bool) {
        if !known {
            self.problems.push(Problem::Dangling {
                path: path.to_owned(),
                kind,
                uuid: uuid.to_owned(),
            });
        }
    }

    fn unique(&mut self, path: String, what: Unique) {
        match self.used.get(&what) {
            Some(first) => self.problems.push(Problem::Duplicate {
                path,
                what,
                first: first.clone(),
            }),
            None => {
                self.used.insert(what, path);
            }
        }
    }

    /// What a top-level disk and those below it take.
    fn resources(&mut self, path: &str, disk: &Disk) {
        for key in disk.volume_keys() {
            self.unique(path.to_owned(), Unique::Volume(key));
        }
        for (node, minor) in disk.drbd_minors() {
            let node = node.to_owned();
            self.unique(format!("{path}/logical_id"), Unique::Minor { node, minor });
        }
        for port in disk.drbd_ports() {
            self.unique(format!("{path}/logical_id"), Unique::Port(port));
        }
    }

    fn children(&mut self, path: &str, disk: &Disk) {
        let volumes = || {
            disk.children
                .iter()
                .all(|child| child.dev_type == LogicalDevice::Plain)
        };
        let (expected, well) = match disk.dev_type {
            LogicalDevice::Drbd => (
                "two logical volumes, data and metadata",
                disk.children.len() == 2 && volumes(),
            ),
            _ => ("nothing", disk.children.is_empty()),
        };
        if !well {
            self.problems.push(Problem::Children {
                path: path.to_owned(),
                device: disk.dev_type,
                expected,
                found: disk.children.len(),
            });
        }
    }

    fn names_of(&mut self, path: &str, id: &LogicalId) {
        match id {
            LogicalId::Lv { vg, lv } => {
                self.name(format!("{path}/0"), names::volume_group(vg));
                self.name(format!("{path}/1"), names::logical_volume(lv));
            }
            LogicalId::Ext { provider, volume } => {
                self.name(format!("{path}/0"), names::provider(provider));
                self.name(format!("{path}/1"), names::volume(volume));
            }
            LogicalId::Rbd { volume } => self.name(format!("{path}/1"), names::volume(volume)),
            LogicalId::Drbd8 { .. }
            | LogicalId::File { .. }
            | LogicalId::BlockDev { .. }
            | LogicalId::Gluster { .. } => {}
        }
    }

    fn name(&mut self, path: String, checked: Result<(), NameError>) {
        if let Err(source) = checked {
            self.problems.push(Problem::Name { path, source });
        }
    }

    fn params<T>(&mut self, path: &str, checked: Result<T, ParamError>) {
        if let Err(source) = checked {
            let path = path.to_owned();
            self.problems.push(Problem::Params { path, source });
        }
    }
}
