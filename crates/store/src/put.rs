//! Writing objects, and giving each what it alone may have.

use std::collections::BTreeSet;

use gnt_config::{Disk, Instance, Node, NodeGroup};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::Value;

use crate::drbd::{self, PortOwner, Ports};
use crate::error::{Result, StoreError};
use crate::holder::{DiskHolder, instance_of_disk};
use crate::read::{Stored, text, to_json};

/// Takes the object's name from it unless it keeps that.
pub(crate) fn release_name<T: Stored>(connection: &Connection, uuid: &str, kept: &str) -> Result<()> {
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

/// Writes what there is one of.
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

/// Writes the group.
pub(crate) fn put_group(connection: &Connection, group: &NodeGroup) -> Result<()> {
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

/// Writes the node.
pub(crate) fn put_node(connection: &Connection, node: &Node) -> Result<()> {
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

/// Writes the instance, attaches its disks, and gives it its ports.
pub(crate) fn put_instance(connection: &Connection, instance: &Instance, ports: &mut Ports) -> Result<()> {
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

/// Writes the disk, and gives it its volumes, minors and ports.
pub(crate) fn put_disk(connection: &Connection, disk: &Disk, ports: &mut Ports) -> Result<()> {
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
            let holder = DiskHolder::of_disk(connection, holder)?;
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

/// UUIDs of all nodes that the disk names.
pub(crate) fn nodes_of(disk: &Disk) -> BTreeSet<&str> {
    disk.nodes
        .iter()
        .map(String::as_str)
        .chain(disk.all_nodes())
        .collect()
}
