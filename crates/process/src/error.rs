//! What can go wrong.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::quote::quote;
use crate::{Captured, Command, Output, Status, tools};

/// A command could not be run to its end. Secrets of the command are in none of the fields.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no such program.
    #[error("the program {} was not found", quote(program.as_os_str()))]
    NotFound {
        /// As the command gave it.
        program: PathBuf,
        /// The Debian package that has it, if we know.
        package: Option<&'static str>,
    },
    /// The file is there, but may not be executed.
    #[error("{} cannot be executed", quote(program.as_os_str()))]
    NotExecutable {
        /// The file.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The script is there, but what its first line names is not; or a binary's loader is not.
    #[error("the interpreter {} that {} asks for was not found", quote(interpreter.as_os_str()), quote(program.as_os_str()))]
    NoInterpreter {
        /// The script.
        program: PathBuf,
        /// The interpreter.
        interpreter: PathBuf,
    },
    /// The file is executable, but it is neither a binary for this machine nor does its first line name an
    /// interpreter.
    #[error("{} is not a program", quote(program.as_os_str()))]
    NotAProgram {
        /// The file.
        program: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The directory to run in is not there, or is no directory.
    #[error("the directory {} in which to run {} cannot be entered", quote(cwd.as_os_str()), quote(program.as_os_str()))]
    NoDirectory {
        /// The program.
        program: PathBuf,
        /// The directory.
        cwd: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program could not be started for another reason.
    #[error("`{command}` could not be started")]
    Spawn {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program did not end in time and was killed, together with what it had started.
    #[error("`{command}` did not end within {after:?} and {}", fate(*.stuck))]
    TimedOut {
        /// The command line.
        command: String,
        /// How long it was allowed to run.
        after: Duration,
        /// What it had printed on standard output.
        stdout: Box<Captured>,
        /// What it had printed on standard error.
        stderr: Box<Captured>,
        /// The id of the process if even SIGKILL did not end it: it waits in the kernel, often for a device.
        stuck: Option<u32>,
    },
    /// The program ran, but we could not follow it; it was killed.
    #[error("`{command}` could not be followed")]
    Io {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn fate(stuck: Option<u32>) -> String {
    match stuck {
        None => "was killed".to_owned(),
        Some(pid) => format!("cannot be killed: process {pid} waits in the kernel"),
    }
}

impl RunError {
    pub(crate) fn not_found(program: &OsStr) -> RunError {
        RunError::NotFound {
            program: program.into(),
            package: tools::package(program),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            RunError::NotFound {
                package: Some(package),
                ..
            } => Some(format!("install the package {package}")),
            RunError::NotExecutable { program, .. } => {
                let program = quote(program.as_os_str());
                Some(format!(
                    "`chmod +x {program}`; the file system must not be mounted noexec"
                ))
            }
            RunError::NoInterpreter { program, interpreter } => {
                let correct = format!("correct the first line of {}", quote(program.as_os_str()));
                Some(match tools::package(interpreter) {
                    Some(package) => format!("install the package {package}, or {correct}"),
                    None => correct,
                })
            }
            RunError::NotAProgram { .. } => {
                Some("the first line of a script names its interpreter, as in `#!/bin/sh`".to_owned())
            }
            RunError::TimedOut { stuck: Some(pid), .. } => Some(format!(
                "`cat /proc/{pid}/stack` and the kernel log may tell which device it waits for"
            )),
            _ => None,
        }
    }

    /// The last 20 lines that the program printed before it was killed: of standard error, or of standard
    /// output if there is nothing on standard error.
    pub fn detail(&self) -> Vec<String> {
        match self {
            RunError::TimedOut { stdout, stderr, .. } => last_words(stdout, stderr),
            _ => Vec::new(),
        }
    }
}

/// A command ran, but not with success. Secrets of the command are in none of the fields: where its output
/// repeats them literally it says `<redacted>`.
#[derive(Debug, Error)]
#[error("`{command}` failed: {status}")]
pub struct CommandFailed {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: Status,
    /// What it printed on standard output.
    pub stdout: Box<Captured>,
    /// What it printed on standard error.
    pub stderr: Box<Captured>,
}

impl CommandFailed {
    pub(crate) fn new(command: &Command, output: Output) -> CommandFailed {
        CommandFailed {
            command: command.to_string(),
            status: output.status,
            stdout: redacted(command, output.stdout),
            stderr: redacted(command, output.stderr),
        }
    }

    /// The last 20 lines that the program printed: of standard error, or of standard output if there is
    /// nothing on standard error.
    pub fn detail(&self) -> Vec<String> {
        last_words(&self.stdout, &self.stderr)
    }
}

pub(crate) fn redacted(command: &Command, mut captured: Captured) -> Box<Captured> {
    captured.redact(command.secrets());
    Box::new(captured)
}

fn last_words(stdout: &Captured, stderr: &Captured) -> Vec<String> {
    const LINES: usize = 20;
    if stderr.is_blank() {
        stdout.last_lines(LINES)
    } else {
        stderr.last_lines(LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn hints_say_what_to_do() {
        let missing = |interpreter: &str| RunError::NoInterpreter {
            program: "/p/my create".into(),
            interpreter: interpreter.into(),
        };
        assert_eq!(
            missing("/usr/bin/tool").to_string(),
            "the interpreter /usr/bin/tool that '/p/my create' asks for was not found"
        );
        assert_eq!(
            missing("/usr/bin/tool").hint().unwrap(),
            "correct the first line of '/p/my create'"
        );
        assert_eq!(
            missing("/usr/bin/python3").hint().unwrap(),
            "install the package python3, or correct the first line of '/p/my create'"
        );
        assert_eq!(
            RunError::not_found(OsStr::new("rbd")).hint().unwrap(),
            "install the package ceph-common"
        );
        assert_eq!(RunError::not_found(OsStr::new("/p/rbd")).hint(), None);
    }

    #[test]
    fn a_process_that_cannot_be_killed_is_named() {
        let error = RunError::TimedOut {
            command: "lvs".into(),
            after: Duration::from_secs(60),
            stdout: Box::default(),
            stderr: Box::default(),
            stuck: Some(42),
        };
        assert_eq!(
            error.to_string(),
            "`lvs` did not end within 60s and cannot be killed: process 42 waits in the kernel"
        );
        assert!(error.hint().unwrap().contains("/proc/42/stack"));
        assert!(error.detail().is_empty());
    }

    #[test]
    fn the_cause_is_a_source_and_not_in_the_message() {
        let source = || io::Error::other("the cause");
        for error in [
            RunError::NotExecutable {
                program: "p".into(),
                source: source(),
            },
            RunError::NotAProgram {
                program: "p".into(),
                source: source(),
            },
            RunError::NoDirectory {
                program: "p".into(),
                cwd: "c".into(),
                source: source(),
            },
            RunError::Spawn {
                command: "p".into(),
                source: source(),
            },
            RunError::Io {
                command: "p".into(),
                source: source(),
            },
        ] {
            assert!(!error.to_string().contains("the cause"), "{error}");
            assert_eq!(error.source().unwrap().to_string(), "the cause");
        }
    }
}
