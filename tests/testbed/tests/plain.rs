//! Plain disks on real volume groups.
#![cfg(test)]

use std::time::{Duration, Instant};

use gnt_bdev::{
    Activation, Change, ErrorKind, Layer, LocalDiskStatus, Operation, Status, StorageUnit, UnitType,
};
use gnt_config::{AccessMode, Disk, Kept, LogicalDevice, LogicalId, Mebibytes, Mirror, Object, Part};
use gnt_testbed::{Error, Guest, Program, Storage, Testbed};

const INSTANCE: &str = "web.example.org";

type Result<T = ()> = std::result::Result<T, Error>;

fn plan(name: &str, disks: usize) -> Result<Testbed> {
    let modules = ["dm-mod", "dm-snapshot"];
    let plan = Testbed::plan(name).modules(modules);
    (0..disks).fold(plan, |plan, _| plan.disk(Mebibytes(256))).start()
}

fn id(vg: &str, lv: &str) -> LogicalId {
    LogicalId::Lv {
        vg: vg.to_owned(),
        lv: lv.to_owned(),
    }
}

fn disk(vg: &str, index: u32, size: u64) -> Disk {
    let name = format!("01234567-89ab-cdef-0123-456789abcdef.disk{index}");
    Disk {
        uuid: format!("disk-uuid-{index}"),
        name: Some(format!("disk {index}")),
        iv_name: Some(format!("disk/{index}")),
        ..Disk::new(LogicalDevice::Plain, id(vg, &name), Mebibytes(size))
    }
}

fn striped(stripes: u32, disk: Disk) -> Disk {
    let mut params = Object::new();
    params.insert("stripes".to_owned(), stripes.into());
    Disk { params, ..disk }
}

/// What `lvs` tells of a disk's volume.
fn lvs(guest: &Guest, fields: &str, disk: &Disk) -> Result<String> {
    let script = format!(
        "lvs --noheadings --units m --nosuffix -o {fields} {}",
        disk.logical_id
    );
    let words = guest.ok(&script)?;
    Ok(words.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn path(disk: &Disk) -> String {
    format!("/dev/{}", disk.logical_id)
}

/// Fills the disk with random data, and returns its checksum.
fn fill(guest: &Guest, disk: &Disk, mib: u64) -> Result<String> {
    guest.ok(&format!(
        "dd if=/dev/urandom of={} bs=1M count={mib} oflag=direct 2>&1",
        path(disk)
    ))?;
    checksum(guest, &path(disk), mib)
}

fn checksum(guest: &Guest, path: &str, mib: u64) -> Result<String> {
    guest.ok(&format!(
        "dd if={path} bs=1M count={mib} iflag=direct 2>/dev/null | md5sum"
    ))
}

fn primary() -> Activation<'static> {
    Activation::primary("kvm")
}

fn lines(programs: &[Program]) -> Vec<&str> {
    programs.iter().map(|program| program.line.as_str()).collect()
}

#[test]
fn volumes_go_where_they_should_and_live_there() -> Result {
    let testbed = plan("plain-life", 4)?;
    let n1 = testbed.guest(1);
    n1.ok("pvcreate -qqy /dev/ubd{a,b,c,d} && vgcreate -qq xenvg /dev/ubd{a,b,c} && vgcreate -qq -s 32m slowvg /dev/ubdd")?;
    let storage = n1.storage();
    stripes(n1, &storage)?;
    two_groups(n1, &storage)?;
    life(n1, &storage)?;
    tags(n1, &storage)?;
    adoption(n1, &storage)?;
    snapshots(n1, &storage)?;
    exclusive_storage(n1)?;
    dry_run(n1)
}

fn stripes(n1: &Guest, storage: &Storage<'_>) -> Result {
    let wide = striped(5, disk("xenvg", 0, 65));
    assert_eq!(storage.create(&wide)?, Change::Made);
    assert_eq!(lvs(n1, "stripes,lv_size", &wide)?, "3 72.00");
    assert_eq!(storage.actual_size(&wide)?, 72 << 20);
    assert_eq!(storage.create(&wide)?, Change::AlreadyThere);

    // The room on two disks is not enough for two stripes; the third may not be used.
    n1.ok("lvcreate -qqy -L 100m -n filler xenvg /dev/ubda && pvchange -qq -xn /dev/ubdc")?;
    let uneven = striped(2, disk("xenvg", 1, 300));
    assert_eq!(storage.create(&uneven)?, Change::Made);
    let devices = lvs(n1, "stripes,devices", &uneven)?;
    assert!(devices.starts_with("1 /dev/ubdb(6)"), "{devices}");
    assert!(!devices.contains("ubdc"), "{devices}");
    let refused = storage.create(&disk("xenvg", 2, 64)).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::NoSpace);
    assert!(
        refused
            .message
            .contains("the volume group xenvg has 56M free, and 64M are needed"),
        "{refused:?}"
    );
    n1.ok("pvchange -qq -xy /dev/ubdc")?;

    // Where most room is.
    let linear = disk("xenvg", 2, 64);
    storage.create(&linear)?;
    assert_eq!(lvs(n1, "devices", &linear)?, "/dev/ubdc(6)");
    for disk in [wide, uneven, linear] {
        assert_eq!(storage.remove(&disk)?, Change::Made);
    }
    n1.ok("lvremove -qqy xenvg/filler")?;
    n1.assert_clean()
}

