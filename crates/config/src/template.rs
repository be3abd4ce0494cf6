//! Disk templates and what each can do: the one place that lists templates.
//!
//! Code never asks "is it A or B?"; it asks a named set: `GROWABLE.contains(template)`.

use enumset::{EnumSet, EnumSetType, enum_set, enum_set_difference, enum_set_union};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

use crate::device::LogicalDevice;

/// How an instance's disks are stored, in Ganeti's spelling (`constants.DT_*`).
#[derive(
    Debug,
    Hash,
    PartialOrd,
    Ord,
    EnumSetType,
    EnumIter,
    EnumString,
    Display,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum DiskTemplate {
    /// No disks at all.
    Diskless,
    /// A file on the node's own file system.
    File,
    /// A file on a file system that all nodes share.
    SharedFile,
    /// An LVM logical volume.
    Plain,
    /// A block device that exists already, adopted by its path.
    Blockdev,
    /// DRBD 8.4 over two logical volumes on each of two nodes.
    Drbd,
    /// An image in a Ceph pool.
    Rbd,
    /// A file on a Gluster volume.
    Gluster,
    /// A volume of an External Storage provider.
    Ext,
}

/// A constant set of templates.
pub type TemplateSet = EnumSet<DiskTemplate>;

use DiskTemplate::{Blockdev, Diskless, Drbd, Ext, File, Gluster, Plain, Rbd, SharedFile};

