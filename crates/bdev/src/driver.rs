//! The contract between a disk tree and what drives its devices.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use enumset::{EnumSet, EnumSetType};
use gnt_config::{Disk, Kept, LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_extstorage::is_secret;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter};

use crate::error::{Cause, Error};
use crate::host::Host;

/// A device to work on: one disk, or one of those below it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The device, its parameters filled in for its type.
    pub disk: &'a Disk,
    /// Name of the instance that owns it; empty where a caller does not know (some of Ganeti's node calls).
    pub instance: &'a str,
    /// The devices that it is built of, in the order of [`Disk::children`], as far as they are there; filled in by [`crate::tree`].
    pub children: &'a [Option<BlockDevice>],
}

impl<'a> Target<'a> {
    /// A disk whose children are not known, or that has none.
    pub fn new(disk: &'a Disk, instance: &'a str) -> Self {
        Self {
            disk,
            instance,
            children: &[],
        }
    }

    /// The same disk, with its children as they are.
    #[must_use]
    pub fn with_children<'b>(&self, children: &'b [Option<BlockDevice>]) -> Target<'b>
    where
        'a: 'b,
    {
        Target { children, ..*self }
    }

    /// Runs one operation of a driver; whatever goes wrong is told with the operation, the disk and the node.
    pub fn doing<T>(
        &self,
        operation: Operation,
        host: &Host,
        work: impl FnOnce() -> Result<T, Cause>,
    ) -> Result<T, Error> {
        work().map_err(|cause| self.failed(operation, host, cause))
    }

    /// Whether the hypervisor reaches the disk without the kernel (parameter `access`).
    pub fn has_userspace_access(&self) -> bool {
        self.disk.params.get("access").and_then(|access| access.as_str()) == Some("userspace")
    }

    /// Refuses a growth that would be none.
    pub(crate) fn check_growth(&self, to: Mebibytes) -> Result<(), Cause> {
        let size = self.disk.size;
        if to < size {
            return Err(Cause::Shrink { size, to });
        }
        Ok(())
    }

    pub(crate) fn failed(&self, operation: Operation, host: &Host, cause: Cause) -> Error {
        Error::Failed {
            operation,
            disk: self.disk.to_string(),
            node: host.name.clone(),
            cause: Box::new(cause),
        }
    }
}

/// A device as it is on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlockDevice {
    /// Where it is; none if it is reached only through [`uris`](Self::uris), or is there but not attached.
    pub path: Option<PathBuf>,
    /// Major number, for block devices.
    pub major: Option<u32>,
    /// Minor number, for block devices. 0 is a minor like any other.
    pub minor: Option<u32>,
    /// Its real size in bytes, where that can be told.
    pub bytes: Option<u64>,
    /// How hypervisors can reach it without the kernel.
    pub uris: Vec<Uri>,
}

impl BlockDevice {
    /// What `hypervisor` reaches it with, without the kernel.
    pub fn uri_for(&self, hypervisor: &str) -> Option<&str> {
        let mut uris = self.uris.iter();
        let found = uris.find(|uri| uri.hypervisor.eq_ignore_ascii_case(hypervisor))?;
        Some(&found.uri)
    }
}

/// How one hypervisor reaches a device without the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uri {
    /// The hypervisor, as `kvm`.
    pub hypervisor: String,
    /// What it is given.
    pub uri: String,
}

/// Whether an operation found something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It changed something.
    Made,
    /// Everything was as asked already.
    AlreadyThere,
}

impl Change {
    /// Made, if either of them was.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::AlreadyThere, Self::AlreadyThere) => Self::AlreadyThere,
            _ => Self::Made,
        }
    }
}

