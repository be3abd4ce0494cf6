//! `gnt-disk`, the program that administrators run: it reads the command line, asks the libraries, and shows the answer.

mod args;
mod commands;
mod confirm;
mod context;
mod details;
mod disk_arg;
mod embedded;
mod failure;
mod interrupt;
mod output;
mod progress;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::failure::Failure;

/// Done, but something needs attention.
const ATTENTION: u8 = 3;

fn main() -> ExitCode {
    let status = run(Cli::parse()).unwrap_or_else(|failure| {
        output::say(failure.report());
        failure.exit_status()
    });
    ExitCode::from(status)
}

fn run(Cli { global, command }: Cli) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let answer = runtime.block_on(commands::run(&global, command));
    // After an interrupt a thread may still be at work for the operation; it ends with the process.
    runtime.shutdown_background();
    let mut answer = answer?;
    let failure = answer.failure.take();
    let status = if answer.attention { ATTENTION } else { 0 };
    output::print(&answer.bytes(global.json))?;
    failure.map_or(Ok(status), Err)
}
