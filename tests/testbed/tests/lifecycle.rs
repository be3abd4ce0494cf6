//! The whole life of a disk on real storage, the same for every type of device. A driver joins by its row.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use gnt_bdev::{Activation, Change, DEV_MAP, Layer, Operation, driver};
use gnt_config::params::DiskParams;
use gnt_config::{Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes, Secret, Settings, template};
use gnt_testbed::{Error, Guest, Plan, Storage, Testbed};

const INSTANCE: &str = "web.example.org";
const SIZE: Mebibytes = Mebibytes(32);
const GROWN: Mebibytes = Mebibytes(48);
const STATE: &str = "/var/lib/gnt-disk";
const UUID: &str = "01234567-89ab-4cde-8123-456789abcdef";

/// What is peculiar to a type of device.
struct Row {
    device: LogicalDevice,
    /// What the guests have.
    plan: fn(Plan) -> Plan,
    /// Makes the storage ready, on each guest.
    prepare: fn(&Testbed, &Guest) -> Result<(), Error>,
    /// The name of the volume, for types whose volumes have one.
    id: fn(&Settings) -> LogicalId,
    /// Whether a disk that is shut down has no path.
    attaches: bool,
    /// The id under which the life goes on after a rename.
    renamed: fn(&LogicalId) -> LogicalId,
}

const ROWS: [Row; 8] = [
    Row {
        device: LogicalDevice::File,
        plan: |plan| plan.disk(Mebibytes(256)),
        prepare: |_, guest| file_storage(guest, 0),
        id: |settings| file(settings, LogicalDevice::File, 0),
        attaches: false,
        renamed: beside,
    },
    Row {
        device: LogicalDevice::SharedFile,
        plan: |plan| plan.disk(Mebibytes(256)),
        prepare: |_, guest| file_storage(guest, 1),
        id: |settings| file(settings, LogicalDevice::SharedFile, 1),
        attaches: false,
        renamed: beside,
    },
    Row {
        device: LogicalDevice::Plain,
        plan: |plan| plan.disk(Mebibytes(512)).modules(["dm-mod", "dm-snapshot"]),
        prepare: volume_group,
        id: |_| LogicalId::Lv {
            vg: "xenvg".to_owned(),
            lv: format!("{UUID}.disk0"),
        },
        attaches: true,
        renamed: beside,
    },
    Row {
        device: LogicalDevice::Blockdev,
        plan: |plan| plan.shared_disk("SAN", SIZE),
        prepare: |_, _| Ok(()),
        id: |_| LogicalId::BlockDev {
            path: "/dev/disk/by-id/ubd-SAN".to_owned(),
        },
        attaches: false,
        renamed: LogicalId::clone,
    },
    Row {
        device: LogicalDevice::Drbd,
        plan: |plan| {
            plan.guests(2)
                .disk(Mebibytes(512))
                .modules(["dm-mod", "dm-snapshot", "drbd"])
        },
        prepare: volume_group,
        id: |_| LogicalId::Drbd8 {
            nodes: ["node-uuid-1".to_owned(), "node-uuid-2".to_owned()],
            port: Some(11000),
            minors: [0, 3],
            secret: Secret::new("sekrit"),
        },
        attaches: true,
        renamed: LogicalId::clone,
    },
    Row {
        device: LogicalDevice::Rbd,
        plan: |plan| plan.modules(["rbd"]),
        prepare: |testbed, _| testbed.ceph().map(drop),
        id: |_| LogicalId::Rbd {
            volume: format!("{UUID}.rbd.disk0"),
        },
        attaches: true,
        renamed: beside,
    },
    Row {
        device: LogicalDevice::Gluster,
        plan: |plan| plan.modules(["fuse"]),
        prepare: |testbed, _| testbed.gluster().map(drop),
        id: |_| LogicalId::Gluster {
            driver: FileDriver::Loop,
            path: format!("ganeti/{UUID}.0"),
        },
        attaches: true,
        renamed: beside,
    },
    Row {
        device: LogicalDevice::Ext,
        plan: |plan| plan.modules(["loop"]),
        prepare: provider,
        id: |_| LogicalId::Ext {
            provider: "ext".to_owned(),
            volume: format!("{UUID}.ext.disk0"),
        },
        attaches: true,
        renamed: LogicalId::clone,
    },
];

