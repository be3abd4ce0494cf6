//! The gluster driver: a disk is a sparse file on a Gluster volume, which is mounted while disks of it are in use.
//!
//! Finding a disk leaves its volume as it was: what is mounted only to look is unmounted again.

mod commands;
mod error;
mod log;
mod mount;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use enumset::enum_set;
use gnt_config::device::FileDriver as Presentation;
use gnt_config::params::{GlusterParams, Parameters};
use gnt_config::{GeneratedName, Kept, LogicalDevice, LogicalId, Mebibytes, Object};

pub use self::error::GlusterError;
pub use self::log::MountFailure;
use self::mount::Volume;
use crate::driver::{
    BlockDevice, Capabilities, Change, Driver, FoundVolume, Operation, Owner, Space, Target,
};
use crate::error::{Cause, Error};
use crate::file_storage::{FileStorage, FileStorageError, StoredFile};
use crate::host::Host;

/// Ganeti's `GlusterStorage`.
#[derive(Debug)]
pub(crate) struct GlusterDriver;

const CAPABILITIES: Capabilities = enum_set!(
    Operation::Create
        | Operation::Find
        | Operation::Assemble
        | Operation::Open
        | Operation::Close
        | Operation::Shutdown
        | Operation::Grow
        | Operation::Remove
        | Operation::SetInfo
        | Operation::ActualSize
        | Operation::UserspaceUri
        | Operation::Volumes
        | Operation::Space
);

/// The hypervisor that has a Gluster client of its own.
const KVM: &str = "kvm";

