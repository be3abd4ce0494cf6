//! `node evacuate` and `node drain`: take instances away from a node.

use std::num::NonZeroUsize;
use std::time::Duration;

use gnt_cmdlib::error::chain;
use gnt_cmdlib::ops::evacuate::{EvacuateRequest, Moved, Way, evacuate};
use gnt_cmdlib::ops::node::{NodeChanges, NodeInfo, modify};
use serde_json::json;

use crate::commands::migrate::transfer::CommandTransfer;
use crate::confirm::{ConfirmArgs, dead_node};
use crate::context::{Context, warn};
use crate::failure::Failure;
use crate::output::{Answer, say};

const HELP: &str = "\
Instances that run on the node, that is, whose disks are in use there, are migrated: --transfer COMMAND moves each, as \
with 'gnt-disk migrate'. Those that do not run are failed over, and if the node is marked offline, all are. \
Instances that are mirrored to the node get another secondary node, and the command waits until they are in sync.

A new secondary node is, among those of the node's group that are neither offline nor drained, the one with the most \
room left in its volume groups; what the instances before took counts. Instances whose disks every node reaches go to all those \
nodes in turn.

What happens to one instance does not keep the others. The command ends with status 1 if any stays; to try again, run \
it again. Plain and file disks are on one node only: 'gnt-disk convert' mirrors them, 'gnt-disk move' takes them away.

Examples:
  gnt-disk node evacuate node2 --secondary-only
      nothing is mirrored to node2 any more

  gnt-disk node evacuate node2 --parallel 4 --transfer 'virsh migrate --live $GNT_DISK_INSTANCE qemu+ssh://$GNT_DISK_TARGET/system'
      everything, four instances at the same time";

const DRAIN_HELP: &str = "\
The node gets nothing new from then on, and what is on it goes elsewhere: 'gnt-disk node evacuate --help' tells how. \
'gnt-disk node modify NODE --drained no' lets it have instances again.

Example:
  gnt-disk node drain node2 --parallel 4";

/// Take instances away from a node
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// Only the instances that run there
    #[arg(short, long, conflicts_with = "secondary_only")]
    primary_only: bool,
    /// Only the instances that are mirrored there
    #[arg(short, long)]
    secondary_only: bool,
}

/// Mark a node as drained and take its instances away
#[derive(Debug, clap::Args)]
#[command(after_long_help = DRAIN_HELP)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    what: What,
}

/// What both understand.
#[derive(Debug, clap::Args)]
struct What {
    /// Name or UUID of the node
    node: String,
    /// Name or UUID of the node that instances go to; by default each goes where there is most room
    #[arg(short = 'n', long, value_name = "NODE")]
    new_node: Option<String>,
    /// How many instances are moved at the same time
    #[arg(long, value_name = "NUMBER", default_value = "2")]
    parallel: NonZeroUsize,
    /// Shell command that moves a running instance
    #[arg(long, value_name = "COMMAND")]
    transfer: Option<String>,
    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    transfer_timeout: u64,
    /// Shell command that prints the name of the node that an instance runs on
    #[arg(long, value_name = "COMMAND")]
    locate: Option<String>,
    /// Remove what is replaced before the new volumes are in sync
    #[arg(short, long)]
    early_release: bool,
    /// Fail over also to data that may be out of date
    #[arg(long)]
    ignore_consistency: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    args.what.confirm(context, !args.secondary_only)?;
    take_away(context, &args.what, !args.secondary_only, !args.primary_only).await
}

pub(super) async fn drain(context: &Context, args: &DrainArgs) -> Result<Answer, Failure> {
    args.what.confirm(context, true)?;
    let uuid = NodeInfo::load(&context.store, &args.what.node)?.node.uuid;
    let changes = NodeChanges {
        drained: Some(true),
        ..NodeChanges::default()
    };
    context
        .operate(async |engine| modify(engine, &uuid, &changes).await)
        .await?;
    take_away(context, &args.what, true, true).await
}

