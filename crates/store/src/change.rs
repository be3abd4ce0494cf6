//! Changes of the configuration, several at a time, and what must never be: a name, a volume, a minor or a port that two
//! objects have, a disk on two instances, an object that names one that is not there.
//!
//! A commit first takes from every object that it touches all that it holds alone, and then gives each what it asks for:
//! two objects may so exchange names or volumes.

use std::collections::{BTreeSet, HashMap};

use gnt_config::{Cluster, Disk, Instance, Node, NodeGroup, Settings};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::drbd::{self, PortOwner, Ports};
use crate::error::{DiskHolder, Result, StoreError};
use crate::read::{CLUSTER, REVISION, SETTINGS, Stored, singleton, text, to_json};
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

/// Takes the object's name from it unless it keeps that.
fn release_name<T: Stored>(connection: &Connection, uuid: &str, kept: &str) -> Result<()> {
    let statement = format!(
        "UPDATE {} SET name = NULL WHERE uuid = ?1 AND name <> ?2",
        T::TABLE
    );
    connection.prepare_cached(&statement)?.execute([uuid, kept])?;
    Ok(())
}

fn check_name<T: Stored>(connection: &Connection, uuid: &str, name: &str) -> Result<()> {
    let query = format!("SELECT uuid FROM {} WHERE name = ?1 AND uuid <> ?2", T::TABLE);
    match text(connection, &query, [name, uuid])? {
        None => Ok(()),
        Some(holder) => Err(StoreError::NameTaken {
            kind: T::KIND,
            name: name.to_owned(),
            holder,
        }),
    }
}

pub(crate) fn put_singleton(
    connection: &Connection,
    key: &'static str,
    object: &impl Serialize,
) -> Result<()> {
    let data = to_json(key, "", object)?;
    connection
        .prepare_cached(
            "INSERT INTO singleton (key, data) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET data = excluded.data",
        )?
        .execute([key, &data])?;
    Ok(())
}

fn put_group(connection: &Connection, group: &NodeGroup) -> Result<()> {
    check_name::<NodeGroup>(connection, &group.uuid, &group.name)?;
    let data = to_json(NodeGroup::KIND, &group.uuid, group)?;
    connection
        .prepare_cached(
            "INSERT INTO node_group (uuid, name, data) VALUES (?1, ?2, ?3)
             ON CONFLICT (uuid) DO UPDATE SET name = excluded.name, data = excluded.data",
        )?
        .execute(params![group.uuid, group.name, data])?;
    Ok(())
}

fn put_node(connection: &Connection, node: &Node) -> Result<()> {
    check_name::<Node>(connection, &node.uuid, &node.name)?;
    let data = to_json(Node::KIND, &node.uuid, node)?;
    connection
        .prepare_cached(
            "INSERT INTO node (uuid, name, node_group, data) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (uuid)
             DO UPDATE SET name = excluded.name, node_group = excluded.node_group, data = excluded.data",
        )?
        .execute(params![node.uuid, node.name, node.group, data])?;
    Ok(())
}

fn put_instance(connection: &Connection, instance: &Instance, ports: &mut Ports) -> Result<()> {
    let Instance { uuid, name, .. } = instance;
    check_name::<Instance>(connection, uuid, name)?;
    let data = to_json(Instance::KIND, uuid, instance)?;
    connection
        .prepare_cached(
            "INSERT INTO instance (uuid, name, primary_node, data) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (uuid)
             DO UPDATE SET name = excluded.name, primary_node = excluded.primary_node, data = excluded.data",
        )?
        .execute(params![uuid, name, instance.primary_node, data])?;
    let mut attach = connection.prepare_cached(
        "INSERT INTO attachment (disk, instance, position) VALUES (?1, ?2, ?3) ON CONFLICT (disk) DO NOTHING",
    )?;
    for (position, disk) in instance.disks.iter().enumerate() {
        if attach.execute(params![disk, uuid, position as i64])? == 0 {
            return Err(StoreError::AlreadyAttached {
                disk: disk.clone(),
                instance: name.clone(),
                holder: instance_of_disk(connection, disk)?.unwrap_or_default(),
            });
        }
    }
    // A console's port comes from the same pool as those of drbd disks.
    let console = instance.origin.get("network_port").and_then(Value::as_u64);
    match console.and_then(|port| port.try_into().ok()) {
        Some(port) => PortOwner::Instance(uuid).claim(connection, port, ports),
        None => Ok(()),
    }
}

