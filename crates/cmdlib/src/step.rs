//! The steps that operations are made of. A step is data: it is journalled before it acts, so that another process can
//! finish or undo it. The undo of a step is a step.

use gnt_bdev::{Layer, Owner, Target};
use gnt_config::{Disk, LogicalId, Mebibytes};
use gnt_store::Change;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::error::{Error, Result, chain};
use crate::node::Role;
use crate::saga::Nodes;

/// One thing that an operation does. Each can be done twice, and done when it is done already, unless it [says](Step::is_repeatable)
/// otherwise.
#[derive(Debug, Clone, Serialize, Deserialize, IntoStaticStr)]
#[cfg_attr(test, derive(strum::VariantNames))]
#[serde(tag = "step", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Step {
    /// Make the directory of a file-based instance.
    CreateStorageDir {
        /// UUID of the node.
        node: String,
        /// Absolute path.
        path: String,
    },
    /// Remove that directory if nothing is left in it.
    RemoveStorageDir {
        /// UUID of the node.
        node: String,
        /// Absolute path.
        path: String,
    },
    /// Rename that directory.
    RenameStorageDir {
        /// UUID of the node.
        node: String,
        /// Absolute path now.
        from: String,
        /// Absolute path then.
        to: String,
    },
    /// Make a disk's devices.
    CreateDisk {
        /// Where and whose.
        #[serde(flatten)]
        at: Place,
        /// Metadata for the volume.
        info: String,
    },
    /// Remove a disk's devices, data included.
    RemoveDisk {
        /// Where and whose.
        #[serde(flatten)]
        at: Place,
        /// What the configuration says from then on.
        record: Vec<Change>,
    },
    /// Make disks ready for use and link to their devices.
    AssembleDisks {
        /// Where and whose.
        #[serde(flatten)]
        at: Places,
        /// Whether undoing takes the disks out of use; not if they were in use before.
        fresh: bool,
    },
    /// Take disks out of use and remove their links.
    ShutdownDisks {
        /// Where and whose.
        #[serde(flatten)]
        at: Places,
        /// Whether undoing puts the disks into use again.
        was_active: bool,
    },
    /// Say of assembled disks that they will be written to.
    OpenDisks {
        /// Where and whose.
        #[serde(flatten)]
        at: Places,
        /// By this node alone.
        exclusive: bool,
        /// Whether undoing closes them; otherwise it opens them the other way.
        fresh: bool,
    },
    /// Say of assembled disks that they will no longer be written to.
    CloseDisks {
        /// Where and whose.
        #[serde(flatten)]
        at: Places,
        /// Whether undoing opens them again.
        was_open: bool,
    },
    /// Take mirrored disks off the network, on all of these nodes at once.
    DisconnectNet {
        /// Where and whose.
        at: Vec<Places>,
    },
    /// Connect mirrored disks to their peers, on all of these nodes at once; those that are connected stay so.
    AttachNet {
        /// Where and whose.
        at: Vec<Places>,
        /// Let both nodes be primary. Undoing lets only one.
        multimaster: bool,
    },
    /// Open disks for this node alone although another one, which is dead, has them open.
    TakeOver {
        /// Where and whose.
        #[serde(flatten)]
        at: Places,
        /// Name of the dead node.
        from: String,
        /// Whether undoing takes the disks out of use; not if they were in use before.
        fresh: bool,
    },
    /// Give a diskless drbd disk its volumes.
    AddChildren {
        /// Where and whose; the disk has them below it.
        #[serde(flatten)]
        at: Place,
    },
    /// Take its volumes from a drbd disk.
    RemoveChildren {
        /// Where and whose; the disk has them below it.
        #[serde(flatten)]
        at: Place,
        /// Whether undoing gives them back; not if they are of no use.
        was_attached: bool,
    },
    /// Connect mirrored disks to another node than before. Whether it is there is not waited for.
    ChangePeer {
        /// Where and whose; the disks name the other node.
        #[serde(flatten)]
        at: Places,
        /// The same disks, which name the node before.
        before: Vec<Disk>,
    },
    /// Fail unless the data that disks have on this node is good.
    CheckData {
        /// Where and whose.
        #[serde(flatten)]
        at: Places,
        /// And unless they are connected to the other node.
        mirrored: bool,
    },
    /// Wait a short time until mirrored disks have found each other.
    AwaitPeers {
        /// Where and whose, on one of the nodes.
        #[serde(flatten)]
        at: Places,
    },
    /// Wait until mirrored disks are synchronised. One that is not in use, because its node was started anew, is assembled.
    AwaitSync {
        /// Where and whose, on all nodes, that which has good data last.
        at: Vec<Places>,
    },
    /// Do something that the operation can do without.
    Try {
        /// What.
        attempt: Box<Step>,
        /// What it means if that fails.
        otherwise: String,
    },
    /// Enlarge a disk's devices.
    GrowDisk {
        /// Where and whose; the disk has its old size.
        #[serde(flatten)]
        at: Place,
        /// The size it is to have.
        to: Mebibytes,
        /// Which of its layers.
        layer: Layer,
        /// Whether the disk is not in use. Growing may have to put it into use; it does not stay so.
        idle: bool,
        /// A disk that is not in use on all its nodes, the primary one last, where it can grow only while it is: it is put into use for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        halves: Vec<Places>,
        /// What the configuration says from then on.
        record: Vec<Change>,
    },
    /// Give a disk's volume another name.
    RenameDisk {
        /// Where and whose.
        #[serde(flatten)]
        at: Place,
        /// As [`LogicalId::to_json`] writes it.
        to: serde_json::Value,
    },
    /// Tell a disk's volume whose it is.
    SetInfo {
        /// What it is told.
        #[serde(flatten)]
        label: Label,
        /// What undoing tells it; nothing where that is not known.
        before: Option<Box<Label>>,
    },
    /// Copy a disk as it is now to a volume of its own.
    SnapshotDisk {
        /// Where and whose.
        #[serde(flatten)]
        at: Place,
        /// The snapshot as a disk.
        snapshot: Box<Disk>,
    },
    /// Rename the link to an instance's active disk when the disk's index changes.
    MoveLink {
        /// UUID of the node.
        node: String,
        /// Name of the instance.
        instance: String,
        /// Index now.
        from: u32,
        /// Index then.
        to: u32,
    },
    /// Remove a link that is no active disk's.
    RemoveLink {
        /// UUID of the node.
        node: String,
        /// Name of the instance.
        instance: String,
        /// Index of the disk.
        index: u32,
    },
    /// Make a drbd disk's device of its volumes, which are there: the metadata that it needs.
    MirrorDisk {
        /// Where and whose.
        #[serde(flatten)]
        at: Place,
        /// Metadata for the volumes.
        info: String,
    },
    /// Copy what is on a disk to another, both of which are assembled.
    CopyDisk {
        /// What is read.
        from: Place,
        /// What is written.
        to: Place,
        /// How much, and how.
        #[serde(flatten)]
        transfer: Transfer,
    },
    /// Write zeros over an assembled disk.
    WipeDisk {
        /// Where and whose.
        #[serde(flatten)]
        at: Place,
        /// How much, and how.
        #[serde(flatten)]
        transfer: Transfer,
    },
    /// Write an image to an assembled disk.
    ImageDisk {
        /// Where and whose.
        #[serde(flatten)]
        at: Place,
        /// What is read.
        image: Image,
        /// How much, and how.
        #[serde(flatten)]
        transfer: Transfer,
    },
    /// Change the configuration.
    Configure {
        /// What to change.
        apply: Vec<Change>,
        /// What undoing changes.
        revert: Vec<Change>,
    },
    /// Change the configuration for good: what follows is finished and not undone.
    Commit {
        /// What to change.
        apply: Vec<Change>,
    },
}

