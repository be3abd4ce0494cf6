//! What can go wrong with a file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::ErrorKind;

/// A file or directory for disks could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileStorageError {
    /// Disks may not be there.
    #[error("{} is not allowed for file storage: {reason}", .path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: Refusal,
    },
    /// The allowed directory itself is missing.
    #[error("the file storage directory {} is not there", .directory.display())]
    NoStorageDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory of a file is missing.
    #[error("the directory of {} is not there", .path.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is there.
    #[error("{} is not there", .path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The name is taken.
    #[error("{} is there already{}", .path.display(), .bytes.map(|bytes| format!(" and has {bytes} bytes")).unwrap_or_default())]
    Exists {
        /// The path.
        path: PathBuf,
        /// Its size, if it is a file.
        bytes: Option<u64>,
    },
    /// Something else than a regular file is there.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Something else than a directory is there.
    #[error("{} is not a directory", .path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Something is left in a directory that should go.
    #[error("the directory {} is not empty: it has {}", .path.display(), some(.entries))]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is left.
        entries: Vec<String>,
    },
    /// Renaming was refused by the operating system.
    #[error("cannot rename {} to {}", .from.display(), .to.display())]
    Rename {
        /// The name until now.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else was refused by the operating system.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a path is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It does not begin with a slash.
    Relative,
    /// It has a part `..`.
    DotDot,
    /// It has a byte 0.
    Nul,
    /// It is in, or is, a directory that the system or its users keep their own files in.
    Forbidden(&'static str),
    /// It is not below any of these.
    Outside(Vec<PathBuf>),
    /// A symbolic link below the allowed directory leads out of it.
    Escapes,
    /// It is an allowed directory itself, where something below one is needed.
    IsStorageDirectory,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative => f.write_str("the path is not absolute"),
            Self::DotDot => f.write_str("the path has a part '..'"),
            Self::Nul => f.write_str("the path has a byte 0"),
            Self::Forbidden(directory) => write!(f, "{directory} never holds disks"),
            Self::Outside(allowed) if allowed.is_empty() => f.write_str("no directory is allowed"),
            Self::Outside(allowed) => {
                f.write_str("it is not below")?;
                let mut separator = " ";
                for path in allowed {
                    write!(f, "{separator}{}", path.display())?;
                    separator = ", ";
                }
                Ok(())
            }
            Self::Escapes => f.write_str("a symbolic link leads out of the allowed directory"),
            Self::IsStorageDirectory => f.write_str("it is a file storage directory itself"),
        }
    }
}

impl FileStorageError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoDirectory { .. } | Self::NoStorageDirectory { .. } => {
                ErrorKind::NotFound
            }
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::NotEmpty { .. } => ErrorKind::Busy,
            Self::Rename { source, .. } | Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Refused { .. } | Self::NotAFile { .. } | Self::NotADirectory { .. } => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused {
                reason: Refusal::Outside(_),
                ..
            } => Some(
                "'gnt-disk cluster modify --add-file-storage-path DIR' allows what is below a directory"
                    .to_owned(),
            ),
            Self::NoStorageDirectory { directory } => Some(format!(
                "mount its file system, or make it: `mkdir -p {}`",
                directory.display()
            )),
            Self::NoDirectory { path } => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                Some(format!("make it: `mkdir -p {}`", parent.display()))
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                Some("file storage needs openat2: Linux 5.6 or later, not hidden by a sandbox".to_owned())
            }
            Self::Rename { source, .. } if source.kind() == io::ErrorKind::CrossesDevices => {
                Some("both must be on the same file system: convert or move the disk instead".to_owned())
            }
            _ => None,
        }
    }
}

fn some(entries: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = entries
        .iter()
        .take(SHOWN)
        .map(|name| format!("'{}'", name.escape_debug()));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match entries.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
