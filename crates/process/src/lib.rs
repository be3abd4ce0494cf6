//! Running other people's programs, with a timeout and bounded output.
//!
//! A [`Command`] says what to run and whether it changes anything; a [`Runner`] runs it. There are three:
//! [`System`] really runs programs, [`DryRun`] runs queries only and records the changes, [`Scripted`] plays
//! recorded answers in tests. Code that needs a program takes a `&dyn Runner` and never learns which one it
//! has.
//!
//! ```
//! use gnt_process::{Command, Runner, System};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let command = Command::query("echo").arg("two words");
//! let output = System.run(&command)?.check(&command)?;
//! assert_eq!(output.stdout.text(), "two words\n");
//! assert_eq!(command.to_string(), "echo 'two words'");
//! # Ok(())
//! # }
//! ```
//!
//! What every program gets: an environment of `PATH`, `HOME`, `LC_ALL=C` and what the caller sets, nothing
//! else; `/dev/null` as standard input unless there are bytes for it; a process group of its own, which is
//! killed as a whole when the timeout is over; and room for the beginning and the end of what it prints,
//! however much that is.

pub mod orphan;
pub mod tools;

mod captured;
mod command;
mod dry_run;
mod error;
mod output;
mod quote;
mod runner;
mod scripted;
mod spawn;
mod system;

pub use captured::Captured;
pub use command::{Command, DEFAULT_OUTPUT_LIMIT, DEFAULT_TIMEOUT, Effect, OPERATION_VARIABLE};
pub use dry_run::DryRun;
pub use error::{CommandFailed, RunError};
pub use output::{Output, Status};
pub use runner::Runner;
pub use scripted::Scripted;
pub use spawn::DEFAULT_PATH;
pub use system::System;
