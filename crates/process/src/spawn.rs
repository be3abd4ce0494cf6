//! Starting a program: finding it, setting its surroundings, and saying why it did not start.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{Access, access};

use crate::{Command, RunError};

/// The `PATH` of every program, and the one in which it is looked up, unless the caller sets another.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts the program in a process group of its own, with pipes at stdout and stderr, and at stdin if there
/// is input.
pub(crate) fn spawn(command: &Command) -> Result<Child, RunError> {
    let program = find(command)?;
    let stdin = if command.get_stdin().is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    // Given a path, std takes posix_spawn, which copies none of our memory, whatever PATH we set. argv[0]
    // stays the name as given: some providers and lvm dispatch on it.
    let mut process = std::process::Command::new(&program);
    process
        .arg0(command.get_program())
        .args(command.get_args())
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .env("HOME", "/root")
        .env("LC_ALL", "C")
        .envs(command.get_envs())
        .process_group(0)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(cwd) = command.get_cwd() {
        process.current_dir(cwd);
    }
    retry_while_busy(|| process.spawn()).map_err(|error| explain(command, program, error))
}

/// A script that is being replaced, or that a process just being forked still has open for writing, cannot be
/// executed for a moment (ETXTBSY).
fn retry_while_busy<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..20 {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(PAUSE),
            result => return result,
        }
    }
    attempt()
}

/// The program as execvp(3) finds it, except that directories in `PATH` which are not absolute do not count:
/// root does not run what happens to lie in the current directory.
fn find(command: &Command) -> Result<PathBuf, RunError> {
    let program = command.get_program();
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let path = command.get_env("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut denied = None;
    for directory in std::env::split_paths(path).filter(|directory| directory.is_absolute()) {
        let candidate = directory.join(program);
        match access(&candidate, Access::EXEC_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Err(error) if error == rustix::io::Errno::ACCESS && candidate.is_file() => {
                denied.get_or_insert(RunError::NotExecutable {
                    program: candidate,
                    source: error.into(),
                });
            }
            _ => {}
        }
    }
    Err(denied.unwrap_or_else(|| RunError::not_found(program)))
}

/// The kernel has one error number for several causes: looks which it was.
fn explain(command: &Command, program: PathBuf, source: io::Error) -> RunError {
    if let Some(cwd) = command.get_cwd()
        && let Err(source) = fs::metadata(cwd.join("."))
    {
        return RunError::NoDirectory {
            program,
            cwd: cwd.to_owned(),
            source,
        };
    }
    let file = command.get_cwd().unwrap_or(Path::new("")).join(&program);
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory if !file.exists() => {
            RunError::not_found(command.get_program())
        }
        ErrorKind::NotFound => RunError::NoInterpreter {
            program,
            interpreter: interpreter(&file),
        },
        ErrorKind::PermissionDenied => RunError::NotExecutable { program, source },
        _ if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            RunError::NotAProgram { program, source }
        }
        _ => RunError::Spawn {
            command: command.to_string(),
            source,
        },
    }
}

/// What the first line of a script names, as the kernel reads it. A binary needs the loader of its libraries.
fn interpreter(file: &Path) -> PathBuf {
    let mut start = Vec::new();
    let read = File::open(file).and_then(|file| file.take(256).read_to_end(&mut start));
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    match line.strip_prefix(b"#!") {
        Some(words) if read.is_ok() => {
            let mut words = words
                .split(|byte| b" \t".contains(byte))
                .filter(|word| !word.is_empty());
            OsStr::from_bytes(words.next().unwrap_or_default()).into()
        }
        _ => PathBuf::from("ld.so"),
    }
}
