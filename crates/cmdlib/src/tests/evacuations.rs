//! Taking instances away from a node.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gnt_config::{DiskTemplate, Mebibytes, Node};
use gnt_store::Change;
use serde_json::json;

use super::bench::{Bench, NODES, now, quiet};
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::{AddRequest, add};
use crate::ops::evacuate::{EvacuateRequest, Moved, Way, evacuate};
use crate::ops::migrate::{Handover, Transfer, Transferred};
use crate::sim::SimCluster;

/// A manager that moves what it is asked to.
struct Mover;

impl Transfer for Mover {
    async fn transfer(&self, _handover: &Handover) -> Transferred {
        Transferred::Moved
    }
}

/// The bench's cluster with a fourth node and without instances.
fn cluster() -> Bench {
    let mut bench = Bench::empty();
    let first = bench.store.node(NODES[2]).unwrap().unwrap();
    let node = Node {
        uuid: "node4-uuid".to_owned(),
        name: "node4".to_owned(),
        primary_ip: "198.51.100.4".to_owned(),
        secondary_ip: "198.51.100.4".to_owned(),
        ..first
    };
    bench.store.commit(&[Change::Node(node)]).unwrap();
    bench.cluster = SimCluster::of(&bench.store).unwrap();
    set_room(&bench, &[NODES[0], NODES[1], NODES[2], "node4"], 10_000);
    bench
}

/// How much fits into the volume groups of nodes.
fn set_room(bench: &Bench, nodes: &[&str], room: u64) {
    bench.cluster.with_world(|world| {
        for node in nodes {
            let machine = world.machines.get_mut(&bench.uuid(node)).unwrap();
            machine.room = Some(Mebibytes(room));
        }
    });
}

fn add_instance(bench: &Bench, name: &str, template: DiskTemplate, nodes: [&str; 2], active: bool) {
    let engine = bench.engine(&quiet);
    let request = AddRequest {
        instance: name.to_owned(),
        template,
        disks: vec![json!({"size": 64}).as_object().unwrap().clone()],
        primary: Some(nodes[0].to_owned()),
        secondary: Some(nodes[1].to_owned()).filter(|_| template == DiskTemplate::Drbd),
        file_driver: gnt_config::FileDriver::Loop,
        file_storage_dir: None,
    };
    now(add(&engine, &request)).unwrap();
    now(activate(&engine, name)).unwrap();
    if !active {
        now(deactivate(&engine, name)).unwrap();
    }
}

fn request(node: &str) -> EvacuateRequest {
    EvacuateRequest {
        node: node.to_owned(),
        primary: true,
        secondary: true,
        target: None,
        parallel: 2,
        early_release: false,
        ignore_consistency: false,
    }
}

/// A manager that takes a while, and counts how many instances it moves at once.
#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Transfer for &Counts {
    async fn transfer(&self, _handover: &Handover) -> Transferred {
        let now = 1 + self.now.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Transferred::Moved
    }
}

/// The node has no power, and somebody said so.
fn give_up(bench: &mut Bench, name: &str) {
    let node = bench.store.node(name).unwrap().unwrap();
    bench.cluster.with_world(|world| world.kill(&node.uuid));
    let offline = true;
    bench
        .store
        .commit(&[Change::Node(Node { offline, ..node })])
        .unwrap();
    bench.cluster.learn_offline(&bench.store.nodes().unwrap());
}

fn run(bench: &Bench, request: &EvacuateRequest, transfer: bool) -> Vec<Moved> {
    let told = Mutex::new(0);
    let engine = bench.engine(&quiet);
    let moved = now(evacuate(
        &engine,
        request,
        |_| transfer.then_some(Mover),
        |_| *told.lock().unwrap() += 1,
    ))
    .unwrap();
    assert_eq!(*told.lock().unwrap(), moved.len());
    moved
}

fn ways(moved: &[Moved]) -> Vec<(&str, Option<&Way>, bool)> {
    let mut ways: Vec<_> = moved
        .iter()
        .map(|moved| (moved.instance.as_str(), moved.way.as_ref(), moved.result.is_ok()))
        .collect();
    ways.sort_by_key(|(instance, ..)| *instance);
    ways
}

fn is_empty(bench: &Bench, node: &str) -> bool {
    bench.store.disks_on(&bench.uuid(node)).unwrap().is_empty()
}

