//! What the testbed promises to tests that are built on it.
#![cfg(test)]

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gnt_bdev::{Activation, Change, ErrorKind, Layer, Operation};
use gnt_config::{Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_testbed::{Error, Net, Refused, Testbed};

const BINARY: &str = env!("CARGO_BIN_EXE_gnt-testbed");

#[test]
fn guests_reach_each_other_until_they_are_cut_off() -> Result<(), Error> {
    let testbed = Testbed::plan("network").guests(2).start()?;
    let [n1, n2] = testbed.guests() else { panic!() };
    let reaches = |ip: String| {
        let ping = n1.sh(&format!("ping -c 1 -W 1 {ip}"));
        ping.map(|output| output.success())
    };
    assert!(reaches(n2.primary_ip())? && reaches(n2.secondary_ip())?);

    testbed.cut(n2, Net::Secondary)?;
    assert!(reaches(n2.primary_ip())? && !reaches(n2.secondary_ip())?);
    testbed.cut(n2, Net::Primary)?;
    assert!(!reaches(n2.primary_ip())?);
    assert_eq!(n2.ok("hostname")?, "n2\n", "asked without a network");

    testbed.heal(n2, Net::Primary)?;
    testbed.heal(n2, Net::Secondary)?;
    assert!(reaches(n2.primary_ip())? && reaches(n2.secondary_ip())?);

    n2.power_cut()?;
    assert!(!reaches(n2.primary_ip())?);
    n2.boot()?;
    assert!(reaches(n2.primary_ip())? && reaches(n2.secondary_ip())?);
    Ok(())
}

#[test]
fn scripts_tell_how_they_ended() -> Result<(), Error> {
    let testbed = Testbed::plan("scripts").start()?;
    let n1 = testbed.guest(1);

    let output = n1.sh("echo out; echo err >&2; exit 3")?;
    let told = (&*output.stdout, &*output.stderr, output.code);
    assert_eq!(told, ("out\n", "err\n", Some(3)));
    assert_eq!(n1.sh("kill -KILL $$")?.code, Some(128 + 9));

    let error = format!("{:?}", n1.ok("echo this; echo that >&2; false").unwrap_err());
    for part in ["n1", "echo this;", "code 1", "\nthis\n", "\nthat\n"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }

    let started = Instant::now();
    let late = n1.sh_within(Duration::from_secs(1), "echo begun; sleep 60");
    assert!(
        matches!(&late, Err(Error::Script { output, .. }) if output.stdout == "begun\n"),
        "{late:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));

    // One waits for the other.
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            n1.ok_within(
                Duration::from_secs(20),
                "until [ -e /tmp/flag ]; do sleep 0.05; done",
            )
        });
        n1.ok("touch /tmp/flag")?;
        waits.join().unwrap()
    })?;
    Ok(())
}

#[test]
fn storage_calls_have_typed_answers() -> Result<(), Error> {
    let testbed = Testbed::plan("storage").start()?;
    let n1 = testbed.guest(1);
    let storage = n1.storage();
    let directory = Path::new("/var/lib/gnt-disk/file-storage/web.example.org");
    n1.ok(&format!("mkdir -p {}", directory.display()))?;
    n1.mark()?;
    let path = directory.join("01234567-89ab-cdef-0123-456789abcdef.file.disk0");
    let disk = file_disk(&path, Mebibytes(16));

    assert_eq!(storage.find(&disk)?, None);
    assert_eq!(storage.create(&disk)?, Change::Made);
    assert_eq!(storage.create(&disk)?, Change::AlreadyThere);
    // The guest's root keeps no extended attributes: whose it is stands beside it.
    let beside = directory.join(".01234567-89ab-cdef-0123-456789abcdef.file.disk0.gnt-disk");
    let made = [&beside, &path].map(|path| format!("file {}", path.display()));
    assert_eq!(n1.sweep()?, made);
    let assembled = storage.assemble(&disk, Activation::primary("kvm"))?;
    assert_eq!(assembled.device.and_then(|device| device.path), Some(path));
    assert!(assembled.link.is_some());
    assert_eq!(
        storage.grow(&disk, Mebibytes(32), false, Layer::BackingStore)?,
        Change::Made
    );
    assert_eq!(storage.actual_size(&disk)?, 32 << 20);
    let volumes = storage.volumes(LogicalDevice::File, &Object::new())?;
    let ids: Vec<_> = volumes.iter().map(|volume| &volume.logical_id).collect();
    assert_eq!(ids, [&disk.logical_id]);

    let dry_run = n1.storage().dry_run();
    dry_run.remove(&disk)?;
    assert!(!dry_run.noted().is_empty());
    assert!(storage.find(&disk)?.is_some());

    let refused: Refused = storage
        .snapshot(&disk, "copy", Mebibytes(16))
        .unwrap_err()
        .refused()?;
    assert_eq!(
        refused.unsupported,
        Some((LogicalDevice::File, Operation::Snapshot))
    );
    assert_eq!(storage.remove(&disk)?, Change::Made);
    assert_eq!(storage.shutdown(&disk)?, Change::AlreadyThere);
    n1.assert_clean()?;
    let refused = storage
        .assemble(&disk, Activation::primary("kvm"))
        .unwrap_err()
        .refused()?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(refused.message.contains("disk0"), "{refused:?}");
    Ok(())
}

