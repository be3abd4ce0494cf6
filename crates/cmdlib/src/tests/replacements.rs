//! What is done, step by step and on which node, to replace volumes or a secondary node.

use std::collections::BTreeMap;

use gnt_config::{Disk, DiskTemplate};
use gnt_store::{Change, Filter};

use super::bench::{Bench, NODES, now, quiet};
use super::rows::{Deed, INSTANCE, Row};
use crate::error::Result;
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::saga::Report;
use crate::step::Step;

/// An instance with three mirrored disks on the first two nodes.
fn bench(active: bool) -> Bench {
    Bench::new(&Row {
        template: DiskTemplate::Drbd,
        active,
        deed: Deed::Activate,
        troubles: &[],
    })
}

fn replace(bench: &Bench, what: Replacement, disks: &[&str], early_release: bool) -> Result<Report> {
    let request = ReplaceRequest {
        what,
        disks: disks.iter().map(|disk| (*disk).to_owned()).collect(),
        early_release,
    };
    now(replace_disks(&bench.engine(&quiet), INSTANCE, &request))
}

fn node3() -> Replacement {
    Replacement::NewSecondary(NODES[2].to_owned())
}

/// The steps of the last operation, but for what volumes are told: on which nodes what is done. Volumes go by the end of their names; `-new`
/// are those that no disk had before, `-old` those that were replaced.
fn steps(bench: &Bench) -> Vec<String> {
    let names: BTreeMap<_, _> = NODES.map(|name| (bench.uuid(name), name)).into();
    let disks = bench.store.disks().unwrap();
    let known = disks.iter().flat_map(Disk::walk);
    let known: Vec<_> = known.map(|disk| disk.logical_id.volume().into_owned()).collect();
    let record = bench.store.operations(Filter::All).unwrap().pop().unwrap();
    let mut told = Vec::new();
    for step in record.steps {
        let step: Step = serde_json::from_value(step.data).unwrap();
        if let Step::SetInfo { .. } = step {
            continue;
        }
        let nodes: Vec<_> = step.nodes().into_iter().map(|node| names[node]).collect();
        let words = step.to_string().replace(" without network)", ") alone");
        let words = words.split(' ').filter_map(|word| short(word, &known));
        let words = words.collect::<Vec<_>>().join(" ").replace(" of inst1", "");
        told.push(match nodes.is_empty() {
            true => words,
            false => format!("{}: {words}", nodes.join("+")),
        });
    }
    told
}

/// A word of a step, none for a minor or port.
fn short(word: &str, known: &[String]) -> Option<String> {
    let is_number = |word: &str| word.trim_end_matches([')', ',']).parse::<u16>().is_ok();
    if word.starts_with("(drbd") || word == "port" || is_number(word) {
        return None;
    }
    let Some((_, name)) = word.split_once("xenvg/") else {
        return Some(word.to_owned());
    };
    let (name, state) = match name.split_once("_replaced-") {
        Some((name, _)) => (name, "-old"),
        None if known.iter().any(|known| known == name) => (name, ""),
        None => (name, "-new"),
    };
    let (_, end) = name.split_once('.')?;
    Some(format!("{end}{state}"))
}

#[test]
fn volumes_on_the_secondary_node() {
    let bench = bench(true);
    replace(&bench, Replacement::OnSecondary, &["1"], false).unwrap();
    assert_eq!(
        steps(&bench),
        [
            "node1: check the data of disk/1",
            "node2: create disk1_data-new",
            "node2: create disk1_meta-new",
            "node2: take its volumes from disk/1",
            "node2: rename disk1_data to disk1_data-old",
            "node2: rename disk1_meta to disk1_meta-old",
            "node2: rename disk1_data-new to disk1_data",
            "node2: rename disk1_meta-new to disk1_meta",
            "node2: give disk/1 its volumes",
            "node2+node1: wait until disk/1 are in sync",
            "node2: remove disk1_data-old",
            "node2: remove disk1_meta-old",
        ]
    );
    bench.assert_consistent();
}

