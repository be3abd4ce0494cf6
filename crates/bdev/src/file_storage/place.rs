//! From a path to a file descriptor, and never to one outside the allowed directories.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use gnt_config::Mebibytes;
use rustix::fs::{self as sys, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::{FileStorageError, Refusal};
use crate::driver::{Change, Space};

/// Directories that never hold disks, nor does anything below them (`_GetForbiddenFileStoragePaths`).
const FORBIDDEN: [&str; 22] = [
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/proc",
    "/root",
    "/sys",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/lib32",
    "/usr/local/lib64",
    "/usr/local/sbin",
];

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An allowed directory.
#[derive(Debug, Clone)]
pub(super) struct Root {
    path: PathBuf,
    /// Whether it is made when it is missing.
    ours: bool,
    refusal: Option<Refusal>,
    opened: Option<Arc<OwnedFd>>,
}

impl Root {
    pub(super) fn new(path: &Path, ours: bool) -> Self {
        Self {
            path: path.components().collect(),
            ours,
            refusal: checked(path).and_then(allowed_by_name).err(),
            opened: None,
        }
    }

    pub(super) fn opened(path: &Path, opened: OwnedFd) -> Self {
        Self {
            opened: Some(Arc::new(opened)),
            ..Self::new(path, false)
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.clone()
    }

    /// The directory; none if it is missing.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>, FileStorageError> {
        match &self.opened {
            None => open_directory(&self.path),
            Some(opened) => {
                let again = sys::openat(&**opened, ".", DIRECTORY, Mode::empty());
                again.map(Some).map_err(|error| io("open", &self.path, error))
            }
        }
    }

    /// The room in its file system; none if it is missing. One of ours will be in that of the directory above.
    pub(super) fn space(&self) -> Result<Option<Space>, FileStorageError> {
        let mut directory = self.open()?;
        let mut above = self.path.ancestors().skip(1).filter(|_| self.ours);
        while directory.is_none() {
            let Some(path) = above.next() else { return Ok(None) };
            directory = open_directory(path)?;
        }
        let Some(directory) = directory else {
            return Ok(None);
        };
        space_of(&directory, &self.path).map(Some)
    }
}

/// A path below an allowed directory, as far as its text says.
pub(super) struct Place<'a> {
    root: &'a Root,
    relative: PathBuf,
    path: &'a Path,
}

impl<'a> Place<'a> {
    pub(super) fn new(roots: &'a [Root], path: &'a Path) -> Result<Self, FileStorageError> {
        let refused = |reason| FileStorageError::Refused {
            path: path.to_owned(),
            reason,
        };
        checked(path).and_then(allowed_by_name).map_err(refused)?;
        let usable = roots.iter().filter(|root| root.refusal.is_none());
        let above = usable.clone().filter(|root| path.starts_with(&root.path));
        let Some(root) = above.max_by_key(|root| root.path.components().count()) else {
            return Err(refused(Refusal::Outside(
                usable.map(|root| root.path.clone()).collect(),
            )));
        };
        let relative = path.strip_prefix(&root.path).unwrap_or(Path::new(""));
        Ok(Self {
            root,
            relative: relative.components().collect(),
            path,
        })
    }

    /// Whether it is the allowed directory itself.
    pub(super) fn is_root(&self) -> bool {
        self.relative.as_os_str().is_empty()
    }

    pub(super) fn refused(&self, reason: Refusal) -> FileStorageError {
        FileStorageError::Refused {
            path: self.path.to_owned(),
            reason,
        }
    }

    pub(super) fn io(&self, doing: &'static str, error: Errno) -> FileStorageError {
        io(doing, self.path, error)
    }

    /// The directory; none if it, or one above it, is missing.
    pub(super) fn open_directory(&self) -> Result<Option<OwnedFd>, FileStorageError> {
        match self.open_root()? {
            Some(root) => self.open_below(&root, &self.relative),
            None => Ok(None),
        }
    }

