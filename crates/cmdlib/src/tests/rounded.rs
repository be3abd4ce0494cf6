//! Storage rounds sizes up, and what an instance wrote behind the size that was asked for is data too.

use gnt_config::{Disk, DiskTemplate, Mebibytes};
use serde_json::json;

use super::bench::{Bench, NODES, now, quiet};
use super::rows::{Deed, INSTANCE, Row, conversion};
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::add;
use crate::ops::convert::{ConvertRequest, convert};
use crate::ops::snapshot::{SnapshotRequest, restore, snapshot};
use crate::ops::wipe::wipe;
use crate::step::Pace;

/// No whole number of extents.
const ASKED: u64 = 10;
/// What LVM makes of it.
const MADE: u64 = 12;
const BEHIND_ASKED: u64 = 11 << 20;
const SNAPSHOT: &str = "before";

/// An instance with two disks.
fn bench(template: DiskTemplate) -> Bench {
    let row = Row {
        template,
        active: false,
        deed: Deed::Add,
        troubles: &[],
    };
    let bench = Bench::new(&row);
    let wish = json!({"size": ASKED}).as_object().cloned().unwrap();
    let engine = bench.engine(&quiet);
    now(add(&engine, &row.request(INSTANCE, vec![wish.clone(), wish]))).unwrap();
    now(activate(&engine, INSTANCE)).unwrap();
    now(async { tokio::time::sleep(std::time::Duration::from_secs(3600)).await });
    now(deactivate(&engine, INSTANCE)).unwrap();
    bench
}

fn disk(bench: &Bench, index: usize) -> Disk {
    let instance = bench.store.instance(INSTANCE).unwrap().unwrap();
    bench.store.disks_of(&instance).unwrap().remove(index)
}

fn write(bench: &Bench, index: usize, offset: u64, number: u64) {
    for key in disk(bench, index).volume_keys() {
        bench.cluster.with_world(|world| {
            let volume = world.volumes.get_mut(&key).unwrap();
            if volume.meta.is_none() {
                volume.data.write(offset, &number.to_le_bytes());
            }
        });
    }
}

fn number(bench: &Bench, index: usize, offset: u64) -> u64 {
    let key = &disk(bench, index).volume_keys()[0];
    bench.cluster.world().volumes[key].data.number(offset)
}

fn take_snapshot(bench: &Bench) {
    let wish = SnapshotRequest {
        disk: "0".to_owned(),
        name: Some(SNAPSHOT.to_owned()),
        size: None,
    };
    now(snapshot(&bench.engine(&quiet), INSTANCE, &[wish])).unwrap();
}

#[test]
fn all_that_a_snapshot_shows_is_restored() {
    let bench = bench(DiskTemplate::Plain);
    write(&bench, 0, 0, 1);
    write(&bench, 0, BEHIND_ASKED, 2);
    take_snapshot(&bench);
    write(&bench, 0, 0, 3);
    write(&bench, 0, BEHIND_ASKED, 4);
    let engine = bench.engine(&quiet);
    now(restore(&engine, INSTANCE, "0", SNAPSHOT, Pace::default())).unwrap();
    assert_eq!([number(&bench, 0, 0), number(&bench, 0, BEHIND_ASKED)], [1, 2]);
    bench.assert_consistent();
}

/// What is below it is larger than what it shows.
#[test]
fn a_mirror_is_restored_as_far_as_it_goes() {
    let bench = bench(DiskTemplate::Drbd);
    write(&bench, 0, 0, 1);
    take_snapshot(&bench);
    write(&bench, 0, 0, 3);
    let engine = bench.engine(&quiet);
    now(restore(&engine, INSTANCE, "0", SNAPSHOT, Pace::default())).unwrap();
    assert_eq!(number(&bench, 0, 0), 1);
    bench.assert_consistent();
}

#[test]
fn no_disk_becomes_what_another_was() {
    for template in [DiskTemplate::Plain, DiskTemplate::Drbd, DiskTemplate::Ext] {
        let bench = bench(template);
        take_snapshot(&bench);
        write(&bench, 1, 0, 5);
        let restored = now(restore(
            &bench.engine(&quiet),
            INSTANCE,
            "1",
            SNAPSHOT,
            Pace::default(),
        ));
        let error = restored.unwrap_err().to_string();
        assert!(error.contains("is a snapshot of disk/0"), "{error}");
        assert_eq!(number(&bench, 1, 0), 5);
    }
}

#[test]
fn all_of_a_disk_is_wiped() {
    let bench = bench(DiskTemplate::Plain);
    write(&bench, 0, BEHIND_ASKED, 2);
    now(wipe(&bench.engine(&quiet), INSTANCE, &[], Pace::default())).unwrap();
    assert_eq!(number(&bench, 0, BEHIND_ASKED), 0);
}

#[test]
fn a_disk_of_any_size_is_converted() {
    for from in [DiskTemplate::Plain, DiskTemplate::Drbd] {
        for (to, node) in [
            (DiskTemplate::File, None),
            (DiskTemplate::Rbd, Some(NODES[2])),
            (DiskTemplate::Plain, Some(NODES[2])),
        ] {
            if from == to {
                continue;
            }
            let bench = bench(from);
            write(&bench, 0, 0, 1);
            write(&bench, 0, BEHIND_ASKED, 2);
            let request = ConvertRequest {
                primary: node.map(str::to_owned),
                ..conversion(to)
            };
            now(convert(&bench.engine(&quiet), INSTANCE, &request)).unwrap();
            let (size, behind) = match from {
                DiskTemplate::Drbd => (ASKED, 0),
                _ => (MADE, 2),
            };
            assert_eq!(disk(&bench, 0).size, Mebibytes(size), "{from} to {to}");
            assert_eq!(
                [number(&bench, 0, 0), number(&bench, 0, BEHIND_ASKED)],
                [1, behind],
                "{from} to {to}"
            );
            bench.assert_consistent();
        }
    }
}
