//! `node`: the cluster's nodes.

pub(crate) mod add;
pub(crate) mod evacuate;
pub(crate) mod info;
pub(crate) mod join;
pub(crate) mod list;
pub(crate) mod list_storage;
pub(crate) mod modify;
pub(crate) mod remove;

use gnt_bdev::Space;
use gnt_cmdlib::ops::node::{NodeInfo, usual_place};
use gnt_config::{Cluster, DiskTemplate, Instance, Object};
use serde_json::{Value, json};

use crate::args::Global;
use crate::context::{Context, warn};
use crate::failure::Failure;
use crate::output::Answer;
use crate::view;

const HELP: &str = "\
A node is a machine on which disks are. The one where the cluster is kept is the master node.

Examples:
  gnt-disk node add node2 --ssh root@node2
  gnt-disk node list
  gnt-disk node drain node2
  gnt-disk node remove node2";

/// Add, list, show, change, evacuate or remove nodes
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = HELP)]
pub(crate) enum Command {
    Add(add::Args),
    List(list::Args),
    ListStorage(list_storage::Args),
    Info(info::Args),
    Modify(modify::Args),
    Evacuate(evacuate::Args),
    Drain(evacuate::DrainArgs),
    Remove(remove::Args),
    Join(join::Args),
}

pub(crate) async fn run(global: &Global, command: Command) -> Result<Answer, Failure> {
    let open = || Context::open(global);
    match command {
        Command::Add(args) => add::run(&open()?, &args).await,
        Command::List(args) => list::run(&open()?, &args).await,
        Command::ListStorage(args) => list_storage::run(&open()?, &args).await,
        Command::Info(args) => info::run(&open()?, &args).await,
        Command::Modify(args) => modify::run(&open()?, args).await,
        Command::Evacuate(args) => evacuate::run(&open()?, &args).await,
        Command::Drain(args) => evacuate::drain(&open()?, &args).await,
        Command::Remove(args) => remove::run(&open()?, &args).await,
        // A machine that joins a cluster gets none of its own.
        Command::Join(args) => join::run(global, &args),
    }
}

/// The nodes of these names or UUIDs; all, if none is given.
fn nodes(context: &Context, wanted: &[String]) -> Result<Vec<NodeInfo>, Failure> {
    let store = &context.store;
    let infos: gnt_cmdlib::Result<_> = match wanted {
        [] => {
            let all = store.nodes()?.into_iter();
            all.map(|node| NodeInfo::of(store, node)).collect()
        }
        some => some.iter().map(|key| NodeInfo::load(store, key)).collect(),
    };
    Ok(infos?)
}

/// A node as lists and JSON have it, under Ganeti's names.
fn row(info: &NodeInfo) -> Object {
    let NodeInfo {
        node,
        group,
        primary,
        secondary,
        ..
    } = info;
    let names = |instances: &[Instance]| -> Value {
        let names = instances.iter().map(|instance| instance.name.as_str());
        names.collect()
    };
    view::object(json!({
        "name": node.name, "uuid": node.uuid, "primary_ip": node.primary_ip, "pip": node.primary_ip,
        "secondary_ip": node.secondary_ip, "sip": node.secondary_ip, "group": group.name, "group.uuid": group.uuid,
        "offline": node.offline, "drained": node.drained, "master": info.is_master, "role": role(info),
        "pinst_cnt": primary.len(), "sinst_cnt": secondary.len(), "pinst_list": names(primary),
        "sinst_list": names(secondary), "ndparams": node.ndparams,
    }))
}

/// One letter (`constants.NR_*`).
fn role(info: &NodeInfo) -> &'static str {
    let is_candidate = info.node.origin.get("master_candidate").and_then(Value::as_bool);
    match info {
        info if info.is_master => "M",
        info if info.node.offline => "O",
        info if info.node.drained => "D",
        _ if is_candidate == Some(true) => "C",
        _ => "R",
    }
}

/// What each node tells of its room for disks of `template`; nothing where it is not asked, and a warning where it does not answer. Whether
/// all answered.
async fn rooms(
    context: &Context,
    nodes: &[NodeInfo],
    template: DiskTemplate,
) -> (Vec<Option<Vec<Space>>>, bool) {
    use gnt_cmdlib::Error;
    let answers = gnt_cmdlib::ops::node::spaces(&context.store, &context.nodes, nodes, template).await;
    let mut complete = true;
    let mut told = |answer| match answer {
        Ok(room) => room,
        // Neither is a surprise.
        Err(Error::NodeOffline { .. } | Error::Unreachable { .. } | Error::Stranger { .. }) => None,
        Err(error) => {
            warn(gnt_cmdlib::error::chain(&error));
            complete = false;
            None
        }
    };
    let rooms = answers.into_iter().map(&mut told).collect();
    (rooms, complete)
}

/// `dfree` and `dtotal`: the room in the place where new disks go to.
fn add_room(row: &mut Object, cluster: &Cluster, template: DiskTemplate, room: Option<&[Space]>) {
    let place = room.and_then(|room| usual_place(cluster, template, room));
    row.insert("dfree".to_owned(), json!(place.map(|place| place.free)));
    row.insert("dtotal".to_owned(), json!(place.map(|place| place.total)));
}
