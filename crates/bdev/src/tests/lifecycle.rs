//! The whole life of a disk, the same for every driver whose storage a host can have for a test. A driver joins by its row. The others
//! live in guests, where `tests/testbed` has the same life for them.

use std::path::PathBuf;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object, template};

use super::{INSTANCE, World, has_pattern, target, write_pattern};
use crate::tree::{self, Activation, Layer};
use crate::{Change, DEV_MAP, Driver, Operation};

const SIZE: Mebibytes = Mebibytes(8);
const GROWN: Mebibytes = Mebibytes(12);

/// What is peculiar to a type of device.
struct Row {
    device: LogicalDevice,
    /// Whether a disk that is shut down has no path.
    attaches: bool,
    /// The id under which the life goes on after a rename.
    renamed: fn(&LogicalId) -> LogicalId,
}

const ROWS: [Row; 4] = [
    Row {
        device: LogicalDevice::File,
        attaches: false,
        renamed: beside,
    },
    Row {
        device: LogicalDevice::SharedFile,
        attaches: false,
        renamed: beside,
    },
    Row {
        device: LogicalDevice::Blockdev,
        attaches: false,
        renamed: LogicalId::clone,
    },
    Row {
        device: LogicalDevice::Ext,
        attaches: true,
        renamed: LogicalId::clone,
    },
];

/// Drivers whose storage is the whole machine's, or takes several machines.
const IN_GUESTS: [LogicalDevice; 4] = [
    LogicalDevice::Plain,
    LogicalDevice::Drbd,
    LogicalDevice::Rbd,
    LogicalDevice::Gluster,
];

fn beside(id: &LogicalId) -> LogicalId {
    match id {
        LogicalId::File { driver, path } => LogicalId::File {
            driver: *driver,
            path: path.replace("01234567", "76543210"),
        },
        other => other.clone(),
    }
}

#[test]
fn every_driver_of_the_host_has_a_row() {
    let mut drivers: Vec<_> = DEV_MAP.iter().map(|driver| driver.device()).collect();
    drivers.retain(|device| !IN_GUESTS.contains(device));
    assert_eq!(drivers, ROWS.map(|row| row.device));
}

#[test]
fn file() {
    Life::of(LogicalDevice::File).live();
}

#[test]
fn sharedfile() {
    Life::of(LogicalDevice::SharedFile).live();
}

#[test]
fn blockdev() {
    Life::of(LogicalDevice::Blockdev).live();
}

#[test]
fn ext() {
    Life::of(LogicalDevice::Ext).live();
}

struct Life {
    world: World,
    driver: &'static dyn Driver,
    row: &'static Row,
    disk: Disk,
    /// Adopted: there before, and there afterwards.
    adopted: bool,
}

impl Life {
    fn of(device: LogicalDevice) -> Self {
        let world = World::new();
        Self {
            disk: world.disk(device, 0, SIZE),
            driver: crate::driver(device).unwrap(),
            row: ROWS.iter().find(|row| row.device == device).unwrap(),
            adopted: template::MUST_ADOPT.contains(device.template()),
            world,
        }
    }

    fn can(&self, operation: Operation) -> bool {
        self.driver.capabilities().contains(operation)
    }

    fn live(mut self) {
        self.create();
        let path = self.assemble();
        self.write(&path);
        self.grow(&path);
        self.keep_info();
        self.snapshot(&path);
        self.rename();
        self.shutdown();
        self.remove();
    }

    fn create(&self) {
        let (host, target) = (&self.world.host, target(&self.disk));
        let before = tree::find(host, &target).unwrap();
        assert_eq!(before.is_some(), self.adopted);
        if !self.adopted {
            assert_eq!(tree::shutdown(host, &target).unwrap(), Change::AlreadyThere);
        }
        let made = if self.adopted {
            Change::AlreadyThere
        } else {
            Change::Made
        };
        assert_eq!(tree::create(host, &target, "first info").unwrap(), made);
        assert_eq!(
            tree::create(host, &target, "first info").unwrap(),
            Change::AlreadyThere
        );
        let found = tree::find(host, &target).unwrap().unwrap();
        assert_eq!(found.device.bytes, Some(SIZE.bytes()));
        assert_eq!(found.device.path.is_none(), self.row.attaches);
        assert_eq!(found.sync, crate::SyncStatus::OKAY);
        assert_eq!(tree::actual_size(host, &target).unwrap(), SIZE.bytes());
    }

    fn assemble(&self) -> PathBuf {
        let (host, target) = (&self.world.host, target(&self.disk));
        let assemble = || tree::assemble(host, &target, Activation::primary("kvm")).unwrap();
        let (first, again) = (assemble(), assemble());
        assert_eq!(first.device, again.device);
        assert_eq!((&first.uri, first.warnings.len()), (&None, 0));
        let link = first.link.unwrap();
        assert_eq!(
            link,
            self.world.path(&format!("state/instance-disks/{INSTANCE}:0"))
        );
        let path = first.device.unwrap().path.unwrap();
        assert_eq!(std::fs::read_link(&link).unwrap(), path);
        let found = tree::find(host, &target).unwrap().unwrap();
        assert_eq!(found.device.path, Some(path));
        link
    }