fn two_groups(n1: &Guest, storage: &Storage<'_>) -> Result {
    let (here, there) = (disk("xenvg", 0, 40), disk("slowvg", 0, 40));
    storage.create(&here)?;
    assert_eq!(storage.find(&there)?, None);
    storage.create(&there)?;
    assert_eq!(storage.actual_size(&here)?, 40 << 20);
    assert_eq!(storage.actual_size(&there)?, 64 << 20);
    assert_eq!(storage.remove(&here)?, Change::Made);
    assert!(storage.find(&there)?.is_some());
    let refused = storage.create(&disk("novg", 0, 40)).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(
        refused
            .message
            .ends_with("there is no volume group novg, only slowvg, xenvg"),
        "{refused:?}"
    );
    storage.remove(&there)?;
    n1.assert_clean()
}

/// From beginning to end, data compared at each step.
fn life(n1: &Guest, storage: &Storage<'_>) -> Result {
    let mut disk = striped(2, disk("xenvg", 0, 64));
    // What was on the disk before must not show through, nor make LVM ask.
    n1.ok(
        "lvcreate -qqy -i 2 -L 64m -n old xenvg && mkfs.ext4 -q /dev/xenvg/old && lvremove -qqy xenvg/old",
    )?;
    storage.check(&disk, Operation::Create)?;
    storage.create(&disk)?;
    assert!(!n1.sh(&format!("blkid {}", path(&disk)))?.success());
    let first = storage.assemble(&disk, primary())?;
    assert_eq!(storage.assemble(&disk, primary())?, first);
    let link = first.link.unwrap();
    let device = first.device.unwrap();
    assert_eq!(
        (device.bytes, device.path),
        (Some(64 << 20), Some(path(&disk).into()))
    );
    assert_eq!(
        n1.ok(&format!("readlink {}", link.display()))?.trim(),
        path(&disk)
    );
    assert_eq!(storage.find(&disk)?.unwrap().device.minor, device.minor);

    let sum = fill(n1, &disk, 64)?;
    storage.close(&disk)?;
    storage.open(&disk, true)?;
    let grow = |to, dry_run| storage.grow(&disk, Mebibytes(to), dry_run, Layer::BackingStore);
    assert_eq!(grow(97, true)?, Change::Made);
    assert_eq!(storage.actual_size(&disk)?, 64 << 20);
    assert_eq!(grow(97, false)?, Change::Made);
    assert_eq!(grow(97, false)?, Change::AlreadyThere);
    assert_eq!(
        n1.ok(&format!("blockdev --getsize64 {}", path(&disk)))?.trim(),
        (104 << 20).to_string()
    );
    assert_eq!(checksum(n1, &path(&disk), 64)?, sum);
    let refused = grow(3000, true).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::NoSpace);
    disk.size = Mebibytes(97);

    assert_eq!(storage.shutdown(&disk)?, Change::Made);
    assert_eq!(storage.shutdown(&disk)?, Change::AlreadyThere);
    let found = storage.find(&disk)?.unwrap().device;
    assert_eq!((found.path, found.bytes), (None, Some(104 << 20)));
    // Also one that is not active grows.
    assert_eq!(
        storage.grow(&disk, Mebibytes(112), false, Layer::BackingStore)?,
        Change::Made
    );
    disk.size = Mebibytes(112);
    storage.assemble(&disk, primary())?;
    assert_eq!(checksum(n1, &path(&disk), 64)?, sum);
    assert_eq!(storage.remove(&disk)?, Change::Made);
    assert_eq!(storage.remove(&disk)?, Change::AlreadyThere);
    n1.assert_clean()
}

