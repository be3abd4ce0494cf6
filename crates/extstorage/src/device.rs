//! Block devices of this node.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// How long after its detach script a device may take to go: one that udev is just looking at goes when udev is done.
const SETTLE: Duration = Duration::from_secs(5);

/// A block device with something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// As the provider named it; may be a symbolic link.
    pub path: PathBuf,
    /// Its major number.
    pub major: u32,
    /// Its minor number; 0 is a device like any other.
    pub minor: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Counts what was ever put into any device of this node (Linux 5.15).
    diskseq: Option<u64>,
}

/// A path that does not lead to a usable block device.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// Nothing is there.
    #[error("the device {} does not exist", .0.display())]
    Missing(PathBuf),
    /// Something else is there.
    #[error("{} is not a block device but {kind}", path.display())]
    NotABlockDevice {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A device with nothing in it, such as a loop device without a file.
    #[error("the device {} has nothing attached: its size is 0", .0.display())]
    Empty(PathBuf),
    /// It cannot be looked at.
    #[error("{} cannot be examined", path.display())]
    Io {
        /// What was looked at.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Device {
    /// The device at a path.
    ///
    /// # Errors
    /// When there is none, or nothing is in it.
    pub fn at(path: &Path) -> Result<Device, DeviceError> {
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DeviceError::Missing(path.to_owned()),
            _ => DeviceError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        if !metadata.file_type().is_block_device() {
            return Err(DeviceError::NotABlockDevice {
                path: path.to_owned(),
                kind: kind(metadata.file_type()),
            });
        }
        let (major, minor) = (
            rustix::fs::major(metadata.rdev()),
            rustix::fs::minor(metadata.rdev()),
        );
        let size = read_size(major, minor)?;
        if size == 0 {
            return Err(DeviceError::Empty(path.to_owned()));
        }
        Ok(Device {
            path: path.to_owned(),
            major,
            minor,
            size,
            diskseq: read_diskseq(major, minor),
        })
    }

    /// Whether it is the same device, whatever path leads to it.
    pub(crate) fn is_same(&self, other: &Device) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }

    /// Waits for what was in the device to be no longer there; false if it stays. The device itself may stay, empty, as
    /// loop devices do, or already have something else in it.
    pub(crate) fn wait_until_gone(&self) -> bool {
        let deadline = Instant::now() + SETTLE;
        let mut pause = Duration::from_millis(1);
        while !self.is_gone() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        true
    }

    fn is_gone(&self) -> bool {
        !self.path.exists()
            || read_size(self.major, self.minor).map_or(true, |size| size == 0)
            || read_diskseq(self.major, self.minor) != self.diskseq
    }
}

/// From sysfs, because opening a device may act on it.
fn read_size(major: u32, minor: u32) -> Result<u64, DeviceError> {
    const SECTOR: u64 = 512;
    let path = attribute(major, minor, "size");
    let number = |text: String| text.trim().parse::<u64>().map_err(io::Error::other);
    match fs::read_to_string(&path).and_then(number) {
        Ok(sectors) => Ok(sectors * SECTOR),
        Err(source) => Err(DeviceError::Io { path, source }),
    }
}

fn read_diskseq(major: u32, minor: u32) -> Option<u64> {
    let text = fs::read_to_string(attribute(major, minor, "diskseq")).ok()?;
    text.trim().parse().ok()
}

fn attribute(major: u32, minor: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}/{name}"))
}

/// What a file is, in words.
pub(crate) fn kind(file_type: FileType) -> &'static str {
    if file_type.is_file() {
        "a regular file"
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_symlink() {
        "a symbolic link"
    } else if file_type.is_block_device() {
        "a block device"
    } else if file_type.is_char_device() {
        "a character device"
    } else if file_type.is_fifo() {
        "a named pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "something unknown"
    }
}
