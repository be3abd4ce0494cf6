//! What can go wrong with a disk's bytes.

use std::io;
use std::path::PathBuf;

use strum::Display;

use crate::error::ErrorKind;

/// What was being done to a disk's bytes. In messages it is a verb: "cannot wipe disk/0".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Doing {
    /// Reading them.
    Read,
    /// Writing them.
    Write,
    /// Writing zeros over them.
    Wipe,
}

/// A disk's bytes could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// It has no device on this node now.
    #[error("it is not assembled there")]
    NotAssembled,
    /// The kernel does not see it.
    #[error("the node reaches it by {uri} only, which has no device")]
    OnlyUri {
        /// What a hypervisor is given.
        uri: String,
    },
    /// What is there is neither a device nor a file.
    #[error("{} is neither a block device nor a regular file", .path.display())]
    NotADisk {
        /// Where it is.
        path: PathBuf,
    },
    /// Something else uses its device.
    #[error("{} is in use on this node", .path.display())]
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// It is not that large.
    #[error("{length} bytes at {offset} are not all within its {bytes} bytes")]
    Outside {
        /// Where the range begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        length: u64,
        /// How large the disk is.
        bytes: u64,
    },
    /// An image is larger than what it may fill.
    #[error("the image {} has {bytes} bytes, and may have {most}", .path.display())]
    LargeImage {
        /// The image.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The greatest that it may have.
        most: u64,
    },
    /// More was asked for at once than is kept in memory.
    #[error("{length} bytes at once are too many: at most {most} are read")]
    TooLong {
        /// The length in bytes.
        length: u64,
        /// The greatest that there is.
        most: u64,
    },
    /// The operating system refused.
    #[error("cannot {doing} {} at byte {offset}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The device or file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be opened.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The device or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl TransferError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Io { source, .. } | Self::Open { source, .. } => ErrorKind::of_io(source),
            Self::NotAssembled
            | Self::OnlyUri { .. }
            | Self::NotADisk { .. }
            | Self::Outside { .. }
            | Self::LargeImage { .. }
            | Self::TooLong { .. } => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OnlyUri { .. } => Some("set the disk's parameter access to kernelspace".to_owned()),
            Self::Busy { path } => Some(format!("'lsblk {}' shows by what", path.display())),
            Self::LargeImage { .. } => Some("make the disk larger first".to_owned()),
            _ => None,
        }
    }
}
