//! What can go wrong with a logical volume.

use std::path::PathBuf;
use std::sync::Arc;

use gnt_config::Mebibytes;
use gnt_config::names::NameError;
use gnt_config::params::ParamError;
use gnt_process::CommandFailed;

use crate::device::DeviceError;
use crate::error::ErrorKind;
use crate::tool::ToolError;

/// A logical volume could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// LVM could not do it, or could not tell.
    #[error(transparent)]
    Tool(Arc<ToolError>),
    /// LVM takes no such name, or keeps it for itself.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its parameters cannot be used.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// No such group on this node.
    #[error("there is no volume group {vg}, {}", if .others.is_empty() { "nor any other".to_owned() } else { format!("only {}", .others.join(", ")) })]
    NoVolumeGroup {
        /// The group.
        vg: String,
        /// Those that there are.
        others: Vec<String>,
    },
    /// No such physical volume on this node.
    #[error("there is no physical volume {pv}, {}", if .others.is_empty() { "nor any other".to_owned() } else { format!("only {}", .others.join(", ")) })]
    NoPhysicalVolume {
        /// Its name.
        pv: String,
        /// Those that there are.
        others: Vec<String>,
    },
    /// What was lost is still part of the group.
    #[error("the volume group {vg} still lacks {missing} of its physical volumes")]
    StillMissing {
        /// The group.
        vg: String,
        /// How many.
        missing: usize,
    },
    /// Two groups have the same name.
    #[error("several volume groups are called {vg}: {}", .uuids.join(", "))]
    Ambiguous {
        /// The name.
        vg: String,
        /// Their UUIDs.
        uuids: Vec<String>,
    },
    /// No such volume.
    #[error("there is no logical volume {volume}")]
    NotFound {
        /// Group and volume.
        volume: String,
    },
    /// The name is taken by a volume that is not this disk's.
    #[error("there is a logical volume {volume} already, of {size} and {}", .owner.as_ref().map_or("not of a disk".to_owned(), |owner| format!("of {owner}")))]
    Exists {
        /// Group and volume.
        volume: String,
        /// Its size.
        size: Mebibytes,
        /// Whose it is, as far as its tags tell.
        owner: Option<String>,
    },
    /// The group has too little room.
    #[error("the volume group {vg} has {}M free, and {}M are needed", .free.0, .asked.0)]
    NoSpace {
        /// The group.
        vg: String,
        /// What is free on disks that may be used.
        free: Mebibytes,
        /// What is needed.
        asked: Mebibytes,
    },
    /// With exclusive storage the number of disks must be said.
    #[error("on a node with exclusive storage a disk needs a number of spindles, and it has none")]
    NoSpindles,
    /// Too few disks for that size.
    #[error("{size} do not fit on {spindles} spindles of {each}: {needed} are needed")]
    FewSpindles {
        /// The disk's size.
        size: Mebibytes,
        /// What it has.
        spindles: u64,
        /// What it needs.
        needed: u64,
        /// What one of the group's disks has room for.
        each: Mebibytes,
    },
    /// Too few empty disks in the group.
    #[error("the volume group {vg} has {empty} empty physical volumes, and {needed} are needed")]
    FewEmptyPvs {
        /// The group.
        vg: String,
        /// How many are empty.
        empty: u64,
        /// How many are needed.
        needed: u64,
    },
    /// LVM would remove the snapshots with it.
    #[error("{volume} has snapshots, which would go with it: {}", .snapshots.join(", "))]
    HasSnapshots {
        /// Group and volume.
        volume: String,
        /// The snapshots.
        snapshots: Vec<String>,
    },
    /// A snapshot is as large as what it shows.
    #[error("{volume} is a snapshot of {origin}, and has its size")]
    IsSnapshot {
        /// Group and volume.
        volume: String,
        /// What it shows.
        origin: String,
    },
    /// Something has it open.
    #[error("the logical volume {volume} is in use on this node")]
    InUse {
        /// Group and volume.
        volume: String,
    },
    /// A volume cannot move to another group by a change of its name.
    #[error("a logical volume cannot be renamed from the volume group {from} into {to}")]
    OtherVolumeGroup {
        /// Where it is.
        from: String,
        /// Where it should be.
        to: String,
    },
    /// Its device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It is active, but there is no such device node.
    #[error("the logical volume is active, and {} is not there", .path.display())]
    NoDeviceNode {
        /// The device node.
        path: PathBuf,
    },
}

impl From<ToolError> for LvmError {
    fn from(error: ToolError) -> Self {
        Self::Tool(Arc::new(error))
    }
}