/// What can be asked of a driver. In messages it is a verb: "cannot grow disk/0".
#[derive(Debug, Hash, PartialOrd, Ord, EnumSetType, EnumIter, Display, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// [`Driver::create`].
    #[strum(to_string = "create")]
    Create,
    /// [`Driver::find`].
    #[strum(to_string = "find")]
    Find,
    /// [`Driver::assemble`].
    #[strum(to_string = "assemble")]
    Assemble,
    /// [`Driver::open`].
    #[strum(to_string = "open")]
    Open,
    /// [`Driver::close`].
    #[strum(to_string = "close")]
    Close,
    /// [`Driver::shutdown`].
    #[strum(to_string = "shut down")]
    Shutdown,
    /// [`Driver::grow`].
    #[strum(to_string = "grow")]
    Grow,
    /// [`Driver::remove`].
    #[strum(to_string = "remove")]
    Remove,
    /// [`Driver::rename`].
    #[strum(to_string = "rename")]
    Rename,
    /// [`Driver::set_info`].
    #[strum(to_string = "set the metadata of")]
    SetInfo,
    /// [`Driver::snapshot`].
    #[strum(to_string = "snapshot")]
    Snapshot,
    /// [`Driver::add_children`].
    #[strum(to_string = "add devices to")]
    AddChildren,
    /// [`Driver::remove_children`].
    #[strum(to_string = "take devices from")]
    RemoveChildren,
    /// [`Driver::pause_sync`] and [`Driver::resume_sync`].
    #[strum(to_string = "pause or resume the synchronisation of")]
    PauseSync,
    /// [`Driver::disconnect_net`].
    #[strum(to_string = "disconnect")]
    DisconnectNet,
    /// [`Driver::attach_net`].
    #[strum(to_string = "connect")]
    AttachNet,
    /// [`Driver::actual_size`].
    #[strum(to_string = "tell the size of")]
    ActualSize,
    /// [`Driver::userspace_uri`].
    #[strum(to_string = "give a hypervisor direct access to")]
    UserspaceUri,
    /// [`Driver::volumes`].
    #[strum(to_string = "list the volumes of")]
    Volumes,
    /// [`Driver::space`].
    #[strum(to_string = "tell the free space for")]
    Space,
}

/// What a driver can do. Whatever is not in it returns [`Error::Unsupported`].
pub type Capabilities = EnumSet<Operation>;

/// The state of a device's data on this node (`constants.LDS_*`); the worst of several is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LocalDiskStatus {
    /// Complete and up to date.
    #[strum(to_string = "ok")]
    Okay = 1,
    /// Being brought up to date.
    #[strum(to_string = "syncing")]
    Sync = 2,
    /// It cannot be told.
    #[strum(to_string = "unknown")]
    Unknown = 3,
    /// Lost or out of date.
    #[strum(to_string = "faulty")]
    Faulty = 4,
}

/// How well a device's data is mirrored (the second half of `objects.BlockDevStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// How much is in sync, 0 to 100; none if nothing is being synchronised.
    pub sync_percent: Option<f64>,
    /// Seconds that the synchronisation will still take; none if that cannot be told.
    pub estimated_time: Option<u64>,
    /// Whether redundancy is missing.
    pub is_degraded: bool,
    /// The data on this node.
    pub ldisk_status: LocalDiskStatus,
}

impl SyncStatus {
    /// Complete, with nothing to synchronise.
    pub const OKAY: Self = Self {
        sync_percent: None,
        estimated_time: None,
        is_degraded: false,
        ldisk_status: LocalDiskStatus::Okay,
    };

    /// The worse of two in each respect.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        Self {
            sync_percent: both(self.sync_percent, other.sync_percent, f64::min),
            estimated_time: both(self.estimated_time, other.estimated_time, u64::max),
            is_degraded: self.is_degraded || other.is_degraded,
            ldisk_status: self.ldisk_status.max(other.ldisk_status),
        }
    }
}

/// `45.3% in sync, 12 s to go`.
impl fmt::Display for SyncStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(percent) = self.sync_percent {
            parts.push(format!("{percent:.1}% in sync"));
        }
        if let Some(seconds) = self.estimated_time {
            parts.push(format!("{seconds} s to go"));
        }
        match self.ldisk_status {
            LocalDiskStatus::Okay => {}
            status => parts.push(format!("data on this node {status}")),
        }
        match (parts.is_empty(), self.is_degraded) {
            (true, false) => f.write_str("in sync"),
            (true, true) => f.write_str("not synchronising"),
            (false, _) => f.write_str(&parts.join(", ")),
        }
    }
}

/// The one that is there, or what `choose` makes of both.
fn both<T>(a: Option<T>, b: Option<T>, choose: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(choose(a, b)),
        (a, b) => a.or(b),
    }
}

/// A volume that is really there.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundVolume {
    /// Its type.
    pub device: LogicalDevice,
    /// What names it.
    pub logical_id: LogicalId,
    /// Its size in bytes, where that can be told.
    pub bytes: Option<u64>,
    /// Whose it is, as far as the volume tells.
    pub owner: Owner,
}

/// Room for volumes of one type, in one volume group, pool, file system or the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// The volume group, pool, directory or the like, as its storage system calls it.
    pub name: String,
    /// How much is free.
    pub free: Mebibytes,
    /// How much there is in all.
    pub total: Mebibytes,
}