fn put_disk(connection: &Connection, disk: &Disk, ports: &mut Ports) -> Result<()> {
    let uuid = &disk.uuid;
    let data = to_json(Disk::KIND, uuid, disk)?;
    connection
        .prepare_cached(
            "INSERT INTO disk (uuid, data) VALUES (?1, ?2) ON CONFLICT (uuid) DO UPDATE SET data = excluded.data",
        )?
        .execute([uuid, &data])?;
    let mut claim_volume = connection
        .prepare_cached("INSERT INTO volume (key, disk) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING")?;
    for key in disk.volume_keys() {
        if claim_volume.execute([&key, uuid])? == 0 {
            let holder =
                text(connection, "SELECT disk FROM volume WHERE key = ?1", [&key])?.unwrap_or_default();
            let holder = holding_disk(connection, holder)?;
            return Err(StoreError::VolumeTaken { key, holder });
        }
    }
    let mut insert_node = connection.prepare_cached("INSERT INTO disk_node (node, disk) VALUES (?1, ?2)")?;
    for node in nodes_of(disk) {
        insert_node.execute([node, uuid])?;
    }
    for (node, minor) in disk.drbd_minors() {
        drbd::claim_minor(connection, uuid, node, minor)?;
    }
    for port in disk.drbd_ports() {
        PortOwner::Disk(uuid).claim(connection, port, ports)?;
    }
    Ok(())
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

/// UUIDs of all nodes that the disk names.
fn nodes_of(disk: &Disk) -> BTreeSet<&str> {
    disk.nodes
        .iter()
        .map(String::as_str)
        .chain(disk.all_nodes())
        .collect()
}

/// What is on the node, in words.
fn user_of_node(connection: &Connection, node: &str) -> Result<Option<String>> {
    if let Some(instance) = text(
        connection,
        "SELECT name FROM instance WHERE primary_node = ?1 LIMIT 1",
        [node],
    )? {
        return Ok(Some(format!("it is the primary node of instance {instance}")));
    }
    if let Some(disk) = text(
        connection,
        "SELECT disk FROM disk_node WHERE node = ?1 LIMIT 1",
        [node],
    )? {
        return Ok(Some(format!(
            "it holds data of {}",
            holding_disk(connection, disk)?
        )));
    }
    let is_master =
        singleton::<Cluster>(connection, CLUSTER)?.is_some_and(|cluster| cluster.master_node == node);
    Ok(is_master.then(|| "it is the master node".to_owned()))
}

/// Name of the instance that the disk is attached to.
fn instance_of_disk(connection: &Connection, disk: &str) -> Result<Option<String>> {
    text(
        connection,
        "SELECT instance FROM attachment WHERE disk = ?1",
        [disk],
    )?
    .map(|instance| name_of_instance(connection, instance))
    .transpose()
}

/// Inside a commit it may be without one; it is then called by its UUID.
pub(crate) fn name_of_instance(connection: &Connection, uuid: String) -> Result<String> {
    let query = "SELECT name FROM instance WHERE uuid = ?1 AND name IS NOT NULL";
    Ok(text(connection, query, [&uuid])?.unwrap_or(uuid))
}

pub(crate) fn holding_disk(connection: &Connection, disk: String) -> Result<DiskHolder> {
    let instance = instance_of_disk(connection, &disk)?;
    Ok(DiskHolder::Disk(disk, instance))
}
