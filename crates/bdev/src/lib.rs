//! What one node does with one disk tree.
//!
//! A [`Driver`] knows one type of device; [`driver()`] finds it. [`tree`] works on a whole disk, with the devices below it, and
//! is what operations call. A [`Host`] is the node that all this happens on: its programs, its file storage, its links.

pub mod dev_map;
pub mod device;
pub mod drbd;
pub mod driver;
pub mod error;
pub mod file_storage;
pub mod host;
pub mod links;
pub mod storage;
pub mod tool;
pub mod transfer;
pub mod tree;

mod blockdev;
mod ext;
mod file;
mod gluster;
mod lvm;
mod rbd;
#[cfg(test)]
mod tests;

pub use dev_map::{DEV_MAP, driver};
pub use drbd::{DrbdError, DrbdMinor};
pub use driver::{
    BlockDevice, Capabilities, Change, Driver, FoundVolume, LocalDiskStatus, Operation, Owner, Space,
    SyncStatus, Target, Uri,
};
pub use error::{Cause, Error, ErrorKind, Told};
pub use file_storage::{FileStorage, FileStorageError};
pub use gluster::{GlusterError, MountFailure};
pub use host::{Changes, Host};
pub use links::{DeviceLinks, Link, LinkError};
pub use lvm::{ListedVolume, LvmError, listed_volumes, volume_groups};
pub use rbd::RbdError;
pub use storage::{StorageUnit, UnitField, UnitType};
pub use tool::ToolError;
pub use tree::{Activation, Assembled, Layer, Status, SyncProgress};
