//! `grow`: enlarge a disk.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::grow::{Growth, grow};
use gnt_config::Mebibytes;
use gnt_config::template::INT_MIRROR;
use serde_json::json;

use crate::commands::activate;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;
use crate::view::{self, Links, NodeNames};

const HELP: &str = "\
A disk in use stays so. What is on it, a file system for example, is not enlarged.

Of a disk that is mirrored by drbd the volumes on both nodes grow first. What was added is synchronised while the disk is \
in use, for which the command waits; --no-wait-for-sync leaves that to itself.

Examples:
  gnt-disk grow web1 0 5G
      add five gibibytes to the first disk

  gnt-disk grow web1 data 50G --absolute
      make the disk called data fifty gibibytes large; fine if it is already";

/// Enlarge a disk by an amount, or to a size
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Index, name or UUID of the disk; -1 is the last
    #[arg(allow_negative_numbers = true)]
    disk: String,
    /// Amount, such as 512M, 1.5G or 2T; without a unit it is mebibytes
    amount: Mebibytes,
    /// The amount is the new size
    #[arg(long)]
    absolute: bool,
    /// Do not wait until what was added to a mirrored disk is synchronised
    #[arg(long)]
    no_wait_for_sync: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let subject = Subject::load(&context.store, &args.instance)?;
    let (name, index) = (&subject.instance.name, subject.index_of(&args.disk)?);
    let uuid = &subject.disks[index].uuid;
    let growth = match args.absolute {
        true => Growth::To(args.amount),
        false => Growth::By(args.amount),
    };
    let done = context
        .operate(async |engine| grow(engine, name, uuid, growth).await)
        .await?;
    let names = NodeNames::new(context.store.nodes()?);
    let grown = context.store.disk(uuid)?.into_iter().collect::<Vec<_>>();
    let shown: Vec<_> = grown
        .iter()
        .map(|disk| view::attached_disk(name, disk, &names, &Links::default()))
        .collect();
    let is_mirrored = grown
        .iter()
        .any(|disk| INT_MIRROR.contains(disk.dev_type.template()));
    let waits =
        is_mirrored && subject.instance.disks_active && !args.no_wait_for_sync && !context.is_dry_run();
    let degraded = waits && activate::wait(context, &subject).await?;
    let answer = done.answer(context, name, json!({"disks": shown}), view::disk_lines(&grown));
    Ok(answer.with_attention(degraded))
}
