//! `move`: copy an instance's disks to another node.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::relocate::relocate;

use crate::args::PaceArgs;
use crate::commands::changed;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
For plain and file disks, which only one node has. New disks are made on the other node, the data is copied, the \
configuration is switched, and only then the old disks are removed. The disks must not be in use. Sizes may be rounded up \
by the new storage.

If anything fails, the instance is as it was. If the process is killed, 'gnt-disk operation resume' goes on where it \
stopped, and 'gnt-disk operation abort' removes the new disks.

Examples:
  gnt-disk move web1 -n node2

  gnt-disk move web1 -n node2 --bwlimit 50M --verify
      no more than 50 MiB a second, and compared with what was read";

/// Copy an instance's disks to another node, and let it live there
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Name or UUID of its node to be
    #[arg(short = 'n', long, value_name = "NODE")]
    target_node: String,
    #[command(flatten)]
    pace: PaceArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let (target, pace) = (args.target_node.as_str(), args.pace.pace()?);
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let done = context
        .operate(async |engine| relocate(engine, &name, target, pace).await)
        .await?;
    changed(context, &done, &name)
}