/// All that a volume can be told, with what a tag cannot have as it is.
fn kept() -> Kept {
    let mut params = Object::new();
    params.insert("disk-custom".to_owned(), "--on-no-data {\"a b\"} #20,é".into());
    Kept {
        cluster: Some("cluster.example.org".to_owned()),
        snapshot_of: None,
        instance_uuid: Some("98765432-89ab-cdef-0123-456789abcdef".to_owned()),
        primary: Some("node1.example.org".to_owned()),
        detached: true,
        size: Some(Mebibytes(15)),
        mode: Some(AccessMode::Ro),
        spindles: Some(2),
        driver: None,
        params,
        mirror: Some(Mirror {
            disk: "drbd-uuid".to_owned(),
            part: Part::Data,
            index: Some(0),
            name: Some("disk 0".to_owned()),
            nodes: Some(["node1.example.org", "node2.example.org"].map(str::to_owned)),
            port: Some(11000),
            minors: Some([0, 4]),
        }),
    }
}

fn tags(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = Disk {
        kept: Some(Box::new(kept())),
        ..disk("xenvg", 0, 16)
    };
    storage.create(&disk)?;
    n1.ok(&format!(
        "lvchange -qq --addtag backup=daily --addtag originsname+x {}",
        disk.logical_id
    ))?;
    storage.programs();
    storage.set_info(&disk, "originstname+mail.example.org")?;
    let programs = storage.programs();
    let changes: Vec<_> = programs.iter().filter(|program| program.changes).collect();
    assert_eq!((programs.len(), changes.len()), (2, 1));
    let tags = lvs(n1, "lv_tags", &disk)?;
    for tag in [
        "backup=daily",
        "originsname+x",
        "originstname+mail.example.org",
        "gnt-disk:name=disk#200",
    ] {
        assert!(tags.split(',').any(|one| one == tag), "{tags}");
    }
    assert!(!tags.contains("originstname+web"), "{tags}");
    storage.set_info(&disk, "originstname+mail.example.org")?;
    assert!(storage.programs().iter().all(|program| !program.changes));
    assert_eq!(
        n1.ok(&format!(
            "lvs --noheadings -o lv_full_name @gnt-disk:instance={INSTANCE}"
        ))?
        .trim(),
        disk.logical_id.to_string()
    );

    n1.ok("lvcreate -qqy -L 8m -n root xenvg")?;
    let found = storage.volumes(LogicalDevice::Plain, &Object::new())?;
    let [volume] = &found[..] else { panic!("{found:?}") };
    assert_eq!(volume.logical_id, disk.logical_id);
    let owner = &volume.owner;
    assert_eq!(
        (owner.instance.as_deref(), owner.index),
        (Some(INSTANCE), Some(0))
    );
    assert_eq!(owner.name.as_deref(), Some("disk 0"));
    let mut told = kept();
    // The index and the name are the owner's.
    if let Some(mirror) = &mut told.mirror {
        (mirror.index, mirror.name) = (None, None);
    }
    assert_eq!(owner.kept, told);
    // Of a disk about which less is known all of it goes.
    storage.set_info(
        &Disk {
            kept: None,
            ..disk.clone()
        },
        "originstname+mail.example.org",
    )?;
    let found = storage.volumes(LogicalDevice::Plain, &Object::new())?;
    assert_eq!(found[0].owner.kept, Kept::default());
    assert_eq!(
        (owner.uuid.as_deref(), owner.name.as_deref()),
        (Some("disk-uuid-0"), Some("disk 0"))
    );
    assert_eq!(owner.info.as_deref(), Some("originstname+mail.example.org"));
    storage.remove(&disk)?;
    n1.ok("lvremove -qqy xenvg/root")?;
    n1.assert_clean()
}

