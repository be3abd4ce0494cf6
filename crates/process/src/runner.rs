//! What runs commands.

use std::sync::Arc;

use crate::{Command, Output, RunError};

/// Runs commands. See the crate's documentation for the three that exist.
pub trait Runner: Send + Sync {
    /// Runs `command` and waits for its end.
    ///
    /// # Errors
    /// When it could not be started, did not end in time, or could not be waited for. What it says about
    /// itself by its exit status is no error here: see [`Output::check`].
    fn run(&self, command: &Command) -> Result<Output, RunError>;
}

impl<R: Runner + ?Sized> Runner for &R {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        (**self).run(command)
    }
}

impl<R: Runner + ?Sized> Runner for Box<R> {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        (**self).run(command)
    }
}

impl<R: Runner + ?Sized> Runner for Arc<R> {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        (**self).run(command)
    }
}
