//! What is found.

use std::path::Path;

use gnt_bdev::{LocalDiskStatus, Owner, SyncStatus};
use gnt_config::{DiskTemplate, FileDriver};
use gnt_store::{Change, Store};
use serde_json::json;

use super::*;
use crate::ops::activate::activate;
use crate::ops::add::{AddRequest, add};
use crate::saga::Engine;
use crate::sim::{Extent, Fault, SimCluster, Then};
use crate::tests::now;

/// A cluster of one node with an active instance of so many ext disks.
fn cluster(disks: usize) -> (Store, SimCluster) {
    let store = Store::in_memory().unwrap();
    crate::init::init(&store, Path::new("/state"), "cluster", "node1").unwrap();
    let nodes = SimCluster::new(&store.nodes().unwrap());
    let engine = Engine {
        store: &store,
        nodes: &nodes,
        dry_run: false,
        observer: &|_| {},
    };
    let request = AddRequest {
        instance: "web".to_owned(),
        template: DiskTemplate::Ext,
        disks: vec![json!({"size": 64}).as_object().unwrap().clone(); disks],
        primary: None,
        secondary: None,
        file_driver: FileDriver::Loop,
        file_storage_dir: None,
    };
    now(add(&engine, &request)).unwrap();
    now(activate(&engine, "web")).unwrap();
    (store, nodes)
}

#[test]
fn what_is_degraded_tells_how_far_it_is() {
    let (store, nodes) = cluster(1);
    let sync = SyncStatus {
        sync_percent: Some(45.25),
        estimated_time: Some(12),
        is_degraded: true,
        ldisk_status: LocalDiskStatus::Sync,
    };
    nodes.with_world(|world| world.sync = sync);
    let found = now(verify(&store, &nodes)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, FindingKind::Degraded);
    let message = &found[0].message;
    assert!(
        message.ends_with(" is degraded: 45.2% in sync, 12 s to go, data on this node syncing"),
        "{message}"
    );
}

#[test]
fn what_keeps_many_disks_from_being_looked_at_is_one_finding() {
    for (disks, expected) in [(2, "2 disks "), (5, "5 disks ")] {
        let (store, nodes) = cluster(disks);
        let (extent, then) = (Extent::None, Then::FailOn);
        nodes.inject(Some(Fault {
            call: 0,
            extent,
            then,
        }));
        let found = now(verify(&store, &nodes)).unwrap();
        let messages: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
        // The links cannot be listed either; that the volumes cannot be has the same cause.
        assert_eq!(messages.len(), 2, "{messages:?}");
        let is_told = |message: &&str| message.starts_with(expected) && message.contains("looked at");
        assert!(messages.iter().any(is_told), "{messages:?}");
    }
}

/// The same with a second node.
fn two_nodes() -> (Store, SimCluster) {
    let (store, nodes) = cluster(1);
    let second = config::Node {
        uuid: "second".to_owned(),
        name: "node2".to_owned(),
        ..store.nodes().unwrap().remove(0)
    };
    store.commit(&[Change::Node(second)]).unwrap();
    let both = SimCluster::new(&store.nodes().unwrap());
    let world = nodes.world();
    both.with_world(|both| {
        both.volumes = world.volumes;
        both.machines.extend(world.machines);
    });
    assert_eq!(now(verify(&store, &both)).unwrap(), []);
    (store, both)
}

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

/// Mends what was found; what is found then.
fn mended(store: &Store, nodes: &SimCluster, found: &[Finding]) -> (Vec<String>, Vec<Finding>) {
    let engine = Engine {
        store,
        nodes,
        dry_run: false,
        observer: &|_| {},
    };
    let report = now(repair(&engine, found)).unwrap();
    (report.warnings, now(verify(store, nodes)).unwrap())
}

#[test]
fn a_device_where_the_instance_does_not_run_is_taken_away() {
    let (store, nodes) = two_nodes();
    nodes.with_world(|world| {
        let attached = world.volumes.keys().cloned().collect();
        world.machines.get_mut("second").unwrap().attached = attached;
    });
    let found = now(verify(&store, &nodes)).unwrap();
    assert_eq!(kinds(&found), [FindingKind::LeftOverMapping]);
    assert_eq!(found[0].node.as_deref(), Some("node2"));
    assert!(
        found[0]
            .message
            .ends_with("has a device there, where its instance does not run"),
        "{}",
        found[0].message
    );
    assert_eq!(mended(&store, &nodes, &found), (vec![], vec![]));
    // That of the instance is still there.
    let world = nodes.world();
    let attached: Vec<_> = world
        .machines
        .values()
        .map(|machine| machine.attached.len())
        .collect();
    assert_eq!(attached.iter().sum::<usize>(), 1);
}

#[test]
fn a_volume_that_does_not_know_its_disk_is_told() {
    let (store, nodes) = cluster(2);
    let mut whose = vec![Owner::default()];
    let right = nodes.world().volumes.values().next().unwrap().owner.clone();
    whose.push(Owner {
        index: Some(7),
        ..right.clone()
    });
    whose.push(Owner {
        instance: Some("mail".to_owned()),
        ..right.clone()
    });
    for owner in whose {
        nodes.with_world(|world| world.volumes.values_mut().next().unwrap().owner = owner.clone());
        let found = now(verify(&store, &nodes)).unwrap();
        match owner == Owner::default() {
            // A provider that keeps nothing can be told nothing.
            true => assert_eq!(found, []),
            false => {
                assert_eq!(kinds(&found), [FindingKind::StaleMetadata]);
                assert_eq!(mended(&store, &nodes, &found), (vec![], vec![]));
                assert_eq!(nodes.world().volumes.values().next().unwrap().owner, right);
            }
        }
    }
}

