//! Where file-based disks may be, and the only code that touches them.
//!
//! A path is used only if it lies below an allowed directory *and* the kernel agrees: the allowed directory is opened, and
//! everything below it is reached from there with `openat2(RESOLVE_BENEATH)`, so that neither `..` nor a symbolic link leads out,
//! not even one that appears in between. Where the way ends is checked once more against the directories that never
//! hold disks. (Ganeti's `CheckFileStoragePath` looks at the text of the path only, and its directory calls ignore the answer.)

mod error;
mod place;
mod side;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gnt_config::Mebibytes;
use rustix::fs::{self as sys, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, XattrFlags};
use rustix::io::Errno;

pub use error::{FileStorageError, Refusal};
use place::{Place, Root, Spot};

use crate::driver::{Change, Space};
use crate::host::Changes;
use crate::storage::StorageUnit;

/// Extended attribute that holds what is kept with a file.
const ATTRIBUTE: &str = "user.gnt-disk";
/// Files are for root, which is what hypervisors open them as.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// As Ganeti makes directories: 0750.
const DIRECTORY_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP);
/// How deep below an allowed directory files are looked for. Ganeti's are two levels deep, three with `--file-storage-dir`.
const SEARCH_DEPTH: usize = 8;

/// The directories below which file-based disks may be.
#[derive(Debug, Clone)]
pub struct FileStorage {
    roots: Vec<Root>,
    changes: Changes,
}

/// A regular file below an allowed directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

impl FileStorage {
    /// Allows `directories`, except [wrong](Self::wrong_directories) ones. Those below `state` are made when they are first needed; any
    /// other must be there, lest files end up under a file system that was not mounted.
    pub fn new(directories: &[PathBuf], state: Option<&Path>, changes: Changes) -> Self {
        let ours = |path: &Path| state.is_some_and(|state| path.starts_with(state));
        let roots = directories.iter().map(|path| Root::new(path, ours(path)));
        Self {
            roots: roots.collect(),
            changes,
        }
    }

    /// Allows what is below `root`, which is open as the directory called `path`, whatever is there meanwhile: for a file system that is mounted
    /// for the time that this lives.
    pub(crate) fn mounted(path: &Path, root: OwnedFd, changes: Changes) -> Self {
        Self {
            roots: vec![Root::opened(path, root)],
            changes,
        }
    }

    /// The directories given that cannot be used, with the reason (`ComputeWrongFileStoragePaths`): relative ones, and those in which
    /// the system or its users keep their own files.
    pub fn wrong_directories(&self) -> Vec<(&Path, Refusal)> {
        let wrong = self.roots.iter().map(|root| (root.path(), root.refusal()));
        wrong
            .filter_map(|(path, refusal)| Some((path, refusal?)))
            .collect()
    }

    /// Makes a directory (`file_storage_dir_create`), with those between it and the allowed directory, which is made too if it is ours.
    pub fn create_directory(&self, path: &Path) -> Result<Change, FileStorageError> {
        let place = self.locate(path)?;
        if place.open_directory()?.is_some() {
            return Ok(Change::AlreadyThere);
        }
        if self
            .changes
            .only_noted(|| format!("make the directory {}", path.display()))
        {
            return Ok(Change::Made);
        }
        place.make_directories(DIRECTORY_MODE)?;
        Ok(Change::Made)
    }

    /// Removes a directory in which nothing is left (`file_storage_dir_remove`).
    pub fn remove_directory(&self, path: &Path) -> Result<Change, FileStorageError> {
        let place = self.locate_below(path)?;
        let Some(directory) = place.open_directory()? else {
            return Ok(Change::AlreadyThere);
        };
        let entries = names(&directory).map_err(|e| place.io("list", e))?;
        if !entries.is_empty() {
            let path = path.to_owned();
            return Err(FileStorageError::NotEmpty { path, entries });
        }
        if self
            .changes
            .only_noted(|| format!("remove the directory {}", path.display()))
        {
            return Ok(Change::Made);
        }
        let Some(spot) = place.spot()? else {
            return Ok(Change::AlreadyThere);
        };
        spot.removed(sys::unlinkat(&spot.parent, &spot.name, AtFlags::REMOVEDIR))
    }

