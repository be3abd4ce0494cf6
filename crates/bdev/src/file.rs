//! The drivers file and sharedfile: a disk is a sparse file.

use std::os::fd::OwnedFd;
use std::path::Path;

use enumset::enum_set;
use gnt_config::device::FileDriver as Presentation;
use gnt_config::{GeneratedName, LogicalDevice, LogicalId, Mebibytes, Object};

use crate::driver::{
    BlockDevice, Capabilities, Change, Driver, FoundVolume, Operation, Owner, Space, Target,
};
use crate::error::{Cause, Error};
use crate::file_storage::{FileStorageError, StoredFile};
use crate::host::Host;

/// Ganeti's `FileStorage`. The two devices differ only in where their files are and so in who sees them.
#[derive(Debug)]
pub(crate) struct FileDriver {
    device: LogicalDevice,
}

impl FileDriver {
    pub(crate) const FILE: Self = Self {
        device: LogicalDevice::File,
    };
    pub(crate) const SHARED_FILE: Self = Self {
        device: LogicalDevice::SharedFile,
    };
}

const CAPABILITIES: Capabilities = enum_set!(
    Operation::Create
        | Operation::Find
        | Operation::Assemble
        | Operation::Open
        | Operation::Close
        | Operation::Shutdown
        | Operation::Grow
        | Operation::Remove
        | Operation::Rename
        | Operation::SetInfo
        | Operation::ActualSize
        | Operation::Volumes
        | Operation::Space
);

impl Driver for FileDriver {
    fn device(&self) -> LogicalDevice {
        self.device
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn create(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Create, host, || {
            let path = self.path(target)?;
            Ok(host.file_storage.create(path, target.disk.size)?)
        })
    }

    fn find(&self, host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        target.doing(Operation::Find, host, || {
            let path = self.path(target)?;
            Ok(host.file_storage.size(path)?.map(|bytes| device(path, bytes)))
        })
    }

    fn assemble(&self, host: &Host, target: &Target<'_>) -> Result<BlockDevice, Error> {
        target.doing(Operation::Assemble, host, || {
            let path = self.path(target)?;
            match existing(host, path) {
                // In a dry run it was not made before.
                Err(_) if host.is_dry_run() => Ok(device(path, target.disk.size.bytes())),
                bytes => Ok(device(path, bytes?)),
            }
        })
    }

    fn open_file(&self, host: &Host, target: &Target<'_>, writing: bool) -> Result<Option<OwnedFd>, Error> {
        target.doing(Operation::Open, host, || {
            Ok(Some(host.file_storage.open(self.path(target)?, writing)?))
        })
    }

    fn open(&self, _host: &Host, _target: &Target<'_>, _exclusive: bool) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn shutdown(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        Ok(Change::AlreadyThere)
    }

    fn grow(&self, host: &Host, target: &Target<'_>, to: Mebibytes, dry_run: bool) -> Result<Change, Error> {
        target.doing(Operation::Grow, host, || {
            let path = self.path(target)?;
            target.check_growth(to)?;
            Ok(host.file_storage.grow(path, to, dry_run)?)
        })
    }

    fn remove(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Remove, host, || {
            Ok(host.file_storage.remove(self.path(target)?)?)
        })
    }

    fn rename(&self, host: &Host, target: &Target<'_>, to: &LogicalId) -> Result<Change, Error> {
        target.doing(Operation::Rename, host, || {
            let (from, to) = (self.path(target)?, path_of(self.device, to)?);
            Ok(host.file_storage.rename_file(from, to)?)
        })
    }

    fn set_info(&self, host: &Host, target: &Target<'_>, text: &str) -> Result<(), Error> {
        target.doing(Operation::SetInfo, host, || {
            let owner = serde_json::json!(Owner::of(target, Some(text)));
            let path = self.path(target)?;
            host.file_storage
                .set_attribute(path, owner.to_string().as_bytes())?;
            Ok(())
        })
    }

    fn actual_size(&self, host: &Host, target: &Target<'_>) -> Result<u64, Error> {
        target.doing(Operation::ActualSize, host, || existing(host, self.path(target)?))
    }

    fn volumes(&self, host: &Host, _params: &Object) -> Result<Vec<FoundVolume>, Error> {
        let files = host.file_storage.files(&|name| self.index_in(name).is_some());
        let files = files.map_err(|error| Error::Volumes {
            device: self.device,
            node: host.name.clone(),
            cause: Box::new(error.into()),
        })?;
        Ok(files.into_iter().map(|file| self.found(host, file)).collect())
    }

    /// Of the file systems of all allowed directories: which of them a disk goes to, the cluster and the instance tell.
    fn space(&self, host: &Host, _params: &Object) -> Result<Vec<Space>, Error> {
        host.file_storage.space().map_err(|error| Error::Space {
            device: self.device,
            node: host.name.clone(),
            cause: Box::new(error.into()),
        })
    }
}

impl FileDriver {
    fn path<'a>(&self, target: &Target<'a>) -> Result<&'a Path, Cause> {
        path_of(self.device, &target.disk.logical_id)
    }

    /// N of `UUID.file.diskN`.
    fn index_in(&self, name: &str) -> Option<u32> {
        let name = GeneratedName::of(self.device, name).filter(GeneratedName::is_whole);
        name.map(|name| name.index)
    }

    /// What a file tells of its owner; its directory is the instance's, where nothing better is known. One that cannot be asked hides no
    /// other.
    fn found(&self, host: &Host, file: StoredFile) -> FoundVolume {
        let StoredFile { path, bytes } = file;
        let kept = host.file_storage.attribute(&path).ok().flatten();
        let kept = kept.and_then(|json| serde_json::from_slice(&json).ok());
        let owner = kept.unwrap_or_else(|| Owner {
            instance: directory_name(&path),
            index: path.file_name().and_then(|name| self.index_in(name.to_str()?)),
            ..Owner::default()
        });
        FoundVolume {
            device: self.device,
            logical_id: LogicalId::File {
                driver: Presentation::Loop,
                path: path.to_string_lossy().into_owned(),
            },
            bytes: Some(bytes),
            owner,
        }
    }
}

fn path_of(device: LogicalDevice, id: &LogicalId) -> Result<&Path, Cause> {
    match id {
        LogicalId::File { path, .. } => Ok(Path::new(path)),
        id => Err(Cause::WrongId {
            device,
            id: id.clone(),
        }),
    }
}

fn existing(host: &Host, path: &Path) -> Result<u64, Cause> {
    let missing = || FileStorageError::NotFound {
        path: path.to_owned(),
    };
    Ok(host.file_storage.size(path)?.ok_or_else(missing)?)
}

fn device(path: &Path, bytes: u64) -> BlockDevice {
    BlockDevice {
        path: Some(path.components().collect()),
        bytes: Some(bytes),
        ..BlockDevice::default()
    }
}

fn directory_name(path: &Path) -> Option<String> {
    Some(path.parent()?.file_name()?.to_string_lossy().into_owned())
}
