//! `remove`: remove an instance's disks with their data.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::remove::remove;
use serde_json::{Value, json};

use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;
use crate::view::{self, NodeNames};

const HELP: &str = "\
The data is gone afterwards. Disks in use are taken out of use first. If one cannot be removed, \
the instance is left with those that are still there. To keep a disk, detach it before:

  gnt-disk modify web1 --disk 1:detach
  gnt-disk remove web1";

/// Remove an instance and its disks, with all data
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let subject = Subject::load(&context.store, &args.instance)?;
    let name = &subject.instance.name;
    let names = NodeNames::new(context.store.nodes()?);
    args.confirm.confirm(
        context,
        &format!("Instance {name} and all data on its disks will be gone"),
    )?;
    let done = context.operate(async |engine| remove(engine, name).await).await?;
    let removed: Vec<Value> = subject
        .disks
        .iter()
        .map(|disk| view::disk(disk, &names).into())
        .collect();
    Ok(done.answer(context, name, json!({"disks": removed}), String::new()))
}
