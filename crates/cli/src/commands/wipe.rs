//! `wipe`: write zeros over disks.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::wipe::wipe;

use crate::args::PaceArgs;
use crate::commands::changed;
use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
What was on the disks is overwritten; it cannot be undone. The disks must not be in use. If the process is killed, \
'gnt-disk operation resume' goes on where it stopped.

Examples:
  gnt-disk wipe web1 --disk 1
  gnt-disk wipe web1 --all --bwlimit 100M";

/// Write zeros over disks: what was on them is gone
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Which disks.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Index, name or UUID of a disk; once for each
    #[arg(long = "disk", value_name = "DISK", allow_hyphen_values = true)]
    disks: Vec<String>,
    /// All disks of the instance
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let pace = args.pace.pace()?;
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let which = match args.which.all {
        true => "all disks".to_owned(),
        false => format!("disks {}", args.which.disks.join(", ")),
    };
    args.confirm.confirm(
        context,
        &format!("What is on {which} of {name} will be overwritten with zeros"),
    )?;
    let done = context
        .operate(async |engine| wipe(engine, &name, &args.which.disks, pace).await)
        .await?;
    changed(context, &done, &name)
}