    fn write(&self, path: &std::path::Path) {
        let (host, target) = (&self.world.host, target(&self.disk));
        write_pattern(path, SIZE);
        tree::close(host, &target).unwrap();
        assert!(!path.exists());
        tree::close(host, &target).unwrap();
        tree::open(host, &target, false).unwrap();
        tree::open(host, &target, true).unwrap();
        assert!(has_pattern(path, SIZE));
    }

    fn grow(&mut self, path: &std::path::Path) {
        if !self.can(Operation::Grow) {
            return;
        }
        let (host, target) = (&self.world.host, target(&self.disk));
        let grow = |to, dry_run| tree::grow(host, &target, to, dry_run, Layer::BackingStore);
        let error = grow(Mebibytes(4), false).unwrap_err();
        assert!(super::told(&error).ends_with("its size is 8M, and 4M is less: disks cannot shrink"));
        assert_eq!(grow(GROWN, true).unwrap(), Change::Made);
        assert_eq!(tree::actual_size(host, &target).unwrap(), SIZE.bytes());
        assert_eq!(grow(GROWN, false).unwrap(), Change::Made);
        assert_eq!(grow(GROWN, false).unwrap(), Change::AlreadyThere);
        assert_eq!(grow(GROWN, true).unwrap(), Change::AlreadyThere);
        assert_eq!(tree::actual_size(host, &target).unwrap(), GROWN.bytes());
        assert!(has_pattern(path, SIZE));
        self.disk.size = GROWN;
        write_pattern(path, GROWN);
    }

    fn keep_info(&self) {
        let (host, target) = (&self.world.host, target(&self.disk));
        tree::set_info(host, &target, "second+info").unwrap();
        if !self.can(Operation::Volumes) {
            return;
        }
        let found = tree::volumes(host, self.row.device, &Object::new()).unwrap();
        let [volume] = &found[..] else { panic!("{found:?}") };
        assert_eq!(volume.logical_id, self.disk.logical_id);
        assert_eq!(volume.bytes, Some(self.disk.size.bytes()));
        let owner = &volume.owner;
        assert_eq!(owner.instance.as_deref(), Some(INSTANCE));
        assert_eq!(
            (owner.index, owner.uuid.as_deref()),
            (Some(0), Some("disk-uuid-0"))
        );
        assert_eq!(owner.info.as_deref(), Some("second+info"));
    }

    fn snapshot(&self, path: &std::path::Path) {
        if !self.can(Operation::Snapshot) {
            return;
        }
        let host = &self.world.host;
        let id = tree::snapshot(host, &target(&self.disk), "copy", self.disk.size).unwrap();
        write_pattern(path, Mebibytes(1));
        let copy = Disk::new(self.row.device, id, self.disk.size);
        let copy = crate::Target::new(&copy, "");
        let assembled = tree::assemble(host, &copy, Activation::primary("kvm")).unwrap();
        assert_eq!(assembled.link, None);
        assert!(has_pattern(
            &assembled.device.unwrap().path.unwrap(),
            self.disk.size
        ));
        assert_eq!(tree::remove(host, &copy).unwrap(), Change::Made);
        assert_eq!(tree::remove(host, &copy).unwrap(), Change::AlreadyThere);
    }

    fn rename(&mut self) {
        let to = (self.row.renamed)(&self.disk.logical_id);
        if !self.can(Operation::Rename) {
            return;
        }
        assert_ne!(to, self.disk.logical_id);
        let host = &self.world.host;
        let rename = || tree::rename(host, &target(&self.disk), &to).unwrap();
        assert_eq!(rename(), Change::Made);
        assert_eq!(rename(), Change::AlreadyThere);
        assert_eq!(tree::find(host, &target(&self.disk)).unwrap(), None);
        self.disk.logical_id = to;
        let assembled = tree::assemble(host, &target(&self.disk), Activation::primary("kvm")).unwrap();
        assert!(has_pattern(&assembled.link.unwrap(), self.disk.size));
    }

    fn shutdown(&self) {
        let (host, target) = (&self.world.host, target(&self.disk));
        assert_eq!(tree::shutdown(host, &target).unwrap(), Change::Made);
        assert_eq!(tree::shutdown(host, &target).unwrap(), Change::AlreadyThere);
        assert_eq!(host.links.list().unwrap(), []);
        let found = tree::find(host, &target).unwrap().unwrap();
        assert_eq!(found.device.path.is_none(), self.row.attaches);
        assert_eq!(self.world.loop_devices().len(), usize::from(self.adopted));
    }

    fn remove(&self) {
        let (host, target) = (&self.world.host, target(&self.disk));
        // Also one that is in use as far as this node knows.
        let assembled = tree::assemble(host, &target, Activation::primary("kvm")).unwrap();
        assert_eq!(tree::remove(host, &target).unwrap(), Change::Made);
        assert_eq!(tree::remove(host, &target).unwrap(), Change::AlreadyThere);
        assert_eq!(host.links.list().unwrap(), []);
        assert_eq!(tree::find(host, &target).unwrap().is_some(), self.adopted);
        if self.can(Operation::Volumes) {
            assert_eq!(tree::volumes(host, self.row.device, &Object::new()).unwrap(), []);
        }
        if self.adopted {
            assert!(has_pattern(
                &assembled.device.unwrap().path.unwrap(),
                self.disk.size
            ));
        } else {
            assert_eq!(self.world.loop_devices(), [""; 0]);
        }
    }
}
