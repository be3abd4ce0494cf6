//! What a node can be asked. Operations are generic over it, so that the same code runs over a node in this process,
//! over the network and over a simulated cluster.

use gnt_bdev::{Assembled, Change, ErrorKind, FoundVolume, Layer, Link, Operation, Status, Target};
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
        std::future::ready(Ok(()))
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

    /// The links to the devices of active disks.
    fn links(&self) -> impl Future<Output = NodeResult<Vec<Link>>> + Send;

    /// Renames the link of an instance's disk when the disk's index changes.
    fn move_link(
        &self,
        instance: &str,
        from: u32,
        to: u32,
    ) -> impl Future<Output = NodeResult<Change>> + Send;
}

/// What a node answers.
pub type NodeResult<T> = Result<T, NodeError>;

/// Why a node could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its storage said no.
    #[error(transparent)]
    Storage(#[from] gnt_bdev::Error),
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
    /// Whether what was asked for, or something that it needs, is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind() == ErrorKind::NotFound)
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::Broken { .. } => None,
        }
    }
}
