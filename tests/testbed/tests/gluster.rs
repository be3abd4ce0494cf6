//! gluster disks on a real Gluster volume.
#![cfg(test)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gnt_bdev::{Activation, Change, ErrorKind, Layer};
use gnt_config::{Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_testbed::{Error, Guest, Refused, Storage, Testbed};
use serde_json::json;

const SIZE: Mebibytes = Mebibytes(32);
const GROWN: Mebibytes = Mebibytes(48);
/// Where the testbed's server is.
const SERVER: &str = "192.168.77.254";

fn disk(index: u32) -> Disk {
    let id = LogicalId::Gluster {
        driver: FileDriver::Loop,
        path: format!("ganeti/0a1b2c3d-0000-4000-8000-000000000001.{index}"),
    };
    Disk {
        uuid: format!("disk-uuid-{index}"),
        iv_name: Some(format!("disk/{index}")),
        params: params(json!({"host": SERVER})),
        ..Disk::new(LogicalDevice::Gluster, id, SIZE)
    }
}

fn params(params: serde_json::Value) -> Object {
    serde_json::from_value(params).unwrap()
}

fn assemble(storage: &Storage<'_>, disk: &Disk) -> Result<PathBuf, Error> {
    let assembled = storage.assemble(disk, Activation::primary("kvm"))?;
    Ok(assembled.device.unwrap().path.unwrap())
}

fn fill(guest: &Guest, file: &Path) -> Result<String, Error> {
    let (file, size) = (file.display(), SIZE.0);
    guest.ok(&format!(
        "dd if=/dev/urandom of={file} bs=1M count={size} conv=notrunc,fsync"
    ))?;
    sum(guest, Path::new(&file.to_string()))
}

/// The checksum of what a disk held at first.
fn sum(guest: &Guest, file: &Path) -> Result<String, Error> {
    guest.ok(&format!("head -c {}M {} | md5sum", SIZE.0, file.display()))
}

fn is_mounted(guest: &Guest) -> Result<bool, Error> {
    Ok(guest.sh("grep -q fuse.glusterfs /proc/mounts")?.success())
}

#[test]
fn disks_share_a_mount_that_goes_with_the_last() -> Result<(), Error> {
    let testbed = Testbed::plan("gluster-disks")
        .guests(2)
        .modules(["fuse"])
        .start()?;
    let gluster = testbed.gluster()?;
    let [n1, n2] = testbed.guests() else { panic!() };
    n1.mark()?;
    n2.mark()?;
    let (first, second) = (n1.storage(), n2.storage());
    let (mut disk, other) = (disk(0), self::disk(1));

    let dry_run = n1.storage().dry_run();
    assert_eq!(dry_run.create(&disk)?, Change::Made);
    let noted = dry_run.noted();
    assert!(
        noted.iter().any(|line| line.starts_with("make the file ")),
        "{noted:?}"
    );
    assert_eq!(first.create(&disk)?, Change::Made);
    let brick = gluster.brick("gv0").join(&*disk.logical_id.volume());
    assert_eq!(brick.metadata().unwrap().len(), SIZE.bytes());
    assert!(!is_mounted(n1)?);
    let file = assemble(&first, &disk)?;
    assert_eq!(assemble(&first, &disk)?, file);
    // What follows finds the volume mounted.
    assert_eq!(first.create(&disk)?, Change::AlreadyThere);
    let smaller = Disk {
        size: Mebibytes(16),
        ..disk.clone()
    };
    let refused = first.create(&smaller).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::AlreadyExists);
    assert_eq!(first.create(&other)?, Change::Made);
    assert_eq!(first.find(&other)?.unwrap().device.path, None);
    let other_file = assemble(&first, &other)?;
    let mounts = n1.ok("grep -c fuse.glusterfs /proc/mounts")?;
    assert_eq!(mounts, "1\n");
    let written = fill(n1, &file)?;

    let grow = |to, dry_run| first.grow(&disk, to, dry_run, Layer::BackingStore);
    assert_eq!(grow(GROWN, true)?, Change::Made);
    assert_eq!(first.actual_size(&disk)?, SIZE.bytes());
    assert_eq!(grow(GROWN, false)?, Change::Made);
    assert_eq!(grow(GROWN, false)?, Change::AlreadyThere);
    assert_eq!(first.actual_size(&disk)?, GROWN.bytes());
    assert_eq!(sum(n1, &file)?, written);
    disk.size = GROWN;

    first.set_info(&disk, "originstname+web.example.org")?;
    let volumes = first.volumes(LogicalDevice::Gluster, &disk.params)?;
    let of = |disk: &Disk| {
        volumes
            .iter()
            .find(|found| found.logical_id == disk.logical_id)
            .unwrap()
    };
    assert_eq!(volumes.len(), 2);
    assert_eq!(
        (of(&disk).bytes, of(&disk).owner.uuid.as_deref()),
        (Some(GROWN.bytes()), Some("disk-uuid-0"))
    );
    let userspace = Disk {
        params: params(json!({"host": SERVER, "access": "userspace"})),
        ..disk.clone()
    };
    let assembled = first.assemble(&userspace, Activation::primary("kvm"))?;
    assert_eq!(
        assembled.uri.unwrap(),
        format!("gluster://{SERVER}:24007/gv0/{}", disk.logical_id.volume())
    );

    // The other node has a mount of its own, and the same data.
    let elsewhere = assemble(&second, &disk)?;
    assert_eq!(sum(n2, &elsewhere)?, written);
    // Its power is cut; what was in use there is not afterwards.
    n2.power_cut()?;
    n2.boot()?;
    assert_eq!(second.find(&disk)?.unwrap().device.path, None);
    assert!(!is_mounted(n2)?);
    assert_eq!(sum(n2, &assemble(&second, &disk)?)?, written);
    assert_eq!(second.shutdown(&disk)?, Change::Made);
    n2.assert_clean()?;

    assert_eq!(first.shutdown(&other)?, Change::Made);
    assert!(is_mounted(n1)? && !other_file.exists());
    assert_eq!(first.shutdown(&other)?, Change::AlreadyThere);
    // Somebody has a file open when the last disk goes.
    n1.ok(&format!(
        "sleep 1000 <{} >/dev/null 2>&1 & echo $! >/run/user",
        file.display()
    ))?;
    assert_eq!(first.shutdown(&disk)?, Change::Made);
    assert!(is_mounted(n1)?);
    n1.ok("kill $(cat /run/user); rm /run/user")?;
    assert_eq!(first.remove(&other)?, Change::Made);
    assert!(!is_mounted(n1)?);
    assert_eq!(sum(n1, &assemble(&first, &disk)?)?, written);
    assert_eq!(first.remove(&disk)?, Change::Made);
    assert_eq!(first.remove(&disk)?, Change::AlreadyThere);
    assert!(!is_mounted(n1)? && !brick.exists());
    n1.assert_clean()
}

