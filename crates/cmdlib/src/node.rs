//! What a node can be asked. Operations are generic over it, so that the same code runs over a node in this process,
//! over the network and over a simulated cluster.

use std::future::{Future, ready};

use gnt_bdev::transfer::Piece;
use gnt_bdev::{
    Assembled, Change, DrbdMinor, ErrorKind, FoundVolume, Layer, Link, Operation, Space, Status,
    SyncProgress, Target,
};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};
use serde::{Deserialize, Serialize};

/// What a node is to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The instance runs there.
    Primary,
    /// Its disks are mirrored there: they are assembled, and neither opened nor linked to.
    Secondary,
    /// The instance is being moved between this node and another: as on the primary node, but not opened for this one alone.
    Shared,
}

/// One node. Method names are those of Ganeti's node calls without their prefix; `disk` always has its parameters filled
/// in ([`gnt_config::params::annotate_disk_params`]), `instance` is the owner's name. Every call can be repeated.
pub trait Node: Send + Sync {
    /// The node's name, for messages.
    fn name(&self) -> &str;

    /// Whether `operation` can be done to disks like this one, as far as that can be told without doing it. A node that has no such
    /// call, as Ganeti's, says yes.
    fn check(
        &self,
        _disk: &Disk,
        _instance: &str,
        _operation: Operation,
    ) -> impl Future<Output = NodeResult<()>> + Send {
        ready(Ok(()))
    }

    /// `blockdev_create`: makes the disk's devices, children first, with `info` as metadata. They are inactive afterwards.
    fn create(
        &self,
        disk: &Disk,
        instance: &str,
        info: &str,
    ) -> impl Future<Output = NodeResult<Change>> + Send;

    /// `blockdev_assemble` and `blockdev_open`: makes the disk ready for use by the instance, and links to its device.
    fn assemble(
        &self,
        disk: &Disk,
        instance: &str,
        role: Role,
    ) -> impl Future<Output = NodeResult<Assembled>> + Send;

