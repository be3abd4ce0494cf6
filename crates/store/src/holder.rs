//! Who has what another one wants.

use std::fmt;

use gnt_config::Cluster;
use rusqlite::{Connection, Params};

use crate::error::Result;
use crate::read::{CLUSTER, singleton, text};

/// Who has a volume, a minor or a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskHolder {
    /// A disk, by UUID, and the name of the instance that it is attached to.
    Disk(String, Option<String>),
    /// An instance itself, by name.
    Instance(String),
    /// The operation has reserved it for the disk.
    Operation(String, String),
}

impl DiskHolder {
    /// The disk.
    pub(crate) fn of_disk(connection: &Connection, disk: String) -> Result<Self> {
        let instance = instance_of_disk(connection, &disk)?;
        Ok(Self::Disk(disk, instance))
    }

    /// Who has a minor or a port; `query` gives disk, instance, operation and the disk for which that has reserved it.
    pub(crate) fn select(connection: &Connection, query: &str, params: impl Params) -> Result<Self> {
        type Columns = (Option<String>, Option<String>, Option<String>, Option<String>);
        let columns: Columns = connection
            .prepare_cached(query)?
            .query_row(params, |row| row.try_into())?;
        Ok(match columns {
            (Some(disk), ..) => Self::of_disk(connection, disk)?,
            (_, Some(instance), ..) => Self::Instance(name_of_instance(connection, instance)?),
            (_, _, operation, disk) => {
                Self::Operation(operation.unwrap_or_default(), disk.unwrap_or_default())
            }
        })
    }
}

impl fmt::Display for DiskHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(disk, Some(instance)) => write!(f, "disk {disk} of instance {instance}"),
            Self::Disk(disk, None) => write!(f, "disk {disk}, which is attached to no instance"),
            Self::Instance(instance) => write!(f, "instance {instance}"),
            Self::Operation(operation, disk) => {
                write!(f, "operation {operation}, which has reserved it for disk {disk}")
            }
        }
    }
}

/// What is on the node, in words.
pub(crate) fn user_of_node(connection: &Connection, node: &str) -> Result<Option<String>> {
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
            DiskHolder::of_disk(connection, disk)?
        )));
    }
    let is_master =
        singleton::<Cluster>(connection, CLUSTER)?.is_some_and(|cluster| cluster.master_node == node);
    Ok(is_master.then(|| "it is the master node".to_owned()))
}

/// Name of the instance that the disk is attached to.
pub(crate) fn instance_of_disk(connection: &Connection, disk: &str) -> Result<Option<String>> {
    text(
        connection,
        "SELECT instance FROM attachment WHERE disk = ?1",
        [disk],
    )?
    .map(|instance| name_of_instance(connection, instance))
    .transpose()
}

/// Inside a commit it may be without one; it is then called by its UUID.
fn name_of_instance(connection: &Connection, uuid: String) -> Result<String> {
    let query = "SELECT name FROM instance WHERE uuid = ?1 AND name IS NOT NULL";
    Ok(text(connection, query, [&uuid])?.unwrap_or(uuid))
}
