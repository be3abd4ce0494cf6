//! DRBD's minors and ports: whose they are, which are free, and which an operation has reserved for a disk to come.

use std::collections::BTreeSet;

use gnt_config::Cluster;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Result, StoreError};
use crate::holder::DiskHolder;
use crate::journal;
use crate::operation::State;
use crate::put::put_singleton;
use crate::read::{CLUSTER, singleton};
use crate::store::{Durability, Store};

/// The first TCP port given to a drbd disk (`constants.FIRST_DRBD_PORT`).
pub const FIRST_DRBD_PORT: u16 = 11000;
/// The last TCP port given to a drbd disk (`constants.LAST_DRBD_PORT`).
pub const LAST_DRBD_PORT: u16 = 14999;

/// What a new drbd disk needs beside its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrbdReservation {
    /// TCP port of the replication link.
    pub port: u16,
    /// Minors on the two nodes, in the order in which these were given.
    pub minors: [u32; 2],
}

impl Store {
    /// Reserves what a new drbd disk needs on its two nodes (UUIDs).
    ///
    /// What is reserved counts as taken for everyone. It becomes the disk's when that is put, and is free again when the
    /// operation ends without that. Asking again gives the same.
    pub fn reserve_drbd(&self, operation: &str, disk: &str, nodes: [&str; 2]) -> Result<DrbdReservation> {
        self.reserve(operation, |connection| {
            let port = reserve_port(connection, operation, disk)?;
            check_distinct(&nodes)?;
            let minor = |node| reserve_minor(connection, operation, disk, node);
            let minors = [minor(nodes[0])?, minor(nodes[1])?];
            Ok(DrbdReservation { port, minors })
        })
    }

    /// Reserves the lowest free minor on each of the nodes (UUIDs) for the disk, as `AllocateDRBDMinor` does; see
    /// [`reserve_drbd`](Self::reserve_drbd).
    pub fn reserve_minors(&self, operation: &str, disk: &str, nodes: &[&str]) -> Result<Vec<u32>> {
        self.reserve(operation, |connection| {
            check_distinct(nodes)?;
            let minor = |node: &&str| reserve_minor(connection, operation, disk, node);
            nodes.iter().map(minor).collect()
        })
    }

    /// Reserves a TCP port for the disk, as `AllocatePort` does: one that was given back, else the one above the highest
    /// ever used; see [`reserve_drbd`](Self::reserve_drbd).
    pub fn reserve_port(&self, operation: &str, disk: &str) -> Result<u16> {
        self.reserve(operation, |connection| reserve_port(connection, operation, disk))
    }

    fn reserve<T>(&self, operation: &str, reserve: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        // While it is planned nothing has been done with them: a power cut that undoes this undoes the operation too.
        let durability = match self.read(|connection| journal::state(connection, operation))? {
            State::Planning => Durability::Process,
            _ => Durability::Power,
        };
        self.write(durability, |transaction| {
            journal::expect(transaction, operation, "reserve for it", |state| {
                !state.is_finished()
            })?;
            reserve(transaction)
        })
    }
}

fn check_distinct(nodes: &[&str]) -> Result<()> {
    let twice = nodes
        .iter()
        .enumerate()
        .find(|(position, node)| nodes[..*position].contains(node));
    twice.map_or(Ok(()), |(_, node)| {
        let node = (*node).to_owned();
        Err(StoreError::SameNode { node })
    })
}