    /// The room in the file system of the directory, which must be there unless it is ours to make.
    pub(super) fn space(&self) -> Result<Space, FileStorageError> {
        match self.open_directory()? {
            Some(directory) => space_of(&directory, self.path),
            None if self.is_root() => self.root.space()?.ok_or_else(|| self.not_found()),
            None => Err(self.not_found()),
        }
    }

    /// Makes the directory and those above it, up to the allowed one.
    pub(super) fn make_directories(&self, mode: Mode) -> Result<(), FileStorageError> {
        let root = match self.open_root()? {
            Some(root) => root,
            None => self.make_root(mode)?,
        };
        let mut directory = rustix::io::dup(&root).map_err(|e| self.io("make", e))?;
        let mut below = PathBuf::new();
        for name in &self.relative {
            below.push(name);
            self.make_directory(&directory, name, mode)?;
            directory = self.open_below(&root, &below)?.ok_or_else(|| self.not_found())?;
        }
        Ok(())
    }

    /// Makes the allowed directory, from the first one above it that is there.
    fn make_root(&self, mode: Mode) -> Result<OwnedFd, FileStorageError> {
        let mut missing = Vec::new();
        let mut above = self.root.path.ancestors();
        let mut directory = loop {
            let path = above.next().ok_or_else(|| self.not_found())?;
            match open_directory(path)? {
                Some(directory) => break directory,
                None => missing.extend(path.file_name()),
            }
        };
        for name in missing.into_iter().rev() {
            self.check_real_path(&directory)?;
            self.make_directory(&directory, name, mode)?;
            let made = sys::openat(&directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            directory = made.map_err(|e| self.io("make", e))?;
        }
        Ok(directory)
    }

    fn make_directory(&self, parent: &OwnedFd, name: &OsStr, mode: Mode) -> Result<(), FileStorageError> {
        match sys::mkdirat(parent, name, mode).and_then(|()| sys::fsync(parent)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(self.io("make", error)),
        }
    }

    /// Its name in its directory; none if the directory is missing.
    pub(super) fn spot(&self) -> Result<Option<Spot>, FileStorageError> {
        let (Some(name), Some(parent)) = (self.relative.file_name(), self.relative.parent()) else {
            return Err(self.refused(Refusal::IsStorageDirectory));
        };
        let Some(root) = self.open_root()? else {
            return Ok(None);
        };
        Ok(self.open_below(&root, parent)?.map(|parent| Spot {
            parent,
            name: name.to_owned(),
            path: self.path.to_owned(),
        }))
    }

    /// Its name in its directory, which must be there.
    pub(super) fn existing_spot(&self) -> Result<Spot, FileStorageError> {
        self.spot()?.ok_or_else(|| FileStorageError::NoDirectory {
            path: self.path.to_owned(),
        })
    }

    fn not_found(&self) -> FileStorageError {
        FileStorageError::NotFound {
            path: self.path.to_owned(),
        }
    }

    /// The allowed directory; none if it is missing and ours to make.
    fn open_root(&self) -> Result<Option<OwnedFd>, FileStorageError> {
        let root = self.root.open()?;
        if let Some(root) = &root {
            self.check_real_path(root)?;
        } else if !self.root.ours {
            return Err(FileStorageError::NoStorageDirectory {
                directory: self.root.path.clone(),
            });
        }
        Ok(root)
    }

    /// A directory below the allowed one; none if it is missing.
    fn open_below(&self, root: &OwnedFd, relative: &Path) -> Result<Option<OwnedFd>, FileStorageError> {
        /// A rename elsewhere at the same time makes the kernel give up on a link with `..`; so often in a row it is no accident.
        const ATTEMPTS: usize = 100;
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || sys::openat2(root, relative, DIRECTORY, Mode::empty(), resolve);
        let mut opened = open();
        for _ in 1..ATTEMPTS {
            if opened.as_ref().err() != Some(&Errno::AGAIN) {
                break;
            }
            opened = open();
        }
        match opened {
            Ok(directory) => {
                self.check_real_path(&directory)?;
                Ok(Some(directory))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::XDEV) => Err(self.refused(Refusal::Escapes)),
            Err(Errno::NOTDIR) => Err(FileStorageError::NotADirectory {
                path: self.root.path.join(relative),
            }),
            Err(error) => Err(self.io("open", error)),
        }
    }

    /// Refuses a directory that is in a forbidden one, whatever links led there.
    fn check_real_path(&self, directory: &OwnedFd) -> Result<(), FileStorageError> {
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let real = std::fs::read_link(&link).map_err(|source| FileStorageError::Io {
            doing: "find the real path of",
            path: self.path.to_owned(),
            source,
        })?;
        allowed_by_name(&real).map_err(|reason| self.refused(reason))?;
        Ok(())
    }
}

/// A name in an open directory that is allowed.
pub(super) struct Spot {
    pub(super) parent: OwnedFd,
    pub(super) name: OsString,
    path: PathBuf,
}

impl Spot {
    pub(super) fn io(&self, doing: &'static str, error: Errno) -> FileStorageError {
        io(doing, &self.path, error)
    }

