//! The log of a provider: one file, one entry per action, rotated by size.
//!
//! Several processes may write at once: each entry is one write at the end of the file, and whoever writes or rotates holds
//! the file's lock (flock(2)).

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;

use crate::action::Action;
use crate::text::escape;

/// How many bytes a file holds before a new one is begun.
pub const LOG_FILE_SIZE: u64 = 1 << 20;

/// How many files of a provider are kept: `PROVIDER.log`, which is being written, then `PROVIDER.log.1`, and so on, the
/// oldest last.
pub const LOG_FILES: usize = 5;

/// How long another process may hold the lock. It holds it for one write.
const PATIENCE: Duration = Duration::from_secs(2);

/// An action could not be logged. It was done all the same.
#[derive(Debug, Error)]
#[error("cannot write to the log {}", path.display())]
pub struct LogError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// One action, as it is logged.
pub(crate) struct Entry<'a> {
    pub(crate) started: Timestamp,
    pub(crate) action: Action,
    pub(crate) volume: Option<&'a str>,
    pub(crate) instance: Option<&'a str>,
    pub(crate) operation: Option<&'a str>,
    /// How it ended; for what was found out afterwards no duration.
    pub(crate) outcome: &'a str,
    pub(crate) duration: Option<Duration>,
    /// The command line with its environment, secrets left out.
    pub(crate) command: Option<&'a str>,
    /// Escaped.
    pub(crate) stdout: &'a str,
    /// Escaped.
    pub(crate) stderr: &'a str,
}

impl Entry<'_> {
    /// A line that says what happened, and below it, indented, the command and what it printed.
    fn text(&self) -> String {
        let mut text = format!("{:.3} {}", self.started, self.action);
        for (key, value) in [
            ("volume", self.volume),
            ("instance", self.instance),
            ("operation", self.operation),
        ] {
            if let Some(value) = value {
                text.push_str(&format!(
                    " {key}={}",
                    escape(value).replace([' ', '\n', '\t'], "_")
                ));
            }
        }
        if let Some(duration) = self.duration {
            text.push_str(&format!(" took={:.3}s", duration.as_secs_f64()));
        }
        push_lines(&mut text, ": ", "    ", self.outcome);
        if let Some(command) = self.command {
            push_lines(&mut text, "    $ ", "      ", command);
        }
        for (name, output) in [("stdout", self.stdout), ("stderr", self.stderr)] {
            let prefix = format!("    {name}| ");
            for line in output.lines() {
                push_lines(&mut text, &prefix, &prefix, line);
            }
        }
        text
    }
}

/// Adds lines; what would begin a line of its own at the margin is indented, so that no output looks like an entry.
fn push_lines(text: &mut String, first: &str, further: &str, lines: &str) {
    let mut prefix = first;
    for line in lines.lines() {
        text.push_str(prefix);
        text.push_str(line);
        text.push('\n');
        prefix = further;
    }
}

/// The logs of all providers.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    dir: PathBuf,
}

impl Log {
    pub(crate) fn new(dir: PathBuf) -> Log {
        Log { dir }
    }

    pub(crate) fn path(&self, provider: &str) -> PathBuf {
        self.dir.join(format!("{provider}.log"))
    }

    pub(crate) fn append(&self, provider: &str, entry: &Entry<'_>) -> Result<(), LogError> {
        let path = self.path(provider);
        write_entry(&path, entry.text().as_bytes(), LOG_FILE_SIZE).map_err(|source| LogError { path, source })
    }
}

fn write_entry(path: &Path, entry: &[u8], file_size: u64) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut file = open(path)?;
        lock(&file, deadline)?;
        let held = file.metadata()?;
        if !is_still(path, &held) {
            // Somebody rotated it while we waited.
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            continue;
        }
        if held.len() > 0 && held.len() + entry.len() as u64 > file_size {
            rotate(path)?;
            continue;
        }
        return file.write_all(entry);
    }
}

fn open(path: &Path) -> io::Result<File> {
    let attempt = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
    };
    match (attempt(), path.parent()) {
        (Err(error), Some(dir)) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
            attempt()
        }
        (result, _) => result,
    }
}

/// Released when the file is closed.
fn lock(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn is_still(path: &Path, held: &fs::Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (held.dev(), held.ino()))
}

fn rotate(path: &Path) -> io::Result<()> {
    let older = |age: usize| match age {
        0 => path.to_owned(),
        _ => PathBuf::from(format!("{}.{age}", path.display())),
    };
    for age in (0..LOG_FILES - 1).rev() {
        match fs::rename(older(age), older(age + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