#[test]
fn links_are_removed_and_disks_put_into_use_that_should_be() {
    let (store, nodes) = cluster(1);
    nodes.with_world(|world| {
        let machine = world.machines.values_mut().next().unwrap();
        machine.links.clear();
        machine.links.insert(("gone".to_owned(), 3), "/dev/x".into());
    });
    let found = now(verify(&store, &nodes)).unwrap();
    assert_eq!(kinds(&found), [FindingKind::NotActive, FindingKind::StaleLink]);
    assert!(found.iter().all(Finding::is_repairable));
    assert_eq!(mended(&store, &nodes, &found), (vec![], vec![]));
}

#[test]
fn what_cannot_be_mended_is_told_and_the_rest_is_mended() {
    let (store, nodes) = cluster(1);
    nodes.with_world(|world| {
        let machine = world.machines.values_mut().next().unwrap();
        for index in [3, 4] {
            machine.links.insert(("gone".to_owned(), index), "/dev/x".into());
        }
    });
    let found = now(verify(&store, &nodes)).unwrap();
    nodes.inject(Some(Fault {
        call: 0,
        extent: Extent::None,
        then: Then::Fail,
    }));
    let (warnings, left) = mended(&store, &nodes, &found);
    assert!(
        warnings.len() == 1 && warnings[0].contains("injected"),
        "{warnings:?}"
    );
    assert_eq!(kinds(&left), [FindingKind::StaleLink]);
}

#[test]
fn a_node_that_is_offline_is_said_and_not_asked() {
    let (store, nodes) = two_nodes();
    let mut first = store.nodes().unwrap().remove(0);
    first.offline = true;
    store.commit(&[Change::Node(first.clone())]).unwrap();
    nodes.inject(None);
    let found = now(verify(&store, &nodes)).unwrap();
    assert_eq!(kinds(&found), [FindingKind::Offline]);
    assert_eq!(found[0].node, Some(first.name));
    assert_eq!(
        found[0].message,
        "the node is offline: the disks of 1 instances are not looked at"
    );
    assert_eq!(
        found[0].mend.as_deref(),
        Some("gnt-disk node modify node1 --offline no, once it is back")
    );
}

#[test]
fn whose_an_orphan_was_is_told_with_the_way_to_get_it_back() {
    let (store, nodes) = cluster(1);
    let instance = store.instance("web").unwrap().unwrap();
    let disk = instance.disks[0].clone();
    store
        .commit(&[Change::RemoveInstance(instance.uuid), Change::RemoveDisk(disk)])
        .unwrap();
    nodes.with_world(|world| *world.machines.values_mut().next().unwrap() = Default::default());
    let found = now(verify(&store, &nodes)).unwrap();
    assert_eq!(kinds(&found), [FindingKind::Orphan]);
    assert!(
        found[0].message.ends_with("which says that it is disk/0 of web"),
        "{}",
        found[0].message
    );
    let volume = found[0].disk.clone().unwrap();
    let volume = volume.rsplit('/').next().unwrap();
    let removal = format!("let the storage behind provider ext remove its volume {volume}");
    let mend = format!("gnt-disk recover web, if it is wanted; {removal}, if nobody wants it");
    assert_eq!(found[0].mend, Some(mend));
    // Without all that, and under another name, it is nobody's.
    nodes.with_world(|world| {
        let mut volume = world.volumes.pop_first().unwrap().1;
        volume.owner = Owner::default();
        volume.logical_id = config::LogicalId::Ext {
            provider: "ext".to_owned(),
            volume: "golden".to_owned(),
        };
        world.volumes.insert("golden".to_owned(), volume);
    });
    assert_eq!(now(verify(&store, &nodes)).unwrap(), []);
}

#[test]
fn the_provider_of_a_disk_is_asked_by_its_name() {
    let (store, nodes) = cluster(1);
    // As an imported one may be.
    let mut disk = store.disks().unwrap().remove(0);
    disk.params.remove("provider").unwrap();
    store.commit(&[Change::Disk(disk)]).unwrap();
    let found = now(verify(&store, &nodes)).unwrap();
    assert_eq!(mended(&store, &nodes, &found), (vec![], vec![]));
    nodes.inject(None);
    now(verify(&store, &nodes)).unwrap();
    let calls = nodes.calls();
    let call = calls.iter().position(|call| call == "ext ext volumes");
    let call = call.unwrap_or_else(|| panic!("{calls:?}"));
    let (extent, then) = (Extent::None, Then::Fail);
    nodes.inject(Some(Fault { call, extent, then }));
    let found = now(verify(&store, &nodes)).unwrap();
    assert_eq!(kinds(&found), [FindingKind::Unknown], "{found:?}");
    assert_eq!(found[0].mend.as_deref(), Some(super::ASK_AGAIN));
}