fn file(settings: &Settings, device: LogicalDevice, place: usize) -> LogicalId {
    let path = settings.file_storage_paths[place].join(INSTANCE).join(UUID);
    LogicalId::File {
        driver: FileDriver::Loop,
        path: format!("{}.{device}.disk0", path.display()),
    }
}

/// On a file system that keeps extended attributes.
fn file_storage(guest: &Guest, place: usize) -> Result<(), Error> {
    guest.ok(&format!(
        "mkfs.ext4 -q /dev/ubda; mkdir -p {STATE}; mount /dev/ubda {STATE}"
    ))?;
    let path = Settings::under(STATE.as_ref()).file_storage_paths[place].join(INSTANCE);
    guest.ok(&format!("mkdir -p {}", path.display())).map(drop)
}

fn volume_group(_: &Testbed, guest: &Guest) -> Result<(), Error> {
    guest
        .ok("pvcreate -qy /dev/ubda; vgcreate -q xenvg /dev/ubda")
        .map(drop)
}

fn provider(testbed: &Testbed, guest: &Guest) -> Result<(), Error> {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/ext");
    guest
        .ok(&format!(
            "mkdir -p /srv/ganeti/extstorage && cp -r {} /srv/ganeti/extstorage/ext && chmod -R go-w /srv/ganeti",
            testbed.inside(&shipped).display()
        ))
        .map(drop)
}

fn beside(id: &LogicalId) -> LogicalId {
    id.with_volume(id.volume().replace("01234567", "76543210"))
}

#[test]
fn every_driver_has_a_row() {
    let drivers: BTreeSet<_> = DEV_MAP.iter().map(|driver| driver.device()).collect();
    assert_eq!(drivers, BTreeSet::from(ROWS.map(|row| row.device)));
}

#[test]
fn file_lives() -> Result<(), Error> {
    live(LogicalDevice::File)
}

#[test]
fn sharedfile_lives() -> Result<(), Error> {
    live(LogicalDevice::SharedFile)
}

#[test]
fn plain_lives() -> Result<(), Error> {
    live(LogicalDevice::Plain)
}

#[test]
fn blockdev_lives() -> Result<(), Error> {
    live(LogicalDevice::Blockdev)
}

#[test]
fn drbd_lives() -> Result<(), Error> {
    live(LogicalDevice::Drbd)
}

#[test]
fn rbd_lives() -> Result<(), Error> {
    live(LogicalDevice::Rbd)
}

#[test]
fn gluster_lives() -> Result<(), Error> {
    live(LogicalDevice::Gluster)
}

#[test]
fn ext_lives() -> Result<(), Error> {
    live(LogicalDevice::Ext)
}

fn live(device: LogicalDevice) -> Result<(), Error> {
    let row = ROWS.iter().find(|row| row.device == device).expect("a row");
    let testbed = (row.plan)(Testbed::plan(&device.to_string())).start()?;
    for guest in testbed.guests() {
        (row.prepare)(&testbed, guest)?;
        guest.mark()?;
    }
    let mut life = Life {
        row,
        disk: whole_disk((row.id)(&Settings::under(STATE.as_ref())), device),
        nodes: testbed.guests().iter().map(Guest::storage).collect(),
        adopted: template::MUST_ADOPT.contains(device.template()),
    };
    life.refuses()?;
    life.create()?;
    let path = life.assemble()?;
    life.write(&path)?;
    life.grow(&path)?;
    life.keep_info()?;
    life.snapshot(&path)?;
    life.rename()?;
    life.shutdown()?;
    life.remove()?;
    testbed.guests().iter().try_for_each(Guest::assert_clean)
}

/// A disk as `generate_disk_template` makes it, its parameters filled in.
fn whole_disk(id: LogicalId, device: LogicalDevice) -> Disk {
    let mut disk = Disk {
        uuid: "5f45d934-5f54-42b6-b838-5e65bc67103d".to_owned(),
        name: Some("system".to_owned()),
        iv_name: Some("disk/0".to_owned()),
        ..Disk::new(device, id, SIZE)
    };
    if device == LogicalDevice::Drbd {
        let volume = |suffix, size| {
            let lv = format!("{UUID}.disk0_{suffix}");
            let vg = "xenvg".to_owned();
            Disk::new(LogicalDevice::Plain, LogicalId::Lv { vg, lv }, size)
        };
        disk.children = vec![
            volume("data", SIZE),
            volume("meta", gnt_config::device::DRBD_META_SIZE),
        ];
    }
    params().annotate(&disk).expect("they fit")
}