fn adoption(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 32);
    let theirs = Disk {
        logical_id: id("xenvg", "theirs"),
        ..Disk::new(LogicalDevice::Plain, id("xenvg", "theirs"), Mebibytes(32))
    };
    n1.ok("lvcreate -qqy -L 32m -n theirs --addtag keep xenvg")?;
    let sum = fill(n1, &theirs, 32)?;
    n1.ok("lvchange -qq -an xenvg/theirs")?;
    storage.check(&theirs, Operation::Rename)?;
    assert_eq!(storage.rename(&theirs, &disk.logical_id)?, Change::Made);
    assert_eq!(storage.rename(&theirs, &disk.logical_id)?, Change::AlreadyThere);
    storage.set_info(&disk, "originstname+web.example.org")?;
    let assembled = storage.assemble(&disk, primary())?;
    assert_eq!(checksum(n1, &assembled.link.unwrap().to_string_lossy(), 32)?, sum);
    assert!(lvs(n1, "lv_tags", &disk)?.contains("keep"));
    let found = storage.volumes(LogicalDevice::Plain, &Object::new())?;
    assert_eq!(found[0].owner.uuid.as_deref(), Some("disk-uuid-0"));
    // What is in use is not adopted.
    n1.ok(&format!(
        "dmsetup create holder --table '0 2048 linear {} 0'",
        path(&disk)
    ))?;
    let refused = storage.check(&disk, Operation::Rename).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::Busy);
    n1.ok("dmsetup remove holder")?;
    storage.remove(&disk)?;
    n1.assert_clean()
}

fn snapshots(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 32);
    storage.create(&disk)?;
    let sum = fill(n1, &disk, 32)?;
    let copy = storage.snapshot(&disk, "copy", Mebibytes(13))?;
    assert_eq!(copy, id("xenvg", "copy"));
    let copy = Disk::new(LogicalDevice::Plain, copy, disk.size);
    let refused = storage
        .snapshot(&disk, "copy", Mebibytes(13))
        .unwrap_err()
        .refused()?;
    assert_eq!(refused.kind, ErrorKind::AlreadyExists);
    fill(n1, &disk, 8)?;
    let assembled = storage.assemble(&copy, primary())?;
    assert_eq!(assembled.device.unwrap().bytes, Some(32 << 20));
    assert_eq!(checksum(n1, &path(&copy), 32)?, sum);
    assert_eq!(lvs(n1, "lv_size,origin", &copy)?, format!("16.00 {}", lv(&disk)));
    assert_eq!(storage.actual_size(&copy)?, 32 << 20);
    let refused = storage.remove(&disk).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert!(
        refused
            .message
            .ends_with("has snapshots, which would go with it: copy"),
        "{refused:?}"
    );

    // A snapshot goes and comes with its origin.
    assert_eq!(storage.shutdown(&copy)?, Change::AlreadyThere);
    assert_eq!(storage.shutdown(&disk)?, Change::Made);
    assert_eq!(storage.find(&copy)?.unwrap().device.path, None);
    storage.assemble(&copy, primary())?;
    assert_eq!(checksum(n1, &path(&copy), 32)?, sum);
    // One that cannot take all changes is worth nothing.
    fill(n1, &disk, 32)?;
    let sync = storage.find(&copy)?.unwrap().sync;
    assert_eq!(
        (sync.is_degraded, sync.ldisk_status),
        (true, LocalDiskStatus::Faulty)
    );
    assert!(
        storage
            .find(&disk)?
            .is_some_and(|status| !status.sync.is_degraded)
    );
    assert_eq!(storage.remove(&copy)?, Change::Made);
    assert_eq!(storage.remove(&copy)?, Change::AlreadyThere);
    storage.remove(&disk)?;
    n1.assert_clean()
}

fn lv(disk: &Disk) -> String {
    let name = disk.logical_id.to_string();
    name.rsplit('/').next().unwrap().to_owned()
}