    /// Renames a directory (`file_storage_dir_rename`).
    pub fn rename_directory(&self, from: &Path, to: &Path) -> Result<Change, FileStorageError> {
        let (old, new) = (self.locate_below(from)?, self.locate_below(to)?);
        match (old.open_directory()?, new.open_directory()?) {
            (None, Some(_)) => return Ok(Change::AlreadyThere),
            (None, None) => {
                return Err(FileStorageError::NotFound {
                    path: from.to_owned(),
                });
            }
            (Some(_), Some(_)) => {
                return Err(FileStorageError::Exists {
                    path: to.to_owned(),
                    bytes: None,
                });
            }
            (Some(_), None) => {}
        }
        self.rename(from, &old.existing_spot()?, to, &new.existing_spot()?)
    }

    /// Makes a file of `size`, none of which takes up room yet. One of this size that is there already is left alone; one of size 0 is what
    /// a killed process leaves, and is completed.
    pub fn create(&self, path: &Path, size: Mebibytes) -> Result<Change, FileStorageError> {
        let note = || format!("make the file {} of {size}", path.display());
        let spot = match self.locate_below(path)?.spot()? {
            Some(spot) => spot,
            // Its directory would have been made before.
            None if self.changes.only_noted(note) => return Ok(Change::Made),
            None => {
                return Err(FileStorageError::NoDirectory {
                    path: path.to_owned(),
                });
            }
        };
        let unfinished = match spot.regular_file()? {
            None => false,
            Some(stat) if bytes_of(&stat) == size.bytes() => return Ok(Change::AlreadyThere),
            Some(stat) if bytes_of(&stat) == 0 => true,
            Some(stat) => {
                return Err(FileStorageError::Exists {
                    path: path.to_owned(),
                    bytes: Some(bytes_of(&stat)),
                });
            }
        };
        if self.changes.only_noted(note) {
            return Ok(Change::Made);
        }
        let file = if unfinished {
            spot.open(OFlags::RDWR)?
        } else {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            sys::openat(&spot.parent, &spot.name, flags, FILE_MODE).map_err(|e| spot.io("make", e))?
        };
        set_size(&file, size.bytes())
            .and_then(|()| sys::fsync(&spot.parent))
            .map_err(|e| {
                let _ = sys::unlinkat(&spot.parent, &spot.name, AtFlags::empty());
                spot.io("make", e)
            })?;
        Ok(Change::Made)
    }

    /// The size of a file in bytes; none if it is not there.
    pub fn size(&self, path: &Path) -> Result<Option<u64>, FileStorageError> {
        let Some(spot) = self.locate_below(path)?.spot()? else {
            return Ok(None);
        };
        Ok(spot.regular_file()?.map(|stat| bytes_of(&stat)))
    }

    /// Opens a file for reading, or for `writing` too.
    pub fn open(&self, path: &Path, writing: bool) -> Result<OwnedFd, FileStorageError> {
        let flags = match writing {
            true => OFlags::RDWR,
            false => OFlags::RDONLY,
        };
        self.locate_below(path)?.existing_spot()?.open(flags)
    }

