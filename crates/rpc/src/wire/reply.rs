//! What procedures answer, and the form in which our own client gets it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gnt_bdev::drbd::DrbdMinor;
use gnt_bdev::transfer::Piece;
use gnt_bdev::{
    Assembled, BlockDevice, Change, Error, FoundVolume, Link, ListedVolume, Owner, Space, Status,
    StorageUnit, SyncProgress, Told, UnitField,
};
use gnt_config::device::LogicalIdError;
use gnt_config::{LogicalDevice, LogicalId, Mebibytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pieces;

/// What a procedure answers.
#[derive(Debug)]
pub enum Reply {
    /// It is done.
    Nothing,
    /// What the node is.
    Version(Version),
    /// Sizes by path of the device, or by name of the volume group.
    Sizes(BTreeMap<String, Mebibytes>),
    /// Logical volumes.
    LogicalVolumes(Vec<LogicalVolume>),
    /// Logical volumes, with what they are on.
    NodeVolumes(Vec<ListedVolume>),
    /// Units of storage, and what to tell of each.
    Units(Vec<StorageUnit>, Vec<UnitField>),
    /// External Storage providers.
    Providers(Vec<Provider>),
    /// A text.
    Text(String),
    /// Whether there was something to do.
    Change(Change),
    /// Whether there was something to do, and what names the new disk.
    Created(Change, LogicalId),
    /// What names the copy.
    Snapshot(LogicalDevice, LogicalId),
    /// An assembled disk.
    Assembled(Assembled),
    /// Assembled disks.
    AssembledAll(Vec<Result<Assembled, Told>>),
    /// A disk as it is, if it is there.
    Found(Option<Status>),
    /// Disks as they are.
    FoundAll(Vec<Result<Option<Status>, Told>>),
    /// Mirrors as they are.
    Mirrors(Vec<Status>),
    /// Bytes and spindles of disks that are there.
    Dimensions(Vec<Option<(u64, Option<u64>)>>),
    /// For each disk, whether it is done.
    Done(Vec<Result<(), Told>>),
    /// A synchronisation.
    Progress(SyncProgress),
    /// UUIDs of disks.
    Uuids(Vec<String>),
    /// A number of bytes.
    Bytes(u64),
    /// Part of a disk.
    Pieces(Vec<Piece>),
    /// A checksum.
    Checksum([u8; 32]),
    /// Volumes.
    Volumes(Vec<FoundVolume>),
    /// Room for volumes.
    Space(Vec<Space>),
    /// What names volumes.
    Ids(LogicalDevice, Vec<LogicalId>),
    /// Minors of drbd.
    Minors(Vec<DrbdMinor>),
    /// Links.
    Links(Vec<Link>),
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Of the protocol ([`super::PROTOCOL`]).
    pub protocol: u32,
    /// Of the program.
    pub version: String,
    /// Name of the node.
    pub node: String,
}

/// A logical volume (`lv_list`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    /// `VG/LV`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Whether it has a device.
    pub active: bool,
    /// Whether something has its device open.
    pub open: bool,
}

/// An External Storage provider (`extstorage_diagnose`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// Whether it can be used.
    pub usable: bool,
    /// Why not.
    pub diagnose: String,
    /// Its parameters, with what they are for.
    pub parameters: Vec<(String, String)>,
}

/// [`Assembled`] on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub struct AssembledForm {
    device: Option<BlockDevice>,
    link: Option<PathBuf>,
    uri: Option<String>,
    warnings: Vec<Told>,
}

/// [`FoundVolume`] on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub struct VolumeForm {
    #[serde(flatten)]
    id: IdForm,
    bytes: Option<u64>,
    owner: Owner,
}

/// A logical id with what it is an id of.
#[derive(Debug, Serialize, Deserialize)]
pub struct IdForm {
    device: LogicalDevice,
    logical_id: Value,
}

impl Reply {
    /// The payload for a client of ours, and the bytes that follow it.
    pub fn payload(&self) -> serde_json::Result<(Value, Vec<u8>)> {
        use serde_json::to_value;
        let payload = match self {
            Self::Nothing => Value::Null,
            Self::Version(version) => to_value(version)?,
            Self::Sizes(sizes) => to_value(sizes)?,
            Self::LogicalVolumes(_) | Self::NodeVolumes(_) | Self::Units(..) => super::ganeti::payload(self),
            Self::Providers(providers) => to_value(providers)?,
            Self::Text(text) => to_value(text)?,
            Self::Change(change) | Self::Created(change, _) => to_value(change)?,
            Self::Snapshot(device, id) => to_value(IdForm::new(*device, id))?,
            Self::Assembled(assembled) => to_value(AssembledForm::from(assembled))?,
            Self::AssembledAll(all) => {
                let all = all.iter().map(|one| one.as_ref().map(AssembledForm::from));
                to_value(all.collect::<Vec<_>>())?
            }
            Self::Found(status) => to_value(status)?,
            Self::FoundAll(all) => to_value(all)?,
            Self::Mirrors(all) => to_value(all)?,
            Self::Dimensions(all) => to_value(all)?,
            Self::Done(all) => to_value(all)?,
            Self::Progress(progress) => to_value(progress)?,
            Self::Uuids(uuids) => to_value(uuids)?,
            Self::Bytes(bytes) => to_value(bytes)?,
            Self::Pieces(all) => {
                let (extents, bytes) = pieces::split(all);
                return Ok((to_value(extents)?, bytes));
            }
            Self::Checksum(sum) => to_value(sum)?,
            Self::Volumes(volumes) => to_value(volumes.iter().map(VolumeForm::from).collect::<Vec<_>>())?,
            Self::Space(space) => to_value(space)?,
            Self::Ids(device, ids) => {
                to_value(ids.iter().map(|id| IdForm::new(*device, id)).collect::<Vec<_>>())?
            }
            Self::Minors(minors) => to_value(minors)?,
            Self::Links(links) => to_value(links)?,
        };
        Ok((payload, Vec::new()))
    }
}

impl IdForm {
    /// An id of `device`.
    pub fn new(device: LogicalDevice, id: &LogicalId) -> Self {
        Self {
            device,
            logical_id: id.to_json(),
        }
    }

    /// The id.
    pub fn id(&self) -> Result<LogicalId, LogicalIdError> {
        LogicalId::from_json(self.device, &self.logical_id)
    }
}

impl From<&Assembled> for AssembledForm {
    fn from(assembled: &Assembled) -> Self {
        Self {
            device: assembled.device.clone(),
            link: assembled.link.clone(),
            uri: assembled.uri.clone(),
            warnings: assembled.warnings.iter().map(Told::from).collect(),
        }
    }
}

impl From<AssembledForm> for Assembled {
    fn from(form: AssembledForm) -> Self {
        Self {
            device: form.device,
            link: form.link,
            uri: form.uri,
            warnings: form.warnings.into_iter().map(Error::from).collect(),
        }
    }
}

impl From<&FoundVolume> for VolumeForm {
    fn from(volume: &FoundVolume) -> Self {
        Self {
            id: IdForm::new(volume.device, &volume.logical_id),
            bytes: volume.bytes,
            owner: volume.owner.clone(),
        }
    }
}

impl TryFrom<VolumeForm> for FoundVolume {
    type Error = LogicalIdError;

    fn try_from(form: VolumeForm) -> Result<Self, LogicalIdError> {
        Ok(Self {
            device: form.id.device,
            logical_id: form.id.id()?,
            bytes: form.bytes,
            owner: form.owner,
        })
    }
}
