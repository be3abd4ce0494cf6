//! The whole configuration at once, in and out, as Ganeti's `config.data` has it.

use std::collections::BTreeMap;

use gnt_config::ganeti::{Config, Version};
use gnt_config::{Disk, Instance, Node, NodeGroup, Object, Origin};
use rusqlite::Connection;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::change::{self, Change, Revision};
use crate::error::{Result, StoreError};
use crate::operation::{Filter, OperationRecord};
use crate::put::put_singleton;
use crate::read::{CLUSTER, FILE, REVISION, Stored, select, singleton};
use crate::store::{Durability, Store};

/// What objects leave behind goes with them, by foreign keys; attachments are in the way of that.
const CLEAR: &str = "
DELETE FROM attachment;
DELETE FROM disk;
DELETE FROM instance;
DELETE FROM node;
DELETE FROM node_group;
";

impl Store {
    /// Takes in a whole configuration, as it is: nothing in it is counted as changed. It must be
    /// [valid](Config::validate). The settings of this program stay.
    ///
    /// The configuration that is there is replaced, which is refused while there are instances or disks unless told to
    /// `replace` them, and always while operations are unfinished.
    pub fn import(&self, config: &Config, replace: bool) -> Result<()> {
        config.validate()?;
        let changes = as_changes(config);
        self.write(Durability::Power, |transaction| {
            if let Some(operation) = OperationRecord::list(transaction, Filter::Unfinished)?.pop() {
                return Err(StoreError::UnderWay(operation.id));
            }
            let (instances, disks): (u32, u32) = transaction.query_row(
                "SELECT (SELECT count(*) FROM instance), (SELECT count(*) FROM disk)",
                [],
                |row| row.try_into(),
            )?;
            if !replace && instances + disks > 0 {
                let path = self.path().to_owned();
                return Err(StoreError::NotEmpty {
                    path,
                    instances,
                    disks,
                });
            }
            transaction.execute_batch(CLEAR)?;
            transaction.execute("DELETE FROM singleton WHERE key = ?1", [CLUSTER])?;
            change::write(transaction, &changes)?;
            let mut file: Object = config
                .origin
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            put_singleton(transaction, REVISION, &imported(&file))?;
            file.insert("version".to_owned(), config.version.number().into());
            put_singleton(transaction, FILE, &file)
        })
    }

    /// The whole configuration, as of one moment. What was imported and not changed comes out as it went in. That an instance is being
    /// migrated is not told: Ganeti has no place for it.
    pub fn export(&self) -> Result<Config> {
        self.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let cluster = singleton(&snapshot, CLUSTER)?.ok_or_else(|| StoreError::NotInitialised {
                path: self.path().to_owned(),
            })?;
            let mut file: Object = singleton(&snapshot, FILE)?.unwrap_or_default();
            let version = file.remove("version").and_then(|number| number.as_u64());
            let revision = singleton::<Revision>(&snapshot, REVISION)?.unwrap_or_default();
            let mut origin = if version.is_some() {
                file
            } else {
                new_file(&revision)
            };
            if revision != imported(&origin) {
                origin.insert("serial_no".to_owned(), revision.serial_no.into());
                origin.insert("mtime".to_owned(), revision.mtime.into());
            }
            Ok(Config {
                version: version.map_or(Version::V3_0, Version::from_number),
                cluster,
                nodes: all(&snapshot, |node: &Node| &node.uuid)?,
                nodegroups: all(&snapshot, |group: &NodeGroup| &group.uuid)?,
                instances: all(&snapshot, |instance: &Instance| &instance.uuid)?
                    .into_iter()
                    .map(|(uuid, instance)| {
                        (
                            uuid,
                            Instance {
                                migration: None,
                                ..instance
                            },
                        )
                    })
                    .collect(),
                disks: all(&snapshot, |disk: &Disk| &disk.uuid)?
                    .into_iter()
                    .map(|(uuid, disk)| {
                        let snapshot_of = None;
                        (uuid, Disk { snapshot_of, ..disk })
                    })
                    .collect(),
                origin: Origin::new(origin),
            })
        })
    }
}

fn as_changes(config: &Config) -> Vec<Change> {
    let groups = config.nodegroups.values().cloned().map(Change::Group);
    let nodes = config.nodes.values().cloned().map(Change::Node);
    let disks = config.disks.values().cloned().map(Change::Disk);
    let instances = config.instances.values().cloned().map(Change::Instance);
    let cluster = [Change::Cluster(config.cluster.clone())];
    cluster
        .into_iter()
        .chain(groups)
        .chain(nodes)
        .chain(disks)
        .chain(instances)
        .collect()
}

/// The revision that a `config.data` says it is.
fn imported(file: &Object) -> Revision {
    Revision {
        serial_no: file
            .get("serial_no")
            .and_then(|value| value.as_u64())
            .unwrap_or(0),
        mtime: file.get("mtime").and_then(|value| value.as_f64()).unwrap_or(0.0),
    }
}

/// What Ganeti expects beside the objects in a `config.data` that was made here.
fn new_file(revision: &Revision) -> Object {
    let keys = ["networks", "filters"].map(|key| (key.to_owned(), json!({})));
    let ctime = [("ctime".to_owned(), json!(revision.mtime))];
    keys.into_iter().chain(ctime).collect()
}

fn all<T: Stored + DeserializeOwned>(
    connection: &Connection,
    uuid: impl Fn(&T) -> &String,
) -> Result<BTreeMap<String, T>> {
    let objects: Vec<T> = select(connection, "", [])?;
    Ok(objects
        .into_iter()
        .map(|object| (uuid(&object).clone(), object))
        .collect())
}
