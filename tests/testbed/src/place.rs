//! Where a testbed has its files, and how many guests this machine runs at once.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Error;

const PREFIX: &str = "gnt-testbed.";

/// Guests at once.
const SEATS: usize = 4;

/// Longer than any test that others wait for.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The directory of a new testbed, and the file in it whose lock says that it is in use. What dead testbeds left is removed.
pub(crate) fn new_dir(name: &str) -> Result<(PathBuf, File), Error> {
    let _one_at_a_time = lock(&shared_dir()?.join("directories"))?;
    let base = env::temp_dir();
    let entries = fs::read_dir(&base).map_err(Error::file(&base))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            remove_if_dead(&entry.path());
        }
    }
    let dir = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{name}."))
        .tempdir_in(&base)
        .map_err(Error::file(&base))?
        .keep();
    let log = lock(&dir.join("keeper"))?;
    Ok((dir, log))
}

/// What cannot be removed now is tried again next time.
fn remove_if_dead(dir: &Path) {
    let in_use = File::open(dir.join("keeper"))
        .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK));
    if !in_use {
        let _ = fs::remove_dir_all(dir);
    }
}

/// The right to run a number of guests.
pub(crate) struct Seats {
    _locks: Vec<File>,
}

impl Seats {
    /// Waits until there is room for `wanted`. Who waits first gets room first.
    pub(crate) fn take(wanted: usize) -> Result<Self, Error> {
        let dir = shared_dir()?;
        let started = Instant::now();
        let full = || Error::Full {
            wanted,
            limit: SEATS,
            after: started.elapsed(),
        };
        if wanted > SEATS {
            return Err(full());
        }
        let _queue = lock(&dir.join("queue"))?;
        loop {
            let locks: Vec<_> = (0..SEATS)
                .filter_map(|seat| try_lock(&dir.join(format!("seat{seat}"))).transpose())
                .take(wanted)
                .collect::<Result<_, _>>()?;
            if locks.len() == wanted {
                return Ok(Self { _locks: locks });
            }
            if started.elapsed() > PATIENCE {
                return Err(full());
            }
            drop(locks);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What all test processes on this machine share.
fn shared_dir() -> Result<PathBuf, Error> {
    let dir = env::temp_dir().join("gnt-testbed");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(Error::file(&dir))?;
    Ok(dir)
}

fn open(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(Error::file(path))
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = open(path)?;
    match flock(&file, FlockOperation::LockExclusive) {
        Ok(()) => Ok(file),
        Err(error) => Err(Error::file(path)(io::Error::from(error))),
    }
}

fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::file(path)(io::Error::from(error))),
    }
}
