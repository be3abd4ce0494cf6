//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use crate::classify::classify;
use crate::holder::DiskHolder;
use crate::lock::{Holder, Interruption};
use crate::operation::State;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store could not do what it was asked. Nothing was changed, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory, or a file in it, cannot be made or opened.
    #[error("cannot open the store {path}", path = path.display())]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user may not read and write the store.
    #[error("no permission to use the store {path}", path = path.display())]
    Permission {
        /// The directory or file.
        path: PathBuf,
    },
    /// The file system is mounted read-only, or the file is marked so.
    #[error("the store {path} cannot be written: it is read-only", path = path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// No space is left on the file system of the state directory.
    #[error("the file system of the store {path} is full", path = path.display())]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// Some other file is where the store should be.
    #[error("{path} is not a store of gnt-disk", path = path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// A newer gnt-disk has written the store.
    #[error("the store {path} has schema version {found}, this program knows versions up to {known}", path = path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version known here.
        known: i64,
    },
    /// The file's content is not what was written to it.
    #[error("the store {path} is damaged: {detail}", path = path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Other processes kept the database locked for as long as we were willing to wait.
    #[error("the store {path} is busy: other processes have kept it locked for {seconds} s", path = path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// Anything else that SQLite may say.
    #[error("the store {path} failed", path = path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
    /// The tables cannot be brought to this program's schema version.
    #[error("the store {path} cannot be brought up to date", path = path.display())]
    Migration {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite_migration::Error,
    },
    /// A stored object is not of the form that this program knows.
    #[error("the stored {kind} {id} cannot be read")]
    BadObject {
        /// What it is: `instance`, `disk`…
        kind: &'static str,
        /// Its UUID or key.
        id: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The object cannot be written as JSON.
    #[error("the {kind} {id} cannot be written")]
    Unwritable {
        /// What it is.
        kind: &'static str,
        /// Its UUID.
        id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The store holds no cluster yet.
    #[error("the store {path} holds no cluster", path = path.display())]
    NotInitialised {
        /// The database.
        path: PathBuf,
    },
    /// A configuration to be imported contradicts itself.
    #[error("the configuration cannot be imported")]
    Inconsistent(#[from] gnt_config::ganeti::Inconsistent),
    /// A configuration would be replaced.
    #[error("the store {path} holds {instances} instances and {disks} disks already", path = path.display())]
    NotEmpty {
        /// The database.
        path: PathBuf,
        /// How many instances there are.
        instances: u32,
        /// How many disks there are.
        disks: u32,
    },
    /// The configuration cannot be replaced under an operation.
    #[error("operation {0} is not finished")]
    UnderWay(String),

    /// An object to be stored has no UUID.
    #[error("a {kind} without a UUID cannot be stored")]
    NoUuid {
        /// What it is.
        kind: &'static str,
    },
    /// Another object of the kind has that name.
    #[error("the {kind} name {name} is taken by {holder}")]
    NameTaken {
        /// What it is.
        kind: &'static str,
        /// The name.
        name: String,
        /// UUID of the one that has it.
        holder: String,
    },
    /// A disk can be attached to one instance only.
    #[error("disk {disk} cannot be attached to instance {instance}: it is attached to {holder}")]
    AlreadyAttached {
        /// UUID of the disk.
        disk: String,
        /// Name of the instance that wants it.
        instance: String,
        /// Name of the instance that has it.
        holder: String,
    },
    /// The disk cannot be removed while an instance has it.
    #[error("disk {disk} cannot be removed: it is attached to instance {instance}")]
    StillAttached {
        /// UUID of the disk.
        disk: String,
        /// Name of the instance.
        instance: String,
    },
    /// An instance names a disk that is not there.
    #[error("instance {instance} names disk {disk}, which does not exist")]
    UnknownDisk {
        /// Name of the instance.
        instance: String,
        /// UUID of the disk.
        disk: String,
    },
    /// An object names a node that is not there.
    #[error("{object} names node {node}, which does not exist")]
    UnknownNode {
        /// `instance NAME`, `disk UUID`.
        object: String,
        /// UUID of the node.
        node: String,
    },
    /// A node names a group that is not there.
    #[error("node {node} names node group {group}, which does not exist")]
    UnknownGroup {
        /// Name of the node.
        node: String,
        /// UUID of the group.
        group: String,
    },
    /// The node cannot be removed while something is on it.
    #[error("node {node} cannot be removed: {user}")]
    NodeInUse {
        /// UUID of the node.
        node: String,
        /// What is on it.
        user: String,
    },
    /// The group cannot be removed while nodes are in it.
    #[error("node group {group} cannot be removed: node {node} is in it")]
    GroupInUse {
        /// UUID of the group.
        group: String,
        /// Name of one of its nodes.
        node: String,
    },
    /// Two disks would be the same volume.
    #[error("volume {key} is taken by {holder}")]
    VolumeTaken {
        /// As [`gnt_config::Disk::volume_keys`] has it.
        key: String,
        /// Who has it.
        holder: DiskHolder,
    },
    /// Two disks would be the same DRBD device.
    #[error("drbd minor {minor} on node {node} is taken by {holder}")]
    MinorTaken {
        /// UUID of the node.
        node: String,
        /// The minor.
        minor: u32,
        /// Who has it.
        holder: DiskHolder,
    },
    /// Two objects would listen on the same TCP port.
    #[error("TCP port {port} is taken by {holder}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Who has it.
        holder: DiskHolder,
    },
    /// Every port for DRBD is in use or reserved.
    #[error("no TCP port for drbd is free between {first} and {last}")]
    NoFreePort {
        /// The first that may be used.
        first: u16,
        /// The last that may be used.
        last: u16,
    },
    /// Minors were asked for on the same node twice.
    #[error("a drbd disk cannot have both its sides on node {node}")]
    SameNode {
        /// UUID of the node.
        node: String,
    },

    /// A running operation holds the lock.
    #[error("{lock} is locked by {holder}")]
    Locked {
        /// Name of the lock.
        lock: String,
        /// Who holds it.
        holder: Box<Holder>,
    },
    /// An operation that nobody runs any more holds the lock.
    #[error("{lock} is locked by {operation}")]
    Interrupted {
        /// Name of the lock.
        lock: String,
        /// The operation.
        operation: Box<Interruption>,
    },
    /// The operation is still run by someone.
    #[error("operation {operation} cannot be taken over: it is run by {holder}")]
    StillRunning {
        /// The operation.
        operation: String,
        /// Who runs it.
        holder: Box<Holder>,
    },
    /// There is no such operation.
    #[error("there is no operation {0}")]
    UnknownOperation(String),
    /// Several operations' ids begin so.
    #[error("{prefix} could be any of the operations {candidates}", candidates = candidates.join(", "))]
    AmbiguousOperation {
        /// What was asked for.
        prefix: String,
        /// Their ids.
        candidates: Vec<String>,
    },
    /// The operation is not in a state that allows this.
    #[error("operation {operation} is {state}: cannot {action}")]
    WrongState {
        /// The operation.
        operation: String,
        /// Its state.
        state: State,
        /// What was asked.
        action: &'static str,
    },
    /// The operation's steps go one after the other.
    #[error("operation {operation}: it is not the turn of step {step}")]
    WrongStep {
        /// The operation.
        operation: String,
        /// The step, counted from 0.
        step: usize,
    },
}

impl StoreError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Permission { path } => format!(
                "run as root, or as a user who may write to {}",
                path.parent().unwrap_or(path).display()
            ),
            Self::ReadOnly { path } => format!(
                "look why {} is mounted read-only (dmesg shows file system errors)",
                path.parent().unwrap_or(path).display()
            ),
            Self::DiskFull { path } => format!(
                "free some space in {}; nothing was lost",
                path.parent().unwrap_or(path).display()
            ),
            Self::NotAStore { path } => {
                format!(
                    "move {} away, or choose another directory with --state",
                    path.display()
                )
            }
            Self::Newer { .. } => "use the version of gnt-disk that wrote it, or a newer one".to_owned(),
            Self::Damaged { path, .. } => format!(
                "restore {} from a backup; without one, move it away, and `gnt-disk verify` lists the volumes and whose they are",
                path.display()
            ),
            Self::Busy { .. } => {
                "see with `gnt-disk operation list` who is at work, and try again".to_owned()
            }
            Self::NotInitialised { .. } => "make a cluster with `gnt-disk cluster init`".to_owned(),
            Self::StillAttached { .. } | Self::AlreadyAttached { .. } => "detach it first".to_owned(),
            Self::Locked { holder, .. } | Self::StillRunning { holder, .. } => format!(
                "wait until it is done; `gnt-disk operation list` shows operation {}",
                holder.operation
            ),
            Self::Interrupted { operation, .. } => format!(
                "finish it with `gnt-disk operation resume {id}`, or unwind it with `gnt-disk operation abort {id}`",
                id = operation.operation
            ),
            Self::NotEmpty { .. } => {
                "with --replace it is forgotten; or use another directory with --state".to_owned()
            }
            Self::UnderWay(id) => {
                format!("wait until it is done; if it was interrupted: `gnt-disk operation resume {id}`")
            }
            Self::UnknownOperation(_) | Self::AmbiguousOperation { .. } => {
                "`gnt-disk operation list` shows those that are not finished, with -a also the others"
                    .to_owned()
            }
            _ => return None,
        })
    }

    /// Says what an error of SQLite means for the store at `path`.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Database { source, .. } => classify(source, path),
            other => other,
        }
    }

    /// An error of the file system at `path`.
    pub(crate) fn file(source: io::Error, path: &Path) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Open { path, source },
        }
    }
}
