//! `group list`.

use crate::commands::group::{groups, row};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Answer, Field, Kind, ListOptions};

const HELP: &str = "\
Fields: name, uuid, node_cnt, node_list, pinst_cnt, pinst_list, alloc_policy, diskparams, ndparams.

Examples:
  gnt-disk group list
  gnt-disk group list -o +node_list";

/// List the node groups
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Names or UUIDs of the groups; by default all
    groups: Vec<String>,
    #[command(flatten)]
    options: ListOptions,
}

const FIELDS: &[Field] = &[
    Field::shown("name", "Group", Kind::Text),
    Field::more("uuid", "UUID", Kind::Text),
    Field::shown("node_cnt", "Nodes", Kind::Text),
    Field::more("node_list", "NodeList", Kind::Text),
    Field::shown("pinst_cnt", "Instances", Kind::Text),
    Field::more("pinst_list", "InstanceList", Kind::Text),
    Field::shown("alloc_policy", "AllocPolicy", Kind::Text),
    Field::more("diskparams", "DiskParameters", Kind::Text),
    Field::shown("ndparams", "NDParams", Kind::Text),
];

pub(super) fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let groups = groups(context, &args.groups)?;
    args.options.answer(FIELDS, groups.iter().map(row).collect())
}
