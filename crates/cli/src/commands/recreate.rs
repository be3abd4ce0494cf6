//! `recreate`: make lost disks anew.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::recreate_disks::{RecreateRequest, recreate_disks};

use crate::commands::changed;
use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
The disks are empty then: what was on them is lost. Restore it from a backup. Of a mirrored disk that is lost on one node \
only, 'gnt-disk replace-disks' makes the lost half from the other, with its data.

A disk of which anything is still there is refused; with --force that is removed first, with its data. The instance's \
disks must not be in use.

Examples:
  gnt-disk recreate web1
      all disks, where they were

  gnt-disk recreate web1 --disk 1
      only the second

  gnt-disk recreate web1 -n node3:node4
      all disks, on other nodes";

/// Make lost disks anew, without their data
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Index, name or UUID of a disk, once for each; by default all
    #[arg(long = "disk", value_name = "DISK")]
    disks: Vec<String>,
    /// Nodes that the disks are to be on from now on
    #[arg(short, long, value_name = "PRIMARY[:SECONDARY]", conflicts_with = "disks")]
    node: Option<String>,
    /// Remove what is still there, with its data
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let nodes = args.node.iter().flat_map(|nodes| nodes.split(':'));
    let request = RecreateRequest {
        disks: args.disks,
        nodes: nodes.map(str::to_owned).collect(),
        force: args.force,
    };
    if args.force {
        args.confirm.confirm(
            context,
            &format!("What is still there of the disks of {name} will be gone"),
        )?;
    }
    let done = context
        .operate(async |engine| recreate_disks(engine, &name, &request).await)
        .await?;
    changed(context, &done, &name)
}
