use std::fs;
use std::os::unix::fs::symlink;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};

use super::{INSTANCE, World, target, told};
use crate::tree::{self, Activation, Layer};
use crate::{Change, ErrorKind, Owner};

const SIZE: Mebibytes = Mebibytes(4);

#[test]
fn errors_say_what_where_and_why() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::File, 0, SIZE);
    let LogicalId::File { path, .. } = &disk.logical_id else {
        unreachable!()
    };
    let missing = tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap_err();
    assert_eq!(
        told(&missing),
        format!("cannot assemble disk/0 ({path}) on node node1: {path} is not there")
    );
    for error in [
        missing,
        tree::grow(
            &world.host,
            &target(&disk),
            Mebibytes(5),
            false,
            Layer::BackingStore,
        )
        .unwrap_err(),
        tree::set_info(&world.host, &target(&disk), "text").unwrap_err(),
        tree::actual_size(&world.host, &target(&disk)).unwrap_err(),
        tree::rename(&world.host, &target(&disk), &disk.logical_id).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", told(&error));
    }
    fs::write(path, "other").unwrap();
    let taken = tree::create(&world.host, &target(&disk), "").unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        told(&taken),
        format!("cannot create disk/0 ({path}) on node node1: {path} is there already and has 5 bytes")
    );
}

#[test]
fn a_disk_outside_the_storage_directories_is_refused_whoever_asks() {
    let world = World::new();
    let mut disk = world.disk(LogicalDevice::File, 0, SIZE);
    let inside = world.path("state/file-storage");
    symlink(world.path(""), inside.join("escape")).unwrap();
    for path in [
        world.path("state/other/disk"),
        inside.join("../disk"),
        inside.join("escape/disk"),
        "/etc/gnt-disk-must-not-exist".into(),
    ] {
        disk.logical_id = LogicalId::File {
            driver: gnt_config::FileDriver::Loop,
            path: path.to_str().unwrap().to_owned(),
        };
        let error = tree::create(&world.host, &target(&disk), "").unwrap_err();
        assert!(
            told(&error).contains("is not allowed for file storage"),
            "{}",
            told(&error)
        );
        assert!(tree::find(&world.host, &target(&disk)).is_err());
        assert!(tree::remove(&world.host, &target(&disk)).is_err());
        assert!(!path.exists());
    }
}

#[test]
fn the_two_file_drivers_do_not_take_each_others_files() {
    let world = World::new();
    let file = world.disk(LogicalDevice::File, 0, SIZE);
    let shared = world.disk(LogicalDevice::SharedFile, 1, SIZE);
    let volumes = |device| {
        let found = tree::volumes(&world.host, device, &Object::new()).unwrap();
        found
            .into_iter()
            .map(|volume| volume.logical_id)
            .collect::<Vec<_>>()
    };
    for disk in [&file, &shared] {
        assert_eq!(
            tree::create(&world.host, &target(disk), "").unwrap(),
            Change::Made
        );
    }
    assert_eq!(volumes(LogicalDevice::File), [file.logical_id]);
    assert_eq!(volumes(LogicalDevice::SharedFile), [shared.logical_id]);
}

#[test]
fn a_file_that_nothing_is_kept_with_tells_its_owner_by_its_path() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::File, 3, SIZE);
    world
        .host
        .file_storage
        .create(path(&disk).as_ref(), SIZE)
        .unwrap();
    // Names that only look like ours.
    for name in [
        "01234567-89ab-cdef-0123-456789ABCDEF.file.disk0",
        "x.file.disk0",
        "notes",
    ] {
        fs::write(world.path("state/file-storage").join(INSTANCE).join(name), "").unwrap();
    }
    let found = tree::volumes(&world.host, LogicalDevice::File, &Object::new()).unwrap();
    let [volume] = &found[..] else { panic!("{found:?}") };
    let owner = Owner {
        instance: Some(INSTANCE.to_owned()),
        index: Some(3),
        ..Owner::default()
    };
    assert_eq!(volume.owner, owner);
    assert_eq!(volume.bytes, Some(SIZE.bytes()));
}

fn path(disk: &Disk) -> &str {
    match &disk.logical_id {
        LogicalId::File { path, .. } => path,
        other => panic!("{other}"),
    }
}
