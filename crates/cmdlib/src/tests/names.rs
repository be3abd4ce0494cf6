//! Volumes that are in the way where disks are to be made under names that they have elsewhere.

use gnt_config::{Disk, DiskTemplate};
use gnt_store::Change;

use super::bench::{Bench, NODES, now, quiet};
use super::rows::{Deed, INSTANCE, Row};
use crate::error::{Error, Result};
use crate::ops::Subject;
use crate::ops::recreate_disks::{RecreateRequest, recreate_disks};
use crate::ops::relocate::relocate;
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::saga::Report;
use crate::sim::{Volume, key};
use crate::step::Pace;

fn bench(template: DiskTemplate) -> Bench {
    Bench::new(&Row {
        template,
        active: false,
        deed: Deed::Deactivate,
        troubles: &[],
    })
}

/// The volume of the instance's second disk, the last below it.
fn volume(bench: &Bench) -> Disk {
    let subject = Subject::load(&bench.store, INSTANCE).unwrap();
    subject.disks[1].walk().last().unwrap().clone()
}

/// Gives a node a volume of that name that nobody knows.
fn put(bench: &Bench, node: &str) -> String {
    let (node, disk) = (bench.uuid(node), volume(bench));
    let key = key(&node, disk.dev_type, &disk.logical_id);
    let foreign = Volume::new(&node, disk.dev_type, &disk.logical_id, disk.size);
    bench
        .cluster
        .with_world(|world| drop(world.volumes.insert(key.clone(), foreign)));
    key
}

fn assert_refused(bench: &Bench, node: &str, result: Result<Report>) {
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::NameTaken { node: there, .. } if there == node),
        "{error:?}"
    );
    bench.assert_free();
}

fn move_to(bench: &Bench, node: &str) -> Result<Report> {
    now(relocate(&bench.engine(&quiet), INSTANCE, node, Pace::default()))
}

#[test]
fn nothing_is_moved_over_a_volume_that_is_there() {
    for template in [DiskTemplate::Plain, DiskTemplate::File] {
        let bench = bench(template);
        put(&bench, NODES[1]);
        let before = bench.cluster.world();
        assert_refused(&bench, NODES[1], move_to(&bench, NODES[1]));
        assert_eq!(bench.cluster.world(), before);
        move_to(&bench, NODES[2]).unwrap();
    }
}

#[test]
fn nothing_is_moved_to_where_a_detached_disk_has_the_name() {
    let bench = bench(DiskTemplate::Plain);
    let detached = Disk {
        uuid: "detached".to_owned(),
        nodes: vec![bench.uuid(NODES[1])],
        iv_name: None,
        ..volume(&bench)
    };
    bench.store.commit(&[Change::Disk(detached)]).unwrap();
    assert_refused(&bench, NODES[1], move_to(&bench, NODES[1]));
}

#[test]
fn no_mirror_is_made_over_a_volume_that_is_there() {
    let bench = bench(DiskTemplate::Drbd);
    let key = put(&bench, NODES[2]);
    let request = ReplaceRequest {
        what: Replacement::NewSecondary(NODES[2].to_owned()),
        disks: Vec::new(),
        early_release: false,
    };
    let replaced = now(replace_disks(&bench.engine(&quiet), INSTANCE, &request));
    assert_refused(&bench, NODES[2], replaced);
    let request = RecreateRequest {
        nodes: [NODES[0], NODES[2]].map(str::to_owned).into(),
        force: true,
        ..RecreateRequest::default()
    };
    let recreated = now(recreate_disks(&bench.engine(&quiet), INSTANCE, &request));
    assert_refused(&bench, NODES[2], recreated);
    assert!(bench.cluster.world().volumes.contains_key(&key));
}