#[test]
fn new_secondary_nodes_are_those_with_most_room() {
    let bench = cluster();
    for name in ["a", "b", "c"] {
        add_instance(&bench, name, DiskTemplate::Drbd, [NODES[0], NODES[1]], true);
    }
    set_room(&bench, &[NODES[2]], 1000);
    set_room(&bench, &["node4"], 1300);
    // Each takes 192M; the second would leave less room on node4 than node3 has.
    let moved = run(&bench, &request(NODES[1]), false);
    let to = |node: &str| Way::NewSecondary(node.to_owned());
    assert_eq!(
        ways(&moved),
        [
            ("a", Some(&to("node4")), true),
            ("b", Some(&to("node4")), true),
            ("c", Some(&to("node3")), true),
        ]
    );
    assert!(is_empty(&bench, NODES[1]));
    bench.assert_consistent();
}

#[test]
fn what_runs_is_migrated_and_what_does_not_is_failed_over() {
    let bench = cluster();
    add_instance(&bench, "down", DiskTemplate::Drbd, [NODES[0], NODES[1]], false);
    add_instance(&bench, "up", DiskTemplate::Drbd, [NODES[0], NODES[1]], true);
    add_instance(&bench, "local", DiskTemplate::Plain, [NODES[0], ""], true);
    let without = run(&bench, &request(NODES[0]), false);
    let why = |instance: &str| {
        let mut moved = without.iter().filter(|moved| moved.instance == instance);
        moved
            .find_map(|moved| moved.result.as_ref().err())
            .unwrap()
            .to_string()
    };
    assert_eq!(why("up"), "instance up runs, and nothing was given that moves it");
    assert!(why("local").contains("only node node1 has"), "{}", why("local"));
    let down = bench.store.instance("down").unwrap().unwrap();
    assert_eq!(down.primary_node, Some(bench.uuid(NODES[1])));

    // Once more, with what was missing.
    let again = run(&bench, &request(NODES[0]), true);
    let failed: Vec<_> = again.iter().filter(|moved| moved.result.is_err()).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].instance, "local");
    bench.assert_consistent();
}

#[test]
fn where_there_is_no_room_nothing_begins() {
    let bench = cluster();
    add_instance(&bench, "a", DiskTemplate::Drbd, [NODES[0], NODES[1]], true);
    set_room(&bench, &[NODES[2], "node4"], 191);
    let moved = run(&bench, &request(NODES[1]), false);
    let error = moved[0].result.as_ref().unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no other node for instance a with 192M in xenvg that is neither offline nor drained"
    );
    bench.assert_consistent();
}

#[test]
fn no_more_than_so_many_are_moved_at_once() {
    for (parallel, most) in [(1, 1), (2, 2), (9, 5), (0, 1)] {
        let bench = cluster();
        for name in ["a", "b", "c", "d", "e"] {
            add_instance(&bench, name, DiskTemplate::Drbd, [NODES[0], NODES[1]], true);
        }
        let counts = Counts::default();
        let request = EvacuateRequest {
            parallel,
            secondary: false,
            ..request(NODES[0])
        };
        let engine = bench.engine(&quiet);
        let moved = now(evacuate(&engine, &request, |_| Some(&counts), |_| {})).unwrap();
        assert!(
            ways(&moved)
                .iter()
                .all(|way| *way == (way.0, Some(&Way::Migrate(None)), true))
        );
        assert_eq!((moved.len(), counts.most.into_inner()), (5, most));
        bench.assert_consistent();
    }
}