    /// Enlarges a file to `size`; one that is as large or larger is left alone.
    pub fn grow(&self, path: &Path, size: Mebibytes, dry_run: bool) -> Result<Change, FileStorageError> {
        let spot = self.locate_below(path)?.existing_spot()?;
        let file = spot.open(OFlags::RDWR)?;
        let stat = sys::fstat(&file).map_err(|e| spot.io("look at", e))?;
        if bytes_of(&stat) >= size.bytes() {
            return Ok(Change::AlreadyThere);
        }
        if dry_run
            || self
                .changes
                .only_noted(|| format!("enlarge the file {} to {size}", path.display()))
        {
            return Ok(Change::Made);
        }
        set_size(&file, size.bytes()).map_err(|e| spot.io("enlarge", e))?;
        Ok(Change::Made)
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> Result<Change, FileStorageError> {
        let Some(spot) = self.locate_below(path)?.spot()? else {
            return Ok(Change::AlreadyThere);
        };
        if spot.regular_file()?.is_none() {
            if matches!(self.changes, Changes::Made) {
                // A process was killed before it removed that too.
                side::remove(&spot).map_err(|e| spot.io("remove what is kept with", e))?;
            }
            return Ok(Change::AlreadyThere);
        }
        if self
            .changes
            .only_noted(|| format!("remove the file {}", path.display()))
        {
            return Ok(Change::Made);
        }
        let removed = spot.removed(sys::unlinkat(&spot.parent, &spot.name, AtFlags::empty()))?;
        side::remove(&spot).map_err(|e| spot.io("remove what is kept with", e))?;
        Ok(removed)
    }

    /// Renames a file; nothing is ever replaced.
    pub fn rename_file(&self, from: &Path, to: &Path) -> Result<Change, FileStorageError> {
        let (old, new) = (self.locate_below(from)?, self.locate_below(to)?.existing_spot()?);
        let taken = new.regular_file()?;
        let Some(spot) = old.spot()? else {
            return missing_or_renamed(from, taken.is_some());
        };
        let Some(source) = spot.regular_file()? else {
            return missing_or_renamed(from, taken.is_some());
        };
        match taken {
            None => {
                let renamed = self.rename(from, &spot, to, &new)?;
                if matches!(self.changes, Changes::Made) {
                    side::rename(&spot, &new).map_err(|e| spot.io("rename what is kept with", e))?;
                }
                Ok(renamed)
            }
            Some(other) if (source.st_dev, source.st_ino) == (other.st_dev, other.st_ino) => {
                // Where renaming takes a second link, a process was killed before it removed the first.
                let _ = spot.removed(sys::unlinkat(&spot.parent, &spot.name, AtFlags::empty()))?;
                Ok(Change::Made)
            }
            Some(other) => Err(FileStorageError::Exists {
                path: to.to_owned(),
                bytes: Some(bytes_of(&other)),
            }),
        }
    }

    /// Keeps `value` with a file: in an extended attribute, or, if its file system has none, in a hidden file beside it.
    pub fn set_attribute(&self, path: &Path, value: &[u8]) -> Result<(), FileStorageError> {
        let place = self.locate_below(path)?;
        if self
            .changes
            .only_noted(|| format!("set the attribute {ATTRIBUTE} of {}", path.display()))
        {
            return Ok(());
        }
        let spot = place.existing_spot()?;
        let file = spot.open(OFlags::RDONLY)?;
        match sys::fsetxattr(&file, ATTRIBUTE, value, XattrFlags::empty()).and_then(|()| sys::fsync(&file)) {
            Ok(()) => Ok(()),
            Err(Errno::NOTSUP) => side::write(&spot, value).map_err(|source| kept_beside(path, source)),
            Err(error) => Err(spot.io("set an attribute of", error)),
        }
    }

    /// What is kept with a file; none if nothing is.
    pub fn attribute(&self, path: &Path) -> Result<Option<Vec<u8>>, FileStorageError> {
        let spot = self.locate_below(path)?.existing_spot()?;
        let file = spot.open(OFlags::RDONLY)?;
        let mut value = vec![0; 64 << 10];
        match sys::fgetxattr(&file, ATTRIBUTE, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(Errno::NOTSUP) => side::read(&spot).map_err(|source| kept_beside(path, source)),
            Err(error) => Err(spot.io("read an attribute of", error)),
        }
    }

    /// The regular files below the allowed directories whose name `wanted` accepts, in order. Symbolic links are not followed;
    /// directories that are not there are left out.
    pub fn files(&self, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<StoredFile>, FileStorageError> {
        let mut found = Vec::new();
        for root in self.roots.iter().filter(|root| root.refusal().is_none()) {
            if let Some(directory) = root.open()? {
                search(root.path(), &directory, SEARCH_DEPTH, wanted, &mut found)?;
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The room in the file systems of the allowed directories, as those have it who are not root (`GetFilesystemStats`). Directories that are
    /// not there are left out, but for ours.
    pub fn space(&self) -> Result<Vec<Space>, FileStorageError> {
        let usable = self.roots.iter().filter(|root| root.refusal().is_none());
        usable.filter_map(|root| root.space().transpose()).collect()
    }

    /// An allowed directory, or one below, with the room in its file system. What its files take, as they tell it, is `measured` if it is wanted.
    pub fn directory(&self, path: &Path, measured: bool) -> Result<StorageUnit, FileStorageError> {
        let place = self.locate(path)?;
        let Space { name, free, total } = place.space()?;
        let mut files = Vec::new();
        if let Some(directory) = measured.then(|| place.open_directory()).transpose()?.flatten() {
            search(path, &directory, SEARCH_DEPTH, &|_| true, &mut files)?;
        }
        let bytes = files.iter().map(|file| file.bytes);
        let bytes = bytes.fold(0, u64::saturating_add);
        Ok(StorageUnit {
            name,
            size: total,
            free,
            used: measured.then(|| Mebibytes::from_bytes(bytes)),
            allocatable: true,
        })
    }

    fn rename(&self, from: &Path, old: &Spot, to: &Path, new: &Spot) -> Result<Change, FileStorageError> {
        if self
            .changes
            .only_noted(|| format!("rename {} to {}", from.display(), to.display()))
        {
            return Ok(Change::Made);
        }
        let error = |errno: Errno| FileStorageError::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            source: errno.into(),
        };
        rename_noreplace(old, new)
            .and_then(|()| sys::fsync(&new.parent))
            .and_then(|()| sys::fsync(&old.parent))
            .map_err(error)?;
        Ok(Change::Made)
    }

    /// Where `path` is, which may be an allowed directory itself.
    fn locate<'a>(&'a self, path: &'a Path) -> Result<Place<'a>, FileStorageError> {
        Place::new(&self.roots, path)
    }

    /// Where `path` is, which must be below an allowed directory.
    fn locate_below<'a>(&'a self, path: &'a Path) -> Result<Place<'a>, FileStorageError> {
        let place = self.locate(path)?;
        if place.is_root() {
            return Err(place.refused(Refusal::IsStorageDirectory));
        }
        Ok(place)
    }
}

fn kept_beside(path: &Path, source: std::io::Error) -> FileStorageError {
    FileStorageError::Io {
        doing: "keep anything beside",
        path: path.to_owned(),
        source,
    }
}

fn missing_or_renamed(from: &Path, renamed: bool) -> Result<Change, FileStorageError> {
    if renamed {
        Ok(Change::AlreadyThere)
    } else {
        Err(FileStorageError::NotFound {
            path: from.to_owned(),
        })
    }
}

fn rename_noreplace(old: &Spot, new: &Spot) -> Result<(), Errno> {
    match sys::renameat_with(
        &old.parent,
        &old.name,
        &new.parent,
        &new.name,
        RenameFlags::NOREPLACE,
    ) {
        // The file system cannot promise that nothing is replaced (NFS).
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_by_link(old, new),
        result => result,
    }
}

/// A link never replaces anything. A directory cannot have a second one, but can replace nothing but an empty directory.
fn rename_by_link(old: &Spot, new: &Spot) -> Result<(), Errno> {
    match sys::linkat(&old.parent, &old.name, &new.parent, &new.name, AtFlags::empty()) {
        Ok(()) => sys::unlinkat(&old.parent, &old.name, AtFlags::empty()),
        Err(Errno::PERM) => sys::renameat(&old.parent, &old.name, &new.parent, &new.name),
        Err(error) => Err(error),
    }
}

fn set_size(file: &OwnedFd, bytes: u64) -> Result<(), Errno> {
    // What the kernel cannot count it calls invalid, and not too large.
    i64::try_from(bytes).map_err(|_| Errno::FBIG)?;
    sys::ftruncate(file, bytes)?;
    sys::fsync(file)
}

fn bytes_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// What is in a directory, without `.` and `..`.
fn names(directory: &OwnedFd) -> Result<Vec<String>, Errno> {
    let entries =
        Dir::read_from(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = entries.collect::<Result<_, Errno>>()?;
    names.retain(|name| name != "." && name != "..");
    names.sort();
    Ok(names)
}

fn search(
    path: &Path,
    directory: &OwnedFd,
    depth: usize,
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Vec<StoredFile>,
) -> Result<(), FileStorageError> {
    let error = |source: Errno| FileStorageError::Io {
        doing: "search",
        path: path.to_owned(),
        source: source.into(),
    };
    for name in names(directory).map_err(error)? {
        let Ok(stat) = sys::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if wanted(&name) => found.push(StoredFile {
                path: path.join(&name),
                bytes: bytes_of(&stat),
            }),
            FileType::Directory if depth > 1 => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match sys::openat(directory, &name, flags, Mode::empty()) {
                    Ok(below) => search(&path.join(&name), &below, depth - 1, wanted, found)?,
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(error(e)),
                }
            }
            _ => {}
        }
    }
    Ok(())
}
