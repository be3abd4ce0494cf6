//! `migrate`: move an instance to another node while it runs.

pub(super) mod transfer;

use std::time::Duration;

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::migrate::{abort, cleanup, finish, locate_and_cleanup, migrate, prepare};
use serde_json::json;

use crate::commands::{activate, moved};
use crate::confirm::{ConfirmArgs, dead_node};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Answer, say};
use transfer::CommandTransfer;

const HELP: &str = "\
The instance's disks are made usable on both nodes, --transfer COMMAND moves the running instance, and then its disks are \
usable on the node where it runs, and only there. Mirrored by drbd, it goes to its secondary node, and its disks must be \
in sync; a sharedfile, blockdev, rbd, gluster or ext instance goes to the node named with -n.

COMMAND is given to sh, with these variables:

  GNT_DISK_INSTANCE  the instance
  GNT_DISK_SOURCE    the node that it runs on
  GNT_DISK_TARGET    the node that it is to run on
  GNT_DISK_LINKS     the links to its disks there, a line for each, empty if it has none
  GNT_DISK_URIS      what its hypervisor reaches each disk with, if that is not the link

If it exits with 0, the instance runs on the target and nowhere else; with anything else, on the source and nowhere else. \
If it is killed, or does not end in time, nobody knows: then --locate COMMAND, which gets the same variables, prints the \
name of the node where the instance runs, or nothing.

A manager that moves the instance itself calls --prepare, and then --finish or --abort. In between the instance has a \
mark, and every other operation on it is refused. Whatever dies meanwhile, --cleanup ends the migration on the node where \
the instance runs now. A node that is dead is marked before, with 'gnt-disk node modify NODE --offline yes'.

Examples:
  gnt-disk migrate web1 --transfer 'virsh migrate --live $GNT_DISK_INSTANCE qemu+ssh://$GNT_DISK_TARGET/system'

  gnt-disk migrate web2 -n node3 --prepare
  gnt-disk migrate web2 --finish

  gnt-disk migrate web1 --cleanup --runs-on node2";

/// Move an instance to another node while it runs
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Name or UUID of the node that it is to run on
    #[arg(short = 'n', long, value_name = "NODE", conflicts_with_all = ["finish", "abort", "cleanup"])]
    target_node: Option<String>,
    #[command(flatten)]
    what: What,
    /// How long COMMAND may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["prepare", "finish", "abort", "cleanup"])]
    transfer_timeout: u64,
    /// Shell command that prints the name of the node that the instance runs on
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["prepare", "finish", "abort"])]
    locate: Option<String>,
    /// Name or UUID of the node that the instance runs on now
    #[arg(long, value_name = "NODE", conflicts_with_all = ["locate", "transfer", "prepare", "finish", "abort"])]
    runs_on: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// The whole migration, or a phase of it.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Shell command that moves the running instance
    #[arg(long, value_name = "COMMAND")]
    transfer: Option<String>,
    /// Only make the disks usable on both nodes
    #[arg(long)]
    prepare: bool,
    /// The instance runs on its new node: end the migration there
    #[arg(long)]
    finish: bool,
    /// The instance stays where it was: end the migration there
    #[arg(long)]
    abort: bool,
    /// End a migration that was broken off, where --runs-on or --locate says
    #[arg(long)]
    cleanup: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let subject = Subject::load(&context.store, &args.instance)?;
    let (name, target) = (&subject.instance.name, args.target_node.as_deref());
    let What {
        transfer,
        prepare: is_prepare,
        finish: is_finish,
        abort: is_abort,
        ..
    } = &args.what;
    let commands = CommandTransfer::new(
        context.runner(),
        &subject.cluster.uuid,
        name,
        transfer.as_deref(),
        args.locate.as_deref(),
        Duration::from_secs(args.transfer_timeout),
    );
    if *is_prepare {
        let prepared = context.operate(async |engine| Ok(prepare(engine, name, target).await?.report));
        let done = prepared.await?;
        let (disks, text) = activate::assembled(context, &subject, &done.report, true)?;
        return Ok(done.answer(context, name, json!({"disks": disks}), text));
    }
    let ended = transfer.is_none() && !context.is_dry_run() && commands.end_left_over().await?;
    let done = match &args.runs_on {
        _ if transfer.is_some() => {
            let whole = context.operate(async |engine| migrate(engine, name, target, &commands).await);
            whole.await?
        }
        _ if *is_finish => context.operate(async |engine| finish(engine, name).await).await?,
        _ if *is_abort => context.operate(async |engine| abort(engine, name).await).await?,
        Some(node) => {
            let node = node.as_str();
            confirm_cleanup(context, &subject, node, &args.confirm)?;
            context
                .operate(async |engine| cleanup(engine, name, node).await)
                .await?
        }
        None if args.locate.is_some() => {
            let located = context.operate(async |engine| locate_and_cleanup(engine, name, &commands).await);
            located.await?
        }
        None => {
            return Err(
                Failure::usage(format!("nothing tells where instance {name} runs"))
                    .with_hint("name the node with --runs-on NODE, or a command that prints its name with --locate COMMAND"),
            );
        }
    };
    if done.report.operation.is_none() && !context.is_dry_run() {
        let subject = Subject::load(&context.store, name)?;
        say(format_args!(
            "nothing was to be done: instance {name} is not being migrated; it is on node {}",
            subject.node.name
        ));
    }
    Ok(moved(context, &done, name).await?.with_attention(ended))
}

/// The other node is not asked to give the disks up if it is marked offline.
fn confirm_cleanup(
    context: &Context,
    subject: &Subject,
    runs_on: &str,
    confirm: &ConfirmArgs,
) -> Result<(), Failure> {
    let Some(migration) = &subject.instance.migration else {
        return Ok(());
    };
    for node in [&migration.source, &migration.target] {
        let Some(node) = context.store.node(node)? else {
            continue;
        };
        if node.offline && node.name != runs_on && node.uuid != runs_on {
            let name = &subject.instance.name;
            confirm.confirm(context, &dead_node(&node.name, &format!("{name} still runs")))?;
        }
    }
    Ok(())
}