/// Of those that reach their disks from every node, each goes to another one.
#[test]
fn what_is_mirrored_elsewhere_goes_to_all_nodes_in_turn() {
    for template in [DiskTemplate::Ext, DiskTemplate::Rbd, DiskTemplate::SharedFile] {
        let bench = cluster();
        for (name, active) in [("a", true), ("b", false), ("c", true), ("d", true)] {
            add_instance(&bench, name, template, [NODES[0], ""], active);
        }
        let moved = run(&bench, &request(NODES[0]), true);
        let to = |node: &str| Some(node.to_owned());
        assert_eq!(
            ways(&moved),
            [
                ("a", Some(&Way::Migrate(to(NODES[1]))), true),
                ("b", Some(&Way::Failover(to(NODES[2]))), true),
                ("c", Some(&Way::Migrate(to("node4"))), true),
                ("d", Some(&Way::Migrate(to(NODES[1]))), true),
            ]
        );
        assert!(
            bench
                .store
                .primary_instances(&bench.uuid(NODES[0]))
                .unwrap()
                .is_empty()
        );
        bench.assert_consistent();
        // All to one node, if that is named.
        let named = EvacuateRequest {
            target: to(NODES[2]),
            ..request(NODES[1])
        };
        let moved = run(&bench, &named, true);
        let there = Way::Migrate(to(NODES[2]));
        assert_eq!(
            ways(&moved),
            [("a", Some(&there), true), ("d", Some(&there), true)]
        );
        bench.assert_consistent();
    }
}

/// Nothing is asked of it, and nobody is needed who moves what ran there.
#[test]
fn a_node_that_is_given_up_is_evacuated_without_it() {
    let mut bench = cluster();
    add_instance(&bench, "ran", DiskTemplate::Drbd, [NODES[0], NODES[1]], true);
    add_instance(&bench, "rested", DiskTemplate::Drbd, [NODES[0], NODES[1]], false);
    add_instance(&bench, "mirrored", DiskTemplate::Drbd, [NODES[1], NODES[0]], true);
    add_instance(&bench, "shared", DiskTemplate::Ext, [NODES[0], ""], true);
    add_instance(&bench, "lost", DiskTemplate::Plain, [NODES[0], ""], true);
    give_up(&mut bench, NODES[0]);
    set_room(&bench, &["node4"], 20_000);
    bench.cluster.inject(None);
    let moved = run(&bench, &request(NODES[0]), false);
    assert!(
        bench
            .cluster
            .calls_by_node()
            .iter()
            .all(|(node, _)| node != NODES[0])
    );
    let (gone, new) = (Way::Failover(None), Way::NewSecondary("node4".to_owned()));
    // The first in turn was meant for what cannot go.
    let shared = Way::Failover(Some(NODES[2].to_owned()));
    let mut found = ways(&moved);
    // What was failed over gets a new secondary node after that.
    found.sort_by_key(|(instance, way, _)| (*instance, matches!(way, Some(Way::NewSecondary(_)))));
    assert_eq!(
        found,
        [
            ("lost", None, false),
            ("mirrored", Some(&new), true),
            ("ran", Some(&gone), true),
            ("ran", Some(&new), true),
            ("rested", Some(&gone), true),
            ("rested", Some(&new), true),
            ("shared", Some(&shared), true),
        ],
        "{moved:#?}"
    );
    for moved in &moved {
        if let (Some(Way::Failover(_)), Ok(report)) = (&moved.way, &moved.result) {
            assert!(
                report.warnings[0].contains("was not asked to give up"),
                "{report:?}"
            );
        }
    }
    assert!(
        bench
            .store
            .secondary_instances(&bench.uuid(NODES[0]))
            .unwrap()
            .is_empty()
    );
    assert_eq!(bench.cluster.world().violations, [""; 0]);
}

/// Nothing goes to a node that is given up or drained, and a node that does not tell how much room it has gets no mirrors.
#[test]
fn who_cannot_take_anything_gets_nothing() {
    let mut bench = cluster();
    add_instance(&bench, "mirrored", DiskTemplate::Drbd, [NODES[0], NODES[1]], true);
    add_instance(&bench, "shared", DiskTemplate::Ext, [NODES[1], ""], true);
    give_up(&mut bench, NODES[2]);
    bench
        .cluster
        .with_world(|world| world.set_reachable("node4-uuid", false));
    let moved = run(&bench, &request(NODES[1]), true);
    let home = Way::Migrate(Some(NODES[0].to_owned()));
    assert_eq!(
        ways(&moved),
        [("mirrored", None, false), ("shared", Some(&home), true)]
    );
    let node4 = bench.store.node("node4").unwrap().unwrap();
    let drained = true;
    bench
        .store
        .commit(&[Change::Node(Node { drained, ..node4 })])
        .unwrap();
    bench
        .cluster
        .with_world(|world| world.set_reachable("node4-uuid", true));
    let moved = run(&bench, &request(NODES[1]), true);
    assert_eq!(ways(&moved), [("mirrored", None, false)]);
}
