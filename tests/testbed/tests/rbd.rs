//! rbd disks in a real Ceph cluster, mapped by real kernels.
#![cfg(test)]

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gnt_bdev::{Activation, Change, ErrorKind, Layer, Owner};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_testbed::{Ceph, Error, Guest, Storage, Testbed};
use serde_json::json;

const SIZE: Mebibytes = Mebibytes(64);
const GROWN: Mebibytes = Mebibytes(96);

fn disk(name: &str) -> Disk {
    let id = LogicalId::Rbd {
        volume: name.to_owned(),
    };
    Disk {
        uuid: format!("uuid-of-{name}"),
        iv_name: Some("disk/0".to_owned()),
        ..Disk::new(LogicalDevice::Rbd, id, SIZE)
    }
}

fn with(disk: Disk, params: serde_json::Value) -> Disk {
    let params: Object = serde_json::from_value(params).unwrap();
    Disk { params, ..disk }
}

fn map(storage: &Storage<'_>, disk: &Disk) -> Result<PathBuf, Error> {
    let assembled = storage.assemble(disk, Activation::primary("kvm"))?;
    Ok(assembled.device.unwrap().path.unwrap())
}

/// Fills a device with noise, and tells its checksum.
fn fill(guest: &Guest, device: &Path) -> Result<String, Error> {
    guest.ok(&format!(
        "dd if=/dev/urandom of={} bs=1M count={} oflag=direct",
        device.display(),
        SIZE.0
    ))?;
    sum(guest, device, SIZE)
}

fn sum(guest: &Guest, device: &Path, size: Mebibytes) -> Result<String, Error> {
    guest.ok(&format!(
        "dd if={} bs=1M count={} iflag=direct 2>/dev/null | md5sum",
        device.display(),
        size.0
    ))
}

#[test]
fn a_disk_lives_on_two_nodes() -> Result<(), Error> {
    let testbed = Testbed::plan("rbd").guests(2).modules(["rbd"]).start()?;
    let ceph = testbed.ceph()?;
    let [n1, n2] = testbed.guests() else { panic!() };
    n1.mark()?;
    n2.mark()?;
    let (first, second) = (n1.storage(), n2.storage());
    let mut disk = disk("0a1b2c3d-0000-4000-8000-000000000001.rbd.disk0");

    assert_eq!(first.find(&disk)?, None);
    let dry_run = n1.storage().dry_run();
    assert_eq!(dry_run.create(&disk)?, Change::Made);
    let planned = dry_run.assemble(&disk, Activation::primary("kvm"))?;
    assert_eq!(planned.device.unwrap().path, None);
    assert_eq!(dry_run.remove(&disk)?, Change::AlreadyThere);
    let noted = dry_run.noted();
    assert!(
        noted.len() == 3 && noted[0].contains(" create --size 64 ") && noted[2].contains(" map "),
        "{noted:?}"
    );
    assert_eq!(first.find(&disk)?, None);

    assert_eq!(first.create(&disk)?, Change::Made);
    assert_eq!(second.create(&disk)?, Change::AlreadyThere);
    let other = Disk {
        size: GROWN,
        ..disk.clone()
    };
    let refused = first.create(&other).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::AlreadyExists);
    assert!(refused.message.ends_with("already, with 67108864 bytes"));
    let found = first.find(&disk)?.unwrap().device;
    assert_eq!((found.path, found.bytes), (None, Some(SIZE.bytes())));

    let device = map(&first, &disk)?;
    assert_eq!(map(&first, &disk)?, device);
    assert_eq!(first.find(&disk)?.unwrap().device.path.as_ref(), Some(&device));
    let written = fill(n1, &device)?;
    first.open(&disk, false)?;
    first.close(&disk)?;
    // The other node sees it as it is, while it is mapped here.
    let elsewhere = map(&second, &disk)?;
    assert_eq!(sum(n2, &elsewhere, SIZE)?, written);
    assert_eq!(second.shutdown(&disk)?, Change::Made);

    let grow = |to, dry_run| first.grow(&disk, to, dry_run, Layer::BackingStore);
    assert_eq!(grow(GROWN, true)?, Change::Made);
    assert_eq!(first.actual_size(&disk)?, SIZE.bytes());
    assert_eq!(grow(GROWN, false)?, Change::Made);
    let seen = n1.ok(&format!("blockdev --getsize64 {}", device.display()))?;
    assert_eq!(seen.trim(), GROWN.bytes().to_string());
    assert_eq!(grow(GROWN, false)?, Change::AlreadyThere);
    assert!(grow(Mebibytes(32), false).is_err());
    assert_eq!(sum(n1, &device, SIZE)?, written);
    disk.size = GROWN;

    first.set_info(&disk, "originstname+web.example.org")?;
    let before = sum(n1, &device, GROWN)?;
    let copy = Disk::new(LogicalDevice::Rbd, first.snapshot(&disk, "copy", GROWN)?, GROWN);
    n1.ok(&format!(
        "dd if=/dev/zero of={} bs=1M count=8 oflag=direct",
        device.display()
    ))?;
    let volumes = second.volumes(LogicalDevice::Rbd, &Object::new())?;
    assert_eq!(volumes.len(), 2);
    let of = |disk: &Disk| {
        volumes
            .iter()
            .find(|found| found.logical_id == disk.logical_id)
            .unwrap()
    };
    let (of_disk, of_copy) = (of(&disk), of(&copy));
    assert_eq!(
        (of_disk.owner.instance.as_deref(), of_disk.bytes),
        (Some("web.example.org"), Some(GROWN.bytes()))
    );
    assert_eq!(of_disk.owner.uuid.as_deref(), Some(&*disk.uuid));
    assert_eq!(of_copy.owner, Owner::default());
    // The copy is of the moment before, and needs nothing of what it was copied from.
    assert_eq!(sum(n2, &map(&second, &copy)?, GROWN)?, before);
    let refused = first.snapshot(&disk, "copy", GROWN).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::AlreadyExists);

    n1.ok(&format!(
        "mkfs.ext4 -q {0} && mkdir /m && mount {0} /m",
        device.display()
    ))?;
    let refused = first.shutdown(&disk).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::Busy);
    let refused = first.remove(&disk).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::Busy, "{refused}");
    assert!(refused.hint.unwrap().starts_with("`lsblk /dev/rbd"));
    n1.ok("umount /m; rmdir /m")?;
    // Mapped once more by somebody.
    n1.ok(&format!("rbd map {}", disk.logical_id.volume()))?;
    assert_eq!(first.shutdown(&disk)?, Change::Made);
    assert_eq!(first.shutdown(&disk)?, Change::AlreadyThere);
    assert_eq!(n1.ok("rbd showmapped")?, "");
    assert_eq!(first.find(&disk)?.unwrap().device.path, None);
    let uri = first.assemble(
        &with(disk.clone(), json!({"access": "userspace"})),
        Activation::primary("kvm"),
    )?;
    assert_eq!(uri.uri.unwrap(), format!("rbd:rbd/{}", disk.logical_id.volume()));

    assert_eq!(first.remove(&disk)?, Change::Made);
    assert_eq!(first.remove(&disk)?, Change::AlreadyThere);
    assert_eq!(second.remove(&copy)?, Change::Made);
    assert_eq!(ceph.run("rbd ls; rbd trash ls")?, "");
    n1.assert_clean()?;
    n2.assert_clean()
}