fn exclusive_storage(n1: &Guest) -> Result {
    let storage = n1.storage().exclusive_storage();
    let with = |spindles, disk| Disk { spindles, ..disk };
    let refused = |disk: Disk| storage.create(&disk).unwrap_err().refused();
    assert!(
        refused(disk("xenvg", 0, 100))?
            .message
            .ends_with("and it has none")
    );
    let few = refused(with(Some(1), disk("xenvg", 0, 300)))?;
    assert_eq!(few.hint.as_deref(), Some("give the disk spindles=2"), "{few:?}");
    let own = with(Some(2), disk("xenvg", 0, 100));
    assert_eq!(storage.create(&own)?, Change::Made);
    assert_eq!(storage.create(&own)?, Change::AlreadyThere);
    assert_eq!(lvs(n1, "stripes", &own)?, "2");
    let full = refused(with(Some(2), disk("xenvg", 1, 100)))?;
    assert_eq!(full.kind, ErrorKind::NoSpace);
    assert!(
        full.message
            .ends_with("has 1 empty physical volumes, and 2 are needed"),
        "{full:?}"
    );
    let other = with(Some(1), disk("xenvg", 1, 100));
    storage.create(&other)?;
    let disks = |disk: &Disk| lvs(n1, "devices", disk);
    let (own_disks, other_disk) = (disks(&own)?, disks(&other)?);
    let shared = other_disk.split('(').next().unwrap();
    assert!(!own_disks.contains(shared), "{own_disks} {other_disk}");
    // It grows on its own disks, and no further.
    storage.grow(&own, Mebibytes(400), false, Layer::BackingStore)?;
    assert_eq!(disks(&own)?.matches("/dev/").count(), 2);
    let grown = Disk {
        size: Mebibytes(400),
        ..own
    };
    let refused = storage
        .grow(&grown, Mebibytes(500), false, Layer::BackingStore)
        .unwrap_err()
        .refused()?;
    assert_eq!(refused.kind, ErrorKind::NoSpace);
    storage.remove(&grown)?;
    storage.remove(&other)?;
    n1.assert_clean()
}

fn dry_run(n1: &Guest) -> Result {
    let storage = n1.storage().dry_run();
    let disk = disk("xenvg", 0, 16);
    storage.create(&disk)?;
    let assembled = storage.assemble(&disk, primary())?;
    assert_eq!(assembled.device.unwrap().path, Some(path(&disk).into()));
    assert_eq!(storage.shutdown(&disk)?, Change::AlreadyThere);
    assert_eq!(storage.remove(&disk)?, Change::AlreadyThere);
    let noted = storage.noted();
    let programs: Vec<_> = noted.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(programs, ["lvcreate", "lvchange", "link"], "{noted:?}");
    n1.assert_clean()?;
    n1.storage().create(&disk)?;
    storage.grow(&disk, Mebibytes(32), false, Layer::BackingStore)?;
    storage.shutdown(&disk)?;
    storage.remove(&disk)?;
    let noted = storage.noted();
    let programs: Vec<_> = noted.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(programs, ["lvextend", "lvchange", "lvremove"], "{noted:?}");
    assert_eq!(n1.storage().actual_size(&disk)?, 16 << 20);
    n1.storage().remove(&disk)?;
    n1.assert_clean()
}

#[test]
fn faults_are_told_and_survived() -> Result {
    let testbed = plan("plain-faults", 2)?;
    let n1 = testbed.guest(1);
    n1.ok("pvcreate -qqy /dev/ubd{a,b} && vgcreate -qq xenvg /dev/ubd{a,b}")?;
    let storage = n1.storage();
    name_taken(n1, &storage)?;
    busy(n1, &storage)?;
    removed_behind_our_back(n1, &storage)?;
    tool_missing_or_hanging(n1, &storage)?;
    killed(n1, &storage)?;
    lost_disk(n1, &storage)?;
    no_udev(n1, &storage)
}

fn name_taken(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 16);
    n1.ok(&format!("lvcreate -qqy -L 16m -n {} xenvg", lv(&disk)))?;
    let sum = fill(n1, &disk, 16)?;
    let refused = storage.create(&disk).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::AlreadyExists);
    assert!(
        refused.message.ends_with("already, of 16M and not of a disk"),
        "{refused:?}"
    );
    assert_eq!(checksum(n1, &path(&disk), 16)?, sum);
    n1.ok(&format!("lvremove -qqy {}", disk.logical_id))?;
    storage.create(&disk)?;
    let another = Disk {
        uuid: "another".to_owned(),
        ..disk.clone()
    };
    let refused = storage.create(&another).unwrap_err().refused()?;
    assert!(
        refused
            .message
            .ends_with("already, of 16M and of web.example.org"),
        "{refused:?}"
    );
    storage.remove(&disk)?;
    n1.assert_clean()
}

fn busy(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 32);
    storage.create(&disk)?;
    n1.ok(&format!(
        "mkfs.ext4 -q {0} && mkdir -p /m && mount {0} /m && echo kept >/m/file",
        path(&disk)
    ))?;
    for refused in [storage.shutdown(&disk).map(drop), storage.remove(&disk).map(drop)] {
        let refused = refused.unwrap_err().refused()?;
        assert_eq!(refused.kind, ErrorKind::Busy);
        assert!(
            refused.message.contains("contains a filesystem in use"),
            "{refused:?}"
        );
    }
    assert_eq!(n1.ok("cat /m/file")?, "kept\n");
    n1.ok("umount /m")?;
    storage.remove(&disk)?;
    n1.assert_clean()
}

