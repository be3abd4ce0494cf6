//! Units of storage: where a node has room, whatever is in it (`lib/storage/container.py`).

use std::path::Path;

use gnt_config::Mebibytes;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use crate::driver::Change;
use crate::error::{Cause, Error};
use crate::host::Host;
use crate::lvm;

/// Types of units (`constants.ST_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum UnitType {
    /// Directories of the template file.
    File,
    /// Directories of the template sharedfile.
    #[serde(rename = "sharedfile")]
    #[strum(serialize = "sharedfile")]
    SharedFile,
    /// Physical volumes of LVM.
    LvmPv,
    /// Volume groups of LVM.
    LvmVg,
}

impl UnitType {
    /// Whether its units are directories.
    pub fn is_files(self) -> bool {
        matches!(self, Self::File | Self::SharedFile)
    }
}

/// What there is to know of a unit (`constants.SF_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum UnitField {
    /// Its name.
    Name,
    /// Its size.
    Size,
    /// What is taken.
    Used,
    /// What is free.
    Free,
    /// Whether new disks may be put on it.
    Allocatable,
}

/// A unit of storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageUnit {
    /// Path of the directory or device, or name of the group.
    pub name: String,
    /// All that there is.
    pub size: Mebibytes,
    /// What is free.
    pub free: Mebibytes,
    /// What is taken: of a directory by the files in it, if they were measured.
    pub used: Option<Mebibytes>,
    /// Whether new disks may be put on it.
    pub allocatable: bool,
}

/// The unit of a type that is called `name`, or all: of LVM those of the node, which has none without LVM, and else `directories`, which must be
/// allowed for file storage. What is in these is `measured` if it is wanted: it takes a look at each file.
pub fn storage_units(
    host: &Host,
    kind: UnitType,
    directories: &[String],
    name: Option<&str>,
    measured: bool,
) -> Result<Vec<StorageUnit>, Error> {
    let directory = |path: &str| host.file_storage.directory(Path::new(path), measured);
    let units = match (kind, name) {
        (UnitType::LvmPv, _) => lvm::physical_volume_units(host, name).map_err(Cause::from),
        (UnitType::LvmVg, _) => lvm::volume_group_units(host, name).map_err(Cause::from),
        (UnitType::File | UnitType::SharedFile, Some(name)) => {
            directory(name).map(|unit| vec![unit]).map_err(Cause::from)
        }
        (UnitType::File | UnitType::SharedFile, None) => {
            let units = directories.iter().map(|path| directory(path));
            units.collect::<Result<_, _>>().map_err(Cause::from)
        }
    };
    units.map_err(|cause| failed(host, format!("list the {kind} storage"), cause))
}

/// Lets new volumes be put on a physical volume of LVM, or no longer (`LvmPvStorage.Modify`).
pub fn set_allocatable(host: &Host, pv: &str, allocatable: bool) -> Result<Change, Error> {
    lvm::set_allocatable(host, pv, allocatable).map_err(|error| {
        let new = if allocatable { "new" } else { "no new" };
        failed(
            host,
            format!("let the physical volume {pv} take {new} volumes"),
            error,
        )
    })
}

/// Gives up the physical volumes that a group of LVM has lost, with the volumes that were on them (`LvmVgStorage.Execute`). A group that has all
/// is left alone.
pub fn remove_missing(host: &Host, vg: &str) -> Result<Change, Error> {
    lvm::remove_missing(host, vg)
        .map_err(|error| failed(host, format!("make the volume group {vg} consistent"), error))
}

fn failed(host: &Host, doing: String, cause: impl Into<Cause>) -> Error {
    Error::Storage {
        doing,
        node: host.name.clone(),
        cause: Box::new(cause.into()),
    }
}
