use std::os::unix::fs::symlink;
use std::path::Path;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};

use rustix::fs::{Mode, OFlags};

use super::{World, run, target, told};
use crate::tree::{self, Activation};
use crate::{Change, Error, ErrorKind, Operation, device};

const SIZE: Mebibytes = Mebibytes(4);

fn disk_at(path: &Path) -> Disk {
    let id = LogicalId::BlockDev {
        path: path.to_str().unwrap().to_owned(),
    };
    Disk::new(LogicalDevice::Blockdev, id, SIZE)
}

#[test]
fn only_block_devices_under_dev_are_adopted() {
    let world = World::new();
    let device = world.loop_device("backing", SIZE);
    let link = world.path("link");
    symlink(&device, &link).unwrap();
    let leading_out = world.path("out");
    symlink("/etc/passwd", &leading_out).unwrap();
    for (path, end) in [
        (
            Path::new("/dev/null"),
            "/dev/null is not a block device".to_owned(),
        ),
        (Path::new("/dev"), "/dev is not a block device".to_owned()),
        (
            Path::new("/dev/../etc/passwd"),
            "/dev/../etc/passwd is /etc/passwd, which is not under /dev".to_owned(),
        ),
        (
            leading_out.as_path(),
            format!(
                "{} is /etc/passwd, which is not under /dev",
                leading_out.display()
            ),
        ),
        (
            Path::new("/dev/gnt-disk/none"),
            "there is no device /dev/gnt-disk/none".to_owned(),
        ),
    ] {
        let disk = disk_at(path);
        for error in [
            tree::create(&world.host, &target(&disk), "").unwrap_err(),
            tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap_err(),
            tree::actual_size(&world.host, &target(&disk)).unwrap_err(),
        ] {
            assert!(told(&error).ends_with(&end), "{}", told(&error));
        }
    }
    // A link is what udev makes of a device: the path stays the one that was given.
    let found = tree::find(&world.host, &target(&disk_at(&link)))
        .unwrap()
        .unwrap();
    assert_eq!(found.device.path.as_ref(), Some(&link));
}

#[test]
fn a_missing_device_is_not_found_and_not_an_error_to_find() {
    let world = World::new();
    let disk = disk_at(Path::new("/dev/gnt-disk/none"));
    assert_eq!(tree::find(&world.host, &target(&disk)).unwrap(), None);
    let error = tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("lsblk"));
    assert_eq!(
        tree::remove(&world.host, &target(&disk)).unwrap(),
        Change::AlreadyThere
    );
}

#[test]
fn a_device_that_something_else_has_for_itself_does_not_become_a_disk() {
    let world = World::new();
    let path = world.loop_device("backing", SIZE);
    let disk = disk_at(&path);
    let check = |operation| tree::check(&world.host, &target(&disk), operation);
    check(Operation::Create).unwrap();
    // As mounting does.
    let taken = rustix::fs::open(
        &path,
        OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    let error = check(Operation::Create).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(
        told(&error).contains("is in use on this node"),
        "{}",
        told(&error)
    );
    assert!(error.hint().unwrap().contains("lsblk"));
    // What is a disk already is used by its instance.
    check(Operation::Assemble).unwrap();
    drop(taken);
    check(Operation::Create).unwrap();
    assert!(matches!(
        check(Operation::Snapshot),
        Err(Error::Unsupported {
            operation: Operation::Snapshot,
            ..
        })
    ));
}

#[test]
fn a_device_that_is_too_small_is_refused() {
    let world = World::new();
    let device = world.loop_device("backing", Mebibytes(3));
    let disk = disk_at(&device);
    let size = 3 << 20;
    let end = format!(
        "{} has {size} bytes, less than the 4M of the disk",
        device.display()
    );
    let create = tree::create(&world.host, &target(&disk), "").unwrap_err();
    assert!(told(&create).ends_with(&end), "{}", told(&create));
    assert!(tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).is_err());
}

#[test]
fn two_names_of_one_device_have_the_same_numbers() {
    let world = World::new();
    let (device, other) = (world.loop_device("one", SIZE), world.loop_device("two", SIZE));
    let link = world.path("link");
    symlink(&device, &link).unwrap();
    let numbers = |path: &Path| {
        let device = device::under_dev(path).unwrap();
        (device.major.unwrap(), device.minor.unwrap())
    };
    assert_eq!(numbers(&link), numbers(&device));
    assert_ne!(numbers(&other), numbers(&device));
    let listed = run(
        "lsblk",
        &[
            "--nodeps",
            "--noheadings",
            "--output",
            "MAJ:MIN",
            device.to_str().unwrap(),
        ],
    );
    let (major, minor) = numbers(&device);
    assert_eq!(listed.trim(), format!("{major}:{minor}"));
    let nothing: [&str; 0] = [];
    assert_eq!(device::holders(&device::at(&device).unwrap()).unwrap(), nothing);
}
