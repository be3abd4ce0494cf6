//! What a program did.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::{Captured, Command, CommandFailed};

/// How a program ended and what it printed. `Debug` does not show the latter: there may be a secret in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
    /// From its start to its end.
    pub duration: Duration,
    /// A process that it left in the background still held its output when it had ended, and was killed: see
    /// [`System`](crate::System).
    pub stragglers_killed: bool,
}

impl Output {
    /// A program that ended so and printed nothing.
    #[must_use]
    pub fn new(status: Status) -> Output {
        Output {
            status,
            stdout: Captured::default(),
            stderr: Captured::default(),
            duration: Duration::ZERO,
            stragglers_killed: false,
        }
    }

    /// A program that ended with exit status 0 and printed nothing.
    #[must_use]
    pub fn success() -> Output {
        Output::new(Status::Exited(0))
    }

    /// The same with this on standard output.
    #[must_use]
    pub fn with_stdout(mut self, bytes: impl Into<Vec<u8>>) -> Output {
        self.stdout = Captured::from(bytes.into());
        self
    }

    /// The same with this on standard error.
    #[must_use]
    pub fn with_stderr(mut self, bytes: impl Into<Vec<u8>>) -> Output {
        self.stderr = Captured::from(bytes.into());
        self
    }

    /// The output of a program that succeeded.
    ///
    /// # Errors
    /// When it ended in any other way than with exit status 0.
    pub fn check(self, command: &Command) -> Result<Output, CommandFailed> {
        if self.status.success() {
            Ok(self)
        } else {
            Err(CommandFailed::new(command, self))
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stdout, stderr) = (self.stdout.total(), self.stderr.total());
        write!(
            f,
            "Output({} in {:?}, {stdout} and {stderr} bytes)",
            self.status, self.duration
        )
    }
}

/// Exit status 0, with this on standard output.
impl From<&str> for Output {
    fn from(stdout: &str) -> Output {
        Output::success().with_stdout(stdout)
    }
}

/// Exit status 0, with this on standard output.
impl From<String> for Output {
    fn from(stdout: String) -> Output {
        Output::success().with_stdout(stdout)
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// By itself, with this exit status (0 to 255).
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Status {
    /// Whether it ended with exit status 0.
    pub fn success(self) -> bool {
        self == Status::Exited(0)
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Status {
        match status.signal() {
            Some(signal) => Status::Signaled(signal),
            None => Status::Exited(status.code().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Status::Exited(code) => write!(f, "exit status {code}"),
            Status::Signaled(number) => match signal_name(number) {
                Some(name) => write!(f, "killed by signal {number} (SIG{name})"),
                None => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// The names of the signals that end a process by default (signal(7)); their numbers depend on the
/// architecture.
fn signal_name(number: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 21] = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::ILL, "ILL"),
        (Signal::TRAP, "TRAP"),
        (Signal::ABORT, "ABRT"),
        (Signal::BUS, "BUS"),
        (Signal::FPE, "FPE"),
        (Signal::KILL, "KILL"),
        (Signal::USR1, "USR1"),
        (Signal::SEGV, "SEGV"),
        (Signal::USR2, "USR2"),
        (Signal::PIPE, "PIPE"),
        (Signal::ALARM, "ALRM"),
        (Signal::TERM, "TERM"),
        (Signal::XCPU, "XCPU"),
        (Signal::XFSZ, "XFSZ"),
        (Signal::VTALARM, "VTALRM"),
        (Signal::PROF, "PROF"),
        (Signal::IO, "IO"),
        (Signal::SYS, "SYS"),
    ];
    NAMES
        .iter()
        .find(|(signal, _)| signal.as_raw() == number)
        .map(|&(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_the_signal() {
        assert_eq!(Status::Exited(3).to_string(), "exit status 3");
        assert_eq!(Status::Signaled(9).to_string(), "killed by signal 9 (SIGKILL)");
        assert_eq!(Status::Signaled(6).to_string(), "killed by signal 6 (SIGABRT)");
        assert_eq!(Status::Signaled(40).to_string(), "killed by signal 40");
        assert!(
            Status::Exited(0).success() && !Status::Exited(1).success() && !Status::Signaled(0).success()
        );
    }

    #[test]
    fn only_exit_status_0_passes_the_check() {
        let command = Command::change("x");
        assert!(Output::success().check(&command).is_ok());
        assert!(Output::new(Status::Exited(1)).check(&command).is_err());
        assert!(Output::new(Status::Signaled(9)).check(&command).is_err());
    }

    #[test]
    fn a_failure_shows_stderr_or_else_stdout() {
        let command = Command::change("create").arg("x");
        let output = Output::new(Status::Exited(1)).with_stdout("trying\n");
        assert_eq!(
            output
                .clone()
                .with_stderr(" \n")
                .check(&command)
                .unwrap_err()
                .detail(),
            ["trying"]
        );
        let failed = output
            .with_stderr((0..30).map(|n| format!("line {n}\n")).collect::<String>())
            .check(&command)
            .unwrap_err();
        assert_eq!(failed.detail().len(), 20);
        assert_eq!(failed.detail()[19], "line 29");
        assert_eq!(failed.stdout.text(), "trying\n");
    }

    #[test]
    fn a_failure_repeats_no_secret_that_the_program_repeated() {
        let command = Command::change("x")
            .secret_arg("hunter2")
            .secret_env("E", "")
            .secret_env("K", "red")
            .secret_env("L", "hunter");
        let output = Output::new(Status::Exited(1))
            .with_stdout("hunter2hunter2 hunter red")
            .with_stderr(b"\xff+ login hunter2\n".to_vec());
        let failed = output.check(&command).unwrap_err();
        assert_eq!(failed.stderr.last_lines(1), ["\u{fffd}+ login <redacted>"]);
        assert_eq!(failed.stdout.text(), "<redacted><redacted> <redacted> <redacted>");
        let shown = format!("{failed} {failed:?} {:?}", failed.detail());
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn debug_shows_nothing_of_the_output() {
        let output = Output::success().with_stdout("hunter2").with_stderr("x");
        assert_eq!(
            format!("{output:?}"),
            "Output(exit status 0 in 0ns, 7 and 1 bytes)"
        );
    }
}
