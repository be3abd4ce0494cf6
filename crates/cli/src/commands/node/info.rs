//! `node info`.

use gnt_cmdlib::ops::node::NodeInfo;
use gnt_config::{Instance, Mebibytes};
use serde_json::{Value, json};

use crate::commands::node::{add_room, nodes, rooms, row};
use crate::context::Context;
use crate::details::Details;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Examples:
  gnt-disk node info
  gnt-disk --json node info node2";

/// Show nodes with what is on them
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Names or UUIDs of the nodes; by default all
    nodes: Vec<String>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let nodes = nodes(context, &args.nodes)?;
    let cluster = context.store.cluster()?;
    let template = context.default_template()?;
    let (told, complete) = rooms(context, &nodes, template).await;
    let (mut json, mut texts) = (Vec::new(), Vec::new());
    for (info, room) in nodes.iter().zip(told) {
        let mut shown = row(info);
        add_room(&mut shown, &cluster, template, room.as_deref());
        let storage: Vec<Value> = room
            .unwrap_or_default()
            .iter()
            .map(|space| json!({"name": space.name, "free": space.free, "total": space.total}))
            .collect();
        texts.push(details(info, &storage).render());
        shown.insert("storage".to_owned(), storage.into());
        json.push(Value::Object(shown));
    }
    // One that was asked for is one object.
    let json = match (args.nodes.as_slice(), json.pop()) {
        ([_], Some(only)) => only,
        (_, last) => json.into_iter().chain(last).collect(),
    };
    Ok(Answer::new(json, texts.join("\n")).with_attention(!complete))
}

fn details(info: &NodeInfo, storage: &[Value]) -> Details {
    let NodeInfo {
        node,
        group,
        primary,
        secondary,
        ..
    } = info;
    let yes = |flag: bool| Details::text(if flag { "yes" } else { "no" });
    let names = |instances: &[Instance]| Details::list(instances.iter().map(|instance| &instance.name));
    let size = |value: &Value| Mebibytes(value.as_u64().unwrap_or_default());
    let places = storage.iter().map(|place| {
        let text = format!("{} free of {}", size(&place["free"]), size(&place["total"]));
        (place["name"].as_str().unwrap_or_default(), Details::text(text))
    });
    Details::map([
        ("Node name", Details::text(&node.name)),
        ("UUID", Details::text(&node.uuid)),
        ("primary ip", Details::text(&node.primary_ip)),
        ("secondary ip", Details::text(&node.secondary_ip)),
        ("group", Details::text(&group.name)),
        ("master", yes(info.is_master)),
        ("offline", yes(node.offline)),
        ("drained", yes(node.drained)),
        ("node parameters", Details::json(&node.ndparams.clone().into())),
        ("storage", Details::map(places)),
        ("primary for instances", names(primary)),
        ("secondary for instances", names(secondary)),
    ])
}