#[test]
fn pools_users_and_what_can_be_missing() -> Result<(), Error> {
    let testbed = Testbed::plan("rbd-faults").modules(["rbd"]).start()?;
    let ceph = testbed.ceph()?;
    let n1 = testbed.guest(1);
    n1.mark()?;
    let storage = n1.storage();
    own_pool_and_user(&ceph, n1, &storage)?;

    let nowhere = with(disk("x"), json!({"pool": "nosuch"}));
    for refused in [
        storage.create(&nowhere).unwrap_err().refused()?,
        storage
            .volumes(LogicalDevice::Rbd, &nowhere.params)
            .unwrap_err()
            .refused()?,
    ] {
        assert_eq!(refused.kind, ErrorKind::NotFound);
        assert!(refused.message.contains("there is no pool nosuch"), "{refused}");
        assert!(
            refused
                .hint
                .unwrap()
                .starts_with("make it: `ceph osd pool create nosuch")
        );
    }

    // Removed behind our back.
    let disk = disk("web");
    storage.create(&disk)?;
    ceph.run("rbd rm --no-progress rbd/web")?;
    assert_eq!(storage.find(&disk)?, None);
    let refused = storage
        .assemble(&disk, Activation::primary("kvm"))
        .unwrap_err()
        .refused()?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(
        refused.message.ends_with("there is no image rbd/web"),
        "{refused}"
    );
    assert_eq!(storage.shutdown(&disk)?, Change::AlreadyThere);
    assert_eq!(storage.remove(&disk)?, Change::AlreadyThere);

    // Snapshots of others are not thrown away; that of a copy which was killed is.
    storage.create(&disk)?;
    ceph.run(
        "rbd snap create --no-progress rbd/web@theirs; rbd snap create --no-progress rbd/web@gnt-disk.killed",
    )?;
    let refused = storage.remove(&disk).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert!(
        refused.message.ends_with("rbd/web has snapshots: theirs"),
        "{refused}"
    );
    ceph.run("rbd snap rm --no-progress rbd/web@theirs")?;
    assert_eq!(storage.remove(&disk)?, Change::Made);

    without_udev(n1, &storage)?;

    n1.ok("mv /usr/bin/rbd /usr/bin/rbd.away")?;
    let refused = storage.create(&disk).unwrap_err().refused()?;
    assert!(
        refused.message.ends_with("the program rbd was not found"),
        "{refused}"
    );
    assert_eq!(refused.hint.unwrap(), "install the package ceph-common");
    n1.ok("mv /usr/bin/rbd.away /usr/bin/rbd")?;

    ceph.freeze_monitor()?;
    let started = Instant::now();
    let refused = storage.find(&disk).unwrap_err().refused()?;
    assert!(started.elapsed() < Duration::from_secs(40), "{refused}");
    assert!(
        refused.message.contains("the Ceph cluster cannot be reached"),
        "{refused}"
    );
    assert!(refused.hint.unwrap().contains("`ceph --id admin -s`"));
    ceph.thaw_monitor()?;
    assert_eq!(storage.find(&disk)?, None);
    n1.assert_clean()
}

