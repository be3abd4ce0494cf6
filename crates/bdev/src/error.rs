//! What can go wrong: what was being done to which disk on which node, then why.

use std::path::PathBuf;

use gnt_config::{LogicalDevice, LogicalId, Mebibytes};
use serde::{Deserialize, Serialize};

use crate::dev_map::DEV_MAP;
use crate::device::DeviceError;
use crate::drbd::DrbdError;
use crate::driver::{Driver, Operation};
use crate::file_storage::FileStorageError;
use crate::gluster::GlusterError;
use crate::links::LinkError;
use crate::lvm::LvmError;
use crate::rbd::RbdError;
use crate::tool::ToolError;
use crate::transfer::{Doing, TransferError};

/// An operation on a disk failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Devices of this type cannot do that.
    #[error("cannot {operation} {device} disks: this type does not have that operation")]
    Unsupported {
        /// The device type.
        device: LogicalDevice,
        /// What was asked.
        operation: Operation,
    },
    /// Nothing here drives devices of this type.
    #[error("there is no driver for {device} disks")]
    NoDriver {
        /// The device type.
        device: LogicalDevice,
    },
    /// One device failed.
    #[error("cannot {operation} {disk} on node {node}")]
    Failed {
        /// What was being done.
        operation: Operation,
        /// The device.
        disk: String,
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        cause: Box<Cause>,
    },
    /// Several things failed, where one failure does not keep the rest from being tried.
    #[error("{}", .0.iter().map(chain).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Error>),
    /// An operation failed, and taking back what it had done before failed too.
    #[error("{}, and what was made before it could not be removed", chain(.error))]
    Leftover {
        /// The first failure.
        error: Box<Error>,
        /// The failure of the undo.
        #[source]
        undo: Box<Error>,
    },
    /// What volumes there are cannot be told.
    #[error("cannot list the volumes of {device} disks on node {node}")]
    Volumes {
        /// The device type.
        device: LogicalDevice,
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        cause: Box<Cause>,
    },
    /// How much room there is cannot be told.
    #[error("cannot tell the free space for {device} disks on node {node}")]
    Space {
        /// The device type.
        device: LogicalDevice,
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        cause: Box<Cause>,
    },
    /// A unit of storage.
    #[error("cannot {doing} on node {node}")]
    Storage {
        /// What was being done, to which unit.
        doing: String,
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        cause: Box<Cause>,
    },
    /// A disk's bytes.
    #[error("cannot {doing} {disk} on node {node}")]
    Transfer {
        /// What was being done.
        doing: Doing,
        /// The disk.
        disk: String,
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        cause: Box<TransferError>,
    },
    /// The bytes of an image.
    #[error("cannot read the image {} on node {node}", .path.display())]
    Image {
        /// Where it is.
        path: PathBuf,
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        cause: Box<TransferError>,
    },
    /// A file storage directory.
    #[error(transparent)]
    FileStorage(#[from] FileStorageError),
    /// The links to instances' devices.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A block device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An error that another process told.
    #[error(transparent)]
    Told(#[from] Told),
}

/// What is kept of an error that goes from one process to another: all that a user, or code that reacts to it, can see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Told {
    /// The message.
    pub message: String,
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The names of the snapshots for whose sake a volume was not removed ([`Error::snapshots`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Vec<String>>,
    /// Why.
    #[source]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<ToldCause>>,
}

/// Why something failed that was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ToldCause {
    /// The message.
    pub message: String,
    /// Why.
    #[source]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<ToldCause>>,
}

impl Told {
    /// What is to be told of `error`.
    pub fn new(error: &dyn std::error::Error, kind: ErrorKind, hint: Option<String>) -> Self {
        Self {
            message: error.to_string(),
            kind,
            hint,
            snapshots: None,
            cause: ToldCause::of(error),
        }
    }
}

impl ToldCause {
    fn of(error: &dyn std::error::Error) -> Option<Box<Self>> {
        error.source().map(|source| {
            Box::new(Self {
                message: source.to_string(),
                cause: Self::of(source),
            })
        })
    }
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Self {
        Self {
            snapshots: error.snapshots().map(<[_]>::to_vec),
            ..Self::new(error, error.kind(), error.hint())
        }
    }
}

/// Why one device failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileStorageError),
    /// Its block device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A tool of its storage system.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Its logical volume.
    #[error(transparent)]
    Lvm(Box<LvmError>),
    /// Its mirror.
    #[error(transparent)]
    Drbd(Box<DrbdError>),
    /// Its External Storage provider.
    #[error(transparent)]
    Ext(Box<gnt_extstorage::Error>),
    /// Its image.
    #[error(transparent)]
    Rbd(Box<RbdError>),
    /// Its Gluster volume.
    #[error(transparent)]
    Gluster(Box<GlusterError>),
    /// Hypervisors of this kind reach such disks through the kernel only.
    #[error("{hypervisor} cannot reach {device} disks without the kernel")]
    NoUserspaceAccess {
        /// The device type.
        device: LogicalDevice,
        /// The hypervisor.
        hypervisor: String,
    },
    /// Its provider has no such volume.
    #[error("the provider {provider} has no volume {volume}")]
    NoVolume {
        /// The provider.
        provider: String,
        /// The volume.
        volume: String,
    },
    /// Its provider has another volume of that name.
    #[error(
        "the provider has a volume {volume} already, with {} and {}",
        .size.map_or("an unknown size".to_owned(), |size| size.to_string()),
        .uuid.as_ref().map_or("no uuid".to_owned(), |uuid| format!("the uuid {uuid}"))
    )]
    OtherVolume {
        /// The volume.
        volume: String,
        /// Its size.
        size: Option<Mebibytes>,
        /// The uuid of its disk.
        uuid: Option<String>,
    },
    /// Its provider attached it without a block device.
    #[error("the provider {provider} gives it no block device on this node")]
    NoDevice {
        /// The provider.
        provider: String,
    },
    /// Its provider has no URI for the hypervisor.
    #[error(
        "the provider {provider} has no URI for the hypervisor {hypervisor}, {}",
        if .offered.is_empty() { "nor for any other".to_owned() } else { format!("only for {}", .offered.join(", ")) }
    )]
    NoUri {
        /// The provider.
        provider: String,
        /// The hypervisor.
        hypervisor: String,
        /// Those that it has one for.
        offered: Vec<String>,
    },
    /// What was made cannot be used, and could not be removed either.
    #[error("{}, and what was made could not be removed", chain(.error))]
    LeftBehind {
        /// Why it cannot be used.
        error: Box<Cause>,
        /// Why it could not be removed.
        #[source]
        undo: Box<Cause>,
    },
    /// Its configuration names something else.
    #[error("{id} does not name a {device} device")]
    WrongId {
        /// The device type.
        device: LogicalDevice,
        /// What the configuration says.
        id: LogicalId,
    },
    /// A smaller size was asked for.
    #[error("its size is {size}, and {to} is less: disks cannot shrink")]
    Shrink {
        /// The size until now.
        size: Mebibytes,
        /// The size asked for.
        to: Mebibytes,
    },
    /// The device is smaller than the configuration says.
    #[error("{} has {bytes} bytes, less than the {size} of the disk", .path.display())]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// Its real size.
        bytes: u64,
        /// The disk's size.
        size: Mebibytes,
    },
}

