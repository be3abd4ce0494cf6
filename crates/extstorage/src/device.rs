//! Block devices of this node.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::io::Errno;
use thiserror::Error;

/// How long after its detach script a device may take to go: one that udev is just looking at goes when udev
/// is done.
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
        let stat = rustix::fs::stat(path).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => DeviceError::Missing(path.to_owned()),
            _ => unreadable(path, error),
        })?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if !file_type.is_block_device() {
            return Err(DeviceError::NotABlockDevice {
                path: path.to_owned(),
                kind: kind(file_type),
            });
        }
        let device = Device {
            path: path.to_owned(),
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
            size: 0,
        };
        match device.read_size()? {
            0 => Err(DeviceError::Empty(device.path)),
            size => Ok(Device { size, ..device }),
        }
    }

    /// Whether it is the same device, whatever path leads to it.
    pub(crate) fn is_same(&self, other: &Device) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }

    /// Marks what is in the device now, so that it can be seen to go.
    pub(crate) fn content(&self) -> Content<'_> {
        Content {
            device: self,
            sequence: self.read_attribute("diskseq").ok(),
        }
    }

    /// In bytes.
    fn read_size(&self) -> Result<u64, DeviceError> {
        const SECTOR: u64 = 512;
        Ok(self.read_attribute("size")? * SECTOR)
    }

    /// A number from sysfs; to open the device could act on it.
    fn read_attribute(&self, name: &str) -> Result<u64, DeviceError> {
        let path = format!("/sys/dev/block/{}:{}/{name}", self.major, self.minor);
        let mut buffer = [0; 32];
        let read = File::open(&path).and_then(|mut file| file.read(&mut buffer));
        let length = read.map_err(|error| unreadable(path.as_ref(), error))?;
        let text = str::from_utf8(&buffer[..length]).unwrap_or_default();
        let number = text.trim().parse::<u64>();
        number.map_err(|error| unreadable(path.as_ref(), io::Error::other(error)))
    }
}

/// What is in a device at some moment.
pub(crate) struct Content<'a> {
    device: &'a Device,
    /// Counts what was ever put into any device of this node (`diskseq`, Linux 5.15).
    sequence: Option<u64>,
}

impl Content<'_> {
    /// Waits for it to be no longer there; false if it stays. The device itself may stay, empty, as loop
    /// devices do, or already have something else in it.
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
        !self.device.path.exists()
            || self.device.read_size().map_or(true, |size| size == 0)
            || self.device.read_attribute("diskseq").ok() != self.sequence
    }
}

fn unreadable(path: &Path, error: impl Into<io::Error>) -> DeviceError {
    DeviceError::Io {
        path: path.to_owned(),
        source: error.into(),
    }
}

/// What a file is, in words.
pub(crate) fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::BlockDevice => "a block device",
        FileType::CharacterDevice => "a character device",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::Unknown => "something unknown",
    }
}
