//! `rename`: give an instance another name.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::rename::rename;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Its disks must not be in use. Directories that have the instance's name are renamed, and every volume that can keep whose \
it is is told.

Example:
  gnt-disk rename web1 www1";

/// Give an instance another name
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Its new name
    new_name: String,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let done = context
        .operate(async |engine| rename(engine, &name, &args.new_name).await)
        .await?;
    Ok(done.answer(context, &args.new_name, json!({"old_name": name}), String::new()))
}