/// What is kept with a volume, so that losing the configuration does not lose the data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// The instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Its place among the instance's disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// UUID of the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The disk's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The text last given to [`Driver::set_info`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    /// What else the configuration is rebuilt from.
    #[serde(flatten)]
    pub kept: Kept,
}

impl Owner {
    /// What the owner of `target` is, `info` being the text to keep with it. Parameters that are secret are not kept.
    pub fn of(target: &Target<'_>, info: Option<&str>) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let disk = target.disk;
        let mut kept = disk.kept.as_deref().cloned().unwrap_or_default();
        kept.params.retain(|name, _| !is_secret(name));
        // A part of a disk has its place and name from that.
        let (index, name) = match &mut kept.mirror {
            Some(mirror) => (mirror.index.take(), mirror.name.take()),
            None => (disk.index(), disk.name.clone()),
        };
        Self {
            instance: text(target.instance),
            index,
            uuid: text(&disk.uuid),
            name,
            info: info.and_then(text),
            kept,
        }
    }
}

/// What drives one type of device. Stateless: everything it knows it is told or finds on the [`Host`]. The methods stand
/// in the order of a device's life. Each but [`snapshot`](Self::snapshot) can be repeated: what is done already is not done
/// again.
pub trait Driver: Sync {
    /// The type of device.
    fn device(&self) -> LogicalDevice;

    /// What the driver can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether disks like this one can have `operation` done to them on this node, as far as that can be told without doing it.
    fn check(&self, host: &Host, target: &Target<'_>, operation: Operation) -> Result<(), Error> {
        match operation {
            other if !self.capabilities().contains(other) => refuse(self.device(), other),
            Operation::Create => self.check_create(host, target),
            _ => Ok(()),
        }
    }

