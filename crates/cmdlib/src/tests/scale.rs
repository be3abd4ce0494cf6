//! What operations cost in large clusters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gnt_config::template::NEEDS_SECONDARY;
use gnt_config::{DiskTemplate, FileDriver};
use gnt_store::objects_read;
use serde_json::json;

use super::bench::{Bench, now, quiet};
use super::rows::{SIZE, conversion, device};
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::{AddRequest, add};
use crate::ops::convert::convert;
use crate::ops::evacuate::{EvacuateRequest, evacuate};
use crate::ops::failover::{FailoverRequest, failover};
use crate::ops::grow::{Growth, grow};
use crate::ops::migrate::{Handover, Transfer, Transferred, migrate};
use crate::ops::relocate::relocate;
use crate::ops::remove::remove;
use crate::ops::rename::rename;
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::ops::snapshot::{SnapshotRequest, remove_snapshot, snapshot};
use crate::saga::Engine;
use crate::sim::SimCluster;
use crate::step::Pace;

/// How many instances are on their way at once.
const AT_ONCE: usize = 32;
/// The longest that a call to a node takes, and how long the memory of an instance is on its way.
const LATENCY: Duration = Duration::from_millis(100);
const MEMORY: Duration = Duration::from_secs(10);

/// How many instances are on their way, and how many were at most.
#[derive(Default)]
struct Traffic {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Moves memory, which takes its time.
struct Mover<'t>(&'t Traffic);

impl Transfer for Mover<'_> {
    async fn transfer(&self, _: &Handover) -> Transferred {
        let Traffic { now, most } = self.0;
        most.fetch_max(1 + now.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        tokio::time::sleep(MEMORY).await;
        now.fetch_sub(1, Ordering::Relaxed);
        Transferred::Moved
    }
}

/// Those that run are to leave the node, to where they can.
fn leave(node: &str, target: Option<&str>) -> EvacuateRequest {
    EvacuateRequest {
        node: node.to_owned(),
        primary: true,
        secondary: false,
        target: target.map(str::to_owned),
        parallel: AT_ONCE,
        early_release: false,
        ignore_consistency: false,
    }
}

/// How many disks a cluster can have that drbd mirrors: each has a port of its own.
const MIRRORED: usize = 3900;

/// A cluster of so many nodes, of which the first has so many instances, each with a disk that is mirrored, or, where that are too many,
/// is seen from all nodes.
fn cluster(nodes: usize, instances: usize) -> Bench {
    let names: Vec<String> = (0..nodes).map(|number| format!("node{number}")).collect();
    let bench = Bench::of(&names);
    let engine = bench.engine(&quiet);
    for number in 0..instances {
        let name = format!("instance{number}");
        let template = match number < MIRRORED {
            true => DiskTemplate::Drbd,
            false => DiskTemplate::Rbd,
        };
        let secondary = &names[1 + number % (nodes - 1)];
        make(&engine, &name, template, secondary);
        bench.cluster.inject(None);
    }
    bench
}

fn make(engine: &Engine<'_, SimCluster>, name: &str, template: DiskTemplate, secondary: &str) {
    let request = AddRequest {
        instance: name.to_owned(),
        template,
        disks: vec![json!({"size": SIZE.0}).as_object().unwrap().clone()],
        primary: Some("node0".to_owned()),
        secondary: Some(secondary.to_owned()).filter(|_| NEEDS_SECONDARY.contains(template)),
        file_driver: FileDriver::Loop,
        file_storage_dir: None,
    };
    now(add(engine, &request)).unwrap();
    now(activate(engine, name)).unwrap();
}

/// Makes an instance with a block device that was there.
fn adopt(engine: &Engine<'_, SimCluster>) {
    let request = AddRequest {
        instance: "adopting".to_owned(),
        template: DiskTemplate::Blockdev,
        disks: vec![json!({"adopt": device(0)}).as_object().unwrap().clone()],
        primary: Some("node0".to_owned()),
        secondary: None,
        file_driver: FileDriver::Loop,
        file_storage_dir: None,
    };
    now(add(engine, &request)).unwrap();
}