fn params() -> DiskParams {
    let mut params = DiskParams::default();
    params.gluster.host = "192.168.77.254".parse().expect("a host");
    params
}

struct Life<'a> {
    row: &'a Row,
    disk: Disk,
    /// Where the disk is; the first is its primary node.
    nodes: Vec<Storage<'a>>,
    /// There before, and there afterwards.
    adopted: bool,
}

impl<'a> Life<'a> {
    fn can(&self, operation: Operation) -> bool {
        let driver = driver(self.row.device).expect("a driver");
        driver.capabilities().contains(operation)
    }

    fn primary(&self) -> &Storage<'a> {
        &self.nodes[0]
    }

    fn guest(&self) -> &'a Guest {
        self.primary().guest()
    }

    /// The disk as each node gets it.
    fn on_nodes(&self) -> impl DoubleEndedIterator<Item = (&Storage<'a>, Disk)> {
        let guests = self.nodes.iter().map(Storage::guest);
        let addresses: BTreeMap<String, String> = guests
            .map(|guest| (format!("node-uuid-{}", guest.index()), guest.secondary_ip()))
            .collect();
        self.nodes.iter().map(move |node| {
            let mut disk = self.disk.clone();
            let uuid = format!("node-uuid-{}", node.guest().index());
            disk.set_dynamic_params(&uuid, &addresses)
                .expect("both are known");
            (node, disk)
        })
    }

    /// The disk as its primary node gets it.
    fn here(&self) -> Disk {
        let (_, disk) = self.on_nodes().next().expect("a node");
        disk
    }

    /// What the type cannot do is refused with an error that says so.
    fn refuses(&self) -> Result<(), Error> {
        let (node, disk) = (self.primary(), self.here());
        for operation in !driver(self.row.device).expect("a driver").capabilities() {
            let refused = match operation {
                Operation::Grow => node.grow(&disk, GROWN, false, Layer::BackingStore).map(drop),
                Operation::Rename => node.rename(&disk, &beside(&disk.logical_id)).map(drop),
                Operation::Volumes => node.volumes(self.row.device, &disk.params).map(drop),
                Operation::AddChildren => node.add_children(&disk).map(drop),
                Operation::RemoveChildren => node.remove_children(&disk).map(drop),
                Operation::PauseSync => node.pause_sync(&disk).and_then(|()| node.resume_sync(&disk)),
                Operation::DisconnectNet => node.disconnect_net(&disk).map(drop),
                Operation::AttachNet => node.attach_net(&disk, false).map(drop),
                Operation::Snapshot if disk.children.is_empty() => {
                    node.snapshot(&disk, "copy", SIZE).map(drop)
                }
                Operation::UserspaceUri | Operation::Space => node.check(&disk, operation),
                // Of a whole disk only the parts that can keep something are asked, and the part with the data is copied.
                Operation::SetInfo | Operation::Snapshot => continue,
                always => panic!("every {} disk can {always}", self.row.device),
            };
            let refused = refused.expect_err("cannot be done").refused()?;
            assert_eq!(
                refused.unsupported,
                Some((self.row.device, operation)),
                "{refused}"
            );
        }
        Ok(())
    }

    fn create(&self) -> Result<(), Error> {
        let once = if self.adopted {
            Change::AlreadyThere
        } else {
            Change::Made
        };
        for (node, disk) in self.on_nodes().rev() {
            assert_eq!(node.find(&disk)?.is_some(), self.adopted);
            assert_eq!(node.shutdown(&disk)?, Change::AlreadyThere);
            assert_eq!(node.create(&disk)?, once);
            assert_eq!(node.create(&disk)?, Change::AlreadyThere);
        }
        Ok(())
    }

    fn assemble(&self) -> Result<String, Error> {
        for (node, disk) in self.on_nodes().skip(1) {
            for _ in 0..2 {
                let assembled = node.assemble(&disk, Activation::secondary())?;
                assert_eq!((assembled.link, assembled.warnings.len()), (None, 0));
            }
        }
        let (node, disk) = (self.primary(), self.here());
        let assemble = || node.assemble(&disk, Activation::primary("kvm"));
        let (first, again) = (assemble()?, assemble()?);
        assert_eq!(first.device, again.device);
        assert_eq!((&first.uri, first.warnings.len()), (&None, 0));
        let link = first.link.expect("a link");
        assert_eq!(
            link.to_string_lossy(),
            format!("{STATE}/instance-disks/{INSTANCE}:0")
        );
        let path = first.device.and_then(|device| device.path);
        let found = node.find(&disk)?.expect("is there");
        assert_eq!(found.device.path, path);
        assert_eq!(found.device.bytes, Some(SIZE.bytes()));
        assert_eq!(node.actual_size(&disk)?, SIZE.bytes());
        self.wait_until_in_sync()?;
        Ok(link.to_string_lossy().into_owned())
    }

    fn wait_until_in_sync(&self) -> Result<(), Error> {
        let (node, disk) = (self.primary(), self.here());
        for _ in 0..600 {
            let found = node.mirror_status(&disk)?.expect("is there");
            if found.sync == gnt_bdev::SyncStatus::OKAY {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("not in sync: {:?}", node.mirror_status(&disk)?);
    }

    fn write(&self, link: &str) -> Result<(), Error> {
        let (node, disk) = (self.primary(), self.here());
        let written = self.fill(link, SIZE)?;
        node.close(&disk)?;
        assert!(!self.guest().sh(&format!("test -e {link}"))?.success());
        node.close(&disk)?;
        node.open(&disk, false)?;
        node.open(&disk, true)?;
        assert_eq!(self.sum(link, SIZE)?, written);
        Ok(())
    }

    /// Writes all over the first `size` of the device; returns the checksum.
    fn fill(&self, path: &str, size: Mebibytes) -> Result<String, Error> {
        let script = format!(
            "dd if=/dev/urandom of={path} bs=1M count={} conv=fsync,notrunc,nocreat status=none",
            size.0
        );
        self.guest().ok(&script)?;
        self.sum(path, size)
    }

    fn sum(&self, path: &str, size: Mebibytes) -> Result<String, Error> {
        // What is in the cache is not what is on the disk.
        let script = format!(
            "set -o pipefail; sync; echo 3 > /proc/sys/vm/drop_caches; dd if={path} bs=1M count={} status=none | sha256sum",
            size.0
        );
        self.guest().ok(&script)
    }

    fn grow(&mut self, link: &str) -> Result<(), Error> {
        if !self.can(Operation::Grow) {
            return Ok(());
        }
        let before = self.sum(link, SIZE)?;
        let (node, disk) = (self.primary(), self.here());
        let shrunk = node.grow(&disk, Mebibytes(16), false, Layer::BackingStore);
        let shrunk = shrunk.expect_err("cannot shrink").refused()?;
        assert!(
            shrunk
                .message
                .ends_with("its size is 32M, and 16M is less: disks cannot shrink"),
            "{shrunk}"
        );
        for (node, disk) in self.on_nodes() {
            let grow = |dry_run| node.grow(&disk, GROWN, dry_run, Layer::BackingStore);
            assert_eq!(grow(true)?, Change::Made);
            assert_eq!(node.actual_size(&disk)?, SIZE.bytes());
            assert_eq!(grow(false)?, Change::Made);
            assert_eq!(grow(false)?, Change::AlreadyThere);
            assert_eq!(grow(true)?, Change::AlreadyThere);
        }
        if !self.disk.children.is_empty() {
            let grow = || node.grow(&disk, GROWN, false, Layer::Logical);
            assert_eq!((grow()?, grow()?), (Change::Made, Change::AlreadyThere));
        }
        self.disk
            .record_grow(Mebibytes(GROWN.0 - SIZE.0))
            .expect("can grow");
        self.wait_until_in_sync()?;
        assert_eq!(self.primary().actual_size(&self.here())?, GROWN.bytes());
        assert_eq!(self.sum(link, SIZE)?, before);
        self.fill(link, GROWN).map(drop)
    }

    fn keep_info(&self) -> Result<(), Error> {
        for (node, disk) in self.on_nodes() {
            node.set_info(&disk, "originstname+second")?;
            let volumes = match disk.children.is_empty() {
                true => vec![&disk],
                false => disk.children.iter().collect(),
            };
            let device = volumes[0].dev_type;
            if !driver(device)
                .expect("a driver")
                .capabilities()
                .contains(Operation::Volumes)
            {
                continue;
            }
            let found = node.volumes(device, &volumes[0].params)?;
            assert_eq!(found.len(), volumes.len(), "{found:?}");
            for volume in volumes {
                let found = found.iter().find(|found| found.logical_id == volume.logical_id);
                let found = found.unwrap_or_else(|| panic!("{volume} is not among {found:?}"));
                assert_eq!(found.bytes, Some(volume.size.bytes()));
                let owner = &found.owner;
                assert_eq!(owner.instance.as_deref(), Some(INSTANCE));
                assert_eq!(owner.info.as_deref(), Some("originstname+second"));
                if disk.children.is_empty() {
                    assert_eq!((owner.index, owner.uuid.as_deref()), (Some(0), Some(&*disk.uuid)));
                }
            }
        }
        Ok(())
    }

    fn snapshot(&self, link: &str) -> Result<(), Error> {
        if !template::SNAPSHOT_CAPABLE.contains(self.row.device.template()) && !self.can(Operation::Snapshot)
        {
            return Ok(());
        }
        let (node, disk) = (self.primary(), self.here());
        let before = self.sum(link, GROWN)?;
        let id = node.snapshot(&disk, "copy", GROWN)?;
        let written = self.fill(link, GROWN)?;
        let device = disk
            .children
            .first()
            .map_or(self.row.device, |data| data.dev_type);
        let copy = DiskParams::default()
            .annotate(&Disk::new(device, id, GROWN))
            .expect("defaults fit");
        let assembled = node.assemble(&copy, Activation::primary("kvm"))?;
        let path = assembled.device.and_then(|device| device.path).expect("a path");
        assert_eq!(self.sum(&path.to_string_lossy(), GROWN)?, before);
        assert_eq!(self.sum(link, GROWN)?, written);
        assert_eq!(node.remove(&copy)?, Change::Made);
        assert_eq!(node.remove(&copy)?, Change::AlreadyThere);
        Ok(())
    }

    fn rename(&mut self) -> Result<(), Error> {
        if !self.can(Operation::Rename) {
            return Ok(());
        }
        let (node, disk) = (self.primary(), self.here());
        let to = (self.row.renamed)(&disk.logical_id);
        assert_ne!(to, disk.logical_id);
        let path = node
            .assemble(&disk, Activation::primary("kvm"))?
            .link
            .expect("a link");
        let before = self.sum(&path.to_string_lossy(), GROWN)?;
        assert_eq!(node.rename(&disk, &to)?, Change::Made);
        assert_eq!(node.rename(&disk, &to)?, Change::AlreadyThere);
        assert_eq!(node.find(&disk)?, None);
        self.disk.logical_id = to;
        let assembled = self
            .primary()
            .assemble(&self.here(), Activation::primary("kvm"))?;
        let path = assembled.link.expect("a link");
        assert_eq!(self.sum(&path.to_string_lossy(), GROWN)?, before);
        Ok(())
    }

    fn shutdown(&self) -> Result<(), Error> {
        for (node, disk) in self.on_nodes() {
            assert_eq!(node.shutdown(&disk)?, Change::Made);
            assert_eq!(node.shutdown(&disk)?, Change::AlreadyThere);
            let device = node.find(&disk)?.expect("is there").device;
            assert_eq!(device.path.is_none(), self.row.attaches);
            // What is built on others has its own size only while it is there.
            if disk.children.is_empty() {
                assert_eq!(device.bytes, Some(disk.size.bytes()));
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        for (node, disk) in self.on_nodes() {
            // Also one that is in use as far as this node knows.
            let activation = match node.guest().index() {
                1 => Activation::primary("kvm"),
                _ => Activation::secondary(),
            };
            node.assemble(&disk, activation)?;
            assert_eq!(node.remove(&disk)?, Change::Made);
            assert_eq!(node.remove(&disk)?, Change::AlreadyThere);
            assert_eq!(node.find(&disk)?.is_some(), self.adopted);
            if self.can(Operation::Volumes) {
                assert_eq!(node.volumes(self.row.device, &disk.params)?, []);
            }
        }
        Ok(())
    }
}