fn removed_behind_our_back(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 16);
    storage.create(&disk)?;
    storage.assemble(&disk, primary())?;
    n1.ok(&format!("lvremove -qqy {}", disk.logical_id))?;
    assert_eq!(storage.find(&disk)?, None);
    let refused = storage.assemble(&disk, primary()).unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(
        refused
            .message
            .ends_with(&format!("there is no logical volume {}", disk.logical_id)),
        "{refused:?}"
    );
    let refused = storage
        .grow(&disk, Mebibytes(32), false, Layer::BackingStore)
        .unwrap_err()
        .refused()?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    // The link is gone with it.
    assert_eq!(storage.remove(&disk)?, Change::Made);
    assert_eq!(storage.remove(&disk)?, Change::AlreadyThere);
    n1.assert_clean()
}

fn tool_missing_or_hanging(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 16);
    n1.ok("mv /usr/sbin/lvs /root/lvs")?;
    let refused = storage.find(&disk).unwrap_err().refused()?;
    assert!(
        refused.message.ends_with("the program lvs was not found"),
        "{refused:?}"
    );
    assert_eq!(refused.hint.as_deref(), Some("install the package lvm2"));
    assert_eq!(storage.volumes(LogicalDevice::Plain, &Object::new())?, []);

    n1.ok("printf '#!/bin/sh\\nsleep 60 &\\nwait\\n' >/usr/sbin/lvs && chmod +x /usr/sbin/lvs")?;
    let started = Instant::now();
    let hasty = n1.storage().program_timeout(Duration::from_secs(1));
    let refused = hasty.find_all(&[disk.clone(), disk.clone()])?;
    for refused in refused {
        let message = refused.unwrap_err().message;
        assert!(
            message.contains("did not end within 1s and was killed"),
            "{message}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(n1.sh("pgrep -x sleep")?.stdout, "");

    n1.ok("printf '#!/bin/sh\\necho no report\\n' >/usr/sbin/lvs")?;
    let refused = storage.find(&disk).unwrap_err().refused()?;
    assert!(
        refused.message.contains("cannot make sense of what `lvs "),
        "{refused:?}"
    );
    n1.ok("rm /usr/sbin/lvs && mv /root/lvs /usr/sbin/lvs")?;
    n1.assert_clean()
}

/// Whatever a command of LVM was at when it was killed, the same call does what is left.
fn killed(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 16);
    let mut cut_short = 0;
    for milliseconds in (60..400).step_by(90) {
        let hasty = n1.storage().program_timeout(Duration::from_millis(milliseconds));
        cut_short += u32::from(hasty.create(&disk).is_err());
        storage.create(&disk)?;
        fill(n1, &disk, 16)?;
        cut_short += u32::from(hasty.shutdown(&disk).is_err());
        storage.assemble(&disk, primary())?;
        cut_short += u32::from(hasty.remove(&disk).is_err());
        storage.remove(&disk)?;
        n1.assert_clean()?;
    }
    assert!(cut_short > 0);
    Ok(())
}

