//! `snapshot`: copy disks as they are now.

use clap::ArgGroup;
use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::snapshot::{remove_snapshot, restore, snapshot};
use gnt_cmdlib::step::Step;
use gnt_config::Disk;
use serde_json::{Value, json};

use crate::args::PaceArgs;
use crate::commands::changed;
use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::disk_arg;
use crate::failure::Failure;
use crate::output::{Answer, columns};
use crate::view::{self, NodeNames};

const HELP: &str = "\
A snapshot is a volume of its own. It becomes a detached disk: 'gnt-disk list --detached' shows it, 'gnt-disk modify \
INSTANCE --disk attach:UUID' gives it to an instance. Of a disk that is being written to, it is what a power cut would \
leave: freeze the file system before, with fsfreeze.

N is a disk's index, name or UUID. What is behind the colon may be left out:

  N:snapshot_name=NAME    name of the snapshot's volume; by default that of the disk's with .snap behind it
  N:snapshot_size=SIZE    room for what will differ, where that must be given; by default as much as the disk has

A disk that is not in use can be made again what its snapshot is, which stays. SNAPSHOT is its name or UUID.

Examples:
  gnt-disk snapshot web1 --disk 0
  gnt-disk snapshot web1 --disk 0:snapshot_name=before-upgrade
  gnt-disk snapshot web1 --restore 0:before-upgrade
  gnt-disk snapshot web1 --remove before-upgrade";

/// Copy disks as they are now to volumes of their own; restore and remove such snapshots
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP, group = ArgGroup::new("deed").required(true))]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// A disk and its snapshot: N:snapshot_name=NAME; once for each
    #[arg(
        long = "disk",
        value_name = "SNAPSHOT",
        group = "deed",
        allow_hyphen_values = true
    )]
    disks: Vec<String>,
    /// Make disk N what the snapshot is
    #[arg(long, value_name = "N:SNAPSHOT", group = "deed", allow_hyphen_values = true)]
    restore: Option<String>,
    /// Remove a snapshot with its data
    #[arg(long, value_name = "SNAPSHOT", group = "deed")]
    remove: Option<String>,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let pace = args.pace.pace()?;
    if let Some(restored) = &args.restore {
        let Some((disk, snapshot)) = restored.rsplit_once(':') else {
            return Err(
                Failure::usage(format!("--restore {restored}: no snapshot is named"))
                    .with_hint("say --restore N:SNAPSHOT, such as 0:before-upgrade"),
            );
        };
        args.confirm.confirm(
            context,
            &format!("What was written to disk {disk} of {name} since {snapshot} will be gone"),
        )?;
        let done = context
            .operate(async |engine| restore(engine, &name, disk, snapshot, pace).await)
            .await?;
        return changed(context, &done, &name);
    }
    if let Some(snapshot) = &args.remove {
        args.confirm
            .confirm(context, &format!("Snapshot {snapshot} and its data will be gone"))?;
        let done = context
            .operate(async |engine| remove_snapshot(engine, &name, snapshot).await)
            .await?;
        return changed(context, &done, &name);
    }
    let requests = disk_arg::snapshots(&args.disks)?;
    let done = context
        .operate(async |engine| snapshot(engine, &name, &requests).await)
        .await?;
    let names = NodeNames::new(context.store.nodes()?);
    let taken = match &done.report.operation {
        Some(operation) => taken(context, operation)?,
        None => Vec::new(),
    };
    let shown: Vec<Value> = taken.iter().map(|disk| view::disk(disk, &names).into()).collect();
    let line = |disk: &Disk| {
        vec![
            disk.uuid.clone(),
            disk.size.to_string(),
            disk.logical_id.to_string(),
        ]
    };
    let lines: Vec<_> = taken.iter().map(line).collect();
    Ok(done.answer(
        context,
        &name,
        json!({"disks": shown}),
        columns(&lines, |column| column == 1),
    ))
}

/// The snapshots that an operation took.
fn taken(context: &Context, operation: &str) -> Result<Vec<Disk>, Failure> {
    let mut disks = Vec::new();
    for step in context.store.operation(operation)?.steps {
        if let Ok(Step::SnapshotDisk { snapshot, .. }) = serde_json::from_value(step.data) {
            disks.extend(context.store.disk(&snapshot.uuid)?);
        }
    }
    Ok(disks)
}
