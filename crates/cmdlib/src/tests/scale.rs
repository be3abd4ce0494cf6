//! What operations cost in large clusters.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use gnt_config::template::NEEDS_SECONDARY;
use gnt_config::{DiskTemplate, FileDriver};
use gnt_store::objects_read;
use serde_json::json;

use super::bench::{Bench, now, quiet};
use super::rows::SIZE;
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::{AddRequest, add};
use crate::ops::grow::{Growth, grow};
use crate::ops::migrate::{Handover, Transfer, Transferred, migrate};
use crate::ops::remove::remove;
use crate::ops::rename::rename;

/// How many instances are on their way at once.
const AT_ONCE: usize = 32;
/// The longest that a call to a node takes, and how long the memory of an instance is on its way.
const LATENCY: Duration = Duration::from_millis(100);
const MEMORY: Duration = Duration::from_secs(10);

/// Moves memory, which takes its time.
struct Mover;

impl Transfer for Mover {
    async fn transfer(&self, _: &Handover) -> Transferred {
        tokio::time::sleep(MEMORY).await;
        Transferred::Moved
    }
}

/// How many disks a cluster can have that drbd mirrors: each has a port of its own.
const MIRRORED: usize = 3900;

/// A cluster of so many nodes, of which the first has so many instances, each with a disk that is mirrored, or, where that are too many,
/// is seen from all nodes.
fn cluster(nodes: usize, instances: usize) -> Bench {
    let names: Vec<String> = (0..nodes).map(|number| format!("node{number}")).collect();
    let bench = Bench::of(&names);
    for number in 0..instances {
        let name = format!("instance{number}");
        let template = match number < MIRRORED {
            true => DiskTemplate::Drbd,
            false => DiskTemplate::Rbd,
        };
        make(&bench, &name, template, &names[1 + number % (nodes - 1)]);
        bench.cluster.inject(None);
    }
    bench
}

fn make(bench: &Bench, name: &str, template: DiskTemplate, secondary: &str) {
    let request = AddRequest {
        instance: name.to_owned(),
        template,
        disks: vec![json!({"size": SIZE.0}).as_object().unwrap().clone()],
        primary: Some("node0".to_owned()),
        secondary: Some(secondary.to_owned()).filter(|_| NEEDS_SECONDARY.contains(template)),
        file_driver: FileDriver::Loop,
        file_storage_dir: None,
    };
    let engine = bench.engine(&quiet);
    now(add(&engine, &request)).unwrap();
    now(activate(&engine, name)).unwrap();
}

/// How many objects each operation reads.
fn reads(bench: &Bench) -> Vec<(&'static str, u64)> {
    let engine = bench.engine(&quiet);
    let mut all = Vec::new();
    let mut note = |what, work: &dyn Fn()| {
        let before = objects_read();
        work();
        all.push((what, objects_read() - before));
    };
    note("add and activate", &|| {
        make(bench, "new", DiskTemplate::Drbd, "node1")
    });
    note("grow", &|| {
        drop(now(grow(&engine, "new", "0", Growth::By(SIZE))).unwrap())
    });
    note("migrate", &|| {
        drop(now(migrate(&engine, "new", None, &Mover)).unwrap())
    });
    note("deactivate", &|| drop(now(deactivate(&engine, "new")).unwrap()));
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
    let simulated = now(async {
        let began = tokio::time::Instant::now();
        let engine = &bench.engine(&quiet);
        let moves = (0..instances).map(|number| async move {
            let name = format!("instance{number}");
            let target = (number >= MIRRORED).then(|| format!("node{}", 1 + number % (nodes - 1)));
            migrate(engine, &name, target.as_deref(), &Mover).await.unwrap();
        });
        stream::iter(moves).buffer_unordered(AT_ONCE).count().await;
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
