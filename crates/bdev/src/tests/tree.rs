//! Disks with devices below them. Files stand in for what real ones are built of: the tree does not care.

use std::fs;
use std::path::PathBuf;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};

use super::{INSTANCE, World, target, told};
use crate::tree::{self, Activation, Layer};
use crate::{Change, Error, ErrorKind, LocalDiskStatus, SyncStatus};

const SIZE: Mebibytes = Mebibytes(4);

/// A disk on two others, each with a directory of its own.
fn disk_on_two(world: &World) -> Disk {
    let mut disk = world.disk(LogicalDevice::File, 0, SIZE);
    for name in ["data", "meta"] {
        let directory = world.path("state/file-storage").join(name);
        world.host.file_storage.create_directory(&directory).unwrap();
        let id = LogicalId::File {
            driver: gnt_config::FileDriver::Loop,
            path: directory.join(name).to_str().unwrap().to_owned(),
        };
        disk.children.push(Disk::new(LogicalDevice::File, id, SIZE));
    }
    disk
}

fn file(disk: &Disk) -> PathBuf {
    match &disk.logical_id {
        LogicalId::File { path, .. } => path.into(),
        other => panic!("{other}"),
    }
}

fn files(disk: &Disk) -> [bool; 3] {
    [disk, &disk.children[0], &disk.children[1]].map(|disk| file(disk).exists())
}

#[test]
fn devices_below_are_made_with_the_disk_and_removed_with_it() {
    let world = World::new();
    let disk = disk_on_two(&world);
    let target = target(&disk);
    assert_eq!(tree::create(&world.host, &target, "").unwrap(), Change::Made);
    assert_eq!(
        tree::create(&world.host, &target, "").unwrap(),
        Change::AlreadyThere
    );
    assert_eq!(files(&disk), [true; 3]);
    let assembled = tree::assemble(&world.host, &target, Activation::primary("kvm")).unwrap();
    assert_eq!(assembled.device.unwrap().path, Some(file(&disk)));
    assert_eq!(world.host.links.list().unwrap().len(), 1);
    assert_eq!(tree::remove(&world.host, &target).unwrap(), Change::Made);
    assert_eq!(tree::remove(&world.host, &target).unwrap(), Change::AlreadyThere);
    assert_eq!(files(&disk), [false; 3]);
    assert_eq!(world.host.links.list().unwrap(), []);
}

#[test]
fn what_was_made_before_a_failure_is_removed_and_nothing_else() {
    let world = World::new();
    let disk = disk_on_two(&world);
    tree::create(&world.host, &target(&disk.children[0]), "").unwrap();
    fs::write(file(&disk), "other").unwrap();
    let error = tree::create(&world.host, &target(&disk), "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    // The first was there before.
    assert_eq!(files(&disk), [true, true, false]);
    assert_eq!(fs::read(file(&disk)).unwrap(), b"other");
}

#[test]
fn a_disk_needs_those_below_it() {
    let world = World::new();
    let disk = disk_on_two(&world);
    tree::create(&world.host, &target(&disk), "").unwrap();
    fs::remove_file(file(&disk.children[1])).unwrap();
    let error = tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap_err();
    assert!(told(&error).starts_with(&format!("cannot assemble {}", file(&disk.children[1]).display())));
    assert_eq!(world.host.links.list().unwrap(), []);
}

#[test]
fn taking_down_goes_on_after_a_failure_and_tells_of_all() {
    let world = World::new();
    let disk = disk_on_two(&world);
    tree::create(&world.host, &target(&disk), "").unwrap();
    for broken in [&disk, &disk.children[0]] {
        fs::remove_file(file(broken)).unwrap();
        fs::create_dir(file(broken)).unwrap();
    }
    let error = tree::remove(&world.host, &target(&disk)).unwrap_err();
    let Error::Several(errors) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(errors.len(), 2);
    let lines = |disk: &Disk| {
        let path = file(disk).display().to_string();
        format!("cannot remove {disk} on node node1: {path} is not a regular file")
    };
    assert_eq!(
        told(&error),
        format!("{}\n{}", lines(&disk), lines(&disk.children[0]))
    );
    assert_eq!(files(&disk), [true, true, false]);
}

#[test]
fn the_volume_below_grows_first_and_by_as_much() {
    let world = World::new();
    let mut disk = disk_on_two(&world);
    disk.children[0].size = Mebibytes(6);
    tree::create(&world.host, &target(&disk), "").unwrap();
    let sizes = || {
        [&disk, &disk.children[0], &disk.children[1]]
            .map(|disk| tree::actual_size(&world.host, &target(disk)).unwrap() >> 20)
    };
    let grow = |layer, dry_run| tree::grow(&world.host, &target(&disk), Mebibytes(7), dry_run, layer);
    assert_eq!(grow(Layer::BackingStore, true).unwrap(), Change::Made);
    assert_eq!(sizes(), [4, 6, 4]);
    assert_eq!(grow(Layer::BackingStore, false).unwrap(), Change::Made);
    assert_eq!(sizes(), [4, 9, 4]);
    assert_eq!(grow(Layer::BackingStore, false).unwrap(), Change::AlreadyThere);
    assert_eq!(grow(Layer::Logical, false).unwrap(), Change::Made);
    assert_eq!(sizes(), [7, 9, 4]);
    // One volume has no layer above it.
    let single = world.disk(LogicalDevice::SharedFile, 1, SIZE);
    let grown = tree::grow(&world.host, &target(&single), Mebibytes(9), false, Layer::Logical);
    assert_eq!(grown.unwrap(), Change::AlreadyThere);
}

#[test]
fn nothing_is_assembled_on_a_secondary_node_that_needs_nothing() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::File, 0, SIZE);
    let assembled = tree::assemble(&world.host, &target(&disk), Activation::secondary()).unwrap();
    assert_eq!(
        (assembled.device, assembled.link, assembled.uri),
        (None, None, None)
    );
}

