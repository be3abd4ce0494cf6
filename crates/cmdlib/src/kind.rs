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
    /// Replace volumes of mirrored disks, or the node that they are mirrored to.
    ReplaceDisks,
    /// Make lost disks anew.
    RecreateDisks,
    /// Make an instance's disks usable on two nodes, for a migration.
    MigratePrepare,
    /// End a migration on the node that the instance was to come to.
    MigrateFinish,
    /// End a migration on the node that the instance came from.
    MigrateAbort,
    /// End a migration of which it is not known how far it came.
    MigrateCleanup,
    /// Make another node the instance's primary one.
    Failover,
    /// Convert an instance's disks to another template.
    Convert,
    /// Copy an instance's disks to another node.
    Move,
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
    /// The phases of a migration.
    pub const MIGRATION: [Self; 4] = [
        Self::MigratePrepare,
        Self::MigrateFinish,
        Self::MigrateAbort,
        Self::MigrateCleanup,
    ];

    /// Whether it is what goes on with a migration that is under way. Everything else has to wait.
    pub fn ends_migration(self) -> bool {
        matches!(
            self,
            Self::MigrateFinish | Self::MigrateAbort | Self::MigrateCleanup
        )
    }

    /// Name in the journal.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