/// Every template.
pub const ALL: TemplateSet = EnumSet::all();
/// Mirrored by Ganeti itself, between a primary and a secondary node (`DTS_INT_MIRROR`).
pub const INT_MIRROR: TemplateSet = enum_set!(Drbd);
/// Visible from every node, mirrored (or not) by something else (`DTS_EXT_MIRROR`).
pub const EXT_MIRROR: TemplateSet = enum_set!(Diskless | SharedFile | Blockdev | Rbd | Gluster | Ext);
/// An instance with these can move to another node without its data being copied (`DTS_MIRRORED`).
pub const MIRRORED: TemplateSet = enum_set_union!(INT_MIRROR, EXT_MIRROR);
/// Disks can be enlarged (`DTS_GROWABLE`).
pub const GROWABLE: TemplateSet = enum_set!(File | SharedFile | Plain | Drbd | Rbd | Gluster | Ext);
/// Stored as files (`DTS_FILEBASED`).
pub const FILEBASED: TemplateSet = enum_set!(File | SharedFile | Gluster);
/// The path of a disk contains the instance's name (`DTS_INSTANCE_DEPENDENT_PATH`).
pub const INSTANCE_DEPENDENT_PATH: TemplateSet = enum_set!(File | SharedFile);
/// Stored in a node's volume groups (`DTS_LVM`).
pub const LVM: TemplateSet = enum_set!(Plain | Drbd);
/// Everything but [`LVM`] (`DTS_NOT_LVM`).
pub const NOT_LVM: TemplateSet = enum_set_difference!(ALL, LVM);
/// A disk is a block device on the node (`DTS_BLOCK`).
pub const BLOCK: TemplateSet = enum_set!(Plain | Blockdev | Drbd | Rbd | Ext);
/// Mirrored by DRBD (`DTS_DRBD`).
pub const DRBD: TemplateSet = enum_set!(Drbd);
/// A volume that exists already can become a disk (`DTS_MAY_ADOPT`).
pub const MAY_ADOPT: TemplateSet = enum_set!(Plain | Blockdev);
/// Only a volume that exists already can become a disk (`DTS_MUST_ADOPT`).
pub const MUST_ADOPT: TemplateSet = enum_set!(Blockdev);
/// Ganeti's interface offers a snapshot (`DTS_SNAPSHOT_CAPABLE`).
pub const SNAPSHOT_CAPABLE: TemplateSet = enum_set!(Plain | Drbd | Ext);
/// Snapshots can be taken: also of rbd disks, of which Ganeti offers none.
pub const HAVE_SNAPSHOTS: TemplateSet = enum_set!(Plain | Drbd | Rbd | Ext);
/// Can live on nodes with exclusive storage (`DTS_EXCL_STORAGE`).
pub const EXCLUSIVE_STORAGE: TemplateSet = enum_set!(Plain);
/// Free space is not checked before disks are created (`DTS_NO_FREE_SPACE_CHECK`).
pub const NO_FREE_SPACE_CHECK: TemplateSet = enum_set!(File | SharedFile | Rbd | Gluster | Ext);
/// A disk can be copied to another node as it is: `move` (`DTS_COPYABLE`).
pub const COPYABLE: TemplateSet = enum_set!(File | Plain);
/// The hypervisor can reach a disk without the kernel: parameter `access` (`DTS_HAVE_ACCESS`).
pub const HAVE_ACCESS: TemplateSet = enum_set!(Rbd | Gluster | Ext);
/// A disk belongs to a provider, which takes parameters of its own (`CheckDiskExtProvider`).
pub const HAVE_PROVIDER: TemplateSet = enum_set!(Ext);
/// Disks cannot be converted from these (`DTS_NOT_CONVERTIBLE_FROM`).
pub const NOT_CONVERTIBLE_FROM: TemplateSet = enum_set!(Diskless);
/// Disks cannot be converted to these (`DTS_NOT_CONVERTIBLE_TO`).
pub const NOT_CONVERTIBLE_TO: TemplateSet = enum_set!(Diskless | Blockdev);
/// Disks are unmapped from the node that lost them after a migration or a failed one (`TLMigrateInstance`).
pub const UNMAP_AFTER_MIGRATION: TemplateSet = enum_set!(Rbd | Ext);
/// Using a disk takes something on the node, a mapping or a mount, which only shutting it down gives back: those of
/// [`UNMAP_AFTER_MIGRATION`], and Gluster's, whose mounts Ganeti does not count.
pub const SHUT_DOWN_AFTER_MIGRATION: TemplateSet = enum_set!(Rbd | Gluster | Ext);
/// An instance has exactly one secondary node; every other template has none (`GenerateDiskTemplate`).
pub const NEEDS_SECONDARY: TemplateSet = INT_MIRROR;
/// The volumes of a disk lie on the nodes that it names (`Disk.nodes`); the same name on another node is another volume.
pub const NODE_LOCAL: TemplateSet = enum_set!(File | Plain | Drbd);
/// Storage that nodes share, and of which one node can reach a part that another one does not: each must be asked.
pub const REACHED_BY_SOME: TemplateSet = enum_set!(SharedFile | Ext);
/// A disk is created and assembled on a secondary node too (`Disk.CreateOnSecondary`, `AssembleOnSecondary`).
pub const ON_SECONDARY: TemplateSet = enum_set!(Plain | Drbd);
/// A disk is opened on a secondary node too (`Disk.OpenOnSecondary`).
pub const OPEN_ON_SECONDARY: TemplateSet = enum_set!(Plain);

/// Where a node keeps the disks of a template and what is asked for free space (`constants.ST_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum StorageType {
    /// Nowhere.
    Diskless,
    /// In a directory.
    File,
    /// In a directory that all nodes share.
    SharedFile,
    /// In an LVM volume group.
    #[strum(serialize = "lvm-vg")]
    LvmVg,
    /// On devices that are there already.
    Blockdev,
    /// In a Ceph cluster.
    Rados,
    /// On a Gluster volume.
    Gluster,
    /// With a provider.
    Ext,
}

impl DiskTemplate {
    /// Where disks are kept (`constants.MAP_DISK_TEMPLATE_STORAGE_TYPE`).
    pub fn storage_type(self) -> StorageType {
        match self {
            Diskless => StorageType::Diskless,
            File => StorageType::File,
            SharedFile => StorageType::SharedFile,
            Plain | Drbd => StorageType::LvmVg,
            Blockdev => StorageType::Blockdev,
            Rbd => StorageType::Rados,
            Gluster => StorageType::Gluster,
            Ext => StorageType::Ext,
        }
    }

    /// The device type of a top-level disk; none for diskless.
    pub fn device(self) -> Option<LogicalDevice> {
        LogicalDevice::of(self)
    }

    /// Ganeti's spelling.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
