//! Looking at what would be done.

use std::sync::{Mutex, PoisonError};

use crate::{Command, Effect, Output, RunError, Runner, System};

/// Runs queries through another runner and only records changes.
///
/// A change answers with exit status 0 and no output. A query that depends on a change that was not made sees
/// the world as it is, and so may fail.
#[derive(Debug)]
pub struct DryRun<R = System> {
    queries: R,
    changes: Mutex<Vec<String>>,
}

impl<R: Runner> DryRun<R> {
    /// Runs queries through `queries`.
    pub fn new(queries: R) -> DryRun<R> {
        DryRun {
            queries,
            changes: Mutex::default(),
        }
    }

    /// Adds a change that no command makes, in words.
    pub fn record(&self, change: impl Into<String>) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push(change.into());
    }

    /// The changes so far, in order, each the shell line (`{:#}` of its [`Command`]) that would make it, or what was
    /// [recorded](Self::record).
    pub fn changes(&self) -> Vec<String> {
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<R: Runner> Runner for DryRun<R> {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        match command.effect() {
            Effect::Query => self.queries.run(command),
            Effect::Change => {
                self.record(format!("{command:#}"));
                Ok(Output::success())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scripted, Status};

    #[test]
    fn queries_run_and_changes_are_recorded_in_order() {
        let queries = Scripted::new().expect("lvs vg", Output::new(Status::Exited(5)).with_stderr("no vg"));
        let dry = DryRun::new(queries);
        let create = Command::change("lvcreate").args(["-n", "a b", "vg"]);
        assert_eq!(dry.run(&create).unwrap(), Output::success());
        assert_eq!(
            dry.run(&Command::query("lvs").arg("vg")).unwrap().status,
            Status::Exited(5)
        );
        dry.run(
            &Command::change("/p/create")
                .env("VOL_NAME", "v")
                .secret_env("EXTP_KEY", "hunter2")
                .cwd("/p"),
        )
        .unwrap();
        dry.record("make the file /f");
        assert_eq!(
            dry.changes(),
            [
                "lvcreate -n 'a b' vg",
                "env -C /p EXTP_KEY=<redacted> VOL_NAME=v /p/create",
                "make the file /f"
            ]
        );
    }

    #[test]
    fn a_change_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let dry = DryRun::new(System);
        dry.run(&Command::change("touch").arg(&file)).unwrap();
        assert!(!file.exists());
        let runner: &dyn Runner = &dry;
        assert_eq!(
            runner
                .run(&Command::query("echo").arg("x"))
                .unwrap()
                .stdout
                .text(),
            "x\n"
        );
        assert_eq!(dry.changes(), [format!("touch {}", file.display())]);
    }

    #[test]
    fn a_change_that_could_not_run_is_recorded_too() {
        let dry = DryRun::new(System);
        dry.run(&Command::change("no-such-program")).unwrap();
        assert_eq!(dry.changes(), ["no-such-program"]);
    }
}
