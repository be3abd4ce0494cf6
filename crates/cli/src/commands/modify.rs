//! `modify`: change an instance's disks.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::modify::{DiskChange, modify};

use crate::commands::{changed, tell_of_undeclared_parameters};
use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::disk_arg;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
N is a disk's index, name or UUID; -1, or nothing where a disk is removed or detached, is the last disk. Several changes are made in their order, all or none.

  add:size=SIZE,…       make a disk, the last; 'gnt-disk add --help' has the keys
  N:add,size=SIZE,…     make a disk with index N; those from there on move up
  N:remove              remove a disk with its data
  N:detach              take a disk away from the instance and keep it
  attach:NAME           give the instance a detached disk, by name or UUID
  N:attach,name=NAME    the same, with index N; also uuid=UUID
  N:name=NAME,mode=ro   change a disk's name ('none' for no name) or access mode

If the instance's disks are in use, a new disk is put into use too.

Examples:
  gnt-disk modify web1 --disk add:size=10G,name=logs
  gnt-disk modify web1 --disk logs:detach
  gnt-disk modify web2 --disk attach:logs
  gnt-disk modify web1 --disk 0:name=root --disk 1:remove";

/// Add, remove, detach, attach or change an instance's disks
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// A change; several are made in their order
    #[arg(
        long = "disk",
        value_name = "CHANGE",
        required = true,
        allow_hyphen_values = true
    )]
    disks: Vec<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let changes = disk_arg::changes(&args.disks)?;
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let removed = changes.iter().filter_map(|change| match change {
        DiskChange::Remove { disk } => Some(disk.as_str()),
        _ => None,
    });
    let removed: Vec<_> = removed.collect();
    if !removed.is_empty() {
        let consequence = format!(
            "Disk {} of {name} and what is on it will be gone",
            removed.join(", ")
        );
        args.confirm.confirm(context, &consequence)?;
    }
    let done = context
        .operate(async |engine| modify(engine, &name, &changes).await)
        .await?;
    tell_of_undeclared_parameters(context, &name)?;
    changed(context, &done, &name)
}
