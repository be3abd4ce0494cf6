//! What is kept with a file whose file system has no extended attributes, as NFS before 4.2: a hidden file beside it, which goes where it goes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{self as sys, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::place::Spot;

/// What the name ends with.
const SUFFIX: &str = ".gnt-disk";
/// The same while it is being written.
const NEW: &str = ".gnt-disk.new";
/// More than this is nothing of ours.
const LIMIT: u64 = 64 << 10;

fn name(spot: &Spot, suffix: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(&spot.name);
    name.push(suffix);
    name
}

/// By rename, so that a crash leaves the old or the new one.
pub(super) fn write(spot: &Spot, value: &[u8]) -> io::Result<()> {
    let (new, kept) = (name(spot, NEW), name(spot, SUFFIX));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(sys::openat(&spot.parent, &new, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(value)?;
    file.sync_all()?;
    sys::renameat(&spot.parent, &new, &spot.parent, &kept)?;
    Ok(sys::fsync(&spot.parent)?)
}

pub(super) fn read(spot: &Spot) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match sys::openat(&spot.parent, name(spot, SUFFIX), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => File::from(file?),
    };
    let mut value = Vec::new();
    file.take(LIMIT).read_to_end(&mut value)?;
    Ok(Some(value))
}

pub(super) fn remove(spot: &Spot) -> Result<(), Errno> {
    for suffix in [SUFFIX, NEW] {
        match sys::unlinkat(&spot.parent, name(spot, suffix), AtFlags::empty()) {
            Err(Errno::NOENT) => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// To beside where the file is now.
pub(super) fn rename(old: &Spot, new: &Spot) -> Result<(), Errno> {
    match sys::renameat(&old.parent, name(old, SUFFIX), &new.parent, name(new, SUFFIX)) {
        Err(Errno::NOENT) => Ok(()),
        renamed => renamed,
    }
}