#[test]
fn a_caller_who_does_not_know_the_instance_leaves_no_link() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::File, 0, SIZE);
    tree::create(&world.host, &target(&disk), "").unwrap();
    tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap();
    world.host.links.set("other", 0, "/dev/null".as_ref()).unwrap();
    let nameless = crate::Target::new(&disk, "");
    assert_eq!(tree::shutdown(&world.host, &nameless).unwrap(), Change::Made);
    assert_eq!(world.host.links.read(INSTANCE, 0).unwrap(), None);
    assert_eq!(
        world.host.links.read("other", 0).unwrap(),
        Some("/dev/null".into())
    );
}

#[test]
fn the_status_of_a_mirror_is_the_worst_of_its_parts() {
    let syncing = |percent, time, ldisk_status| SyncStatus {
        sync_percent: percent,
        estimated_time: time,
        is_degraded: true,
        ldisk_status,
    };
    let (a, b) = (
        syncing(Some(30.5), None, LocalDiskStatus::Sync),
        syncing(Some(20.0), Some(9), LocalDiskStatus::Faulty),
    );
    assert_eq!(a.worst(b), syncing(Some(20.0), Some(9), LocalDiskStatus::Faulty));
    assert_eq!(b.worst(a), a.worst(b));
    assert_eq!(SyncStatus::OKAY.worst(a), a);
    assert_eq!(SyncStatus::OKAY.worst(SyncStatus::OKAY), SyncStatus::OKAY);

    let world = World::new();
    let disk = disk_on_two(&world);
    assert_eq!(tree::mirror_status(&world.host, &target(&disk)).unwrap(), None);
    tree::create(&world.host, &target(&disk), "").unwrap();
    let status = tree::mirror_status(&world.host, &target(&disk)).unwrap().unwrap();
    assert_eq!(status.sync, SyncStatus::OKAY);
}

#[test]
fn ganetis_numbers_stand_for_the_state_of_the_data() {
    let numbers = [
        LocalDiskStatus::Okay,
        LocalDiskStatus::Sync,
        LocalDiskStatus::Unknown,
        LocalDiskStatus::Faulty,
    ]
    .map(|status| (status as u8, status.to_string()));
    let expected = [(1, "ok"), (2, "syncing"), (3, "unknown"), (4, "faulty")];
    assert_eq!(numbers, expected.map(|(number, name)| (number, name.to_owned())));
}
