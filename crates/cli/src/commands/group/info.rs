//! `group info`.

use serde_json::Value;

use crate::commands::group::{groups, row};
use crate::context::Context;
use crate::details::Details;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Examples:
  gnt-disk group info
  gnt-disk --json group info default";

/// Show node groups with their nodes and parameters
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Names or UUIDs of the groups; by default all
    groups: Vec<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let rows: Vec<_> = groups(context, &args.groups)?.iter().map(row).collect();
    let details = |row: &gnt_config::Object| {
        let of = |key: &str| Details::json(&row[key]);
        let shown = [
            ("Group name", of("name")),
            ("UUID", of("uuid")),
            ("nodes", of("node_list")),
            ("primary instances", of("pinst_list")),
            ("disk parameters", of("diskparams")),
            ("node parameters", of("ndparams")),
        ];
        Details::map(shown).render()
    };
    let text: Vec<String> = rows.iter().map(details).collect();
    let mut rows = rows.into_iter().map(Value::Object);
    // One that was asked for is one object.
    let json = match args.groups.as_slice() {
        [_] => rows.next().unwrap_or_default(),
        _ => rows.collect(),
    };
    Ok(Answer::new(json, text.join("\n")))
}
