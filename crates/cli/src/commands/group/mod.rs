//! `group`: groups of nodes.

pub(crate) mod add;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod modify;
pub(crate) mod remove;
pub(crate) mod rename;

use gnt_cmdlib::ops::group::{GroupChanges, GroupInfo};
use gnt_config::Object;
use serde_json::{Value, json};

use crate::args::parameters;
use crate::context::Context;
use crate::disk_arg;
use crate::failure::Failure;
use crate::output::Answer;
use crate::view;

const HELP: &str = "\
Nodes of a group share disk parameters and node parameters, which go before those of the cluster. Every node is in one group.

Examples:
  gnt-disk group add rack2 -D drbd:resync-rate=100000
  gnt-disk node modify node3 --group rack2
  gnt-disk group list";

/// Add, list, show, change, rename or remove node groups
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = HELP)]
pub(crate) enum Command {
    Add(add::Args),
    List(list::Args),
    Info(info::Args),
    Modify(modify::Args),
    Rename(rename::Args),
    Remove(remove::Args),
}

pub(crate) fn run(context: &Context, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Add(args) => add::run(context, &args),
        Command::List(args) => list::run(context, &args),
        Command::Info(args) => info::run(context, &args),
        Command::Modify(args) => modify::run(context, &args),
        Command::Rename(args) => rename::run(context, args),
        Command::Remove(args) => remove::run(context, &args),
    }
}

/// What a group can be given at its beginning and later.
#[derive(Debug, clap::Args)]
struct SettingsArgs {
    /// Disk parameters of a template; the value 'default' unsets one
    #[arg(short = 'D', long = "disk-parameters", value_name = "TEMPLATE:KEY=VALUE,…")]
    disk_parameters: Vec<String>,
    /// Node parameters; the value 'default' unsets one
    #[arg(long = "node-parameters", value_name = "KEY=VALUE,…", value_parser = parameters)]
    ndparams: Option<Object>,
}

impl SettingsArgs {
    fn changes(&self) -> Result<GroupChanges, Failure> {
        let diskparams = self.disk_parameters.iter();
        Ok(GroupChanges {
            name: None,
            diskparams: diskparams
                .map(|argument| disk_arg::disk_params(argument))
                .collect::<Result<_, _>>()?,
            ndparams: self.ndparams.clone().unwrap_or_default(),
        })
    }
}

/// The groups of these names or UUIDs; all, if none is given.
fn groups(context: &Context, wanted: &[String]) -> Result<Vec<GroupInfo>, Failure> {
    let store = &context.store;
    Ok(match wanted {
        [] => GroupInfo::all(store)?,
        some => some
            .iter()
            .map(|key| GroupInfo::load(store, key))
            .collect::<Result<_, _>>()?,
    })
}

/// A group as lists and JSON have it, under Ganeti's names.
fn row(info: &GroupInfo) -> Object {
    let GroupInfo {
        group,
        nodes,
        instances,
    } = info;
    let nodes: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    view::object(json!({
        "name": group.name, "uuid": group.uuid, "node_cnt": nodes.len(), "node_list": nodes,
        "pinst_cnt": instances.len(), "pinst_list": instances, "diskparams": group.diskparams,
        "ndparams": group.ndparams, "alloc_policy": group.origin.get("alloc_policy"),
    }))
}

/// What is answered when a group was made or changed: the group as it is now.
fn changed(context: &Context, uuid: &str) -> Result<Answer, Failure> {
    let info = GroupInfo::load(&context.store, uuid)?;
    Ok(Answer::new(Value::Object(row(&info)), ""))
}
