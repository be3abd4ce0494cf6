//! `snapshot`: copy disks as they are now.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::snapshot::snapshot;
use gnt_cmdlib::step::Step;
use gnt_config::Disk;
use serde_json::{Value, json};

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

Examples:
  gnt-disk snapshot web1 --disk 0
  gnt-disk snapshot web1 --disk 0:snapshot_name=before-upgrade";

/// Copy disks as they are now to volumes of their own
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// A disk and its snapshot: N:snapshot_name=NAME; once for each
    #[arg(
        long = "disk",
        value_name = "SNAPSHOT",
        required = true,
        allow_hyphen_values = true
    )]
    disks: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let requests = disk_arg::snapshots(&args.disks)?;
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
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
