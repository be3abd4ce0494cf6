//! `group rename`.

use gnt_cmdlib::ops::group::{GroupChanges, modify};

use crate::commands::group::changed;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Example:
  gnt-disk group rename default rack1";

/// Give a node group another name
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the group
    group: String,
    /// Its new name
    new_name: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let changes = GroupChanges {
        name: Some(args.new_name),
        ..GroupChanges::default()
    };
    let group = modify(&context.store, &args.group, &changes, context.is_dry_run())?;
    context.note(format!("# rename node group {} to {}", args.group, group.name));
    match context.noted() {
        Some(noted) => Ok(noted),
        None => changed(context, &group.uuid),
    }
}