#[test]
fn what_goes_wrong_is_explained() -> Result<(), Error> {
    let testbed = Testbed::plan("gluster-faults").modules(["fuse"]).start()?;
    let gluster = testbed.gluster()?;
    let n1 = testbed.guest(1);
    n1.mark()?;
    let storage = n1.storage();
    let disk = disk(0);
    let create = |params: serde_json::Value| -> Result<Refused, Error> {
        let disk = Disk {
            params: self::params(params),
            ..disk.clone()
        };
        storage.create(&disk).unwrap_err().refused()
    };
    let refused = create(json!({"host": SERVER, "volume": "nosuch"}))?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(
        refused.message.contains(
            "cannot mount the Gluster volume nosuch of 192.168.77.254:24007: the server has no such volume\n  failed to "
        ),
        "{refused}"
    );
    assert!(
        refused
            .hint
            .unwrap()
            .starts_with("`gluster volume list` on 192.168.77.254:24007")
    );
    let refused = create(json!({"host": "nosuch.example"}))?;
    assert!(
        refused.message.contains("the server's name cannot be resolved"),
        "{refused}"
    );
    gluster.add_volume("stopped")?;
    gluster.run("gluster --mode=script volume stop stopped")?;
    let refused = create(json!({"host": SERVER, "volume": "stopped"}))?;
    assert!(
        refused.message.contains("none of its bricks answers"),
        "{refused}"
    );
    assert!(refused.hint.unwrap().contains("`gluster volume start stopped`"));
    n1.ok("mv /sbin/mount.glusterfs /sbin/mount.away")?;
    let refused = create(json!({"host": SERVER}))?;
    assert_eq!(refused.hint.unwrap(), "install the package glusterfs-client");
    n1.ok("mv /sbin/mount.away /sbin/mount.glusterfs")?;

    storage.create(&disk)?;
    let file = assemble(&storage, &disk)?;
    gluster.kill()?;
    n1.ok(&format!(
        "until ! stat {} >/dev/null 2>&1; do sleep 0.1; done",
        file.display()
    ))?;
    let started = Instant::now();
    let refused = storage.actual_size(&disk).unwrap_err().refused()?;
    assert!(
        refused
            .message
            .contains("the Gluster volume gv0 of 192.168.77.254:24007 does not answer"),
        "{refused}"
    );
    assert!(
        refused.hint.unwrap().starts_with("`gluster volume status gv0`"),
        "{}",
        refused.message
    );
    assert!(started.elapsed() < Duration::from_secs(50));
    // What is in use goes all the same, and what is not mounted cannot be mounted.
    assert_eq!(storage.shutdown(&disk)?, Change::Made);
    assert!(!is_mounted(n1)?);
    let refused = create(json!({"host": SERVER}))?;
    assert!(
        refused.message.contains("the server does not answer"),
        "{refused}"
    );
    assert!(refused.hint.unwrap().starts_with("does glusterd run on"));
    n1.assert_clean()
}
