//! `node remove`.

use gnt_cmdlib::ops::node::{NodeInfo, remove};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Refused while anything is on it. The machine itself is not asked: what it got when it joined stays there.

Example:
  gnt-disk node remove node2";

/// Remove a node from the cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the node
    node: String,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let name = NodeInfo::load(&context.store, &args.node)?.node.name;
    let done = context
        .operate(async |engine| remove(engine, &name).await)
        .await?;
    Ok(done.answer_for(context, "node", &name, json!({}), String::new()))
}
