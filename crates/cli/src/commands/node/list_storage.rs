//! `node list-storage`: how much room there is for disks of each template.

use gnt_config::{DiskTemplate, Mebibytes};
use serde_json::json;

use crate::args::template_parser;
use crate::commands::node::{nodes, rooms};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Answer, Field, Kind, ListOptions};
use crate::view;

const HELP: &str = "\
A volume group is one for plain and for drbd disks alike, a directory one for file disks, and so on: how much of it is free is listed \
for each template that can be there. External Storage providers and block devices cannot tell.

Examples:
  gnt-disk node list-storage
  gnt-disk node list-storage -t plain node1
  gnt-disk --json node list-storage -t rbd";

/// List how much room there is for disks of each template
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Names or UUIDs of the nodes; by default all
    nodes: Vec<String>,
    /// The template, by default each that is enabled
    #[arg(short = 't', long = "disk-template", value_name = "TEMPLATE", value_parser = template_parser())]
    template: Vec<DiskTemplate>,
    #[command(flatten)]
    options: ListOptions,
}

const FIELDS: &[Field] = &[
    Field::shown("node", "Node", Kind::Text),
    Field::shown("template", "Template", Kind::Text),
    Field::shown("name", "Name", Kind::Text),
    Field::shown("size", "Size", Kind::Size),
    Field::shown("used", "Used", Kind::Size),
    Field::shown("free", "Free", Kind::Size),
];

pub(super) async fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let nodes = nodes(context, &args.nodes)?;
    let templates = match args.template.as_slice() {
        [] => context.store.cluster()?.enabled_disk_templates,
        some => some.to_vec(),
    };
    let (mut rows, mut complete) = (Vec::new(), true);
    for template in templates {
        let (told, all) = rooms(context, &nodes, template).await;
        complete &= all;
        for (info, room) in nodes.iter().zip(told) {
            rows.extend(room.into_iter().flatten().map(|space| {
                let used = Mebibytes(space.total.0.saturating_sub(space.free.0));
                view::object(json!({
                    "node": info.node.name, "template": template, "name": space.name, "size": space.total,
                    "used": used, "free": space.free,
                }))
            }));
        }
    }
    Ok(args.options.answer(FIELDS, rows)?.with_attention(!complete))
}