    /// What the file is; none if nothing has the name.
    pub(super) fn regular_file(&self) -> Result<Option<Stat>, FileStorageError> {
        match sys::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Some(stat)),
            Ok(_) => Err(FileStorageError::NotAFile {
                path: self.path.clone(),
            }),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.io("look at", error)),
        }
    }

    /// Opens the regular file.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, FileStorageError> {
        if self.regular_file()?.is_none() {
            return Err(FileStorageError::NotFound {
                path: self.path.clone(),
            });
        }
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        sys::openat(&self.parent, &self.name, flags, Mode::empty()).map_err(|e| self.io("open", e))
    }

    /// Completes a removal: what is gone already is fine, and what was removed stays so after a power cut.
    pub(super) fn removed(&self, result: Result<(), Errno>) -> Result<Change, FileStorageError> {
        match result.and_then(|()| sys::fsync(&self.parent)) {
            Ok(()) => Ok(Change::Made),
            Err(Errno::NOENT) => Ok(Change::AlreadyThere),
            Err(error) => Err(self.io("remove", error)),
        }
    }
}

/// The path, if its text can be trusted to mean what it says.
fn checked(path: &Path) -> Result<&Path, Refusal> {
    if !path.is_absolute() {
        Err(Refusal::Relative)
    } else if path.components().any(|part| part == Component::ParentDir) {
        Err(Refusal::DotDot)
    } else if path.as_os_str().as_bytes().contains(&0) {
        Err(Refusal::Nul)
    } else {
        Ok(path)
    }
}

fn allowed_by_name(path: &Path) -> Result<&Path, Refusal> {
    match FORBIDDEN.iter().find(|forbidden| path.starts_with(forbidden)) {
        Some(forbidden) => Err(Refusal::Forbidden(forbidden)),
        None => Ok(path),
    }
}

fn space_of(directory: &OwnedFd, path: &Path) -> Result<Space, FileStorageError> {
    let stat = sys::fstatvfs(directory).map_err(|error| io("look at", path, error))?;
    let mebibytes = |blocks: u64| Mebibytes::from_bytes(blocks.saturating_mul(stat.f_frsize));
    Ok(Space {
        name: path.to_string_lossy().into_owned(),
        free: mebibytes(stat.f_bavail),
        total: mebibytes(stat.f_blocks),
    })
}

fn open_directory(path: &Path) -> Result<Option<OwnedFd>, FileStorageError> {
    match sys::openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => Err(FileStorageError::NotADirectory {
            path: path.to_owned(),
        }),
        Err(error) => Err(io("open", path, error)),
    }
}

fn io(doing: &'static str, path: &Path, error: Errno) -> FileStorageError {
    FileStorageError::Io {
        doing,
        path: path.to_owned(),
        source: error.into(),
    }
}