/// What is written to a disk, from its beginning on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transfer {
    /// How much, in bytes.
    pub bytes: u64,
    /// Whether the disk is new, so that nothing is lost by it. Otherwise it cannot be undone.
    pub fresh: bool,
    /// What is taken out of use when it is done.
    pub uses: Vec<Places>,
    /// How it is done.
    #[serde(flatten)]
    pub pace: Pace,
}

/// How a transfer is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// How much is written in a second, at most.
    pub limit: Option<Mebibytes>,
    /// Whether what was written is read again and compared.
    pub verify: bool,
}

/// A file or device on a node that is no disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// UUID of the node.
    pub node: String,
    /// Absolute path.
    pub path: String,
}

/// A disk on a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// UUID of the node.
    pub node: String,
    /// Name of the instance.
    pub instance: String,
    /// The disk, its parameters filled in.
    pub disk: Box<Disk>,
}

/// Disks of one instance on a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Places {
    /// UUID of the node.
    pub node: String,
    /// What it is to the instance.
    pub role: Role,
    /// Name of the instance.
    pub instance: String,
    /// The disks, their parameters filled in.
    pub disks: Vec<Disk>,
}

/// What a disk's volume keeps: the place says whose it is and which.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Label {
    /// Where and whose.
    #[serde(flatten)]
    pub at: Place,
    /// The metadata.
    pub info: String,
}