impl From<gnt_extstorage::Error> for Cause {
    fn from(error: gnt_extstorage::Error) -> Self {
        Self::Ext(Box::new(error))
    }
}

impl From<DrbdError> for Cause {
    fn from(error: DrbdError) -> Self {
        Self::Drbd(Box::new(error))
    }
}

impl From<LvmError> for Cause {
    fn from(error: LvmError) -> Self {
        Self::Lvm(Box::new(error))
    }
}

impl From<GlusterError> for Cause {
    fn from(error: GlusterError) -> Self {
        Self::Gluster(Box::new(error))
    }
}

impl From<RbdError> for Cause {
    fn from(error: RbdError) -> Self {
        Self::Rbd(Box::new(error))
    }
}

/// What kind of thing went wrong, for callers that do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The volume, or something that it needs, is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// It is in use.
    Busy,
    /// There is no room.
    NoSpace,
    /// The node does not have the storage system: its programs or its kernel module are not there.
    NotInstalled,
    /// This type of disk cannot do that.
    Unsupported,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// What an error of the operating system means.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => Self::NotFound,
            Io::AlreadyExists => Self::AlreadyExists,
            Io::ResourceBusy | Io::ExecutableFileBusy => Self::Busy,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Self::NoSpace,
            _ => Self::Other,
        }
    }
}

