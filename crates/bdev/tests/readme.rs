//! README's table of what each template can do is what the drivers and the template sets say.
//! `make readme` writes it anew.

use std::fs;
use std::path::Path;

use gnt_bdev::{Capabilities, Operation, driver};
use gnt_config::template::{EXT_MIRROR, HAVE_SNAPSHOTS, INT_MIRROR, MAY_ADOPT, MUST_ADOPT};
use gnt_config::{DiskTemplate, template};

const BEGIN: &str = "<!-- templates: `make readme` writes this -->\n";
const END: &str = "<!-- end of templates -->\n";

/// A column: its title, and what stands there for a template whose driver has these capabilities.
type Column = (&'static str, fn(DiskTemplate, Capabilities) -> &'static str);

const COLUMNS: [Column; 8] = [
    ("data is on", |template, _| match template {
        _ if INT_MIRROR.contains(template) => "two nodes, mirrored",
        _ if EXT_MIRROR.contains(template) => "shared storage",
        _ => "one node",
    }),
    ("new disks are", |template, _| match template {
        _ if MUST_ADOPT.contains(template) => "adopted",
        _ if MAY_ADOPT.contains(template) => "made or adopted",
        _ => "made",
    }),
    ("grow", |_, can| yes(can.contains(Operation::Grow))),
    ("snapshot", |template, _| yes(HAVE_SNAPSHOTS.contains(template))),
    ("rename", |_, can| yes(can.contains(Operation::Rename))),
    ("direct access (URI)", |_, can| {
        yes(can.contains(Operation::UserspaceUri))
    }),
    ("volumes say whose they are", |template, can| {
        yes(can.contains(Operation::SetInfo) || INT_MIRROR.contains(template))
    }),
    ("volumes are found", |template, can| {
        yes(can.contains(Operation::Volumes) || INT_MIRROR.contains(template))
    }),
];

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "" }
}

fn disks_are(template: DiskTemplate) -> &'static str {
    match template {
        DiskTemplate::Diskless => "none",
        DiskTemplate::File => "files in a directory of the node",
        DiskTemplate::SharedFile => "files in a directory that all nodes share",
        DiskTemplate::Plain => "LVM logical volumes",
        DiskTemplate::Blockdev => "block devices that exist already",
        DiskTemplate::Drbd => "LVM logical volumes, mirrored by DRBD 8.4",
        DiskTemplate::Rbd => "images in a Ceph pool",
        DiskTemplate::Gluster => "files on a Gluster volume",
        DiskTemplate::Ext => "volumes of a provider: scripts for your storage",
    }
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    format!("| {} |\n", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

/// `ext`, the default, is the first.
fn table() -> String {
    let titles = ["template", "disks are"]
        .into_iter()
        .chain(COLUMNS.map(|(title, _)| title));
    let mut table = row(titles.clone().map(str::to_owned));
    table.push_str(&row(titles.map(|_| "---".to_owned())));
    let others = template::ALL
        .iter()
        .filter(|other| *other != DiskTemplate::Ext && other.device().is_some());
    for template in [DiskTemplate::Ext].into_iter().chain(others) {
        let can = template
            .device()
            .and_then(|device| Some(driver(device).ok()?.capabilities()));
        let cells = COLUMNS.map(|(_, cell)| can.map_or("", |can| cell(template, can)).to_owned());
        let are = match can {
            Some(_) => disks_are(template).to_owned(),
            None => format!("{}; no driver yet", disks_are(template)),
        };
        table.push_str(&row([format!("`{template}`"), are].into_iter().chain(cells)));
    }
    table
}

#[test]
fn readme_says_what_each_template_can_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has the marker");
    let (found, after) = rest.split_once(END).expect("README.md has the marker's end");
    let table = table();
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(found, table, "`make readme` writes it anew");
}
