//! `list`: the instances, or the detached disks.

use std::collections::BTreeMap;

use gnt_cmdlib::node::NodeError;
use gnt_cmdlib::{Node as _, Nodes as _};
use gnt_config::{Disk, Instance};
use serde_json::Value;

use crate::context::{Context, warn};
use crate::failure::Failure;
use crate::output::{Answer, Field, Kind, ListOptions};
use crate::view::{self, Links, NodeNames};

const HELP: &str = "\
Fields of instances: name, uuid, disk_template, pnode, snodes, disks, disk.count, disk.sizes, disks_active. \
Fields of detached disks: uuid, name, dev_type, size, mode, volume, logical_id, nodes, params, children, spindles.

Examples:
  gnt-disk list
  gnt-disk list -o name,disk.sizes --no-headers --separator :
  gnt-disk list -o +uuid web1 web2
  gnt-disk list --detached
  gnt-disk --json list";

/// List the instances, or the detached disks
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Names or UUIDs of the instances; by default all
    #[arg(conflicts_with = "detached")]
    instances: Vec<String>,
    /// List the disks that are attached to no instance
    #[arg(long)]
    detached: bool,
    #[command(flatten)]
    options: ListOptions,
}

const INSTANCES: &[Field<Value>] = &[
    field("name", "Instance", Kind::Text, true, |row| row["name"].clone()),
    field("uuid", "UUID", Kind::Text, false, |row| row["uuid"].clone()),
    field("disk_template", "Disk_template", Kind::Text, true, |row| {
        row["disk_template"].clone()
    }),
    field("pnode", "Primary_node", Kind::Text, true, |row| {
        row["pnode"].clone()
    }),
    field("snodes", "Secondary_Nodes", Kind::Text, false, |row| {
        row["snodes"].clone()
    }),
    field("disks", "Disks", Kind::Count, false, |row| row["disks"].clone()),
    field("disk.count", "Disks", Kind::Count, false, |row| {
        row["disks"].as_array().map_or(0, Vec::len).into()
    }),
    field("disk.sizes", "Disk_sizes", Kind::Size, true, |row| {
        row["disks"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|disk| disk["size"].clone())
            .collect()
    }),
    field("disks_active", "Active", Kind::Flag, true, |row| {
        row["disks_active"].clone()
    }),
];

const DETACHED: &[Field<Value>] = &[
    field("uuid", "UUID", Kind::Text, true, |row| row["uuid"].clone()),
    field("name", "Name", Kind::Text, true, |row| row["name"].clone()),
    field("dev_type", "Type", Kind::Text, true, |row| {
        row["dev_type"].clone()
    }),
    field("size", "Size", Kind::Size, true, |row| row["size"].clone()),
    field("mode", "Mode", Kind::Text, false, |row| row["mode"].clone()),
    field("volume", "Volume", Kind::Text, true, |row| row["volume"].clone()),
    field("logical_id", "Logical_id", Kind::Text, false, |row| {
        row["logical_id"].clone()
    }),
    field("nodes", "Nodes", Kind::Text, false, |row| row["nodes"].clone()),
    field("params", "Params", Kind::Text, false, |row| row["params"].clone()),
    field("children", "Children", Kind::Count, false, |row| {
        row["children"].clone()
    }),
    field("spindles", "Spindles", Kind::Text, false, |row| {
        row["spindles"].clone()
    }),
];

const fn field(
    name: &'static str,
    title: &'static str,
    kind: Kind,
    default: bool,
    value: fn(&Value) -> Value,
) -> Field<Value> {
    Field {
        name,
        title,
        kind,
        default,
        value,
    }
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let interrupted = context.warn_of_interrupted()?;
    if args.detached {
        let answer = args.options.answer(DETACHED, &detached(context)?)?;
        return Ok(answer.with_attention(interrupted));
    }
    let (rows, complete) = instances(context, &args.instances).await?;
    let answer = args.options.answer(INSTANCES, &rows)?;
    Ok(answer.with_attention(interrupted || !complete))
}

fn detached(context: &Context) -> Result<Vec<Value>, Failure> {
    let names = NodeNames::new(context.store.nodes()?);
    let show = |disk: &Disk| {
        let mut shown = view::disk(disk, &names);
        shown.insert("volume".to_owned(), disk.logical_id.to_string().into());
        shown.into()
    };
    Ok(context.store.detached_disks()?.iter().map(show).collect())
}

/// The instances, and whether all that there is to know of them is known.
async fn instances(context: &Context, wanted: &[String]) -> Result<(Vec<Value>, bool), Failure> {
    let store = &context.store;
    let names = NodeNames::new(store.nodes()?);
    let instances = match wanted {
        [] => store.instances()?,
        some => some
            .iter()
            .map(|name| find(context, name))
            .collect::<Result<_, _>>()?,
    };
    let links = links(context, &instances).await;
    let (links, complete) = match links {
        Ok(links) => (links, true),
        Err(error) => {
            warn(gnt_cmdlib::error::chain(&error));
            (Links::default(), false)
        }
    };
    let mut rows = Vec::new();
    let mut all: BTreeMap<String, Disk> = match wanted {
        [] => store
            .disks()?
            .into_iter()
            .map(|disk| (disk.uuid.clone(), disk))
            .collect(),
        _ => BTreeMap::new(),
    };
    for instance in &instances {
        let own: Vec<Disk> = match wanted {
            [] => instance
                .disks
                .iter()
                .filter_map(|uuid| all.remove(uuid))
                .collect(),
            _ => store.disks_of(instance)?,
        };
        let disks = own
            .iter()
            .map(|disk| view::attached_disk(&instance.name, disk, &names, &links));
        rows.push(view::instance(instance, &own, &names, disks.collect()).into());
    }
    Ok((rows, complete))
}

fn find(context: &Context, name: &str) -> Result<Instance, Failure> {
    let none = || gnt_cmdlib::Error::NoInstance {
        instance: name.to_owned(),
    };
    Ok(context.store.instance(name)?.ok_or_else(none)?)
}

/// The links on this node; it is not asked where none of the instances has disks in use.
async fn links(context: &Context, instances: &[Instance]) -> Result<Links, NodeError> {
    let mut active = instances.iter().filter(|instance| instance.disks_active);
    let node = active.find_map(|instance| context.nodes.node(instance.primary_node.as_deref()?).ok());
    match node {
        Some(node) => Ok(Links::new(&context.settings, node.links().await?)),
        None => Ok(Links::default()),
    }
}
