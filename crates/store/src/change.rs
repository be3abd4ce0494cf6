//! Changes of the configuration, several at a time, and what must never be: a name, a volume, a minor or a port that two
//! objects have, a disk on two instances, an object that names one that is not there.
//!
//! A commit first takes from every object that it touches all that it holds alone, and then gives each what it asks for:
//! two objects may so exchange names or volumes.

use std::collections::HashMap;

use gnt_config::{Cluster, Disk, Instance, Node, NodeGroup, Settings};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::drbd::{self, PortOwner, Ports};
use crate::error::{Result, StoreError};
use crate::holder::{instance_of_disk, user_of_node};
use crate::put::{nodes_of, put_disk, put_group, put_instance, put_node, put_singleton, release_name};
use crate::read::{CLUSTER, REVISION, SETTINGS, Stored, THIS_NODE, singleton, text};
use crate::store::{Durability, Store, now};

/// One object put or removed. To put is to insert it or to replace the one with its UUID.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Puts the cluster. Its port pool and highest port are the store's own affair and stay as they are.
    Cluster(Cluster),
    /// Puts the settings.
    Settings(Settings),
    /// Puts a node.
    Node(Node),
    /// Removes a node; refused while something is on it.
    RemoveNode(String),
    /// Puts a node group.
    Group(NodeGroup),
    /// Removes a node group; refused while nodes are in it.
    RemoveGroup(String),
    /// Puts an instance; its disks are attached to it.
    Instance(Instance),
    /// Removes an instance; disks that it still has become detached.
    RemoveInstance(String),
    /// Puts a disk.
    Disk(Disk),
    /// Removes a disk; refused while an instance has it.
    RemoveDisk(String),
}

/// Which configuration this is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Goes up with every commit.
    pub serial_no: u64,
    /// When it was last changed, in seconds since the epoch.
    pub mtime: f64,
}

impl Store {
    /// Which configuration this is; 0 before the first commit.
    pub fn revision(&self) -> Result<Revision> {
        self.read(|connection| Ok(singleton(connection, REVISION)?.unwrap_or_default()))
    }

    /// Makes all `changes`, or none. When it returns they survive a power cut.
    ///
    /// `serial_no` and `mtime` of every object put are brought up to date. To remove what is not there is no error, and
    /// to make the same changes again changes nothing.
    pub fn commit(&self, changes: &[Change]) -> Result<()> {
        self.write(Durability::Power, |transaction| apply(transaction, changes))
    }

    /// Records which node (UUID) this machine is. That is no part of the configuration, whose [`Revision`] stays.
    pub fn set_this_node(&self, uuid: &str) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            put_singleton(transaction, THIS_NODE, &uuid)
        })
    }
}

/// Makes the changes inside a transaction.
pub(crate) fn apply(connection: &Connection, changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let mtime = now();
    let changes: Vec<_> = last_of_each(changes)
        .into_iter()
        .map(|change| change.touched(mtime))
        .collect();
    let ports = write(connection, &changes)?;
    drbd::update_pool(connection, &ports)?;
    let serial_no = singleton::<Revision>(connection, REVISION)?.map_or(0, |revision| revision.serial_no);
    let revision = Revision {
        serial_no: serial_no + 1,
        mtime,
    };
    put_singleton(connection, REVISION, &revision)
}

/// Makes changes of different objects, and takes these as they are.
pub(crate) fn write(connection: &Connection, changes: &[Change]) -> Result<Ports> {
    let mut ports = Ports::default();
    for change in changes {
        change.release(connection, &mut ports)?;
    }
    for change in changes {
        change.claim(connection, &mut ports)?;
    }
    for change in changes {
        change.check(connection)?;
    }
    Ok(ports)
}

/// Of several changes of one object only the last counts.
fn last_of_each(changes: &[Change]) -> Vec<&Change> {
    let last: HashMap<_, _> = changes
        .iter()
        .enumerate()
        .map(|(index, change)| (change.object(), index))
        .collect();
    let is_last = |(index, change): &(usize, &Change)| last[&change.object()] == *index;
    changes
        .iter()
        .enumerate()
        .filter(is_last)
        .map(|(_, change)| change)
        .collect()
}

impl Change {
    /// Kind and UUID of the object.
    fn object(&self) -> (&'static str, &str) {
        match self {
            Self::Cluster(_) => (CLUSTER, ""),
            Self::Settings(_) => (SETTINGS, ""),
            Self::Node(Node { uuid, .. }) | Self::RemoveNode(uuid) => (Node::KIND, uuid),
            Self::Group(NodeGroup { uuid, .. }) | Self::RemoveGroup(uuid) => (NodeGroup::KIND, uuid),
            Self::Instance(Instance { uuid, .. }) | Self::RemoveInstance(uuid) => (Instance::KIND, uuid),
            Self::Disk(Disk { uuid, .. }) | Self::RemoveDisk(uuid) => (Disk::KIND, uuid),
        }
    }

    fn touched(&self, mtime: f64) -> Self {
        let mut change = self.clone();
        match &mut change {
            Self::Cluster(Cluster { origin, .. })
            | Self::Node(Node { origin, .. })
            | Self::Group(NodeGroup { origin, .. })
            | Self::Instance(Instance { origin, .. })
            | Self::Disk(Disk { origin, .. }) => origin.touch(mtime),
            Self::Settings(_)
            | Self::RemoveNode(_)
            | Self::RemoveGroup(_)
            | Self::RemoveInstance(_)
            | Self::RemoveDisk(_) => {}
        }
        change
    }