impl Driver for GlusterDriver {
    fn device(&self) -> LogicalDevice {
        LogicalDevice::Gluster
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    /// A new file needs a volume that can be mounted.
    fn check_create(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        on_file(host, target, Operation::Create, |file| {
            let size = file.volume.with_files(|files| Ok(files.size(&file.path)?));
            size.map(drop)
        })
    }

    fn create(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        on_file(host, target, Operation::Create, |file| {
            file.volume.with_files(|files| {
                if let Some(directory) = file.path.parent() {
                    files.create_directory(directory)?;
                }
                Ok(files.create(&file.path, target.disk.size)?)
            })
        })
    }

    fn find(&self, host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        on_file(host, target, Operation::Find, |file| {
            let size = file.volume.with_files(|files| Ok(files.size(&file.path)?))?;
            Ok(size.map(|bytes| BlockDevice {
                path: file.is_used().then(|| file.path.clone()),
                bytes: Some(bytes),
                ..BlockDevice::default()
            }))
        })
    }

    /// Mounts the volume, also for hypervisors that reach it by themselves: whoever installs or copies an instance works on the file.
    fn assemble(&self, host: &Host, target: &Target<'_>) -> Result<BlockDevice, Error> {
        on_file(host, target, Operation::Assemble, |file| {
            let bytes = file.volume.with_files(|files| {
                let bytes = match file.existing(files) {
                    // In a dry run it was not made before.
                    Err(_) if host.is_dry_run() => target.disk.size.bytes(),
                    bytes => bytes?,
                };
                if file.is_used() || host.changes.only_noted(|| file.note("mount", "for")) {
                    return Ok(bytes);
                }
                file.volume.add_user(file.name)?;
                Ok(bytes)
            })?;
            Ok(BlockDevice {
                path: Some(file.path.clone()),
                bytes: Some(bytes),
                ..BlockDevice::default()
            })
        })
    }

    /// It is mounted for as long as the disk is assembled.
    fn open_file(&self, host: &Host, target: &Target<'_>, writing: bool) -> Result<Option<OwnedFd>, Error> {
        on_file(host, target, Operation::Open, |file| {
            let opened = file
                .volume
                .with_files(|files| Ok(files.open(&file.path, writing)?))?;
            Ok(Some(opened))
        })
    }

    fn open(&self, _host: &Host, _target: &Target<'_>, _exclusive: bool) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The last disk takes the mount with it.
    fn shutdown(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        on_file(host, target, Operation::Shutdown, |file| file.release(host))
    }

    fn grow(&self, host: &Host, target: &Target<'_>, to: Mebibytes, dry_run: bool) -> Result<Change, Error> {
        on_file(host, target, Operation::Grow, |file| {
            target.check_growth(to)?;
            file.volume
                .with_files(|files| Ok(files.grow(&file.path, to, dry_run)?))
        })
    }

    fn remove(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        on_file(host, target, Operation::Remove, |file| {
            let removed = file.volume.with_files(|files| Ok(files.remove(&file.path)?))?;
            Ok(removed.or(file.release(host)?))
        })
    }

    fn set_info(&self, host: &Host, target: &Target<'_>, text: &str) -> Result<(), Error> {
        on_file(host, target, Operation::SetInfo, |file| {
            let owner = serde_json::json!(Owner::of(target, Some(text))).to_string();
            file.volume
                .with_files(|files| Ok(files.set_attribute(&file.path, owner.as_bytes())?))?;
            Ok(())
        })
    }

    fn actual_size(&self, host: &Host, target: &Target<'_>) -> Result<u64, Error> {
        on_file(host, target, Operation::ActualSize, |file| {
            file.volume.with_files(|files| file.existing(files))
        })
    }

    fn userspace_uri(&self, host: &Host, target: &Target<'_>, hypervisor: &str) -> Result<String, Error> {
        on_file(host, target, Operation::UserspaceUri, |file| {
            if hypervisor != KVM {
                return Err(Cause::NoUserspaceAccess {
                    device: self.device(),
                    hypervisor: hypervisor.to_owned(),
                });
            }
            Ok(commands::uri(file.params, file.name))
        })
    }

    /// Of the volume that `params` name.
    fn volumes(&self, host: &Host, params: &Object) -> Result<Vec<FoundVolume>, Error> {
        let list = || {
            let params = GlusterParams::from_object(params).map_err(GlusterError::from)?;
            let volume = Volume::new(host, &params);
            volume.with_files(|files| {
                let listed = files.files(&|name| index_in(name).is_some())?.into_iter();
                Ok(listed
                    .map(|file| found(files, &volume.mount_point(), file))
                    .collect())
            })
        };
        list().map_err(|cause: Cause| Error::Volumes {
            device: self.device(),
            node: host.name.clone(),
            cause: Box::new(cause),
        })
    }

    /// On the volume that `params` name.
    fn space(&self, host: &Host, params: &Object) -> Result<Vec<Space>, Error> {
        let room = || {
            let params = GlusterParams::from_object(params).map_err(GlusterError::from)?;
            let rooms = Volume::new(host, &params).with_files(|files| Ok(files.space()?))?;
            let named = |space| Space {
                name: params.volume.to_string(),
                ..space
            };
            Ok(rooms.into_iter().map(named).collect())
        };
        room().map_err(|cause: Cause| Error::Space {
            device: self.device(),
            node: host.name.clone(),
            cause: Box::new(cause),
        })
    }
}

/// The file of a disk.
struct DiskFile<'a> {
    params: &'a GlusterParams,
    volume: Volume<'a>,
    /// Inside the volume.
    name: &'a str,
    path: PathBuf,
}

/// Does one operation of the driver on the file that is a target's.
fn on_file<T>(
    host: &Host,
    target: &Target<'_>,
    operation: Operation,
    work: impl FnOnce(&DiskFile<'_>) -> Result<T, Cause>,
) -> Result<T, Error> {
    target.doing(operation, host, || {
        let name = match &target.disk.logical_id {
            LogicalId::Gluster { path, .. } => path,
            id => {
                return Err(Cause::WrongId {
                    device: LogicalDevice::Gluster,
                    id: id.clone(),
                });
            }
        };
        let params = GlusterParams::from_object(&target.disk.params).map_err(GlusterError::from)?;
        let volume = Volume::new(host, &params);
        let path = volume.mount_point().join(name);
        work(&DiskFile {
            params: &params,
            volume,
            name,
            path,
        })
    })
}

impl DiskFile<'_> {
    fn is_used(&self) -> bool {
        self.volume.is_used(self.name)
    }

    fn existing(&self, files: &FileStorage) -> Result<u64, Cause> {
        let missing = || FileStorageError::NotFound {
            path: self.path.clone(),
        };
        Ok(files.size(&self.path)?.ok_or_else(missing)?)
    }

    /// Says that the disk is no longer in use here.
    fn release(&self, host: &Host) -> Result<Change, Cause> {
        if !self.is_used() {
            return Ok(Change::AlreadyThere);
        }
        if !host.changes.only_noted(|| self.note("unmount", "after")) {
            self.volume.remove_user(self.name)?;
            self.volume.leave()?;
        }
        Ok(Change::Made)
    }

    fn note(&self, doing: &str, when: &str) -> String {
        let GlusterParams { volume, host, .. } = self.params;
        format!(
            "{doing} the Gluster volume {volume} of {host}, {when} {}, unless others use it",
            self.name
        )
    }
}

/// N of `UUID.N`.
fn index_in(name: &str) -> Option<u32> {
    let name = GeneratedName::of(LogicalDevice::Gluster, name).filter(GeneratedName::is_whole);
    name.map(|name| name.index)
}

/// What a file tells of its owner, or else its name. One that cannot be asked hides no other.
fn found(files: &FileStorage, mount_point: &Path, file: StoredFile) -> FoundVolume {
    let StoredFile { path, bytes } = file;
    let kept = files.attribute(&path).ok().flatten();
    let kept = kept.and_then(|json| serde_json::from_slice(&json).ok());
    let name = path.file_name().and_then(|name| name.to_str());
    let owner = kept.unwrap_or_else(|| Owner {
        index: name.and_then(index_in),
        kept: Kept {
            instance_uuid: name.and_then(|name| Some(name.split_once('.')?.0.to_owned())),
            ..Kept::default()
        },
        ..Owner::default()
    });
    let inside = path.strip_prefix(mount_point).unwrap_or(&path);
    FoundVolume {
        device: LogicalDevice::Gluster,
        logical_id: LogicalId::Gluster {
            driver: Presentation::Loop,
            path: inside.to_string_lossy().into_owned(),
        },
        bytes: Some(bytes),
        owner,
    }
}
