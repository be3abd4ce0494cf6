//! `group modify`.

use gnt_cmdlib::ops::group::modify;

use crate::commands::group::{SettingsArgs, changed};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Examples:
  gnt-disk group modify rack2 -D drbd:resync-rate=100000,metavg=fast
  gnt-disk group modify rack2 --node-parameters exclusive_storage=default";

/// Change a node group's parameters
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the group
    group: String,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let changes = args.settings.changes()?;
    if changes.diskparams.is_empty() && changes.ndparams.is_empty() {
        return Err(
            Failure::usage("nothing to change was given").with_hint("see gnt-disk group modify --help")
        );
    }
    let group = modify(&context.store, &args.group, &changes, context.is_dry_run())?;
    context.note(format!("# change the parameters of node group {}", group.name));
    match context.noted() {
        Some(noted) => Ok(noted),
        None => {
            let attention = context.tell_nodes(None).await?;
            Ok(changed(context, &group.uuid)?.with_attention(attention))
        }
    }
}