    /// [`assemble`](Self::assemble) for many disks, of which all are tried. A node that can do it at once does.
    fn assemble_all(
        &self,
        targets: &[Target<'_>],
        role: Role,
    ) -> impl Future<Output = NodeResult<Vec<NodeResult<Assembled>>>> + Send {
        async move {
            let mut all = Vec::with_capacity(targets.len());
            for target in targets {
                all.push(self.assemble(target.disk, target.instance, role).await);
            }
            Ok(all)
        }
    }

    /// `blockdev_open`: says of assembled disks that they will be written to, by this node alone if `exclusive`, and links to them.
    fn open(&self, targets: &[Target<'_>], exclusive: bool) -> impl Future<Output = NodeResult<()>> + Send {
        let _ = (targets, exclusive);
        self.no_such_call("blockdev_open")
    }

    /// Opens disks for this node alone, and assembles them if that is needed, although the node called `from` has them open: it is dead
    /// for certain, and could not close them.
    fn take_over(&self, targets: &[Target<'_>], from: &str) -> impl Future<Output = NodeResult<()>> + Send {
        let _ = (targets, from);
        self.no_such_call("take_over")
    }

    /// `blockdev_close`: says that they will no longer be written to, and removes their links. All are tried, whatever fails.
    fn close(&self, targets: &[Target<'_>]) -> impl Future<Output = NodeResult<()>> + Send {
        let _ = targets;
        self.no_such_call("blockdev_close")
    }

    /// `blockdev_close` and `blockdev_shutdown`: takes the disk out of use and removes its link.
    fn shutdown(&self, disk: &Disk, instance: &str) -> impl Future<Output = NodeResult<Change>> + Send;

    /// `blockdev_remove`: removes the disk's devices with their data.
    fn remove(&self, disk: &Disk, instance: &str) -> impl Future<Output = NodeResult<Change>> + Send;

    /// `blockdev_find`: what is known of the disk, or none if it is not there. Changes nothing.
    fn find(&self, disk: &Disk, instance: &str) -> impl Future<Output = NodeResult<Option<Status>>> + Send;

    /// [`find`](Self::find) for many disks. A node that can do it at once does.
    fn find_all(
        &self,
        targets: &[Target<'_>],
    ) -> impl Future<Output = NodeResult<Vec<NodeResult<Option<Status>>>>> + Send {
        async move {
            let mut all = Vec::with_capacity(targets.len());
            for target in targets {
                all.push(self.find(target.disk, target.instance).await);
            }
            Ok(all)
        }
    }

    /// `drbd_disconnect_net`: takes disks off the network; their data stays accessible on this node.
    fn disconnect_net(&self, targets: &[Target<'_>]) -> impl Future<Output = NodeResult<Change>> + Send {
        let _ = targets;
        self.no_such_call("drbd_disconnect_net")
    }

    /// `drbd_attach_net`: connects disks to their peers, and returns when they are connected: both nodes are asked at the same time.
    /// `multimaster` lets both be primary, for a migration. Disks that are connected stay so, and are told if that is another mode.
    fn attach_net(
        &self,
        targets: &[Target<'_>],
        multimaster: bool,
    ) -> impl Future<Output = NodeResult<Change>> + Send {
        let _ = (targets, multimaster);
        self.no_such_call("drbd_attach_net")
    }

    /// `drbd_wait_sync`: how far the synchronisation of disks is. One that neither is in sync nor synchronises is an error.
    fn wait_sync(&self, targets: &[Target<'_>]) -> impl Future<Output = NodeResult<SyncProgress>> + Send {
        let _ = targets;
        self.no_such_call("drbd_wait_sync")
    }

    /// `drbd_needs_activation`: UUIDs of the disks that are to be activated again.
    fn needs_activation(
        &self,
        targets: &[Target<'_>],
    ) -> impl Future<Output = NodeResult<Vec<String>>> + Send {
        let _ = targets;
        self.no_such_call("drbd_needs_activation")
    }

    /// `blockdev_pause_resume_sync`.
    fn pause_resume_sync(
        &self,
        targets: &[Target<'_>],
        pause: bool,
    ) -> impl Future<Output = NodeResult<()>> + Send {
        let _ = (targets, pause);
        self.no_such_call("blockdev_pause_resume_sync")
    }

    /// `blockdev_addchildren`: gives a diskless drbd disk the volumes that `disk` has below it, which are there.
    fn add_children(&self, disk: &Disk, instance: &str) -> impl Future<Output = NodeResult<Change>> + Send {
        let _ = (disk, instance);
        self.no_such_call("blockdev_addchildren")
    }

    /// `blockdev_removechildren`: takes from a drbd disk the volumes that `disk` has below it. They stay.
    fn remove_children(
        &self,
        disk: &Disk,
        instance: &str,
    ) -> impl Future<Output = NodeResult<Change>> + Send {
        let _ = (disk, instance);
        self.no_such_call("blockdev_removechildren")
    }

    /// What is in `length` bytes of an assembled disk from `offset` on: pieces without gaps, in order.
    fn read(
        &self,
        disk: &Disk,
        instance: &str,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = NodeResult<Vec<Piece>>> + Send {
        let _ = (disk, instance, offset, length);
        self.no_such_call("read")
    }

    /// Writes pieces to an assembled disk. They are on the disk when this returns.
    fn write(
        &self,
        disk: &Disk,
        instance: &str,
        pieces: &[Piece],
    ) -> impl Future<Output = NodeResult<()>> + Send {
        let _ = (disk, instance, pieces);
        self.no_such_call("write")
    }

    /// Copies a range from one assembled disk on this node to the same place in another. It is on the disk when this returns.
    fn copy(
        &self,
        from: &Target<'_>,
        to: &Target<'_>,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = NodeResult<()>> + Send {
        let _ = (from, to, offset, length);
        self.no_such_call("copy")
    }

    /// `blockdev_wipe`: writes zeros to a range of an assembled disk.
    fn wipe(
        &self,
        disk: &Disk,
        instance: &str,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = NodeResult<()>> + Send {
        let _ = (disk, instance, offset, length);
        self.no_such_call("blockdev_wipe")
    }

    /// SHA-256 of a range of an assembled disk.
    fn checksum(
        &self,
        disk: &Disk,
        instance: &str,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = NodeResult<[u8; 32]>> + Send {
        let _ = (disk, instance, offset, length);
        self.no_such_call("checksum")
    }

    /// The size in bytes of a file or device that is no disk: an image.
    fn image_size(&self, path: &str) -> impl Future<Output = NodeResult<u64>> + Send {
        let _ = path;
        self.no_such_call("image_size")
    }

    /// [`read`](Self::read) for an image.
    fn read_image(
        &self,
        path: &str,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = NodeResult<Vec<Piece>>> + Send {
        let _ = (path, offset, length);
        self.no_such_call("read_image")
    }

    /// `blockdev_grow`: enlarges one layer of the disk so that it has the size `to`; a dry run only checks that it could be done.
    fn grow(
        &self,
        disk: &Disk,
        instance: &str,
        to: Mebibytes,
        layer: Layer,
        dry_run: bool,
    ) -> impl Future<Output = NodeResult<Change>> + Send;

    /// `blockdev_rename`: gives the disk's volume another name.
    fn rename(
        &self,
        disk: &Disk,
        instance: &str,
        to: &LogicalId,
    ) -> impl Future<Output = NodeResult<Change>> + Send;

    /// `blockdev_setinfo`: stores metadata with the disk's volume.
    fn set_info(
        &self,
        disk: &Disk,
        instance: &str,
        info: &str,
    ) -> impl Future<Output = NodeResult<()>> + Send;

    /// `blockdev_snapshot`: copies the disk as it is now to a volume `name`.
    fn snapshot(
        &self,
        disk: &Disk,
        instance: &str,
        name: &str,
        size: Mebibytes,
    ) -> impl Future<Output = NodeResult<LogicalId>> + Send;

    /// `file_storage_dir_create`.
    fn create_storage_dir(&self, path: &str) -> impl Future<Output = NodeResult<Change>> + Send;

    /// `file_storage_dir_remove`: only if nothing is left in it.
    fn remove_storage_dir(&self, path: &str) -> impl Future<Output = NodeResult<Change>> + Send;

    /// `file_storage_dir_rename`.
    fn rename_storage_dir(&self, from: &str, to: &str) -> impl Future<Output = NodeResult<Change>> + Send;

    /// Size of the block device at `path` (`bdev_sizes`).
    fn device_size(&self, path: &str) -> impl Future<Output = NodeResult<Mebibytes>> + Send;

    /// The volumes of one type that are really there, as far as disks with `params` tell where to look.
    fn volumes(
        &self,
        device: LogicalDevice,
        params: &Object,
    ) -> impl Future<Output = NodeResult<Vec<FoundVolume>>> + Send;

    /// What room there is for volumes of one type, as far as disks with `params` tell where to look.
    fn space(
        &self,
        device: LogicalDevice,
        params: &Object,
    ) -> impl Future<Output = NodeResult<Vec<Space>>> + Send {
        let _ = (device, params);
        self.no_such_call("space")
    }

    /// The volumes of one type that have a device on this node, of those that more nodes than one can have. `params` as for
    /// [`volumes`](Self::volumes).
    fn attached(
        &self,
        device: LogicalDevice,
        params: &Object,
    ) -> impl Future<Output = NodeResult<Vec<LogicalId>>> + Send {
        let _ = (device, params);
        self.no_such_call("attached")
    }

    /// `extstorage_diagnose`: names of the External Storage providers that can be used.
    fn providers(&self) -> impl Future<Output = NodeResult<Vec<String>>> + Send {
        self.no_such_call("extstorage_diagnose")
    }

    /// The drbd minors that are set up, whoever has them.
    fn drbd_minors(&self) -> impl Future<Output = NodeResult<Vec<DrbdMinor>>> + Send {
        self.no_such_call("drbd_minors")
    }

    /// `drbd_helper`: what the kernel calls for drbd's events.
    fn drbd_helper(&self) -> impl Future<Output = NodeResult<String>> + Send {
        self.no_such_call("drbd_helper")
    }

    /// The links to the devices of active disks.
    fn links(&self) -> impl Future<Output = NodeResult<Vec<Link>>> + Send;

    /// Removes the link of an instance's disk.
    fn remove_link(&self, instance: &str, index: u32) -> impl Future<Output = NodeResult<Change>> + Send {
        let _ = (instance, index);
        self.no_such_call("remove_link")
    }

    /// Renames the link of an instance's disk when the disk's index changes.
    fn move_link(
        &self,
        instance: &str,
        from: u32,
        to: u32,
    ) -> impl Future<Output = NodeResult<Change>> + Send;

    /// Refuses a call that this kind of node does not have.
    fn no_such_call<T: Send>(&self, call: &'static str) -> impl Future<Output = NodeResult<T>> + Send {
        let node = self.name().to_owned();
        ready(Err(NodeError::NoSuchCall { node, call }))
    }
}

/// What a node answers.
pub type NodeResult<T> = Result<T, NodeError>;

/// Why a node could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its storage said no.
    #[error(transparent)]
    Storage(#[from] gnt_bdev::Error),
    /// It has no such call.
    #[error("node {node} has no call {call}")]
    NoSuchCall {
        /// The node's name.
        node: String,
        /// Name of the call.
        call: &'static str,
    },
    /// It cannot be reached.
    #[error("node {node} cannot be reached")]
    Unreachable {
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Either side does not take the other for one of the cluster.
    #[error("node {node} has not the keys that it should")]
    Untrusted {
        /// The node's name.
        node: String,
        /// Which certificate was refused, and why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was asked and gave no answer, or none that makes sense: what it did is not known.
    #[error("node {node} did not answer {call}")]
    Unanswered {
        /// The node's name.
        node: String,
        /// Name of the call.
        call: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The call itself broke off.
    #[error("the call to node {node} broke off")]
    Broken {
        /// The node's name.
        node: String,
        /// Why.
        #[source]
        source: tokio::task::JoinError,
    },
}

impl NodeError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind(),
            _ => ErrorKind::Other,
        }
    }

    /// Whether what was asked for, or something that it needs, is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::Unreachable { node, .. } => Some(format!(
                "'systemctl status gnt-disk' on {node} tells whether it runs there; if {node} is down for longer, \
                 'gnt-disk node modify {node} --offline yes' makes operations do without it"
            )),
            Self::Unanswered { node, .. } => Some(format!(
                "'journalctl -u gnt-disk' on {node} tells whether the call came there and what became of it"
            )),
            Self::Untrusted { node, .. } => Some(format!(
                "it has keys of another membership, or its clock is wrong: 'gnt-disk node add {node} --readd --ssh root@{node}' \
                 gives it new ones; then restart 'gnt-disk serve' there"
            )),
            Self::NoSuchCall { .. } | Self::Broken { .. } => None,
        }
    }
}
