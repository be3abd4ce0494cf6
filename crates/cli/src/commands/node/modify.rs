//! `node modify`.

use std::net::IpAddr;

use gnt_cmdlib::ops::node::{NodeChanges, NodeInfo, modify};
use gnt_config::Object;

use crate::args::{parameters, yes_or_no};
use crate::commands::node::row;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
A node that is offline is not asked for anything; operations that can do without it go on. A node that is drained gets no new \
disks. The master node can be neither. Operations on the node's disks must be over, but a node that died can be set offline while they \
wait for it.

The daemon of a node listens on another primary address when it is started again: run 'systemctl restart gnt-disk' there once the node has \
the address.

Examples:
  gnt-disk node modify node2 --offline yes
  gnt-disk node modify node2 --drained no --group rack2
  gnt-disk node modify node2 --secondary-ip 198.51.100.2";

/// Change a node
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the node
    node: String,
    /// Whether it is not to be asked for anything
    #[arg(short = 'O', long, value_name = "YES|NO", ignore_case = true, value_parser = yes_or_no())]
    offline: Option<bool>,
    /// Whether it gets no new disks
    #[arg(short = 'D', long, value_name = "YES|NO", ignore_case = true, value_parser = yes_or_no())]
    drained: Option<bool>,
    /// Address on which it is asked
    #[arg(long, value_name = "ADDRESS")]
    primary_ip: Option<IpAddr>,
    /// Address over which disks are replicated
    #[arg(short, long, value_name = "ADDRESS")]
    secondary_ip: Option<IpAddr>,
    /// Name or UUID of the node group that it is to be in
    #[arg(short, long)]
    group: Option<String>,
    /// Node parameters; the value 'default' unsets one
    #[arg(long = "node-parameters", value_name = "KEY=VALUE,…", value_parser = parameters)]
    ndparams: Option<Object>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let before = NodeInfo::load(&context.store, &args.node)?.node;
    let uuid = &before.uuid;
    let changes = NodeChanges {
        offline: args.offline,
        drained: args.drained,
        primary_ip: args.primary_ip,
        secondary_ip: args.secondary_ip,
        group: args.group,
        ndparams: args.ndparams.unwrap_or_default(),
    };
    if changes == NodeChanges::default() {
        return Err(
            Failure::usage("nothing to change was given").with_hint("see gnt-disk node modify --help")
        );
    }
    let done = context
        .operate(async |engine| modify(engine, uuid, &changes).await)
        .await?;
    let info = NodeInfo::load(&context.store, uuid)?;
    let moved = (before.primary_ip != info.node.primary_ip).then_some(&before);
    let deaf = context.tell_nodes(moved).await?;
    let attention = done.warned() || deaf;
    let answer = done.answer_for(context, "node", &info.node.name, row(&info).into(), String::new());
    Ok(answer.with_attention(attention))
}
