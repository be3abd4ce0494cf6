//! `list`: the instances, or the detached disks.

use gnt_cmdlib::node::NodeError;
use gnt_cmdlib::verify::{Finding, half_migrated};
use gnt_cmdlib::{Node as _, Nodes as _};
use gnt_config::{Disk, Instance, Object};

use crate::context::{Context, warn};
use crate::failure::Failure;
use crate::output::{Answer, Field, Kind, ListOptions};
use crate::view::{self, Links, NodeNames};

const HELP: &str = "\
Fields of instances: name, uuid, disk_template, pnode, snodes, disks, disk.count, disk.sizes, disks_active, \
migration. \
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

const INSTANCES: &[Field] = &[
    Field::shown("name", "Instance", Kind::Text),
    Field::more("uuid", "UUID", Kind::Text),
    Field::shown("disk_template", "Disk_template", Kind::Text),
    Field::shown("pnode", "Primary_node", Kind::Text),
    Field::more("snodes", "Secondary_Nodes", Kind::Text),
    Field::more("disks", "Disks", Kind::Count),
    Field::more("disk.count", "Disks", Kind::Count),
    Field::shown("disk.sizes", "Disk_sizes", Kind::Size),
    Field::shown("disks_active", "Active", Kind::Flag),
    Field::more("migration", "Migration", Kind::Text),
];

const DETACHED: &[Field] = &[
    Field::shown("uuid", "UUID", Kind::Text),
    Field::shown("name", "Name", Kind::Text),
    Field::shown("dev_type", "Type", Kind::Text),
    Field::shown("size", "Size", Kind::Size),
    Field::more("mode", "Mode", Kind::Text),
    Field::shown("volume", "Volume", Kind::Text),
    Field::more("logical_id", "Logical_id", Kind::Text),
    Field::more("nodes", "Nodes", Kind::Text),
    Field::more("params", "Params", Kind::Text),
    Field::more("children", "Children", Kind::Count),
    Field::more("spindles", "Spindles", Kind::Text),
];

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let interrupted = context.warn_of_interrupted()?;
    if args.detached {
        let answer = args.options.answer(DETACHED, detached(context)?)?;
        return Ok(answer.with_attention(interrupted));
    }
    let (rows, complete) = instances(context, &args.instances).await?;
    let answer = args.options.answer(INSTANCES, rows)?;
    Ok(answer.with_attention(interrupted || !complete))
}

fn detached(context: &Context) -> Result<Vec<Object>, Failure> {
    let names = NodeNames::new(context.store.nodes()?);
    let show = |disk: &Disk| {
        let mut shown = view::disk(disk, &names);
        shown.insert("volume".to_owned(), disk.logical_id.to_string().into());
        shown
    };
    Ok(context.store.detached_disks()?.iter().map(show).collect())
}

/// The instances, and whether all that there is to know of them is known, and nothing needs attention.
async fn instances(context: &Context, wanted: &[String]) -> Result<(Vec<Object>, bool), Failure> {
    let store = &context.store;
    let names = NodeNames::new(store.nodes()?);
    let instances = match wanted {
        [] => {
            let mut all = store.instances()?;
            all.sort_by(|a, b| nice_key(&a.name).cmp(&nice_key(&b.name)));
            all
        }
        some => some
            .iter()
            .map(|name| find(context, name))
            .collect::<Result<_, _>>()?,
    };
    let (links, complete) = match links(context, &instances).await {
        Ok(links) => (links, true),
        Err(error) => {
            warn(gnt_cmdlib::error::chain(&error));
            (Links::default(), false)
        }
    };
    let (mut rows, mut complete) = (Vec::new(), complete);
    for instance in &instances {
        if let Some(Finding { message, mend, .. }) = half_migrated(store, instance)? {
            warn(format_args!(
                "{}: {message}: run {}",
                instance.name,
                mend.unwrap_or_default()
            ));
            complete = false;
        }
        let own = store.disks_of(instance)?;
        let disks = own
            .iter()
            .map(|disk| view::attached_disk(&instance.name, disk, &names, &links));
        rows.push(view::instance(instance, &own, &names, disks.collect()));
    }
    Ok((rows, complete))
}

/// Sorts as people count, `web2` before `web10` (`utils.NiceSortKey`).
fn nice_key(name: &str) -> (Vec<(&str, Option<u128>)>, &str) {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, from_digits) = rest.split_at(text_end);
        let digits_end = from_digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(from_digits.len());
        let (digits, after) = from_digits.split_at(digits_end);
        parts.push((text, digits.parse().ok()));
        rest = after;
    }
    (parts, name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_as_people_count() {
        let sorted = [
            "1",
            "2",
            "10",
            "db",
            "web",
            "web1",
            "web1.example.com",
            "web02",
            "web2",
            "web10",
            "web10a",
            "x",
        ];
        let mut names = sorted;
        names.reverse();
        names.sort_by(|a, b| nice_key(a).cmp(&nice_key(b)));
        assert_eq!(names, sorted);
    }
}