fn reserve_minor(connection: &Connection, operation: &str, disk: &str, node: &str) -> Result<u32> {
    let before = connection
        .prepare_cached(
            "SELECT minor FROM drbd_minor WHERE operation = ?1 AND reserved_for = ?2 AND node = ?3",
        )?
        .query_row([operation, disk, node], |row| row.get(0))
        .optional()?;
    if let Some(minor) = before {
        return Ok(minor);
    }
    // The lowest number that is 0 or follows a minor in use, and is not in use itself.
    let minor = connection
        .prepare_cached(
            "SELECT min(candidate) FROM
               (SELECT 0 AS candidate UNION ALL SELECT minor + 1 FROM drbd_minor WHERE node = ?1)
             WHERE NOT EXISTS (SELECT 1 FROM drbd_minor WHERE node = ?1 AND minor = candidate)",
        )?
        .query_row([node], |row| row.get(0))?;
    connection
        .prepare_cached(
            "INSERT INTO drbd_minor (node, minor, operation, reserved_for) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![node, minor, operation, disk])?;
    Ok(minor)
}

fn reserve_port(connection: &Connection, operation: &str, disk: &str) -> Result<u16> {
    let before = connection
        .prepare_cached("SELECT port FROM port WHERE operation = ?1 AND reserved_for = ?2")?
        .query_row([operation, disk], |row| row.get(0))
        .optional()?;
    if let Some(port) = before {
        return Ok(port);
    }
    let cluster: Option<Cluster> = singleton(connection, CLUSTER)?;
    let (pool, highest) = cluster.map_or((Vec::new(), None), |cluster| {
        (cluster.tcpudp_port_pool, cluster.highest_used_port)
    });
    let first_unused = highest.map_or(FIRST_DRBD_PORT, |port| {
        port.saturating_add(1).max(FIRST_DRBD_PORT)
    });
    let unused = first_unused..=LAST_DRBD_PORT;
    // Ganeti gives up here; but a port may have been left out of the pool.
    let forgotten = FIRST_DRBD_PORT..=LAST_DRBD_PORT;
    let mut taken = connection.prepare_cached("SELECT 1 FROM port WHERE port = ?1")?;
    for port in pool.into_iter().chain(unused).chain(forgotten) {
        if !taken.exists([port])? {
            connection
                .prepare_cached("INSERT INTO port (port, operation, reserved_for) VALUES (?1, ?2, ?3)")?
                .execute(params![port, operation, disk])?;
            return Ok(port);
        }
    }
    Err(StoreError::NoFreePort {
        first: FIRST_DRBD_PORT,
        last: LAST_DRBD_PORT,
    })
}

/// Gives the minor to the disk, for which it may have been reserved.
pub(crate) fn claim_minor(connection: &Connection, disk: &str, node: &str, minor: u32) -> Result<()> {
    let claimed = connection
        .prepare_cached(
            "INSERT INTO drbd_minor (node, minor, disk) VALUES (?1, ?2, ?3) ON CONFLICT (node, minor)
             DO UPDATE SET disk = ?3, operation = NULL, reserved_for = NULL WHERE reserved_for = ?3",
        )?
        .execute(params![node, minor, disk])?;
    if claimed == 1 {
        return Ok(());
    }
    let query = "SELECT disk, NULL, operation, reserved_for FROM drbd_minor WHERE node = ?1 AND minor = ?2";
    let holder = DiskHolder::select(connection, query, params![node, minor])?;
    Err(StoreError::MinorTaken {
        node: node.to_owned(),
        minor,
        holder,
    })
}

/// The TCP ports that the objects of a commit have.
#[derive(Default)]
pub(crate) struct Ports {
    /// Those that they had before.
    released: BTreeSet<u16>,
    /// Those that they have now.
    claimed: BTreeSet<u16>,
}

/// An object that TCP ports can belong to, by UUID.
#[derive(Clone, Copy)]
pub(crate) enum PortOwner<'a> {
    Disk(&'a str),
    /// For its console.
    Instance(&'a str),
}

impl PortOwner<'_> {
    fn column_and_uuid(&self) -> (&'static str, &str) {
        match self {
            Self::Disk(uuid) => ("disk", uuid),
            Self::Instance(uuid) => ("instance", uuid),
        }
    }

    /// Takes all its ports away.
    pub(crate) fn release(self, connection: &Connection, ports: &mut Ports) -> Result<()> {
        let (column, uuid) = self.column_and_uuid();
        let mut delete =
            connection.prepare_cached(&format!("DELETE FROM port WHERE {column} = ?1 RETURNING port"))?;
        for port in delete.query_map([uuid], |row| row.get(0))? {
            ports.released.insert(port?);
        }
        Ok(())
    }

    /// Gives it the port, which may have been reserved for it.
    pub(crate) fn claim(self, connection: &Connection, port: u16, ports: &mut Ports) -> Result<()> {
        let (column, uuid) = self.column_and_uuid();
        let changed = connection
            .prepare_cached(&format!(
                "INSERT INTO port (port, {column}) VALUES (?1, ?2) ON CONFLICT (port)
                 DO UPDATE SET {column} = ?2, operation = NULL, reserved_for = NULL WHERE reserved_for = ?2"
            ))?
            .execute(params![port, uuid])?;
        if changed == 1 {
            ports.claimed.insert(port);
            return Ok(());
        }
        let query = "SELECT disk, instance, operation, reserved_for FROM port WHERE port = ?1";
        let holder = DiskHolder::select(connection, query, [port])?;
        Err(StoreError::PortTaken { port, holder })
    }
}

/// Puts ports that nobody has any more into the cluster's pool, and takes those out that somebody has now
/// (`AddTcpUdpPort`, `AllocatePort`).
pub(crate) fn update_pool(connection: &Connection, ports: &Ports) -> Result<()> {
    let Ports { released, claimed } = ports;
    if released.is_empty() && claimed.is_empty() {
        return Ok(());
    }
    let Some(mut cluster) = singleton::<Cluster>(connection, CLUSTER)? else {
        return Ok(());
    };
    let before = (cluster.tcpudp_port_pool.clone(), cluster.highest_used_port);
    let pool = &mut cluster.tcpudp_port_pool;
    pool.retain(|port| !claimed.contains(port) && !released.contains(port));
    pool.splice(..0, released.difference(claimed).copied());
    cluster.highest_used_port = cluster.highest_used_port.max(claimed.last().copied());
    if before == (cluster.tcpudp_port_pool.clone(), cluster.highest_used_port) {
        return Ok(());
    }
    put_singleton(connection, CLUSTER, &cluster)
}
