//! What is found of mirrored disks, and that it can be mended as told.

use gnt_config::{Disk, DiskTemplate, Instance};

use super::bench::{Bench, NODES, now, quiet};
use super::rows::{Deed, INSTANCE, Row};
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::verify::{Finding, FindingKind, verify};

/// An instance with three disks, mirrored ones on the first two nodes.
fn bench(template: DiskTemplate, active: bool) -> Bench {
    Bench::new(&Row {
        template,
        active,
        deed: Deed::Activate,
        troubles: &[],
    })
}

fn instance(bench: &Bench) -> (Instance, Vec<Disk>) {
    let instance = bench.store.instance(INSTANCE).unwrap().unwrap();
    let disks = bench.store.disks_of(&instance).unwrap();
    (instance, disks)
}

fn found(bench: &Bench) -> Vec<Finding> {
    now(verify(&bench.store, &bench.cluster)).unwrap()
}

/// Kinds, nodes and mends.
fn told(found: &[Finding]) -> Vec<(FindingKind, &str, &str)> {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default().leak() as &str;
    found
        .iter()
        .map(|finding| (finding.kind, text(&finding.node), text(&finding.mend)))
        .collect()
}

/// These volumes of the first disk (keys end so) are lost on a node.
fn lose(bench: &Bench, node: &str, parts: &[&str]) {
    let (_, disks) = instance(bench);
    let node = format!(":{}:", bench.uuid(node));
    let keys = disks[0].volume_keys().into_iter();
    let keys = keys.filter(|key| key.contains(&node) && parts.iter().any(|part| key.ends_with(part)));
    bench.cluster.with_world(|world| {
        for key in keys {
            world.volumes.remove(&key).unwrap();
        }
    });
}

#[test]
fn a_half_that_is_lost_is_made_anew_from_the_other() {
    let both = ["_data", "_meta"];
    for parts in [&both[..], &both[..1], &both[1..]] {
        for (node, option, what) in [
            (NODES[0], "-p", Replacement::OnPrimary),
            (NODES[1], "-s", Replacement::OnSecondary),
        ] {
            let bench = bench(DiskTemplate::Drbd, false);
            let before = bench.picture();
            lose(&bench, node, parts);
            let mend = format!("gnt-disk replace-disks {INSTANCE} {option} --disks 0");
            assert_eq!(
                told(&found(&bench)),
                [(FindingKind::Degraded, node, mend.as_str())]
            );
            let request = ReplaceRequest {
                what,
                disks: vec!["0".to_owned()],
                early_release: false,
            };
            now(replace_disks(&bench.engine(&quiet), INSTANCE, &request)).unwrap();
            bench.assert_consistent();
            bench.assert_data_kept(&before);
        }
    }
}

#[test]
fn a_disk_that_is_lost_on_both_nodes_is_missing() {
    let bench = bench(DiskTemplate::Drbd, false);
    NODES[..2]
        .iter()
        .for_each(|node| lose(&bench, node, &["_data", "_meta"]));
    let mend = format!("gnt-disk recreate {INSTANCE} --disk 0, if it cannot be brought back");
    let missing = |node| (FindingKind::Missing, node, mend.as_str());
    assert_eq!(told(&found(&bench)), [missing(NODES[0]), missing(NODES[1])]);
}

#[test]
fn a_disk_that_is_missing_is_not_to_be_removed() {
    let bench = bench(DiskTemplate::Plain, false);
    lose(&bench, NODES[0], &[""]);
    let mend = format!("gnt-disk recreate {INSTANCE} --disk 0, if it cannot be brought back");
    assert_eq!(
        told(&found(&bench)),
        [(FindingKind::Missing, NODES[0], mend.as_str())]
    );
}