impl What {
    /// Asks what a failover of each instance would ask.
    fn confirm(&self, context: &Context, primary: bool) -> Result<(), Failure> {
        let node = NodeInfo::load(&context.store, &self.node)?.node;
        if primary && node.offline {
            let consequence = dead_node(&node.name, "instances still run");
            self.confirm.confirm(context, &consequence)?;
        } else if primary && self.ignore_consistency {
            self.confirm
                .confirm(context, "What the instances wrote last may be lost")?;
        }
        Ok(())
    }
}

async fn take_away(
    context: &Context,
    what: &What,
    primary: bool,
    secondary: bool,
) -> Result<Answer, Failure> {
    let node = NodeInfo::load(&context.store, &what.node)?.node.name;
    let request = EvacuateRequest {
        node: node.clone(),
        primary,
        secondary,
        target: what.new_node.clone(),
        parallel: what.parallel.get(),
        early_release: what.early_release,
        ignore_consistency: what.ignore_consistency,
    };
    let cluster = context.store.cluster()?.uuid;
    let transfer = |instance: &str| {
        let (transfer, locate) = (what.transfer.as_deref(), what.locate.as_deref());
        let timeout = Duration::from_secs(what.transfer_timeout);
        transfer
            .is_some()
            .then(|| CommandTransfer::new(context.runner(), &cluster, instance, transfer, locate, timeout))
    };
    let moved = context
        .work(async |engine| {
            let tell = |moved: &Moved| tell(moved, engine.dry_run);
            evacuate(engine, &request, transfer, tell).await
        })
        .await?;
    let failed = moved.iter().filter(|moved| moved.result.is_err()).count();
    let failure = (failed > 0).then(|| Failure::Several {
        things: "instances",
        failed,
        all: moved.len(),
        what: "moved away",
    });
    if let Some(noted) = context.noted() {
        return Ok(noted.with_failure(failure));
    }
    let warned = moved.iter().any(|moved| {
        moved
            .result
            .as_ref()
            .is_ok_and(|report| !report.warnings.is_empty())
    });
    let shown: Vec<_> = moved.iter().map(shown).collect();
    let text = format!("{} instances were moved away from {node}\n", moved.len() - failed);
    Ok(Answer::new(json!({"node": node, "instances": shown}), text)
        .with_attention(warned)
        .with_failure(failure))
}

/// One instance as JSON has it.
fn shown(moved: &Moved) -> serde_json::Value {
    let report = moved.result.as_ref().ok();
    let (action, target) = match &moved.way {
        Some(Way::Failover(target)) => ("failover", target.clone()),
        Some(Way::Migrate(target)) => ("migrate", target.clone()),
        Some(Way::NewSecondary(node)) => ("replace-disks", Some(node.clone())),
        None => ("none", None),
    };
    json!({
        "name": moved.instance,
        "action": action,
        "target": target,
        "operation": report.and_then(|report| report.operation.clone()),
        "warnings": report.map(|report| report.warnings.clone()).unwrap_or_default(),
        "error": moved.result.as_ref().err().map(|error| chain(error)),
    })
}

/// Says what became of an instance, or would.
fn tell(moved: &Moved, dry_run: bool) {
    let instance = &moved.instance;
    let how = match &moved.way {
        Some(Way::Failover(None)) => "failed over to its secondary node".to_owned(),
        Some(Way::Failover(Some(node))) => format!("failed over to {node}"),
        Some(Way::Migrate(None)) => "migrated to its secondary node".to_owned(),
        Some(Way::Migrate(Some(node))) => format!("migrated to {node}"),
        Some(Way::NewSecondary(node)) => format!("mirrored to {node}"),
        None => "moved".to_owned(),
    };
    match &moved.result {
        Ok(report) => {
            let would = if dry_run { "would be " } else { "" };
            say(format_args!("{instance}: {would}{how}"));
            for warning in &report.warnings {
                warn(format_args!("{instance}: {warning}"));
            }
        }
        Err(error) => {
            let hint = error.hint().map(|hint| format!("\n  hint: {hint}"));
            say(format_args!(
                "{instance}: cannot be {how}: {}{}",
                chain(error),
                hint.unwrap_or_default()
            ));
        }
    }
}
