//! `node list`.

use crate::commands::node::{add_room, nodes, rooms, row};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Answer, Field, Kind, ListOptions};

const HELP: &str = "\
Fields: name, uuid, primary_ip (pip), secondary_ip (sip), group, group.uuid, role, master, offline, drained, dtotal, dfree, \
pinst_cnt, sinst_cnt, pinst_list, sinst_list, ndparams. Roles: M master, C master candidate, R regular, D drained, O offline. \
dtotal and dfree are those of the storage of the default disk template, where it can tell; 'node list-storage' shows all.

Examples:
  gnt-disk node list
  gnt-disk node list -o name,dfree --no-headers --separator :
  gnt-disk node list -o +group,role node1 node2";

/// List the nodes
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Names or UUIDs of the nodes; by default all
    nodes: Vec<String>,
    #[command(flatten)]
    options: ListOptions,
}

const FIELDS: &[Field] = &[
    Field::shown("name", "Node", Kind::Text),
    Field::more("uuid", "UUID", Kind::Text),
    Field::more("primary_ip", "Primary_IP", Kind::Text),
    Field::more("pip", "PrimaryIP", Kind::Text),
    Field::more("secondary_ip", "Secondary_IP", Kind::Text),
    Field::more("sip", "SecondaryIP", Kind::Text),
    Field::more("group", "Group", Kind::Text),
    Field::more("group.uuid", "GroupUUID", Kind::Text),
    Field::shown("role", "Role", Kind::Text),
    Field::more("master", "Master", Kind::Flag),
    Field::more("offline", "Offline", Kind::Flag),
    Field::more("drained", "Drained", Kind::Flag),
    Field::shown("dtotal", "DTotal", Kind::Size),
    Field::shown("dfree", "DFree", Kind::Size),
    Field::shown("pinst_cnt", "Pinst", Kind::Text),
    Field::shown("sinst_cnt", "Sinst", Kind::Text),
    Field::more("pinst_list", "PriInstances", Kind::Text),
    Field::more("sinst_list", "SecInstances", Kind::Text),
    Field::more("ndparams", "NodeParameters", Kind::Text),
];

pub(super) async fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let interrupted = context.warn_of_interrupted()?;
    let nodes = nodes(context, &args.nodes)?;
    let mut rows: Vec<_> = nodes.iter().map(row).collect();
    let mut complete = true;
    // What only the nodes know is not asked for nothing.
    if args.options.shows(FIELDS, &["dtotal", "dfree"])? {
        let cluster = context.store.cluster()?;
        let template = context.default_template()?;
        let (told, all) = rooms(context, &nodes, template).await;
        complete = all;
        for (row, room) in rows.iter_mut().zip(told) {
            add_room(row, &cluster, template, room.as_deref());
        }
    }
    let answer = args.options.answer(FIELDS, rows)?;
    Ok(answer.with_attention(interrupted || !complete))
}