impl Place {
    /// The node to ask.
    pub(crate) fn on<'n, N: Nodes>(&self, nodes: &'n N) -> Result<&'n N::Node> {
        nodes.node(&self.node)
    }

    /// The disk, for the node.
    pub fn target(&self) -> Target<'_> {
        Target::new(&self.disk, &self.instance)
    }

    /// The disk alone, on the instance's primary node.
    pub(crate) fn alone(self) -> Places {
        Places {
            node: self.node,
            role: Role::Primary,
            instance: self.instance,
            disks: vec![*self.disk],
        }
    }
}

impl Places {
    /// The disks, for a node.
    pub fn targets(&self) -> Vec<Target<'_>> {
        let disks = self.disks.iter();
        disks.map(|disk| Target::new(disk, &self.instance)).collect()
    }
}

impl Label {
    /// The same volume with what it tells when it is `owner`'s.
    pub(crate) fn owned_by(&self, owner: &Owner) -> Self {
        let mut before = self.clone();
        before.at.instance = owner.instance.clone().unwrap_or_default();
        before.at.disk.uuid = owner.uuid.clone().unwrap_or_default();
        before.at.disk.name.clone_from(&owner.name);
        before.at.disk.iv_name = owner.index.map(|index| format!("disk/{index}"));
        before.info = owner.info.clone().unwrap_or_default();
        before.at.disk.kept = Some(Box::new(owner.kept.clone()));
        before
    }
}

/// How a step is undone.
#[derive(Debug)]
pub enum Undo {
    /// By another step.
    Step(Box<Step>),
    /// There is nothing to undo.
    Nothing,
    /// Not at all: what was done before it stays done as well.
    Never,
}

