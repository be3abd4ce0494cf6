//! Reading objects, by key wherever it can be.

use std::cell::Cell;

use gnt_config::{Cluster, Disk, Instance, Node, NodeGroup, Settings};
use rusqlite::{Connection, OptionalExtension, Params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, StoreError};
use crate::store::Store;

/// An object with a table of its own.
pub(crate) trait Stored: Serialize + DeserializeOwned {
    /// What errors call it.
    const KIND: &'static str;
    /// Where it is.
    const TABLE: &'static str;
}

macro_rules! stored {
    ($($type:ty: $kind:literal in $table:literal;)*) => {$(
        impl Stored for $type {
            const KIND: &'static str = $kind;
            const TABLE: &'static str = $table;
        }
    )*};
}

stored! {
    NodeGroup: "node group" in "node_group";
    Node: "node" in "node";
    Instance: "instance" in "instance";
    Disk: "disk" in "disk";
}

/// Where the cluster is among the singletons.
pub(crate) const CLUSTER: &str = "cluster";
/// Where the settings are among the singletons.
pub(crate) const SETTINGS: &str = "settings";
/// Where that part of an imported `config.data` is that we do not know.
pub(crate) const FILE: &str = "file";
/// Where the UUID of the node that this machine is is among the singletons.
pub(crate) const THIS_NODE: &str = "this_node";
/// Where the revision is among the singletons.
pub(crate) const REVISION: &str = "revision";

impl Store {
    /// Whether there is a cluster.
    pub fn is_initialised(&self) -> Result<bool> {
        self.read(|connection| {
            let exists = connection
                .prepare_cached("SELECT 1 FROM singleton WHERE key = ?1")?
                .exists([CLUSTER])?;
            Ok(exists)
        })
    }

    /// Settings of the whole cluster.
    pub fn cluster(&self) -> Result<Cluster> {
        self.read(|connection| {
            singleton(connection, CLUSTER)?.ok_or_else(|| StoreError::NotInitialised {
                path: self.path().to_owned(),
            })
        })
    }

    /// Settings of this program; until they are put, those of a new cluster in this state directory.
    pub fn settings(&self) -> Result<Settings> {
        let state = self.path().parent().unwrap_or(self.path());
        let stored = self.read(|connection| singleton(connection, SETTINGS))?;
        Ok(stored.unwrap_or_else(|| Settings::under(state)))
    }

    /// UUID of the node that this machine is, as far as that was [recorded](Self::set_this_node). An import may have taken the node away.
    pub fn this_node(&self) -> Result<Option<String>> {
        self.read(|connection| singleton(connection, THIS_NODE))
    }

    /// The node of that name or UUID.
    pub fn node(&self, name_or_uuid: &str) -> Result<Option<Node>> {
        self.named(name_or_uuid)
    }

