//! `activate`: put an instance's disks into use.

use std::time::Duration;

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::activate::activate;
use gnt_cmdlib::ops::sync::{Mirror, wait_for_sync};
use gnt_cmdlib::{AssembledDisk, Report};
use serde_json::{Value, json};

use crate::context::{Context, warn};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::Answer;
use crate::progress::SyncProgress;
use crate::view::{self, Links, NodeNames};

/// Between two looks at a synchronisation.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const HELP: &str = "\
Each disk becomes a device of this node, and a link INSTANCE:INDEX in the directory of device links leads to it: the \
device may be another one next time, the link is always the same. Disks that are in use already stay so.

A disk that is mirrored by drbd is made ready on both its nodes, and can be used on the instance's primary node. If the \
secondary node cannot be reached, or its half is not usable, the disk is used without it: that is told, and the command ends \
with status 3. With --wait-for-sync it ends when both halves are the same, or, with status 3, when that is not being worked on.

A line is printed for each disk, NODE:disk/INDEX:DEVICE, as gnt-instance does.

Examples:
  gnt-disk activate web1
      node1:disk/0:/dev/loop0

  gnt-disk activate web1 --links
      node1:disk/0:/dev/loop0 /var/lib/gnt-disk/instance-disks/web1:0";

/// Put an instance's disks into use, and print where they are
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Print the link to each device too
    #[arg(long)]
    links: bool,
    /// Wait until mirrored disks are synchronised
    #[arg(long)]
    wait_for_sync: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let subject = Subject::load(&context.store, &args.instance)?;
    let name = &subject.instance.name;
    let done = context
        .operate(async |engine| activate(engine, name).await)
        .await?;
    let (disks, text) = assembled(context, &subject, &done.report, args.links)?;
    let degraded = args.wait_for_sync && !context.is_dry_run() && wait(context, &subject).await?;
    let answer = done.answer(context, name, json!({"disks": disks}), text);
    Ok(answer.with_attention(degraded))
}

/// Where the disks are that were put into use, with the links to them if that is wanted.
pub(crate) fn assembled(
    context: &Context,
    subject: &Subject,
    report: &Report,
    links: bool,
) -> Result<(Vec<Value>, String), Failure> {
    let name = &subject.instance.name;
    let names = NodeNames::new(context.store.nodes()?);
    let (mut disks, mut text) = (Vec::new(), String::new());
    for AssembledDisk {
        node,
        index,
        assembled,
    } in &report.assembled
    {
        let node = names.of(node);
        let device = assembled
            .device
            .as_ref()
            .and_then(|device| device.path.as_deref());
        let place = match (device, &assembled.uri) {
            (Some(device), _) => device.to_string_lossy().into_owned(),
            (None, Some(uri)) => uri.clone(),
            (None, None) => "-".to_owned(),
        };
        text.push_str(&format!("{node}:disk/{index}:{place}"));
        if let Some(link) = assembled.link.as_deref().filter(|_| links) {
            text.push_str(&format!(" {}", link.display()));
        }
        text.push('\n');
        let Some(disk) = subject.disks.iter().find(|disk| disk.index() == Some(*index)) else {
            continue;
        };
        let mut shown = view::attached_disk(name, disk, &names, &Links::default());
        shown.insert("node".to_owned(), node.into());
        shown.insert("dev_path".to_owned(), device.map_or(Value::Null, view::path));
        shown.insert(
            "link".to_owned(),
            assembled.link.as_deref().map_or(Value::Null, view::path),
        );
        shown.insert("uri".to_owned(), assembled.uri.as_deref().into());
        disks.push(Value::Object(shown));
    }
    Ok((disks, text))
}

/// Waits for the synchronisation, and tells whether anything is degraded then.
pub(crate) async fn wait(context: &Context, subject: &Subject) -> Result<bool, Failure> {
    let mut progress = SyncProgress::new();
    let waiting = wait_for_sync(&context.nodes, subject, async |mirrors| {
        progress.show(mirrors);
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    });
    let degraded = tokio::select! {
        degraded = waiting => degraded?,
        signal = interrupt::requested() => return Err(Failure::Interrupted { signal: signal?, operations: Vec::new() }),
    };
    drop(progress);
    for Mirror { disk, sync } in &degraded {
        warn(format_args!("{disk} is degraded: {sync}"));
    }
    Ok(!degraded.is_empty())
}