impl Step {
    /// Name in journals and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Try { attempt, .. } => attempt.name(),
            step => step.into(),
        }
    }

    /// The same step, which the operation can do without; `otherwise` is what that means.
    pub(crate) fn or_warn(self, otherwise: impl Into<String>) -> Self {
        Self::Try {
            attempt: Box::new(self),
            otherwise: otherwise.into(),
        }
    }

    /// How to undo it.
    pub fn undo(&self) -> Undo {
        let step = match self.clone() {
            Self::CreateStorageDir { node, path } => Self::RemoveStorageDir { node, path },
            Self::RenameStorageDir { node, from, to } => Self::RenameStorageDir {
                node,
                from: to,
                to: from,
            },
            Self::CreateDisk { at, .. } => Self::RemoveDisk {
                at,
                record: Vec::new(),
            },
            // The volumes were there before.
            Self::MirrorDisk { at, .. } => Self::ShutdownDisks {
                at: at.alone(),
                was_active: false,
            },
            Self::AssembleDisks { at, fresh: true } => Self::ShutdownDisks {
                at,
                was_active: false,
            },
            Self::ShutdownDisks { at, was_active: true } => Self::AssembleDisks { at, fresh: false },
            Self::OpenDisks {
                at,
                exclusive,
                fresh: false,
            } => Self::OpenDisks {
                at,
                exclusive: !exclusive,
                fresh: false,
            },
            Self::OpenDisks { at, fresh: true, .. } => Self::CloseDisks { at, was_open: false },
            // The node may have been started anew meanwhile.
            Self::CloseDisks { at, was_open: true } => Self::AssembleDisks { at, fresh: false },
            Self::AttachNet {
                at,
                multimaster: true,
            } => Self::AttachNet {
                at,
                multimaster: false,
            },
            Self::TakeOver { at, fresh: true, .. } => Self::ShutdownDisks {
                at,
                was_active: false,
            },
            Self::AddChildren { at } => Self::RemoveChildren {
                at,
                was_attached: true,
            },
            Self::RemoveChildren {
                at,
                was_attached: true,
            } => Self::AddChildren { at },
            Self::ChangePeer { at, before } => Self::ChangePeer {
                before: at.disks,
                at: Places { disks: before, ..at },
            },
            Self::Try { attempt, otherwise } => match attempt.undo() {
                Undo::Step(attempt) => Self::Try { attempt, otherwise },
                nothing => return nothing,
            },
            Self::RenameDisk { at, to } => return undo_rename(at, &to),
            Self::SetInfo {
                label,
                before: Some(before),
            } => Self::SetInfo {
                label: *before,
                before: Some(Box::new(label)),
            },
            Self::SnapshotDisk { at, snapshot } => Self::RemoveDisk {
                at: Place { disk: snapshot, ..at },
                record: Vec::new(),
            },
            Self::MoveLink {
                node,
                instance,
                from,
                to,
            } => Self::MoveLink {
                node,
                instance,
                from: to,
                to: from,
            },
            Self::Configure { apply, revert } => Self::Configure {
                apply: revert,
                revert: apply,
            },
            // What needs the directory makes it.
            Self::RemoveStorageDir { .. }
            | Self::AssembleDisks { .. }
            | Self::ShutdownDisks { .. }
            | Self::CloseDisks { .. }
            | Self::DisconnectNet { .. }
            | Self::AttachNet { .. }
            | Self::TakeOver { .. }
            | Self::RemoveChildren { .. }
            | Self::CheckData { .. }
            | Self::AwaitPeers { .. }
            | Self::AwaitSync { .. }
            | Self::SetInfo { before: None, .. } => return Undo::Nothing,
            Self::CopyDisk { transfer, .. }
            | Self::WipeDisk { transfer, .. }
            | Self::ImageDisk { transfer, .. }
                if transfer.fresh =>
            {
                return Undo::Nothing;
            }
            Self::RemoveDisk { .. }
            | Self::GrowDisk { .. }
            | Self::RemoveLink { .. }
            | Self::Commit { .. }
            | Self::CopyDisk { .. }
            | Self::WipeDisk { .. }
            | Self::ImageDisk { .. } => return Undo::Never,
        };
        Undo::Step(Box::new(step))
    }

    /// UUIDs of the nodes that it asks.
    pub fn nodes(&self) -> Vec<&str> {
        self.works_on().into_iter().map(|(node, _)| node).collect()
    }

    /// The disks that it works on.
    pub(crate) fn disks(&self) -> Vec<&Disk> {
        self.works_on().into_iter().flat_map(|(_, disks)| disks).collect()
    }

    /// The nodes (UUIDs) that it asks, with the disks that are its subject there.
    fn works_on(&self) -> Vec<(&str, Vec<&Disk>)> {
        match self {
            Self::CreateStorageDir { node, .. }
            | Self::RemoveStorageDir { node, .. }
            | Self::RenameStorageDir { node, .. }
            | Self::MoveLink { node, .. }
            | Self::RemoveLink { node, .. } => vec![(node, Vec::new())],
            Self::CreateDisk { at, .. }
            | Self::RemoveDisk { at, .. }
            | Self::AddChildren { at }
            | Self::RemoveChildren { at, .. }
            | Self::GrowDisk { at, .. }
            | Self::RenameDisk { at, .. }
            | Self::MirrorDisk { at, .. }
            | Self::WipeDisk { at, .. } => vec![at.with(None)],
            Self::SnapshotDisk { at, snapshot } => vec![at.with(Some(snapshot))],
            Self::SetInfo { label, .. } => vec![label.at.with(None)],
            Self::CopyDisk { from, to, .. } => vec![from.with(None), to.with(None)],
            Self::ImageDisk { at, image, .. } => vec![at.with(None), (&image.node, Vec::new())],
            Self::AssembleDisks { at, .. }
            | Self::ShutdownDisks { at, .. }
            | Self::OpenDisks { at, .. }
            | Self::CloseDisks { at, .. }
            | Self::TakeOver { at, .. }
            | Self::CheckData { at, .. }
            | Self::AwaitPeers { at } => vec![at.with(&[])],
            Self::ChangePeer { at, before } => vec![at.with(before)],
            Self::DisconnectNet { at } | Self::AttachNet { at, .. } | Self::AwaitSync { at } => {
                at.iter().map(|at| at.with(&[])).collect()
            }
            Self::Try { attempt, .. } => attempt.works_on(),
            Self::Configure { .. } | Self::Commit { .. } => Vec::new(),
        }
    }

    /// Whether the node may write to disks from then on.
    pub(crate) fn gives_disks(&self) -> bool {
        match self {
            Self::AssembleDisks { at, .. } => at.role != Role::Secondary,
            Self::OpenDisks { .. } | Self::TakeOver { .. } => true,
            Self::Try { attempt, .. } => attempt.gives_disks(),
            _ => false,
        }
    }

    /// Whether a disk may not be where the configuration says while it is unknown how far this came.
    pub(crate) fn displaces(&self) -> bool {
        matches!(self, Self::RenameDisk { .. } | Self::RenameStorageDir { .. })
    }

    /// What it writes to a disk, and how, if that is what it does. It takes long, and is gone on with where it stopped.
    pub fn transfer(&self) -> Option<&Transfer> {
        match self {
            Self::CopyDisk { transfer, .. }
            | Self::WipeDisk { transfer, .. }
            | Self::ImageDisk { transfer, .. } => Some(transfer),
            _ => None,
        }
    }

    /// Whether it overwrites data that is there, which is gone then.
    pub fn overwrites(&self) -> bool {
        self.transfer().is_some_and(|transfer| !transfer.fresh)
    }

    /// Whether what was done before it stays done, once it may have begun.
    pub fn is_final(&self) -> bool {
        matches!(self.undo(), Undo::Never)
    }

    /// Whether it can be done again when it was done, or begun, already. What cannot is undone first.
    pub fn is_repeatable(&self) -> bool {
        !matches!(self, Self::SnapshotDisk { .. })
    }

    /// Whether the operation goes on when it fails.
    pub fn is_optional(&self) -> bool {
        matches!(
            self,
            Self::RemoveStorageDir { .. } | Self::SetInfo { before: None, .. } | Self::Try { .. }
        )
    }

    /// Whether it is a [`Try`](Self::Try): one that fails is told, also when it undoes another.
    pub(crate) fn is_attempt(&self) -> bool {
        matches!(self, Self::Try { .. })
    }

    /// What is told when it failed and the operation goes on.
    pub(crate) fn do_without(&self, error: &Error) -> String {
        match self {
            Self::Try { otherwise, .. } => format!("{}; {otherwise}", chain(error)),
            _ => format!("\"{self}\" failed: {}", chain(error)),
        }
    }

    /// Whether it changes nothing, and what it looks at is there only if the steps before it were done.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::CheckData { .. } | Self::AwaitPeers { .. } | Self::AwaitSync { .. } => true,
            Self::Try { attempt, .. } => attempt.only_looks(),
            _ => false,
        }
    }

    /// What it changes in the configuration; recorded in the same transaction as that it is done.
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::Configure { apply, .. } | Self::Commit { apply } => apply,
            Self::RemoveDisk { record, .. } | Self::GrowDisk { record, .. } => record,
            Self::Try { attempt, .. } => attempt.changes(),
            _ => &[],
        }
    }
}

