//! `replace-disks`: replace volumes of mirrored disks, or the node that they are mirrored to.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};

use crate::commands::changed;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Answer, say};

const HELP: &str = "\
For drbd disks. The new volumes get their data from the other node, whose data must be good. The command ends when \
they are in sync; what they replace is removed then, or with --early-release as soon as the new volumes are connected.

An instance that runs goes on running. Disks that are not in use are put into use for that time.

Until the new volumes are in sync all can be undone, by 'gnt-disk operation abort' too if the command was broken off; \
'gnt-disk operation resume' goes on. A new secondary node is recorded when it is in sync, not before. If the old one is \
dead, mark it with 'gnt-disk node modify NODE --offline yes' first: what it has stays there.

Examples:
  gnt-disk replace-disks web1 -n node3
      mirror to node3 from now on

  gnt-disk replace-disks web1 -s --disks 0,2
      new volumes for the first and third disk on the secondary node

  gnt-disk replace-disks web1 -a
      new volumes for what is faulty";

/// Replace volumes of mirrored disks, or the node that they are mirrored to
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    #[command(flatten)]
    what: What,
    /// Indexes, names or UUIDs of the disks, with -p and -s; by default all
    #[arg(long, value_name = "DISK,…", value_delimiter = ',', conflicts_with_all = ["new_secondary", "auto"])]
    disks: Vec<String>,
    /// Remove what is replaced before the new volumes are in sync
    #[arg(short, long)]
    early_release: bool,
}

/// What is replaced.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Volumes on the primary node
    #[arg(short = 'p', long)]
    on_primary: bool,
    /// Volumes on the secondary node
    #[arg(short = 's', long)]
    on_secondary: bool,
    /// The secondary node, by this one
    #[arg(short = 'n', long, value_name = "NODE")]
    new_secondary: Option<String>,
    /// Volumes of disks that are faulty
    #[arg(short = 'a', long)]
    auto: bool,
}

impl What {
    fn replacement(self) -> Replacement {
        match self.new_secondary {
            Some(node) => Replacement::NewSecondary(node),
            None if self.on_primary => Replacement::OnPrimary,
            None if self.on_secondary => Replacement::OnSecondary,
            None => Replacement::Automatic,
        }
    }
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let request = ReplaceRequest {
        what: args.what.replacement(),
        disks: args.disks,
        early_release: args.early_release,
    };
    let done = context
        .operate(async |engine| replace_disks(engine, &name, &request).await)
        .await?;
    if done.report.operation.is_none() && !context.is_dry_run() {
        say(format_args!("nothing of {name} is faulty"));
    }
    changed(context, &done, &name)
}