#[test]
fn volumes_of_a_disk_that_is_not_in_use() {
    let bench = bench(false);
    replace(&bench, Replacement::OnPrimary, &["1"], false).unwrap();
    assert_eq!(
        steps(&bench),
        [
            "node2: activate disk/1",
            "node1: activate disk/1",
            "node1: wait until disk/1 are connected",
            "node1: activate disk/1",
            "node2: check the data of disk/1",
            "node1: create disk1_data-new",
            "node1: create disk1_meta-new",
            "node1: take its volumes from disk/1",
            "node1: rename disk1_data to disk1_data-old",
            "node1: rename disk1_meta to disk1_meta-old",
            "node1: rename disk1_data-new to disk1_data",
            "node1: rename disk1_meta-new to disk1_meta",
            "node1: give disk/1 its volumes",
            "node1+node2: wait until disk/1 are in sync",
            "node1: deactivate disk/1",
            "node2: deactivate disk/1",
            "node1: remove disk1_data-old",
            "node1: remove disk1_meta-old",
        ]
    );
    bench.assert_consistent();
}

#[test]
fn a_new_secondary_node() {
    let bench = bench(true);
    replace(&bench, node3(), &[], false).unwrap();
    assert_eq!(
        steps(&bench),
        [
            "node1: check the data of disk/0 disk/1 disk/2",
            "node3: create disk/0",
            "node3: create disk/1",
            "node3: create disk/2",
            "node3: activate disk/0 alone, disk/1 alone, disk/2 alone",
            "node1: connect disk/0 disk/1 disk/2 to another node",
            "node2: deactivate disk/0 disk/1 disk/2",
            "node3: activate disk/0 disk/1 disk/2",
            "node3+node1: wait until disk/0 disk/1 disk/2 are in sync",
            "update the configuration",
            "node2: remove disk/0",
            "node2: remove disk/1",
            "node2: remove disk/2",
        ]
    );
    bench.assert_consistent();
}

#[test]
fn what_is_released_early_is_not_waited_for() {
    let bench = bench(true);
    replace(&bench, node3(), &[], true).unwrap();
    let steps = steps(&bench);
    let position = |what: &str| steps.iter().position(|step| step.contains(what)).unwrap();
    assert!(position(": remove") < position("are in sync"), "{steps:#?}");
    bench.assert_consistent();
}

#[test]
fn what_is_faulty_is_replaced_where_it_is() {
    let bench = bench(true);
    let uuid = bench.uuid(NODES[1]);
    bench.cluster.with_world(|world| {
        let minors = &mut world.machines.get_mut(&uuid).unwrap().minors;
        minors.get_mut(&2).unwrap().backing = None;
    });
    replace(&bench, Replacement::Automatic, &[], false).unwrap();
    let steps = steps(&bench);
    assert!(
        steps.iter().any(|step| step.starts_with("node2: give disk/1 ")),
        "{steps:#?}"
    );
    assert!(!steps.iter().any(|step| step.contains("disk/0")), "{steps:#?}");
    bench.assert_consistent();
}

#[test]
fn where_nothing_is_faulty_nothing_is_replaced() {
    let bench = bench(true);
    let report = replace(&bench, Replacement::Automatic, &[], false).unwrap();
    assert_eq!((report.operation, report.warnings.len()), (None, 0));
}

#[test]
fn a_secondary_node_that_is_offline_is_left_with_what_it_has() {
    let bench = bench(true);
    let mut node = bench.store.node(NODES[1]).unwrap().unwrap();
    node.offline = true;
    bench.store.commit(&[Change::Node(node)]).unwrap();
    bench
        .cluster
        .with_world(|world| world.kill(&bench.uuid(NODES[1])));
    let report = replace(&bench, node3(), &[], false).unwrap();
    assert!(
        report.warnings[0].starts_with("node node2 is set offline: what it has of disk/0"),
        "{:?}",
        report.warnings
    );
    assert!(steps(&bench).iter().all(|step| !step.starts_with("node2")));
    let refused = replace(&bench, Replacement::OnSecondary, &[], false);
    refused.unwrap();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let bench = bench(true);
    let to = |name: &str| Replacement::NewSecondary(name.to_owned());
    for (what, disks, told) in [
        (
            to(NODES[0]),
            &[][..],
            "node node1 is the primary node of inst1 already",
        ),
        (
            to(NODES[1]),
            &[],
            "node node2 is the secondary node of inst1 already",
        ),
        (to("nowhere"), &[], "there is no node nowhere"),
        (
            node3(),
            &["0"],
            "disks can be chosen only where volumes are replaced on one node",
        ),
    ] {
        let refused = replace(&bench, what, disks, false).unwrap_err();
        assert_eq!(refused.to_string(), told);
    }
    let only_copy = bench.uuid(NODES[1]);
    bench.cluster.with_world(|world| world.kill(&only_copy));
    replace(&bench, Replacement::OnSecondary, &[], false).unwrap_err();
    bench.assert_free();
}
