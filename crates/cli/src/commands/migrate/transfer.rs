//! Commands of the user that move a running instance, and tell where it runs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gnt_bdev::{ErrorKind, ToolError};
use gnt_cmdlib::ops::migrate::{Handover, HandoverDisk, Transfer, TransferError, Transferred};
use gnt_process::orphan::kill_orphans;
use gnt_process::{Command, Output, RunError, Runner, Status};

use crate::context::warn;
use crate::failure::Failure;
use crate::output::say;

/// How long it may take to tell where an instance runs.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Moves an instance by shell commands.
pub(crate) struct CommandTransfer {
    runner: Arc<dyn Runner>,
    transfer: Option<String>,
    locate: Option<String>,
    timeout: Duration,
    instance: String,
    /// Marks what they start: whoever ends the migration later finds it by that.
    tag: String,
}

impl CommandTransfer {
    /// `cluster` is the UUID of the instance's cluster.
    pub(crate) fn new(
        runner: Arc<dyn Runner>,
        cluster: &str,
        instance: &str,
        transfer: Option<&str>,
        locate: Option<&str>,
        timeout: Duration,
    ) -> Self {
        Self {
            runner,
            transfer: transfer.map(str::to_owned),
            locate: locate.map(str::to_owned),
            timeout,
            instance: instance.to_owned(),
            tag: format!("transfer/{cluster}/{instance}"),
        }
    }

    /// Ends what a manager that died left running: it would move the instance behind the back of whoever ends the migration. Returns
    /// whether there was something, of which it warns.
    pub(crate) async fn end_left_over(&self) -> Result<bool, Failure> {
        let tag = self.tag.clone();
        let ended = tokio::task::spawn_blocking(move || kill_orphans(&tag)).await;
        let ended = ended.unwrap_or_else(|error| Err(io::Error::other(error)));
        match ended {
            Ok(0) => Ok(false),
            Ok(_) => {
                warn(format_args!(
                    "a command that was moving instance {} still ran, and was ended: see that the instance runs where you think",
                    self.instance
                ));
                Ok(true)
            }
            Err(source) => Err(Failure::Transfer {
                instance: self.instance.clone(),
                source,
            }),
        }
    }

    async fn run(&self, command: Command) -> Result<Output, TransferError> {
        let mut guard = Ended(Some(self.tag.clone()));
        let runner = Arc::clone(&self.runner);
        let run = tokio::task::spawn_blocking(move || runner.run(&command)).await;
        guard.0 = None;
        Ok(run??)
    }
}

/// Ends what is still running when nobody waits for it any more.
struct Ended(Option<String>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(tag) = &self.0
            && let Err(error) = kill_orphans(tag)
        {
            warn(format_args!("what moves the instance cannot be ended: {error}"));
        }
    }
}

impl Transfer for CommandTransfer {
    async fn transfer(&self, handover: &Handover) -> Transferred {
        let Some(line) = &self.transfer else {
            return Transferred::Unknown("there is no command to move it with".into());
        };
        say(format_args!(
            "* move {} from {} to {}",
            handover.instance, handover.source.name, handover.target.name
        ));
        let command = shell(Command::change("sh"), line, handover)
            .timeout(self.timeout)
            .tag(&self.tag);
        match self.run(command.clone()).await {
            Ok(output) => match output.status {
                Status::Exited(0) => Transferred::Moved,
                Status::Exited(_) => Transferred::Stayed(failed(output, &command)),
                _ => Transferred::Unknown(failed(output, &command)),
            },
            Err(error) => match error.downcast::<RunError>() {
                Ok(error) => match *error {
                    RunError::TimedOut { .. } | RunError::Io { .. } => Transferred::Unknown(error),
                    // It was never begun.
                    _ => Transferred::Stayed(error),
                },
                Err(error) => Transferred::Unknown(error),
            },
        }
    }

    async fn locate(&self, handover: &Handover) -> Option<String> {
        let command = shell(Command::query("sh"), self.locate.as_deref()?, handover)
            .timeout(LOCATE_TIMEOUT)
            .tag(&self.tag);
        let located = match self.run(command.clone()).await {
            Ok(output) => output.check(&command).map_err(TransferError::from),
            Err(error) => Err(error),
        };
        match located {
            Ok(output) => {
                let node = output.stdout.text().trim().to_owned();
                (!node.is_empty()).then_some(node)
            }
            Err(error) => {
                warn(error);
                None
            }
        }
    }
}

fn failed(output: Output, command: &Command) -> TransferError {
    match output.check(command) {
        Ok(_) => "it was not moved".into(),
        // With the last lines that it printed.
        Err(failed) => ToolError::Failed {
            kind: ErrorKind::Other,
            failed: Box::new(failed),
        }
        .into(),
    }
}

/// Has the shell run a line that may refer to what is moved from where to where.
fn shell(sh: Command, line: &str, handover: &Handover) -> Command {
    let each = |value: fn(&HandoverDisk) -> Option<&str>| {
        let disks = handover.disks.iter();
        let lines: Vec<&str> = disks.map(|disk| value(disk).unwrap_or_default()).collect();
        lines.join("\n")
    };
    sh.arg("-c")
        .arg(line)
        .env("GNT_DISK_INSTANCE", &handover.instance)
        .env("GNT_DISK_SOURCE", &handover.source.name)
        .env("GNT_DISK_TARGET", &handover.target.name)
        .env(
            "GNT_DISK_LINKS",
            each(|disk| disk.link.as_deref().and_then(Path::to_str)),
        )
        .env("GNT_DISK_URIS", each(|disk| disk.uri.as_deref()))
}

#[cfg(test)]
mod tests {
    use gnt_process::System;

    use super::*;

    #[test]
    fn what_a_command_said_is_told() {
        let command = Command::query("sh").args(["-c", "echo no route to host >&2; exit 7"]);
        let output = System.run(&command).unwrap();
        let told = failed(output, &command).to_string();
        assert!(
            told.ends_with("failed: exit status 7\n  no route to host"),
            "{told}"
        );
    }
}
