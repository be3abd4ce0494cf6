//! Looking at what would be done.

use std::sync::{Mutex, PoisonError};

use crate::{Command, Effect, Output, RunError, Runner, System};

/// Runs queries through another runner and only records changes.
///
/// A change answers with exit status 0 and no output. A query that depends on a change that was not made sees the world
/// as it is, and so may fail.
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

    /// The changes so far, in order, each the shell line (`{:#}` of its [`Command`]) that would make it.
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
                let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
                changes.push(format!("{command:#}"));
                Ok(Output::success())
            }
        }
    }
}
