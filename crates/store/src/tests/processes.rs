//! Several processes at once, some of which are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::tests::child;
use crate::tests::objects::{drbd, instance, three_nodes};
use crate::{Change, Filter, Outcome, Owner, PlannedStep, Result, State, Store, StoreError};

const PROCESSES: usize = 8;
const OPERATIONS: usize = 50;
const NAME: &str = "NAME";

fn lock(name: &str) -> [String; 1] {
    [format!("instance/{name}")]
}

/// An operation that adds a drbd disk to the instance, as its second step.
fn add_disk(store: &Store, name: &str, index: usize) -> Result<String> {
    let operation = store.begin("add", name, &lock(name), &Owner::current())?;
    let uuid = format!("{name}.{index}");
    let reserved = store.reserve_drbd(&operation, &uuid, ["node-a", "node-b"])?;
    let steps = ["create", "record"].map(|step| PlannedStep {
        name: step.into(),
        data: json!(index),
    });
    store.plan(&operation, &steps, &[])?;
    store.step_done(&operation, 0, &[])?;
    let mut disks = store.instance(name)?.map_or_else(Vec::new, |found| found.disks);
    disks.push(uuid.clone());
    let disks: Vec<_> = disks.iter().map(String::as_str).collect();
    let disk = drbd(&uuid, reserved.port, reserved.minors);
    store.step_done(
        &operation,
        1,
        &[Change::Disk(disk), Change::Instance(instance(name, &disks))],
    )?;
    Ok(uuid)
}

#[test]
#[ignore = "a child of another test"]
fn child_that_adds_disks() {
    let name = std::env::var(NAME).unwrap();
    let store = Store::open(&child::state()).unwrap();
    for index in 0..OPERATIONS {
        println!("\ndone {}", add_disk(&store, &name, index).unwrap());
    }
}

fn spawn(test: &str, name: &str, state: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    child::prepare(&mut command, test, state);
    command.env(NAME, name).stdout(Stdio::piped()).spawn().unwrap()
}

/// Reads what the child says it has done. With `limit` it is killed soon after it has said that so many times.
fn watch(mut child: Child, limit: Option<usize>) -> Vec<String> {
    let mut done = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(uuid) = line.unwrap().strip_prefix("done ") {
            done.push(uuid.to_owned());
        }
        if limit.is_some_and(|limit| done.len() == limit) {
            // Anywhere inside what comes next.
            thread::sleep(Duration::from_micros(
                1700 * limit.unwrap_or_default() as u64 % 5000,
            ));
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.success(), limit.is_none(), "{status}");
    done
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_torn() {
    let directory = TempDir::new().unwrap();
    let state = directory.path();
    Store::open(state).unwrap().commit(&three_nodes()).unwrap();
    let limit = |process: usize| (process < PROCESSES / 2).then_some(5 + 9 * process);
    let acknowledged: Vec<Vec<String>> = thread::scope(|scope| {
        let watchers: Vec<_> = (0..PROCESSES)
            .map(|process| {
                let child = spawn(
                    "processes::child_that_adds_disks",
                    &format!("inst{process}"),
                    state,
                );
                scope.spawn(move || watch(child, limit(process)))
            })
            .collect();
        watchers
            .into_iter()
            .map(|watcher| watcher.join().unwrap())
            .collect()
    });

    let store = Store::open(state).unwrap();
    store.check().unwrap();
    let mut minors = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for (process, acknowledged) in acknowledged.iter().enumerate() {
        let found = store.instance(&format!("inst{process}")).unwrap().unwrap();
        let disks = store.disks_of(&found).unwrap();
        // The one that was under way may be there too, but then all of it.
        assert!(
            found.disks.starts_with(acknowledged),
            "{found:?} lacks some of {acknowledged:?}"
        );
        assert!(found.disks.len() <= acknowledged.len() + 1);
        if limit(process).is_none() {
            assert_eq!(disks.len(), OPERATIONS);
        }
        for disk in &disks {
            assert!(
                disk.drbd_minors()
                    .into_iter()
                    .all(|(node, minor)| minors.insert((node.to_owned(), minor)))
            );
            assert!(disk.drbd_ports().into_iter().all(|port| ports.insert(port)));
        }
    }
    assert_eq!(
        store.disks().unwrap().len() * 2,
        minors.len(),
        "no disk without an instance"
    );

    // What the dead have left is seen as interrupted, keeps its locks, and is healed by one.
    let unfinished = store.operations(Filter::Unfinished).unwrap();
    assert!(unfinished.len() <= PROCESSES / 2);
    for record in &unfinished {
        assert!(record.interrupted, "{record:?}");
        let error = store
            .begin("grow", "x", &lock(&record.instance), &Owner::current())
            .unwrap_err();
        assert!(matches!(error, StoreError::Interrupted { .. }), "{error:?}");
        let adopted = thread::scope(|scope| {
            let adopt = || {
                Store::open(state)
                    .unwrap()
                    .adopt(&record.id, &Owner::current())
                    .is_ok()
            };
            let adopters: Vec<_> = (0..4).map(|_| scope.spawn(adopt)).collect();
            adopters
                .into_iter()
                .map(|adopter| usize::from(adopter.join().unwrap()))
                .sum::<usize>()
        });
        assert_eq!(adopted, 1);
        store.start_undo(&record.id, "killed").unwrap();
        if record.next_step() > 0 {
            store.step_undone(&record.id, 0, &[]).unwrap();
        }
        store.finish(&record.id, &Outcome::Undone).unwrap();
    }
    for process in 0..PROCESSES {
        add_disk(&store, &format!("inst{process}"), OPERATIONS).unwrap();
    }
    // All minors are in use from 0 on: none leaked with the dead.
    let count = store.disks().unwrap().len() as u32;
    let mut by_node: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for disk in store.disks().unwrap() {
        for (node, minor) in disk.drbd_minors() {
            by_node.entry(node.to_owned()).or_default().insert(minor);
        }
    }
    for (node, minors) in by_node {
        assert_eq!(minors, (0..count).collect(), "{node}");
    }
}

#[test]
#[ignore = "a child of another test"]
fn child_that_holds_a_lock() {
    let store = Store::open(&child::state()).unwrap();
    store
        .begin("add", "inst1", &lock("inst1"), &Owner::current())
        .unwrap();
    println!("\ndone x");
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_lock_lives_as_long_as_its_process() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut child = spawn("processes::child_that_holds_a_lock", "inst1", directory.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "done x"));
    let begin = || {
        store
            .begin("grow", "inst1", &lock("inst1"), &Owner::current())
            .unwrap_err()
    };
    match begin() {
        StoreError::Locked { holder, .. } => assert_eq!(holder.pid, child.id()),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let operation = loop {
        match begin() {
            StoreError::Interrupted { operation, .. } => break operation,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    };
    assert_eq!(operation.state, State::Planning);
    child.wait().unwrap();
}