    /// Every node, by name.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        self.read(|connection| select(connection, "ORDER BY name", []))
    }

    /// The node group of that name or UUID.
    pub fn group(&self, name_or_uuid: &str) -> Result<Option<NodeGroup>> {
        self.named(name_or_uuid)
    }

    /// Every node group, by name.
    pub fn groups(&self) -> Result<Vec<NodeGroup>> {
        self.read(|connection| select(connection, "ORDER BY name", []))
    }

    /// The instance of that name or UUID.
    pub fn instance(&self, name_or_uuid: &str) -> Result<Option<Instance>> {
        self.named(name_or_uuid)
    }

    /// Every instance, by name.
    pub fn instances(&self) -> Result<Vec<Instance>> {
        self.read(|connection| select(connection, "ORDER BY name", []))
    }

    /// The instances whose primary node is `node` (UUID), by name.
    pub fn primary_instances(&self, node: &str) -> Result<Vec<Instance>> {
        self.read(|connection| select(connection, "WHERE primary_node = ?1 ORDER BY name", [node]))
    }

    /// The instances that have a disk on `node` (UUID) and another primary node, by name.
    pub fn secondary_instances(&self, node: &str) -> Result<Vec<Instance>> {
        self.read(|connection| {
            select(
                connection,
                "WHERE primary_node IS NOT ?1 AND uuid IN
                   (SELECT instance FROM disk_node JOIN attachment USING (disk) WHERE node = ?1) ORDER BY name",
                [node],
            )
        })
    }

    /// The disk with that UUID.
    pub fn disk(&self, uuid: &str) -> Result<Option<Disk>> {
        self.read(|connection| select_one(connection, "WHERE uuid = ?1", [uuid]))
    }

    /// Every disk, by UUID.
    pub fn disks(&self) -> Result<Vec<Disk>> {
        self.read(|connection| select(connection, "ORDER BY uuid", []))
    }

    /// The disks of the instance, in order.
    pub fn disks_of(&self, instance: &Instance) -> Result<Vec<Disk>> {
        self.read(|connection| {
            let disk = |uuid: &String| {
                select_one(connection, "WHERE uuid = ?1", [uuid])?.ok_or_else(|| StoreError::UnknownDisk {
                    instance: instance.name.clone(),
                    disk: uuid.clone(),
                })
            };
            instance.disks.iter().map(disk).collect()
        })
    }

    /// The disks that are attached to no instance, by UUID.
    pub fn detached_disks(&self) -> Result<Vec<Disk>> {
        self.read(|connection| {
            select(
                connection,
                "WHERE NOT EXISTS (SELECT 1 FROM attachment WHERE attachment.disk = disk.uuid) ORDER BY uuid",
                [],
            )
        })
    }

    /// The disks of which `node` (UUID) holds data, by UUID.
    pub fn disks_on(&self, node: &str) -> Result<Vec<Disk>> {
        self.read(|connection| {
            select(
                connection,
                "WHERE uuid IN (SELECT disk FROM disk_node WHERE node = ?1) ORDER BY uuid",
                [node],
            )
        })
    }

    /// UUID of the instance that the disk is attached to.
    pub fn owner_of_disk(&self, disk: &str) -> Result<Option<String>> {
        self.read(|connection| {
            text(
                connection,
                "SELECT instance FROM attachment WHERE disk = ?1",
                [disk],
            )
        })
    }

    /// UUID of the disk that has the volume; `key` is one of [`Disk::volume_keys`].
    pub fn owner_of_volume(&self, key: &str) -> Result<Option<String>> {
        self.read(|connection| text(connection, "SELECT disk FROM volume WHERE key = ?1", [key]))
    }

    /// UUIDs of the disks that have a volume in a directory: `dir` is what comes before the last slash of one's
    /// [key](Disk::volume_keys).
    pub fn owners_of_volumes_in(&self, dir: &str) -> Result<Vec<String>> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT DISTINCT disk FROM volume WHERE key > ?1 || '/' AND key < ?1 || '0' ORDER BY disk",
            )?;
            let disks = select.query_map([dir], |row| row.get(0))?;
            Ok(disks.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn named<T: Stored>(&self, name_or_uuid: &str) -> Result<Option<T>> {
        self.read(|connection| {
            select_one(
                connection,
                "WHERE uuid = ?1 OR name = ?1 ORDER BY uuid = ?1 DESC LIMIT 1",
                [name_or_uuid],
            )
        })
    }
}

thread_local! {
    static READ: Cell<u64> = const { Cell::new(0) };
}

/// How many nodes, groups, instances and disks this thread has read from stores: what an operation reads must not depend on how large
/// the cluster is.
pub fn objects_read() -> u64 {
    READ.get()
}

/// Objects of one kind; `clause` is what comes behind the table's name.
pub(crate) fn select<T: Stored>(
    connection: &Connection,
    clause: &str,
    params: impl Params,
) -> Result<Vec<T>> {
    let mut select = connection.prepare_cached(&format!("SELECT uuid, data FROM {} {clause}", T::TABLE))?;
    let mut rows = select.query(params)?;
    let mut objects = Vec::new();
    while let Some(row) = rows.next()? {
        let (uuid, data): (String, String) = (row.get(0)?, row.get(1)?);
        objects.push(parse(T::KIND, &uuid, &data)?);
        READ.set(READ.get() + 1);
    }
    Ok(objects)
}

pub(crate) fn select_one<T: Stored>(
    connection: &Connection,
    clause: &str,
    params: impl Params,
) -> Result<Option<T>> {
    Ok(select(connection, clause, params)?.pop())
}

pub(crate) fn singleton<T: DeserializeOwned>(
    connection: &Connection,
    key: &'static str,
) -> Result<Option<T>> {
    text(connection, "SELECT data FROM singleton WHERE key = ?1", [key])?
        .map(|json| parse(key, "", &json))
        .transpose()
}

/// The only column of the only row.
pub(crate) fn text(connection: &Connection, query: &str, params: impl Params) -> Result<Option<String>> {
    let found = connection
        .prepare_cached(query)?
        .query_row(params, |row| row.get(0))
        .optional()?;
    Ok(found)
}

/// Reads the JSON of something stored.
pub(crate) fn parse<T: DeserializeOwned>(kind: &'static str, id: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|source| StoreError::BadObject {
        kind,
        id: id.to_owned(),
        source,
    })
}

/// Writes something to be stored as JSON.
pub(crate) fn to_json(kind: &'static str, id: &str, object: &impl Serialize) -> Result<String> {
    serde_json::to_string(object).map_err(|source| StoreError::Unwritable {
        kind,
        id: id.to_owned(),
        source,
    })
}