fn own_pool_and_user(ceph: &Ceph<'_>, n1: &Guest, storage: &Storage<'_>) -> Result<(), Error> {
    ceph.add_pool("second")?;
    let key =
        ceph.run("ceph auth get-or-create client.vm mon 'profile rbd' osd 'profile rbd pool=second'")?;
    let disk = with(disk("web"), json!({"pool": "second", "user-id": "vm"}));
    let refused = storage.find(&disk).unwrap_err().refused()?;
    assert!(refused.hint.unwrap().contains("/etc/ceph/ceph.client.vm.keyring"));
    n1.ok(&format!(
        "cat >/etc/ceph/ceph.client.vm.keyring <<'END'\n{key}END"
    ))?;
    assert_eq!(storage.create(&disk)?, Change::Made);
    let device = map(storage, &disk)?;
    let written = fill(n1, &device)?;
    // One of the same name in the other pool is another one.
    let namesake = self::disk("web");
    storage.create(&namesake)?;
    assert_ne!(map(storage, &namesake)?, device);
    assert_eq!(storage.remove(&namesake)?, Change::Made);
    assert_eq!(sum(n1, &device, SIZE)?, written);
    let volumes = storage.volumes(LogicalDevice::Rbd, &disk.params)?;
    assert_eq!(volumes[0].logical_id, disk.logical_id);
    assert_eq!(volumes.len(), 1);
    let denied = with(self::disk("x"), json!({"user-id": "vm"}));
    let refused = storage.create(&denied).unwrap_err().refused()?;
    assert!(
        refused
            .message
            .contains("the Ceph user client.vm may not do that in the pool rbd"),
        "{refused}"
    );
    assert_eq!(storage.remove(&disk)?, Change::Made);
    Ok(())
}

/// Neither mapping nor unmapping waits for somebody who is not there.
fn without_udev(n1: &Guest, storage: &Storage<'_>) -> Result<(), Error> {
    n1.ok("udevadm settle; pkill systemd-udevd; while pidof systemd-udevd; do sleep 0.05; done; rm -f /run/udev/control")?;
    let disk = disk("noudev");
    storage.create(&disk)?;
    let started = Instant::now();
    let device = map(storage, &disk)?;
    let written = fill(n1, &device)?;
    storage.shutdown(&disk)?;
    assert_eq!(sum(n1, &map(storage, &disk)?, SIZE)?, written);
    assert_eq!(storage.remove(&disk)?, Change::Made);
    assert!(
        started.elapsed() < Duration::from_secs(45),
        "{:?}",
        started.elapsed()
    );
    n1.ok("/lib/systemd/systemd-udevd --daemon")?;
    Ok(())
}

#[test]
fn a_node_loses_its_power() -> Result<(), Error> {
    let testbed = Testbed::plan("rbd-power").guests(2).modules(["rbd"]).start()?;
    let ceph = testbed.ceph()?;
    let [n1, n2] = testbed.guests() else { panic!() };
    n1.mark()?;
    let [kept, written, read] = ["kept", "written", "read"].map(disk);
    let (first, second) = (n1.storage(), n2.storage());
    second.create(&read)?;
    map(&second, &read)?;
    let (refused, content) = thread::scope(|scope| -> Result<_, Error> {
        // It waits for clients that died. This one lives.
        let removal = scope.spawn(|| first.remove(&read));
        second.create(&written)?;
        fill(n2, &map(&second, &written)?)?;
        second.create(&kept)?;
        let content = fill(n2, &map(&second, &kept)?)?;
        Ok((removal.join().unwrap().unwrap_err().refused()?, content))
    })?;
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert!(
        refused.message.contains("rbd/read is open at 192.168.77.2:0/"),
        "{refused}"
    );
    assert!(
        refused
            .hint
            .unwrap()
            .contains("`ceph osd blocklist add 192.168.77.2:0/")
    );

    n2.power_cut()?;
    // The cluster takes its time to notice, and so do we.
    assert_eq!(first.remove(&read)?, Change::Made);
    assert_eq!(first.remove(&written)?, Change::Made);
    n2.boot()?;
    assert_eq!(second.find(&kept)?.unwrap().device.path, None);
    let device = map(&second, &kept)?;
    assert_eq!(sum(n2, &device, SIZE)?, content);
    fill(n2, &device)?;
    assert_eq!(second.remove(&kept)?, Change::Made);
    assert_eq!(ceph.run("rbd ls; rbd trash ls")?, "");
    n1.assert_clean()?;
    n2.assert_clean()
}
