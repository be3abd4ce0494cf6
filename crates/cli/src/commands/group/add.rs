//! `group add`.

use gnt_cmdlib::ops::group::add;

use crate::commands::group::{SettingsArgs, changed};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Examples:
  gnt-disk group add rack2
  gnt-disk group add lvm-only --node-parameters exclusive_storage=true -D plain:stripes=1";

/// Make a node group without nodes
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name of the group
    group: String,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let made = add(
        &context.store,
        &args.group,
        &args.settings.changes()?,
        context.is_dry_run(),
    )?;
    context.note(format!("# make a node group {}", made.name));
    match context.noted() {
        Some(noted) => Ok(noted),
        None => changed(context, &made.uuid),
    }
}
