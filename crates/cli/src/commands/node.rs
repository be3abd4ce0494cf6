//! `node`: the machines of the cluster.

use crate::args::Global;
use crate::commands::join;
use crate::failure::Failure;
use crate::output::Answer;

/// The machines of the cluster
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Join(join::Args),
}

pub(crate) fn run(global: &Global, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Join(args) => join::run(global, &args),
    }
}