fn undo_rename(mut at: Place, to: &serde_json::Value) -> Undo {
    let before = at.disk.logical_id.to_json();
    match LogicalId::from_json(at.disk.dev_type, to) {
        Ok(renamed) => at.disk.logical_id = renamed,
        // A name that is not one was never given.
        Err(_) => return Undo::Nothing,
    }
    Undo::Step(Box::new(Step::RenameDisk { at, to: before }))
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CreateStorageDir { path, .. } => write!(f, "create directory {path}"),
            Self::RemoveStorageDir { path, .. } => write!(f, "remove directory {path}"),
            Self::RenameStorageDir { from, to, .. } => write!(f, "rename directory {from} to {to}"),
            Self::CreateDisk { at, .. } => write!(f, "create {at}"),
            Self::RemoveDisk { at, .. } => write!(f, "remove {at}"),
            Self::AssembleDisks { at, .. } => write!(f, "activate {at}"),
            Self::ShutdownDisks { at, .. } => write!(f, "deactivate {at}"),
            Self::OpenDisks {
                at, exclusive: true, ..
            } => write!(f, "open {at}"),
            Self::OpenDisks { at, .. } => write!(f, "open {at} for two nodes"),
            Self::CloseDisks { at, .. } => write!(f, "close {at}"),
            Self::DisconnectNet { at } => write!(f, "disconnect {}", first(at)),
            Self::AttachNet {
                at,
                multimaster: false,
            } => write!(f, "connect {}", first(at)),
            Self::AttachNet { at, .. } => write!(f, "let both nodes be primary for {}", first(at)),
            Self::TakeOver { at, from, .. } => write!(f, "take {at} over from {from}"),
            Self::AddChildren { at } => write!(f, "give {at} its volumes"),
            Self::RemoveChildren { at, .. } => write!(f, "take its volumes from {at}"),
            Self::ChangePeer { at, .. } => write!(f, "connect {at} to another node"),
            Self::CheckData { at, .. } => write!(f, "check the data of {at}"),
            Self::AwaitPeers { at } => write!(f, "wait until {at} are connected"),
            Self::AwaitSync { at } => write!(f, "wait until {} are in sync", first(at)),
            Self::Try { attempt, .. } => attempt.fmt(f),
            Self::GrowDisk { at, to, .. } => write!(f, "grow {at} to {to}"),
            Self::RenameDisk { at, to } => match LogicalId::from_json(at.disk.dev_type, to) {
                Ok(to) => write!(f, "rename {at} to {to}"),
                Err(_) => write!(f, "rename {at} to {to}"),
            },
            Self::SetInfo { label, .. } => write!(f, "set metadata of {} to {}", label.at, label.info),
            Self::SnapshotDisk { at, snapshot } => write!(f, "snapshot {at} as {}", snapshot.logical_id),
            Self::RemoveLink { instance, index, .. } => write!(f, "remove link {instance}:{index}"),
            Self::MoveLink {
                instance, from, to, ..
            } => write!(f, "rename link {instance}:{from} to {instance}:{to}"),
            Self::MirrorDisk { at, .. } => write!(f, "make {at} a mirror"),
            Self::CopyDisk { from, to, .. } => write!(f, "copy {from} to {}", to.disk),
            Self::WipeDisk { at, .. } => write!(f, "wipe {at}"),
            Self::ImageDisk { at, image, .. } => write!(f, "write {} to {at}", image.path),
            Self::Commit { apply } if apply.is_empty() => f.write_str("keep what was done"),
            Self::Configure { .. } | Self::Commit { .. } => f.write_str("update the configuration"),
        }
    }
}

impl Place {
    /// Its node and disk, and another one.
    fn with<'a>(&'a self, other: Option<&'a Disk>) -> (&'a str, Vec<&'a Disk>) {
        let disk: &Disk = &self.disk;
        (&self.node, [disk].into_iter().chain(other).collect())
    }
}

impl Places {
    /// Its node and disks, and others.
    fn with<'a>(&'a self, others: &'a [Disk]) -> (&'a str, Vec<&'a Disk>) {
        (&self.node, self.disks.iter().chain(others).collect())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.disk, self.instance)
    }
}

impl std::fmt::Display for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let disks: Vec<_> = self.disks.iter().map(Disk::to_string).collect();
        write!(f, "{} of {}", disks.join(", "), self.instance)
    }
}

/// The same disks are named on every node.
fn first(at: &[Places]) -> String {
    at.first().map(Places::to_string).unwrap_or_default()
}
