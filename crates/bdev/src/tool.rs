//! Running the tools of a storage system: what their failures mean is told once for each tool, by its classifier.

use gnt_process::{Command, CommandFailed, Output, RunError};

use crate::error::ErrorKind;
use crate::host::Host;

/// A tool could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be run to its end.
    #[error("{source}{}", indented(&.source.detail()))]
    Run {
        /// Why.
        source: Box<RunError>,
    },
    /// It ran, and failed.
    #[error("{failed}{}", indented(&.failed.detail()))]
    Failed {
        /// What the failure means.
        kind: ErrorKind,
        /// How it failed, with what it printed.
        failed: Box<CommandFailed>,
    },
    /// It succeeded, and what it printed is not what it should print.
    #[error("cannot make sense of what `{command}` printed: {what}{}", indented(.lines))]
    Output {
        /// The command line.
        command: String,
        /// What is wrong with it.
        what: String,
        /// The last lines of it.
        lines: Vec<String>,
    },
}

impl ToolError {
    /// What `command` printed makes no sense.
    pub fn output(command: &Command, output: &Output, what: impl ToString) -> Self {
        const LINES: usize = 5;
        Self::Output {
            command: command.to_string(),
            what: what.to_string(),
            lines: command.redact(output.stdout.clone()).last_lines(LINES),
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { kind, .. } => *kind,
            Self::Run { .. } if self.is_missing() => ErrorKind::NotInstalled,
            Self::Run { .. } | Self::Output { .. } => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Run { source } => source.hint(),
            Self::Failed { .. } | Self::Output { .. } => None,
        }
    }

    /// Whether the tool is not installed.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Run { source } if matches!(**source, RunError::NotFound { .. }))
    }
}

/// What a failed command means. It is asked with standard output and standard error at hand.
pub type Classifier = fn(&CommandFailed) -> ErrorKind;

/// Runs `command`; a failure is classified.
pub(crate) fn run(host: &Host, command: &Command, classify: Classifier) -> Result<Output, ToolError> {
    let ran = host.runner.run(command).map_err(|source| ToolError::Run {
        source: Box::new(source),
    })?;
    ran.check(command).map_err(|failed| ToolError::Failed {
        kind: classify(&failed),
        failed: Box::new(failed),
    })
}

/// Lines below a message.
fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnt_process::Status;

    #[test]
    fn a_failure_shows_the_last_lines_of_what_was_printed() {
        let command = Command::change("lvcreate").arg("vg");
        let output = Output::new(Status::Exited(5)).with_stderr("one\ntwo\n");
        let error = ToolError::Failed {
            kind: ErrorKind::NoSpace,
            failed: Box::new(output.check(&command).unwrap_err()),
        };
        assert_eq!(
            error.to_string(),
            "`lvcreate vg` failed: exit status 5\n  one\n  two"
        );
        assert_eq!((error.kind(), error.hint()), (ErrorKind::NoSpace, None));
    }

    #[test]
    fn what_makes_no_sense_is_quoted_without_secrets() {
        let command = Command::query("drbdsetup").secret_arg("hunter2");
        let error = ToolError::output(&command, &Output::from("got hunter2\n"), "no brace");
        assert_eq!(
            error.to_string(),
            "cannot make sense of what `drbdsetup <redacted>` printed: no brace\n  got <redacted>"
        );
    }
}
