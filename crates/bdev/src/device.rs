//! Block devices as the kernel knows them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, major, minor};
use rustix::io::Errno;

use crate::driver::BlockDevice;
use crate::error::ErrorKind;

/// A path is not the block device that it should be.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Nothing there.
    #[error("there is no device {}", .path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is not a block device", .path.display())]
    NotABlockDevice {
        /// The path.
        path: PathBuf,
    },
    /// It lies elsewhere (`PersistentBlockDevice` in Ganeti).
    #[error("{} is {}, which is not under /dev", .path.display(), .real.display())]
    OutsideDev {
        /// The path.
        path: PathBuf,
        /// What it is once links are followed.
        real: PathBuf,
    },
    /// Something else has it for itself.
    #[error("{} is in use on this node: mounted, or part of LVM, RAID or swap", .path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The kernel does not answer.
    #[error("cannot look at {}", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DeviceError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::NotABlockDevice { .. } | Self::OutsideDev { .. } => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => {
                Some("is the storage connected to this node? `lsblk` shows what is".to_owned())
            }
            Self::Busy { path } => Some(format!("`lsblk {}` shows by what", path.display())),
            Self::OutsideDev { .. } => Some("give the device's path under /dev".to_owned()),
            Self::NotABlockDevice { .. } | Self::Io { .. } => None,
        }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Major and minor number of the block device at `path`, if there is one.
pub fn numbers(path: &Path) -> Option<(u32, u32)> {
    let metadata = fs::metadata(path).ok()?;
    let rdev = metadata.rdev();
    metadata
        .file_type()
        .is_block_device()
        .then(|| (major(rdev), minor(rdev)))
}

/// The block device at `path`, with its numbers and its size in bytes.
pub fn at(path: &Path) -> Result<BlockDevice, DeviceError> {
    let metadata = fs::metadata(path).map_err(|error| DeviceError::io(path, error))?;
    if !metadata.file_type().is_block_device() {
        return Err(DeviceError::NotABlockDevice {
            path: path.to_owned(),
        });
    }
    let (major, minor) = (major(metadata.rdev()), minor(metadata.rdev()));
    Ok(BlockDevice {
        path: Some(path.to_owned()),
        major: Some(major),
        minor: Some(minor),
        bytes: Some(bytes(path, major, minor)?),
        uris: Vec::new(),
    })
}

/// The block device at `path`, which must lie under `/dev` once links are followed. Two paths name the same device if and
/// only if major and minor are the same.
pub fn under_dev(path: &Path) -> Result<BlockDevice, DeviceError> {
    let real = fs::canonicalize(path).map_err(|error| DeviceError::io(path, error))?;
    if !real.starts_with("/dev") {
        return Err(DeviceError::OutsideDev {
            path: path.to_owned(),
            real,
        });
    }
    let found = at(&real)?;
    Ok(BlockDevice {
        path: Some(path.to_owned()),
        ..found
    })
}

/// Refuses a device that something else has for itself: a file system, a volume group, an array (`open(2)`, `O_EXCL`).
pub fn ensure_free(path: &Path) -> Result<(), DeviceError> {
    let opened = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::empty(),
    );
    match opened {
        Err(Errno::BUSY) => Err(DeviceError::Busy {
            path: path.to_owned(),
        }),
        // Why it cannot be read, its use will show.
        _ => Ok(()),
    }
}

/// Names of the kernel's devices that are built on this one, as `dm-0`: it is in use as long as there are any.
pub fn holders(device: &BlockDevice) -> Result<Vec<String>, DeviceError> {
    let (Some(major), Some(minor)) = (device.major, device.minor) else {
        return Ok(Vec::new());
    };
    let directory = sys_directory(major, minor).join("holders");
    let error = |source| DeviceError::Io {
        path: directory.clone(),
        source,
    };
    let names = fs::read_dir(&directory)
        .map_err(error)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect::<Result<_, _>>().map_err(error)?;
    names.sort();
    Ok(names)
}

/// Read from sysfs, which needs no opening: a drbd device that is not primary refuses to be opened.
fn bytes(path: &Path, major: u32, minor: u32) -> Result<u64, DeviceError> {
    const SECTOR: u64 = 512;
    let error = |source| DeviceError::io(path, source);
    let text = fs::read_to_string(sys_directory(major, minor).join("size")).map_err(error)?;
    let sectors: u64 = text.trim().parse().map_err(|e| error(io::Error::other(e)))?;
    Ok(sectors.saturating_mul(SECTOR))
}

fn sys_directory(major: u32, minor: u32) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}
