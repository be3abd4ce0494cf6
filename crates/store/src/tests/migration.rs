//! Databases of every schema version that was released: `fixtures/store/schema-N.db`.
//!
//! With a new version comes a new one: `cargo test -p gnt-store write_the_fixture -- --ignored`. Those of old versions stay as
//! they are.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::schema::{LATEST, MIGRATIONS};
use crate::tests::objects::{drbd, ext, instance, three_nodes};
use crate::{Change, DrbdReservation, Filter, Owner, PlannedStep, State, StepState, Store, StoreError};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/store")
}

/// A process of another time.
fn author() -> Owner {
    Owner {
        host: "node1".into(),
        boot_id: "0e6b2d0c-5b0c-4a38-9a7d-3f0d4a9c8a11".into(),
        pid_namespace: 4_026_531_836,
        pid: 4711,
        start_time: 12345,
        command: "gnt-disk add inst3".into(),
    }
}

fn step(name: &str) -> PlannedStep {
    PlannedStep {
        name: name.into(),
        data: json!({"name": name}),
    }
}

#[test]
#[ignore = "writes into fixtures/store"]
fn write_the_fixture() {
    let target = folder().join(format!("schema-{LATEST}.db"));
    assert!(!target.exists(), "that version was released");
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.commit(&three_nodes()).unwrap();
    let changes = [
        Change::Disk(ext("d0", "v0")),
        Change::Disk(ext("d1", "v1")),
        Change::Disk(drbd("d2", 11000, [0, 0])),
        Change::Instance(instance("inst1", &["d1"])),
        Change::Instance(instance("inst2", &["d2"])),
    ];
    store.commit(&changes).unwrap();
    let locks = ["instance/inst3".into(), "node/a".into()];
    let done = store.begin("grow", "inst1", &[], &author()).unwrap();
    store.plan(&done, &[step("grow")], &[]).unwrap();
    store.step_done(&done, 0, &[]).unwrap();
    let operation = store.begin("add", "inst3", &locks, &author()).unwrap();
    store
        .reserve_drbd(&operation, "d3", ["node-a", "node-b"])
        .unwrap();
    let steps = [step("create"), step("record")];
    store.plan(&operation, &steps, &["node/b".into()]).unwrap();
    store.step_done(&operation, 0, &[]).unwrap();
    let stuck = store.begin("remove", "inst4", &[], &author()).unwrap();
    store.plan(&stuck, &[step("remove")], &[]).unwrap();
    store.start_undo(&stuck, "no space").unwrap();
    store.fail(&stuck, "device is busy").unwrap();
    drop(store);
    fs::create_dir_all(folder()).unwrap();
    fs::copy(directory.path().join("store.db"), target).unwrap();
}

#[test]
fn stores_of_every_schema_version_are_read() {
    for version in 1..=LATEST {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("store.db");
        fs::copy(folder().join(format!("schema-{version}.db")), &file).unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.check().unwrap();
        assert_eq!(store.cluster().unwrap().highest_used_port, Some(11000));
        assert_eq!(store.settings().unwrap().es_timeout, 900);
        assert_eq!(store.nodes().unwrap().len(), 3);
        assert_eq!(store.revision().unwrap().serial_no, 2);
        let found = store.instance("inst2").unwrap().unwrap();
        assert_eq!(
            store.disks_of(&found).unwrap()[0].logical_id.to_json()[5],
            "sesame"
        );
        assert_eq!(store.detached_disks().unwrap()[0].uuid, "d0");
        let taken = store.commit(&[Change::Disk(ext("d9", "v1"))]);
        assert!(matches!(taken, Err(StoreError::VolumeTaken { .. })), "{taken:?}");

        let records = store.operations(Filter::All).unwrap();
        let [done, interrupted, stuck] = records.as_slice() else {
            panic!("{records:?}")
        };
        assert_eq!((done.state, done.interrupted), (State::Done, false));
        assert_eq!(
            (stuck.state, stuck.message.as_deref()),
            (State::Stuck, Some("device is busy"))
        );
        assert_eq!(interrupted.owner, author());
        assert_eq!(interrupted.steps[0].state, StepState::Done);
        assert_eq!(interrupted.steps[1].data, json!({"name": "record"}));
        // Its owner was on a machine that is not this one, and so may live.
        assert!(!interrupted.interrupted);
        let locked = store.begin("grow", "inst3", &["instance/inst3".into()], &Owner::current());
        assert!(matches!(locked, Err(StoreError::Locked { .. })), "{locked:?}");
        let other = store.begin("grow", "inst1", &[], &Owner::current()).unwrap();
        let locked = store.plan(&other, &[step("grow")], &["node/a".into()]);
        assert!(matches!(locked, Err(StoreError::Locked { .. })), "{locked:?}");
        store.plan(&other, &[step("grow")], &["node/b".into()]).unwrap();
        store.abandon(&interrupted.id).unwrap();
        store.adopt(&interrupted.id, &Owner::current()).unwrap();
        let reserved = store
            .reserve_drbd(&interrupted.id, "d3", ["node-a", "node-b"])
            .unwrap();
        assert_eq!(
            reserved,
            DrbdReservation {
                port: 11001,
                minors: [1, 1]
            }
        );
        store
            .step_done(&interrupted.id, 1, &[Change::Disk(drbd("d3", 11001, [1, 1]))])
            .unwrap();
        store.check().unwrap();
    }
}

#[test]
fn the_migrations_can_be_applied() {
    MIGRATIONS.validate().unwrap();
}