#[test]
fn programs_that_a_storage_call_runs_are_told() -> Result<(), Error> {
    let testbed = Testbed::plan("programs").start()?;
    let n1 = testbed.guest(1);
    n1.ok(r#"
        cd /var/lib && mkdir -p gnt-disk/providers/odd && cd gnt-disk/providers/odd
        for action in create attach detach remove grow setinfo verify; do
            printf '#!/bin/sh\necho $VOL_NAME is broken >&2; exit 7\n' >$action && chmod 755 $action
        done
        touch parameters.list
    "#)?;
    let id = LogicalId::Ext {
        provider: "odd".to_owned(),
        volume: "vol".to_owned(),
    };
    let storage = n1.storage();
    let refused = storage
        .create(&Disk::new(LogicalDevice::Ext, id, Mebibytes(16)))
        .unwrap_err()
        .refused()?;
    assert!(refused.message.contains("vol is broken"), "{refused:?}");
    let programs = storage.programs();
    let names: Vec<_> = programs
        .iter()
        .map(|program| (&*program.name, program.changes))
        .collect();
    assert_eq!(names, [("create", true)]);
    assert_eq!(storage.programs(), []);
    Ok(())
}

#[test]
fn disks_outlive_a_power_cut_and_volumes_are_found_by_the_sweep() -> Result<(), Error> {
    let testbed = Testbed::plan("disks")
        .disk(Mebibytes(1024))
        .shared_disk("SAN0001", Mebibytes(64))
        .modules(["dm-mod", "loop"])
        .start()?;
    let n1 = testbed.guest(1);
    assert_eq!(
        n1.ok("blockdev --getsize64 /dev/disk/by-id/ubd-SAN0001")?,
        "67108864\n"
    );
    // With Debian's own lvm.conf.
    n1.ok("vgcreate -qy xenvg /dev/ubda && lvcreate -qy -L 64M -n kept xenvg")?;
    n1.ok("dd if=/dev/urandom of=/dev/xenvg/kept bs=1M count=8 oflag=direct")?;
    let before = n1.ok("md5sum </dev/xenvg/kept")?;
    n1.mark()?;
    n1.assert_clean()?;

    n1.power_cut()?;
    assert!(matches!(n1.sh("true"), Err(Error::Off { .. })));
    n1.boot()?;
    n1.ok("vgchange -qay xenvg")?;
    assert_eq!(n1.ok("md5sum </dev/xenvg/kept")?, before);
    n1.assert_clean()?;

    n1.ok("lvcreate -qy -L 16M -n left xenvg && truncate -s 1M /tmp/file && losetup /dev/loop5 /tmp/file")?;
    let left = [
        "device mapper device xenvg-left",
        "logical volume xenvg/left",
        "loop device loop5 on /tmp/file",
    ];
    assert_eq!(n1.sweep()?, left);
    assert!(matches!(n1.assert_clean(), Err(Error::Left { left, .. }) if left.len() == 3));
    n1.ok("losetup -d /dev/loop5 && lvremove -qy xenvg/left")?;
    n1.assert_clean()
}

#[test]
fn ceph_serves_the_guests_also_after_a_boot() -> Result<(), Error> {
    let testbed = Testbed::plan("ceph").modules(["rbd"]).start()?;
    let n1 = testbed.guest(1);
    let ceph = testbed.ceph()?;
    ceph.run("rbd create rbd/volume --size 64")?;
    assert_eq!(n1.ok("rbd ls rbd")?, "volume\n");
    let device = n1.ok("rbd map rbd/volume")?;
    let device = device.trim();
    n1.ok(&format!(
        "dd if=/dev/urandom of={device} bs=1M count=4 oflag=direct"
    ))?;
    let before = n1.ok(&format!("md5sum <{device}"))?;
    assert_eq!(n1.sweep()?, ["device rbd0"]);
    n1.ok(&format!("rbd unmap {device}"))?;
    n1.assert_clean()?;

    n1.off()?;
    n1.boot()?;
    n1.ok("rbd map rbd/volume")?;
    assert_eq!(n1.ok(&format!("md5sum <{device}"))?, before);
    n1.ok(&format!("rbd unmap {device}"))?;

    ceph.freeze_monitor()?;
    let hangs = n1.sh("timeout 2 rbd ls rbd")?;
    assert_eq!(hangs.code, Some(124), "{hangs}");
    ceph.thaw_monitor()?;
    assert_eq!(n1.ok("rbd ls rbd")?, "volume\n");
    ceph.kill_monitor()?;
    assert!(
        !ceph
            .sh("rbd ls --mon-mount-timeout 1 --client-mount-timeout 1 rbd")?
            .success()
    );
    Ok(())
}

#[test]
fn gluster_serves_the_guests_until_it_is_killed() -> Result<(), Error> {
    let testbed = Testbed::plan("gluster").modules(["fuse"]).start()?;
    let n1 = testbed.guest(1);
    let gluster = testbed.gluster()?;
    n1.ok("mkdir /gv0 && mount -t glusterfs 192.168.77.254:/gv0 /gv0 && echo text >/gv0/file && sync")?;
    let file = fs::read_to_string(gluster.brick("gv0").join("file"));
    assert_eq!(file.unwrap(), "text\n");
    assert_eq!(n1.sweep()?, ["mount of 192.168.77.254:/gv0 on /gv0"]);
    n1.ok("umount /gv0")?;
    n1.assert_clean()?;
    gluster.kill()?;
    let output = n1.sh("mount -t glusterfs 192.168.77.254:/gv0 /gv0")?;
    assert!(!output.success(), "{output}");
    Ok(())
}

#[test]
fn nothing_outlives_a_test_that_is_killed() {
    let (mut process, dir) = up();
    let inside = |script: &str| sh(&dir, script);
    // Namespaces are told apart by these; whatever is in them has the same.
    let namespace = inside("readlink /proc/self/ns/net");
    assert!(processes_in(&namespace).len() > 3);
    assert_eq!(sh(&dir.join("n1"), "uname -n"), "n1\n");
    process.kill().unwrap();
    process.wait().unwrap();
    let gone = || processes_in(&namespace).is_empty() && !dir.exists();
    assert!(
        within(Duration::from_secs(10), gone),
        "left: {:?}, {}",
        processes_in(&namespace),
        dir.exists()
    );
}

#[test]
fn what_a_killed_keeper_leaves_goes_with_the_next_testbed() {
    let (mut process, dir) = up();
    let namespace = sh(&dir, "readlink /proc/self/ns/net");
    let keeper = fs::read_to_string(dir.join("keeper.pid")).unwrap();
    let killed = Command::new("kill").args(["-KILL", &keeper]).status().unwrap();
    assert!(killed.success());
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(within(Duration::from_secs(10), || processes_in(&namespace).is_empty()));
    assert!(dir.exists());
    let (mut next, _) = up();
    assert!(!dir.exists());
    next.kill().unwrap();
    next.wait().unwrap();
}

/// Tells this test that it is the one that fails.
const FAIL: &str = "TESTBED_TEST_FAILS";

#[test]
fn a_failed_test_keeps_its_guests_if_asked_to() {
    if env::var_os(FAIL).is_some() {
        let testbed = Testbed::plan("kept").start().unwrap();
        let error = testbed.guest(1).ok("touch /left && false");
        error.unwrap();
    }
    let failed = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_failed_test_keeps_its_guests_if_asked_to"])
        .env(FAIL, "1")
        .env("GNT_TESTBED_KEEP", "1")
        .output()
        .unwrap();
    assert!(!failed.status.success());
    let told = String::from_utf8(failed.stderr).unwrap();
    let end = told
        .split(&format!("{BINARY} end "))
        .nth(1)
        .expect("how to end it");
    let dir = PathBuf::from(end.lines().next().unwrap());
    let namespace = sh(&dir, "readlink /proc/self/ns/net");
    assert_eq!(sh(&dir.join("n1"), "ls /left"), "/left\n");
    let ended = Command::new(BINARY).arg("end").arg(&dir).status().unwrap();
    assert!(ended.success());
    assert!(!dir.exists());
    assert!(within(Duration::from_secs(10), || processes_in(&namespace).is_empty()));
}

fn file_disk(path: &Path, size: Mebibytes) -> Disk {
    let id = LogicalId::File {
        driver: FileDriver::Loop,
        path: path.to_str().unwrap().to_owned(),
    };
    Disk {
        iv_name: Some("disk/0".to_owned()),
        ..Disk::new(LogicalDevice::File, id, size)
    }
}

/// A process with a testbed of one guest, and its directory.
fn up() -> (Child, PathBuf) {
    let mut process = Command::new(BINARY)
        .args(["up", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = process.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let dir = PathBuf::from(line.trim());
    assert!(dir.is_absolute(), "the testbed of {BINARY} did not start");
    (process, dir)
}

fn sh(place: &Path, script: &str) -> String {
    let output = Command::new(BINARY)
        .arg("sh")
        .arg(place)
        .arg(script)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The processes in a network namespace, as `readlink` prints it.
fn processes_in(namespace: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let inside = processes.filter(|process| {
        let link = fs::read_link(process.path().join("ns/net"));
        link.is_ok_and(|link| link.to_str() == Some(namespace.trim()))
    });
    inside
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

fn within(time: Duration, done: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > time {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}
