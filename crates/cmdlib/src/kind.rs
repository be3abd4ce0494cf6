//! The kinds of operations.

use strum::{Display, EnumIter, IntoStaticStr};

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// Make an instance's disks.
    Add,
    /// Remove an instance's disks.
    Remove,
    /// Put an instance's disks into use.
    Activate,
    /// Take an instance's disks out of use.
    Deactivate,
    /// Enlarge a disk.
    Grow,
    /// Add, remove, detach, attach or change disks.
    Modify,
    /// Snapshot disks.
    Snapshot,
    /// Make a disk what a snapshot of it is.
    RestoreSnapshot,
    /// Remove a snapshot.
    RemoveSnapshot,
    /// Rename an instance.
    Rename,
    /// Convert an instance's disks to another template.
    Convert,
    /// Write zeros over disks.
    Wipe,
    /// Write an image to a disk.
    Image,
    /// Rebuild the configuration from what is on the nodes.
    Recover,
    /// Change a node.
    NodeModify,
    /// Remove a node.
    NodeRemove,
}

impl Kind {
    /// Name in the journal.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