    /// Takes from the object what no other may have; `ports` receives the ports.
    fn release(&self, connection: &Connection, ports: &mut Ports) -> Result<()> {
        match self {
            Self::Cluster(_) | Self::Settings(_) => Ok(()),
            Self::Node(node) => release_name::<Node>(connection, &node.uuid, &node.name),
            Self::Group(group) => release_name::<NodeGroup>(connection, &group.uuid, &group.name),
            Self::Instance(instance) => {
                PortOwner::Instance(&instance.uuid).release(connection, ports)?;
                run(
                    connection,
                    "DELETE FROM attachment WHERE instance = ?1",
                    &instance.uuid,
                )?;
                release_name::<Instance>(connection, &instance.uuid, &instance.name)
            }
            Self::Disk(disk) => {
                PortOwner::Disk(&disk.uuid).release(connection, ports)?;
                run(connection, "DELETE FROM drbd_minor WHERE disk = ?1", &disk.uuid)?;
                run(connection, "DELETE FROM volume WHERE disk = ?1", &disk.uuid)?;
                run(connection, "DELETE FROM disk_node WHERE disk = ?1", &disk.uuid)
            }
            Self::RemoveNode(uuid) => run(connection, "DELETE FROM node WHERE uuid = ?1", uuid),
            Self::RemoveGroup(uuid) => run(connection, "DELETE FROM node_group WHERE uuid = ?1", uuid),
            Self::RemoveInstance(uuid) => {
                PortOwner::Instance(uuid).release(connection, ports)?;
                run(connection, "DELETE FROM instance WHERE uuid = ?1", uuid)
            }
            Self::RemoveDisk(uuid) => {
                PortOwner::Disk(uuid).release(connection, ports)?;
                run(connection, "DELETE FROM disk WHERE uuid = ?1", uuid)
            }
        }
    }

    /// Writes the object and gives it what it asks for; `ports` receives the ports.
    fn claim(&self, connection: &Connection, ports: &mut Ports) -> Result<()> {
        let (kind, uuid) = self.object();
        match self {
            Self::Cluster(cluster) => {
                let mut cluster = cluster.clone();
                if let Some(stored) = singleton::<Cluster>(connection, CLUSTER)? {
                    cluster.highest_used_port = stored.highest_used_port;
                    cluster.tcpudp_port_pool = stored.tcpudp_port_pool;
                }
                put_singleton(connection, CLUSTER, &cluster)
            }
            Self::Settings(settings) => put_singleton(connection, SETTINGS, settings),
            Self::RemoveNode(_) | Self::RemoveGroup(_) | Self::RemoveInstance(_) | Self::RemoveDisk(_) => {
                Ok(())
            }
            _ if uuid.is_empty() => Err(StoreError::NoUuid { kind }),
            Self::Node(node) => put_node(connection, node),
            Self::Group(group) => put_group(connection, group),
            Self::Instance(instance) => put_instance(connection, instance, ports),
            Self::Disk(disk) => put_disk(connection, disk, ports),
        }
    }

    /// Whether all that the object names is there, and nothing names one that was removed.
    fn check(&self, connection: &Connection) -> Result<()> {
        match self {
            Self::Cluster(_) | Self::Settings(_) | Self::Group(_) | Self::RemoveInstance(_) => Ok(()),
            Self::Node(node) if exists::<NodeGroup>(connection, &node.group)? => Ok(()),
            Self::Node(node) => Err(StoreError::UnknownGroup {
                node: node.name.clone(),
                group: node.group.clone(),
            }),
            Self::Disk(disk) => {
                let mut nodes = nodes_of(disk).into_iter();
                nodes.try_for_each(|node| check_node(connection, node, || format!("disk {}", disk.uuid)))
            }
            Self::Instance(instance) => check_instance(connection, instance),
            Self::RemoveNode(uuid) => match user_of_node(connection, uuid)? {
                None => Ok(()),
                Some(user) => Err(StoreError::NodeInUse {
                    node: uuid.clone(),
                    user,
                }),
            },
            Self::RemoveGroup(uuid) => {
                let node = text(
                    connection,
                    "SELECT name FROM node WHERE node_group = ?1 LIMIT 1",
                    [uuid],
                )?;
                node.map_or(Ok(()), |node| {
                    Err(StoreError::GroupInUse {
                        group: uuid.clone(),
                        node,
                    })
                })
            }
            Self::RemoveDisk(uuid) => instance_of_disk(connection, uuid)?.map_or(Ok(()), |instance| {
                Err(StoreError::StillAttached {
                    disk: uuid.clone(),
                    instance,
                })
            }),
        }
    }
}

fn run(connection: &Connection, statement: &str, key: &str) -> Result<()> {
    connection.prepare_cached(statement)?.execute([key])?;
    Ok(())
}

fn exists<T: Stored>(connection: &Connection, uuid: &str) -> Result<bool> {
    let query = format!("SELECT 1 FROM {} WHERE uuid = ?1", T::TABLE);
    Ok(connection.prepare_cached(&query)?.exists([uuid])?)
}

fn check_instance(connection: &Connection, instance: &Instance) -> Result<()> {
    for disk in &instance.disks {
        if !exists::<Disk>(connection, disk)? {
            return Err(StoreError::UnknownDisk {
                instance: instance.name.clone(),
                disk: disk.clone(),
            });
        }
    }
    match &instance.primary_node {
        Some(node) => check_node(connection, node, || format!("instance {}", instance.name)),
        None => Ok(()),
    }
}

fn check_node(connection: &Connection, node: &str, object: impl FnOnce() -> String) -> Result<()> {
    if exists::<Node>(connection, node)? {
        return Ok(());
    }
    Err(StoreError::UnknownNode {
        object: object(),
        node: node.to_owned(),
    })
}