/// How many objects each operation reads.
fn reads(bench: &Bench) -> Vec<(&'static str, u64)> {
    let engine = bench.engine(&quiet);
    bench
        .cluster
        .with_world(|world| world.add_device(&device(0), SIZE));
    let mut all = Vec::new();
    let mut note = |what, work: &dyn Fn()| {
        let before = objects_read();
        work();
        all.push((what, objects_read() - before));
    };
    note("add and activate", &|| {
        make(&engine, "new", DiskTemplate::Drbd, "node1")
    });
    note("grow", &|| {
        drop(now(grow(&engine, "new", "0", Growth::By(SIZE))).unwrap())
    });
    let traffic = Traffic::default();
    note("migrate", &|| {
        drop(now(migrate(&engine, "new", None, &Mover(&traffic))).unwrap())
    });
    // Where nobody says where to, all nodes are looked at, once.
    note("evacuate", &|| {
        let request = leave("node1", Some("node0"));
        let mover = |_: &str| Some(Mover(&traffic));
        let moved = now(evacuate(&engine, &request, mover, |_| {})).unwrap();
        assert!(moved.len() == 1 && moved[0].result.is_ok(), "{moved:?}");
    });
    note("replace-disks", &|| {
        let request = ReplaceRequest {
            what: Replacement::NewSecondary("node2".to_owned()),
            disks: Vec::new(),
            early_release: false,
        };
        drop(now(replace_disks(&engine, "new", &request)).unwrap());
    });
    note("deactivate", &|| drop(now(deactivate(&engine, "new")).unwrap()));
    note("failover", &|| {
        let request = FailoverRequest {
            instance: "new".to_owned(),
            target: None,
            ignore_consistency: false,
        };
        drop(now(failover(&engine, &request)).unwrap());
    });
    note("convert", &|| {
        let request = conversion(DiskTemplate::Plain);
        drop(now(convert(&engine, "new", &request)).unwrap());
    });
    note("snapshot", &|| {
        let request = SnapshotRequest {
            disk: "0".to_owned(),
            name: Some("snapshot".to_owned()),
            size: None,
        };
        drop(now(snapshot(&engine, "new", &[request])).unwrap());
    });
    note("remove a snapshot", &|| {
        drop(now(remove_snapshot(&engine, "new", "snapshot")).unwrap())
    });
    note("move", &|| {
        drop(now(relocate(&engine, "new", "node1", Pace::default())).unwrap())
    });
    note("adopt", &|| adopt(&engine));
    note("rename", &|| drop(now(rename(&engine, "new", "newer")).unwrap()));
    note("remove", &|| drop(now(remove(&engine, "newer")).unwrap()));
    all
}

#[test]
fn what_an_operation_reads_does_not_depend_on_the_size_of_the_cluster() {
    assert_eq!(reads(&cluster(40, 100)), reads(&cluster(3, 1)));
}

/// Empties the first node, many instances at once.
fn drain(nodes: usize, instances: usize) {
    let began = Instant::now();
    let bench = cluster(nodes, instances);
    let made = began.elapsed();
    bench.cluster.set_latency(1, LATENCY);
    let (began, read) = (Instant::now(), objects_read());
    let traffic = Traffic::default();
    let simulated = now(async {
        let began = tokio::time::Instant::now();
        let engine = &bench.engine(&quiet);
        let mover = |_: &str| Some(Mover(&traffic));
        let moved = evacuate(engine, &leave("node0", None), mover, |_| {})
            .await
            .unwrap();
        assert_eq!(moved.len(), instances);
        for moved in moved {
            assert!(moved.result.is_ok(), "{moved:?}");
        }
        began.elapsed()
    });
    let (took, read) = (began.elapsed(), objects_read() - read);
    let first = bench.uuid("node0");
    assert!(bench.store.primary_instances(&first).unwrap().is_empty());
    let world = bench.cluster.world();
    assert!(
        world.machines[&first]
            .minors
            .values()
            .all(|minor| !minor.is_primary)
    );
    assert!(
        world
            .machines
            .values()
            .flat_map(|machine| machine.minors.values())
            .all(|minor| minor.is_connected)
    );
    let memory = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = memory
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    eprintln!(
        "{instances} disks on one of {nodes} nodes, {AT_ONCE} at once: made in {made:.0?}; drained in {simulated:.0?} of simulated time, \
         {took:.1?} of real time, {:.1} ms each; {} objects read for each; {memory}",
        took.as_secs_f64() * 1000.0 / instances as f64,
        read / instances as u64,
    );
    assert_eq!(traffic.most.into_inner(), AT_ONCE);
    // As long as the calls and the memory of so many at once take.
    assert!(simulated > MEMORY * (instances / AT_ONCE) as u32);
    assert!(simulated < (MEMORY + 60 * LATENCY) * (instances / AT_ONCE + 2) as u32);
}

#[test]
fn a_node_is_drained_many_instances_at_once() {
    drain(40, 200);
}

/// `make scale`
#[test]
#[ignore = "takes minutes: make scale"]
fn a_node_with_ten_thousand_disks_is_drained() {
    drain(1000, 10_000);
}