impl Error {
    /// Several errors as one; none if there is none.
    pub fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { cause, .. }
            | Self::Volumes { cause, .. }
            | Self::Space { cause, .. }
            | Self::Storage { cause, .. } => cause.kind(),
            Self::Transfer { cause, .. } | Self::Image { cause, .. } => cause.kind(),
            Self::FileStorage(error) => error.kind(),
            Self::Link(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Told(told) => told.kind,
            Self::Leftover { error, .. } => error.kind(),
            Self::Several(errors) => {
                let mut kinds = errors.iter().map(Self::kind);
                let first = kinds.next().unwrap_or(ErrorKind::Other);
                if kinds.all(|kind| kind == first) {
                    first
                } else {
                    ErrorKind::Other
                }
            }
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::NoDriver { .. } => ErrorKind::Other,
        }
    }

    /// The names of the snapshots for whose sake a volume was not removed; none if it failed for another reason.
    pub fn snapshots(&self) -> Option<&[String]> {
        match self {
            Self::Failed { cause, .. } => match &**cause {
                Cause::Lvm(error) => error.snapshots(),
                _ => None,
            },
            Self::Told(told) => told.snapshots.as_deref(),
            _ => None,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Failed { cause, .. }
            | Self::Volumes { cause, .. }
            | Self::Space { cause, .. }
            | Self::Storage { cause, .. } => cause.hint(),
            Self::Transfer { cause, .. } | Self::Image { cause, .. } => cause.hint(),
            Self::FileStorage(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::Told(told) => told.hint.clone(),
            Self::Leftover { undo, .. } => undo.hint(),
            Self::Several(errors) => errors.iter().find_map(Self::hint),
            Self::Unsupported { operation, .. } => {
                Some(types_with(|driver| driver.capabilities().contains(*operation)))
            }
            Self::NoDriver { .. } => Some(types_with(|_| true)),
            Self::Link(_) => None,
        }
    }
}

impl Cause {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Link(error) => error.kind(),
            Self::Tool(error) => error.kind(),
            Self::Lvm(error) => error.kind(),
            Self::Rbd(error) => error.kind(),
            Self::Gluster(error) => error.kind(),
            Self::Drbd(error) => error.kind(),
            Self::NoVolume { .. } => ErrorKind::NotFound,
            Self::OtherVolume { .. } => ErrorKind::AlreadyExists,
            Self::LeftBehind { error, .. } => error.kind(),
            Self::Ext(_)
            | Self::NoDevice { .. }
            | Self::NoUri { .. }
            | Self::NoUserspaceAccess { .. }
            | Self::WrongId { .. }
            | Self::Shrink { .. }
            | Self::TooSmall { .. } => ErrorKind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::Tool(error) => error.hint(),
            Self::Lvm(error) => error.hint(),
            Self::Rbd(error) => error.hint(),
            Self::Gluster(error) => error.hint(),
            Self::Drbd(error) => error.hint(),
            Self::TooSmall { .. } => {
                Some("is it still the same device? A smaller one would lose data".to_owned())
            }
            Self::Ext(error) => error.hint(),
            Self::LeftBehind { undo, .. } => undo.hint(),
            Self::NoDevice { .. } => Some("set the disk's parameter access to userspace".to_owned()),
            Self::NoUri { .. } | Self::NoUserspaceAccess { .. } => {
                Some("set the disk's parameter access to kernelspace".to_owned())
            }
            Self::Link(_)
            | Self::NoVolume { .. }
            | Self::OtherVolume { .. }
            | Self::WrongId { .. }
            | Self::Shrink { .. } => None,
        }
    }
}

fn types_with(ability: impl Fn(&dyn Driver) -> bool) -> String {
    let able = DEV_MAP.iter().filter(|driver| ability(**driver));
    let names: Vec<_> = able.map(|driver| driver.device().to_string()).collect();
    format!("types of disks that can: {}", names.join(", "))
}

/// An error and its causes on one line, for places that tell of more than one error.
fn chain(error: &(impl std::error::Error + 'static)) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
