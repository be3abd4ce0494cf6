//! `deactivate`: take an instance's disks out of use.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::activate::deactivate;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Nothing may use the devices any more: a mounted file system makes this fail, and the disks that were taken out of use \
before it are put into use again.

Example:
  gnt-disk deactivate web1";

/// Take an instance's disks out of use
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let done = context
        .operate(async |engine| deactivate(engine, &name).await)
        .await?;
    Ok(done.answer(context, &name, json!({}), String::new()))
}
