//! `failover`: give an instance that does not run another node.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::failover::{FailoverRequest, failover};

use crate::commands::moved;
use crate::confirm::{ConfirmArgs, dead_node};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
The instance must not run any more. If its disks are in use, they are taken out of use on the node that it has, and put \
into use on the other. Mirrored by drbd, it goes to its secondary node; a sharedfile, blockdev, rbd, gluster or ext \
instance goes to any.

From a node that is dead: make sure that it is off (two nodes that write to a disk destroy it), mark it with 'gnt-disk \
node modify NODE --offline yes', and run this. What that means for the disks is told. A node that only does not answer is \
not given up.

A half of a mirror whose data may be out of date is refused. With --ignore-consistency it is used nevertheless, as far \
as drbd lets it be, and what was written last may be lost.

Examples:
  gnt-disk failover web1
      to the secondary node

  gnt-disk failover web1 -n node3";

/// Give an instance that does not run, or whose node is dead, another node
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Name or UUID of its node to be
    #[arg(short = 'n', long, value_name = "NODE")]
    target_node: Option<String>,
    /// Do it also if the data on that node may be out of date
    #[arg(long)]
    ignore_consistency: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let subject = Subject::load(&context.store, &args.instance)?;
    let (name, node) = (&subject.instance.name, &subject.node);
    if node.offline {
        args.confirm
            .confirm(context, &dead_node(&node.name, &format!("{name} still runs")))?;
    } else if args.ignore_consistency {
        args.confirm
            .confirm(context, &format!("What {name} wrote last may be lost"))?;
    }
    let request = FailoverRequest {
        instance: subject.instance.name,
        target: args.target_node,
        ignore_consistency: args.ignore_consistency,
    };
    let done = context
        .operate(async |engine| failover(engine, &request).await)
        .await?;
    moved(context, &done, &request.instance).await
}