fn lost_disk(n1: &Guest, storage: &Storage<'_>) -> Result {
    let (lost, whole) = (disk("xenvg", 0, 300), disk("xenvg", 1, 16));
    storage.create(&lost)?;
    storage.create(&whole)?;
    let (half, other) = match lvs(n1, "devices", &whole)?.contains("ubda") {
        true => ("/dev/ubdb", "/dev/ubda"),
        false => ("/dev/ubda", "/dev/ubdb"),
    };
    assert!(lvs(n1, "devices", &lost)?.contains(other));
    n1.ok(&format!(
        "dd if={half} of=/root/pv bs=1M count=1 && dd if=/dev/zero of={half} bs=1M count=1 conv=fsync"
    ))?;
    let found = storage.find_all(&[lost.clone(), whole.clone()])?;
    let [Ok(Some(degraded)), Ok(Some(fine))] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (degraded.sync.is_degraded, degraded.sync.ldisk_status),
        (true, LocalDiskStatus::Faulty)
    );
    assert_eq!(
        (fine.sync.is_degraded, fine.sync.ldisk_status),
        (false, LocalDiskStatus::Okay)
    );
    storage.shutdown(&lost)?;
    storage.shutdown(&whole)?;
    let assembled = storage.assemble_all(&[lost.clone(), whole.clone()], primary())?;
    let [Err(refused), Ok(_)] = &assembled[..] else {
        panic!("{assembled:?}")
    };
    assert!(
        refused.message.contains("Refusing activation of partial LV"),
        "{refused:?}"
    );
    assert!(
        refused
            .hint
            .as_ref()
            .unwrap()
            .starts_with("a disk of the volume group is lost"),
        "{refused:?}"
    );
    let refused = storage.create(&disk("xenvg", 2, 16)).unwrap_err().refused()?;
    assert!(
        refused
            .message
            .contains("Cannot change VG xenvg while PVs are missing"),
        "{refused:?}"
    );
    n1.ok(&format!("dd if=/root/pv of={half} bs=1M conv=fsync"))?;
    let assembled = storage.assemble(&lost, primary())?;
    assert!(assembled.device.is_some());
    storage.remove(&lost)?;
    storage.remove(&whole)?;
    n1.assert_clean()
}

fn no_udev(n1: &Guest, storage: &Storage<'_>) -> Result {
    let disk = disk("xenvg", 0, 16);
    n1.ok("udevadm control --exit && rm -f /run/udev/control")?;
    let refused = storage.create(&disk).unwrap_err().refused()?;
    assert!(refused.message.contains("device not cleared"), "{refused:?}");
    assert!(
        refused
            .hint
            .as_ref()
            .unwrap()
            .starts_with("udevd makes the device nodes"),
        "{refused:?}"
    );
    assert_eq!(storage.find(&disk)?, None);
    // As the hint says.
    n1.ok("printf 'activation { udev_sync = 0 udev_rules = 0 }\\n' >/etc/lvm/lvmlocal.conf")?;
    storage.create(&disk)?;
    storage.shutdown(&disk)?;
    let assembled = storage.assemble(&disk, primary())?;
    fill(n1, &disk, 16)?;
    assert_eq!(assembled.device.unwrap().bytes, Some(16 << 20));
    storage.remove(&disk)?;
    n1.assert_clean()
}

/// A node that comes up again has all its disks back, with as many commands as one disk takes.
#[test]
fn many_disks_cost_as_many_commands_as_one() -> Result {
    const MANY: u32 = 50;
    const SOME: usize = 10;
    const LONG: Duration = Duration::from_secs(300);
    let testbed = plan("plain-many", 1)?;
    let n1 = testbed.guest(1);
    n1.ok("vgcreate -qqy xenvg /dev/ubda")?;
    let disks: Vec<_> = (0..MANY).map(|index| disk("xenvg", index, 4)).collect();
    let new = |disk| {
        let name = lv(disk);
        format!("lvcreate -qqy -an -Zn -Wn --setautoactivation n -L 4m -n {name} xenvg\n")
    };
    let new: String = disks.iter().map(new).collect();
    n1.ok_within(LONG, &format!("lvm <<'END' >/dev/null\n{new}END\n"))?;
    let last = &disks[disks.len() - 1];
    n1.ok(&format!("lvchange -qq -ay {}", last.logical_id))?;
    let sum = fill(n1, last, 4)?;
    n1.power_cut()?;
    n1.boot()?;

    let storage = n1.storage();
    let is_inactive = |found: &std::result::Result<Option<Status>, _>| matches!(found, Ok(Some(status)) if status.device.path.is_none());
    let found = storage.find_all(&disks)?;
    assert!(found.iter().all(is_inactive), "{found:?}");
    assert_eq!(storage.programs().len(), 1);
    let (at_once, programs) = measure(&storage, || {
        let all = storage.assemble_all(&disks, primary())?;
        assert!(all.iter().all(|one| one.is_ok()), "{all:?}");
        Ok(())
    })?;
    assert_eq!(programs.len(), 3, "{:?}", lines(&programs));
    assert_eq!(checksum(n1, &path(last), 4)?, sum);
    let links = n1.ok("ls /var/lib/gnt-disk/instance-disks | wc -l")?;
    assert_eq!(links.trim(), MANY.to_string());

    n1.ok_within(LONG, "vgchange -qq -an xenvg")?;
    let (one_by_one, programs) = measure(&storage, || {
        let mut disks = disks.iter().take(SOME);
        disks.try_for_each(|disk| storage.assemble(disk, primary()).map(drop))
    })?;
    assert_eq!(programs.len(), 2 * SOME);
    eprintln!(
        "activated: {MANY} disks at once with 3 commands in {at_once:.1?}, {SOME} one by one with {} in {one_by_one:.1?}",
        programs.len()
    );
    n1.ok_within(
        LONG,
        "vgchange -qq -an xenvg && vgremove -qqff xenvg && rm -r /var/lib/gnt-disk/instance-disks",
    )?;
    n1.assert_clean()
}