    /// Whether a disk like this one can be made on this node, as far as that can be told without making it.
    fn check_create(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Does at once, for all of `targets`, what `operation` would do for each or ask for each: what comes after finds it done, or its
    /// question answered by the cache of a [`Host::batch`]. What fails here is left to be told by the disk whose turn it is.
    fn prepare(&self, _host: &Host, _targets: &[Target<'_>], _operation: Operation) {}

    /// Makes the volume, of `disk.size` mebibytes. A volume that is there already must be of that size.
    fn create(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        refuse(self.device(), Operation::Create)
    }

    /// The device as it is; none if there is no such volume. Attaches nothing, so a volume that is there and not attached has
    /// no path, unless it needs none.
    fn find(&self, _host: &Host, _target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        refuse(self.device(), Operation::Find)
    }

    /// Makes the device accessible on this node.
    fn assemble(&self, _host: &Host, _target: &Target<'_>) -> Result<BlockDevice, Error> {
        refuse(self.device(), Operation::Assemble)
    }

    /// Opens a disk that is a file, for reading or for `writing` too; none if it is a device, which is opened by its path.
    fn open_file(
        &self,
        _host: &Host,
        _target: &Target<'_>,
        _writing: bool,
    ) -> Result<Option<OwnedFd>, Error> {
        Ok(None)
    }

    /// Says that an assembled device will be written to, by this node alone if `exclusive`.
    fn open(&self, _host: &Host, _target: &Target<'_>, _exclusive: bool) -> Result<(), Error> {
        refuse(self.device(), Operation::Open)
    }

    /// Opens an assembled device that was just made for this node alone. Of a mirror the other half may not be there yet.
    fn open_new(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        self.open(host, target, true)
    }

    /// Opens an assembled device for this node alone, although the node called `from` has it open: it is dead for certain. Most storage
    /// does not keep who has a device open, and is opened as ever.
    fn take_over(&self, host: &Host, target: &Target<'_>, _from: &str) -> Result<(), Error> {
        self.open(host, target, true)
    }

    /// Says that the device will no longer be written to.
    fn close(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        refuse(self.device(), Operation::Close)
    }

    /// The opposite of [`assemble`](Self::assemble). Devices below stay as they are.
    fn shutdown(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        refuse(self.device(), Operation::Shutdown)
    }

    /// Enlarges the volume to `to`; `disk.size` is the size until now. Refuses to shrink; a volume that has this size or more is
    /// left alone. A dry run only checks that it could be done.
    fn grow(
        &self,
        _host: &Host,
        _target: &Target<'_>,
        _to: Mebibytes,
        _dry_run: bool,
    ) -> Result<Change, Error> {
        refuse(self.device(), Operation::Grow)
    }

    /// Removes the volume with its data, shutting it down first where that is needed.
    fn remove(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        refuse(self.device(), Operation::Remove)
    }

    /// Gives the volume another name.
    fn rename(&self, _host: &Host, _target: &Target<'_>, _to: &LogicalId) -> Result<Change, Error> {
        refuse(self.device(), Operation::Rename)
    }

    /// Keeps `text` with the volume, and whatever else tells whose it is.
    fn set_info(&self, _host: &Host, _target: &Target<'_>, _text: &str) -> Result<(), Error> {
        refuse(self.device(), Operation::SetInfo)
    }

    /// Copies the volume as it is now to a new one called `name`, with `size` for what will differ. The new volume is one like any other:
    /// a [`Target`] with the returned id finds, assembles and removes it.
    fn snapshot(
        &self,
        _host: &Host,
        _target: &Target<'_>,
        _name: &str,
        _size: Mebibytes,
    ) -> Result<LogicalId, Error> {
        refuse(self.device(), Operation::Snapshot)
    }

    /// Gives the device the devices to keep its data on, which are assembled and of the form that `target.disk` has below it:
    /// afterwards it is no longer diskless (`BlockdevAddchildren`).
    fn add_children(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        refuse(self.device(), Operation::AddChildren)
    }

    /// Takes from the device those that it keeps its data on: it is diskless afterwards (`BlockdevRemovechildren`).
    fn remove_children(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        refuse(self.device(), Operation::RemoveChildren)
    }

    /// Stops a synchronisation until [`resume_sync`](Self::resume_sync) (`BlockdevPauseResumeSync`).
    fn pause_sync(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        refuse(self.device(), Operation::PauseSync)
    }

    /// Goes on with a synchronisation.
    fn resume_sync(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        refuse(self.device(), Operation::PauseSync)
    }

    /// Takes the device off the network; its data stays accessible on this node (`DrbdDisconnectNet`).
    fn disconnect_net(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        refuse(self.device(), Operation::DisconnectNet)
    }

    /// Connects the device to its peer, and returns when they are connected (`DrbdAttachNet`). `multimaster` lets both be primary, for a
    /// migration. One that is connected stays so, and is told if that is another mode.
    fn attach_net(&self, _host: &Host, _target: &Target<'_>, _multimaster: bool) -> Result<Change, Error> {
        refuse(self.device(), Operation::AttachNet)
    }

    /// Waits a short time until a device that is there is connected to its peer, or synchronises with it, and tells how far it is. One that
    /// does neither is an error (`DrbdWaitSync`).
    fn wait_sync(&self, host: &Host, target: &Target<'_>) -> Result<SyncStatus, Error> {
        self.sync_status(host, target)
    }

    /// How well a device that is there is mirrored. What has no mirror is [`SyncStatus::OKAY`].
    fn sync_status(&self, _host: &Host, _target: &Target<'_>) -> Result<SyncStatus, Error> {
        Ok(SyncStatus::OKAY)
    }

    /// The real size in bytes.
    fn actual_size(&self, _host: &Host, _target: &Target<'_>) -> Result<u64, Error> {
        refuse(self.device(), Operation::ActualSize)
    }

    /// What `hypervisor` is given to reach the device without the kernel.
    fn userspace_uri(&self, _host: &Host, _target: &Target<'_>, _hypervisor: &str) -> Result<String, Error> {
        refuse(self.device(), Operation::UserspaceUri)
    }

    /// Those of the [volumes](Self::volumes) that have a device on this node; none where a volume has one everywhere, or that cannot
    /// be told.
    fn attached(&self, _host: &Host, _params: &Object) -> Result<Vec<LogicalId>, Error> {
        Ok(Vec::new())
    }

    /// The volumes that are really there, with what they tell of their owners. `params` are the parameters of a disk of this
    /// type, where they say where to look.
    fn volumes(&self, _host: &Host, _params: &Object) -> Result<Vec<FoundVolume>, Error> {
        refuse(self.device(), Operation::Volumes)
    }

    /// What room there is on this node for volumes of disks with `params`. What cannot be told is left out.
    fn space(&self, _host: &Host, _params: &Object) -> Result<Vec<Space>, Error> {
        refuse(self.device(), Operation::Space)
    }
}

pub(crate) fn refuse<T>(device: LogicalDevice, operation: Operation) -> Result<T, Error> {
    Err(Error::Unsupported { device, operation })
}
