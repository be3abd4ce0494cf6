//! The log of a provider: one file, one entry per action, rotated by size.
//!
//! Several processes may write at once: each entry is one write at the end of the file, and whoever writes or
//! rotates holds the file's lock (flock(2)).

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gnt_process::Command;
use jiff::Timestamp;
use thiserror::Error;

use crate::action::Action;
use crate::text::escape;

/// How many bytes a file holds before a new one is begun.
pub const LOG_FILE_SIZE: u64 = 1 << 20;

/// How many files of a provider are kept: `PROVIDER.log`, which is being written, then `PROVIDER.log.1`, and
/// so on, the oldest last.
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
    /// Shown with its environment, secrets left out.
    pub(crate) command: Option<&'a Command>,
    /// Escaped.
    pub(crate) stdout: &'a str,
    /// Escaped.
    pub(crate) stderr: &'a str,
}

impl Entry<'_> {
    /// A line that says what happened, and below it, indented, the command and what it printed.
    fn text(&self) -> String {
        let mut text = String::with_capacity(1024);
        // Writing to a String cannot fail.
        let _ = write!(text, "{:.3} {}", self.started, self.action.script());
        for (key, value) in [
            ("volume", self.volume),
            ("instance", self.instance),
            ("operation", self.operation),
        ] {
            if let Some(value) = value {
                let value = escape(value).replace([' ', '\n', '\t'], "_");
                let _ = write!(text, " {key}={value}");
            }
        }
        if let Some(duration) = self.duration {
            let _ = write!(text, " took={:.3}s", duration.as_secs_f64());
        }
        push_lines(&mut text, ": ", "    ", self.outcome);
        if let Some(command) = self.command {
            let _ = writeln!(text, "    $ {command:#}");
        }
        for (prefix, output) in [("    stdout| ", self.stdout), ("    stderr| ", self.stderr)] {
            push_lines(&mut text, prefix, prefix, output);
        }
        text
    }
}

/// Adds lines; what would begin a line of its own at the margin is indented, so that no output looks like an
/// entry.
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
        // Cheaper than its metadata: when its times are asked for, the kernel sets a new one at the next write.
        let size = file.seek(SeekFrom::End(0))?;
        if size == 0 || size + entry.len() as u64 <= file_size {
            return file.write_all(entry);
        }
        // Somebody else may have rotated it while we waited.
        if is_still(path, &file.metadata()?) {
            rotate(path)?;
        } else if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
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
    let older = |age: usize| {
        let mut name = path.as_os_str().to_owned();
        if age > 0 {
            name.push(format!(".{age}"));
        }
        name
    };
    for age in (0..LOG_FILES - 1).rev() {
        match fs::rename(older(age), older(age + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn entry<'a>() -> Entry<'a> {
        Entry {
            started: Timestamp::UNIX_EPOCH,
            action: Action::Attach,
            volume: Some("u.ext.disk0"),
            instance: Some("web 1"),
            operation: Some("17"),
            outcome: "exit status 0",
            duration: Some(Duration::from_millis(12)),
            command: None,
            stdout: "/dev/loop0\n",
            stderr: "one\n\n1970-01-01T00:00:00.000Z attach: forged",
        }
    }

    #[test]
    fn an_entry_is_one_line_at_the_margin() {
        let command = Command::change("/p/attach")
            .env("VOL_NAME", "u.ext.disk0")
            .env("X", "a\nb");
        let action = Entry {
            command: Some(&command),
            ..entry()
        };
        assert_eq!(
            action.text(),
            "1970-01-01T00:00:00.000Z attach volume=u.ext.disk0 instance=web_1 operation=17 took=0.012s: exit status 0\n\
             \x20   $ env VOL_NAME=u.ext.disk0 X=$'a\\nb' /p/attach\n\
             \x20   stdout| /dev/loop0\n\
             \x20   stderr| one\n\
             \x20   stderr| \n\
             \x20   stderr| 1970-01-01T00:00:00.000Z attach: forged\n"
        );
        let finding = Entry {
            volume: None,
            instance: None,
            operation: None,
            outcome: "first\nsecond",
            duration: None,
            command: None,
            stdout: "",
            stderr: "",
            ..entry()
        };
        assert_eq!(
            finding.text(),
            "1970-01-01T00:00:00.000Z attach: first\n    second\n"
        );
    }

    #[test]
    fn the_directory_is_made_and_nobody_else_reads() {
        let temp = tempfile::tempdir().unwrap();
        let log = Log::new(temp.path().join("a/b"));
        log.append("nas", &entry()).unwrap();
        log.append("nas", &entry()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&temp.path().join("a/b")) & !0o750, 0);
        assert_eq!(mode(&log.path("nas")) & !0o640, 0);
        assert_eq!(
            fs::read_to_string(log.path("nas")).unwrap(),
            entry().text().repeat(2)
        );
    }

    #[test]
    fn the_oldest_file_goes() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("nas.log");
        for i in 0..20 {
            write_entry(&path, format!("entry {i:02}\n").as_bytes(), 20).unwrap();
        }
        let mut files: Vec<(String, String)> = fs::read_dir(temp.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    fs::read_to_string(entry.path()).unwrap(),
                )
            })
            .collect();
        files.sort();
        let expected = [
            ("nas.log", "entry 18\nentry 19\n"),
            ("nas.log.1", "entry 16\nentry 17\n"),
            ("nas.log.2", "entry 14\nentry 15\n"),
            ("nas.log.3", "entry 12\nentry 13\n"),
            ("nas.log.4", "entry 10\nentry 11\n"),
        ];
        assert_eq!(
            files,
            expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
        );
    }

    #[test]
    fn an_entry_larger_than_a_file_is_written_all_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("nas.log");
        write_entry(&path, &[b'x'; 100], 20).unwrap();
        write_entry(&path, b"next", 20).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"next");
        assert_eq!(fs::metadata(temp.path().join("nas.log.1")).unwrap().len(), 100);
    }

    /// Each writer opens the file anew, so threads exclude each other as processes do.
    #[test]
    fn nothing_is_lost_or_mixed_when_many_write_and_rotate() {
        const WRITERS: usize = 8;
        const ENTRIES: usize = 100;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("nas.log");
        let line = |writer, i| format!("writer {writer} entry {i:03} {}\n", "x".repeat(60));
        let size = (WRITERS * ENTRIES * line(0, 0).len()) as u64 / 4;
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let path = &path;
                scope.spawn(move || {
                    for i in 0..ENTRIES {
                        write_entry(path, line(writer, i).as_bytes(), size).unwrap();
                    }
                });
            }
        });
        let files = fs::read_dir(temp.path()).unwrap();
        let all: String = files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        let mut lines: Vec<&str> = all.lines().collect();
        lines.sort_unstable();
        let expected: Vec<String> = (0..WRITERS)
            .flat_map(|writer| (0..ENTRIES).map(move |i| line(writer, i)))
            .collect();
        assert_eq!(
            lines,
            expected.iter().map(|line| line.trim_end()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_lock_that_is_never_released_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("nas.log");
        let held = open(&path).unwrap();
        held.lock().unwrap();
        let error = lock(&open(&path).unwrap(), Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_link_in_place_of_the_log_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", temp.path().join("nas.log")).unwrap();
        let error = Log::new(temp.path().to_owned())
            .append("nas", &entry())
            .unwrap_err();
        assert_eq!(error.path, temp.path().join("nas.log"));
    }
}