fn measure(storage: &Storage<'_>, work: impl FnOnce() -> Result) -> Result<(Duration, Vec<Program>)> {
    storage.programs();
    let started = Instant::now();
    work()?;
    Ok((started.elapsed(), storage.programs()))
}

/// Name, size, free and allocatable of each unit.
fn rows(units: Vec<StorageUnit>) -> Vec<(String, u64, u64, bool)> {
    let row = |unit: StorageUnit| (unit.name, unit.size.0, unit.free.0, unit.allocatable);
    units.into_iter().map(row).collect()
}

#[test]
fn storage_is_listed_changed_and_made_consistent() -> Result {
    let testbed = plan("plain-storage", 3)?;
    let n1 = testbed.guest(1);
    n1.ok("pvcreate -qqy /dev/ubd{a,b,c} && vgcreate -qq xenvg /dev/ubd{a,b} && pvchange -qq -xn /dev/ubdb")?;
    let storage = n1.storage();
    let row = |name: &str, size, free, allocatable| (name.to_owned(), size, free, allocatable);
    let (whole, copy) = (disk("xenvg", 0, 64), disk("xenvg", 1, 64));
    storage.create(&whole)?;
    assert_eq!(
        rows(storage.units(UnitType::LvmPv)?),
        [
            row("/dev/ubda", 252, 188, true),
            row("/dev/ubdb", 252, 252, false),
            row("/dev/ubdc", 256, 256, false),
        ]
    );
    assert_eq!(
        rows(storage.units(UnitType::LvmVg)?),
        [row("xenvg", 504, 440, true)]
    );

    n1.ok("ln -s ubdb /dev/alias")?;
    for (change, allocatable) in [(Change::Made, true), (Change::AlreadyThere, true)] {
        assert_eq!(storage.set_allocatable("/dev/alias", allocatable)?, change);
    }
    assert_eq!(n1.ok("pvs --noheadings -o pv_attr /dev/ubdb")?.trim(), "a--");
    assert_eq!(storage.set_allocatable("/dev/ubda", false)?, Change::Made);
    assert_eq!(n1.ok("pvs --noheadings -o pv_attr /dev/ubda")?.trim(), "u--");
    let refused = storage
        .set_allocatable("/dev/ubdc", true)
        .unwrap_err()
        .refused()?;
    assert!(refused.message.contains("pvchange"), "{refused:?}");

    // Goes to the other one. Neither is in use.
    storage.create(&copy)?;
    let random = fill(n1, &whole, 64)?;
    storage.shutdown(&whole)?;
    storage.shutdown(&copy)?;
    storage.convert(&whole, &copy)?;
    for disk in [&whole, &copy] {
        assert_eq!(lvs(n1, "lv_active", disk)?, "");
    }
    storage.assemble(&copy, primary())?;
    assert_eq!(checksum(n1, &path(&copy), 64)?, random);
    storage.shutdown(&copy)?;

    assert_eq!(storage.remove_missing("xenvg")?, Change::AlreadyThere);
    n1.ok("dd if=/dev/zero of=/dev/ubdb bs=1M count=1 conv=fsync")?;
    assert_eq!(storage.remove_missing("xenvg")?, Change::Made);
    assert_eq!(
        rows(storage.units(UnitType::LvmVg)?),
        [row("xenvg", 252, 188, true)]
    );
    assert_eq!(storage.find(&copy)?, None);
    assert_eq!(storage.remove_missing("xenvg")?, Change::AlreadyThere);
    storage.assemble(&whole, primary())?;
    assert_eq!(checksum(n1, &path(&whole), 64)?, random);
    let refused = storage.remove_missing("novg").unwrap_err().refused()?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    storage.remove(&whole)?;
    n1.ok("rm /dev/alias")?;
    n1.assert_clean()
}
