//! `group remove`.

use gnt_cmdlib::ops::group::remove;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Refused while nodes are in it.

Example:
  gnt-disk group remove rack2";

/// Remove a node group
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the group
    group: String,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    remove(&context.store, &args.group, context.is_dry_run())?;
    context.note(format!("# remove node group {}", args.group));
    match context.noted() {
        Some(noted) => Ok(noted),
        None => Ok(Answer::new(json!({"group": args.group}), "")),
    }
}