impl LvmError {
    /// The snapshots that are in the way.
    pub(crate) fn snapshots(&self) -> Option<&[String]> {
        match self {
            Self::HasSnapshots { snapshots, .. } => Some(snapshots),
            _ => None,
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Tool(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::NoVolumeGroup { .. } | Self::NoPhysicalVolume { .. } | Self::NotFound { .. } => {
                ErrorKind::NotFound
            }
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::NoSpace { .. } | Self::FewEmptyPvs { .. } => ErrorKind::NoSpace,
            Self::HasSnapshots { .. } | Self::InUse { .. } => ErrorKind::Busy,
            Self::Name(_)
            | Self::Params(_)
            | Self::StillMissing { .. }
            | Self::Ambiguous { .. }
            | Self::NoSpindles
            | Self::IsSnapshot { .. }
            | Self::FewSpindles { .. }
            | Self::OtherVolumeGroup { .. }
            | Self::NoDeviceNode { .. } => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tool(error) => error.hint().or_else(|| advice(error)),
            Self::NoVolumeGroup { .. } => {
                Some("name one of the node's volume groups with vg=; `vgcreate` makes one".to_owned())
            }
            Self::NoPhysicalVolume { .. } => Some("`pvs` shows what there is".to_owned()),
            Self::StillMissing { vg, .. } => Some(format!("`pvs -S vg_name={vg}` shows which")),
            Self::Ambiguous { vg, .. } => Some(format!(
                "`vgrename UUID NAME` gives one of those called {vg} another name"
            )),
            Self::NotFound { .. } => Some("`lvs` shows what volumes there are".to_owned()),
            Self::Exists { volume, .. } => Some(format!(
                "`lvs -o+lv_tags {volume}` shows what it is, `lvremove {volume}` removes it if nobody needs it"
            )),
            Self::NoSpace { vg, .. } => Some(format!(
                "`pvs -S vg_name={vg}` shows where there is room; `vgextend {vg} DEVICE` adds a disk"
            )),
            Self::NoSpindles => Some("give the disk spindles=N".to_owned()),
            Self::FewSpindles { needed, .. } => Some(format!("give the disk spindles={needed}")),
            Self::FewEmptyPvs { vg, .. } => Some(format!(
                "`pvs -S vg_name={vg}` shows which are in use; `vgextend {vg} DEVICE` adds one"
            )),
            Self::HasSnapshots { .. } => {
                Some("remove the snapshots first, or copy what they hold".to_owned())
            }
            Self::InUse { volume } => Some(format!("`lsblk /dev/{volume}` shows by what")),
            Self::NoDeviceNode { .. } => {
                Some("udevd makes it: is it running? `vgmknodes` makes it without".to_owned())
            }
            Self::Params(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::IsSnapshot { .. } => Some("copy it to a disk of its own".to_owned()),
            Self::Name(_) | Self::OtherVolumeGroup { .. } => None,
        }
    }
}

/// What LVM's failures mean: what version 2.03 prints.
pub(crate) fn classify(failed: &CommandFailed) -> ErrorKind {
    const MEANINGS: [(&str, ErrorKind); 11] = [
        ("nsufficient free space", ErrorKind::NoSpace),
        ("nsufficient suitable", ErrorKind::NoSpace),
        ("must not exceed number of physical volumes", ErrorKind::NoSpace),
        ("already exists in volume group", ErrorKind::AlreadyExists),
        ("contains a filesystem in use", ErrorKind::Busy),
        ("is used by another device", ErrorKind::Busy),
        (" in use", ErrorKind::Busy),
        ("not deactivating", ErrorKind::Busy),
        ("Can't get lock", ErrorKind::Busy),
        ("Failed to find logical volume", ErrorKind::NotFound),
        ("\" not found", ErrorKind::NotFound),
    ];
    let text = failed.stderr.text();
    let meaning = MEANINGS.iter().find(|(words, _)| text.contains(words));
    meaning.map_or(ErrorKind::Other, |(_, kind)| *kind)
}

/// What helps where LVM itself does not say so.
fn advice(error: &ToolError) -> Option<String> {
    const ADVICE: [(&str, &str); 6] = [
        (
            "partial LV",
            "a disk of the volume group is lost: `pvs` shows which; what was on it must come from a backup or the other node",
        ),
        (
            "while PVs are missing",
            "a disk of the volume group is lost: connect it again, or `vgreduce --removemissing` gives it up",
        ),
        (
            "device not cleared",
            "udevd makes the device nodes: is it running? Without it, set udev_sync and udev_rules to 0 in /etc/lvm/lvm.conf",
        ),
        (
            "Check that device-mapper is available",
            "`modprobe dm-mod` loads the device mapper",
        ),
        (
            "can be resized only while inactive",
            "remove its snapshots, or deactivate the instance's disks meanwhile",
        ),
        (" in use", "`lsblk` shows by what"),
    ];
    let ToolError::Failed { failed, .. } = error else {
        return None;
    };
    let text = failed.stderr.text();
    let found = ADVICE.iter().find(|(words, _)| text.contains(words));
    found.map(|(_, advice)| (*advice).to_owned())
}
