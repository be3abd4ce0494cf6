//! The driver on recorded answers; the real thing is in the tests of whole nodes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object, Settings};
use gnt_process::{Command, Output, Scripted, Status};
use serde_json::json;

use super::error::classify;
use super::parse::{self, Mapping};
use super::{Image, Pool, RbdDriver, RbdError};
use crate::tests::told;
use crate::tool::ToolError;
use crate::{Change, Driver, Error, ErrorKind, Host, Operation, Space, Target};

const SIZE: Mebibytes = Mebibytes(64);
const INFO: &str = "rbd --client_mount_timeout=20 info --format json rbd/m";
const MAPPED: &str = "rbd showmapped --format json";

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/rbd")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// A failure as it was recorded.
fn failure(name: &str) -> Output {
    let failures: serde_json::Value = serde_json::from_str(&fixture("failures.json")).unwrap();
    let failure = &failures[name];
    let status = i32::try_from(failure["status"].as_i64().unwrap()).unwrap();
    Output::new(Status::Exited(status)).with_stderr(failure["stderr"].as_str().unwrap())
}

fn disk() -> Disk {
    let id = LogicalId::Rbd {
        volume: "m".to_owned(),
    };
    Disk {
        uuid: "disk-uuid-0".to_owned(),
        iv_name: Some("disk/0".to_owned()),
        ..Disk::new(LogicalDevice::Rbd, id, SIZE)
    }
}

fn host(script: Scripted) -> (Host, Arc<Scripted>) {
    let script = Arc::new(script);
    let state = PathBuf::from("/nonexistent");
    let runner = Arc::clone(&script) as Arc<_>;
    (
        Host::new("node1", &Settings::under(&state), &state, runner),
        script,
    )
}

fn target(disk: &Disk) -> Target<'_> {
    Target::new(disk, "web.example.org")
}

fn mapping(pool: &str, image: &str, snapshot: Option<&str>, device: &str) -> Mapping {
    Mapping {
        pool: pool.to_owned(),
        namespace: String::new(),
        image: image.to_owned(),
        snapshot: snapshot.map(str::to_owned),
        device: device.into(),
    }
}

#[test]
fn what_is_mapped_is_read_in_every_format_that_there_was() {
    let now = [
        mapping("rbd", "m", None, "/dev/rbd0"),
        mapping("rbd", "m", Some("s"), "/dev/rbd1"),
        mapping("second", "b", None, "/dev/rbd2"),
    ];
    assert_eq!(parse::mappings(&fixture("showmapped.json")).unwrap(), now);
    assert_eq!(parse::mappings_plain(&fixture("showmapped.txt")).unwrap(), now);
    let before = [
        mapping("rbd", "m", None, "/dev/rbd0"),
        mapping("second", "b", Some("s"), "/dev/rbd1"),
    ];
    assert_eq!(
        parse::mappings(&fixture("showmapped-by-id.json")).unwrap(),
        before
    );
    for table in ["showmapped-no-namespace.txt", "showmapped-tabs.txt"] {
        assert_eq!(parse::mappings_plain(&fixture(table)).unwrap(), before, "{table}");
    }
    assert_eq!(parse::mappings("[]").unwrap(), []);
    assert_eq!(parse::mappings("{}").unwrap(), []);
    assert_eq!(parse::mappings_plain("").unwrap(), []);
}

#[test]
fn an_image_in_a_namespace_is_not_the_one_of_the_same_name_outside() {
    let table = "id  pool  namespace  image  snap  device   \n0   rbd   ns         m      -     /dev/rbd0\n";
    let mapped = parse::mappings_plain(table).unwrap();
    assert_eq!(mapped[0].namespace, "ns");
    let json = r#"[{"id":"0","pool":"rbd","namespace":"ns","name":"m","snap":"-","device":"/dev/rbd0"}]"#;
    assert_eq!(parse::mappings(json).unwrap(), mapped);
    let (host, _) = host(
        Scripted::new()
            .expect(INFO, fixture("info.json"))
            .expect(MAPPED, json),
    );
    let found = RbdDriver.find(&host, &target(&disk())).unwrap().unwrap();
    assert_eq!((found.path, found.bytes), (None, Some(SIZE.bytes())));
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    for (table, why) in [
        ("rbd: error\n", "it has no columns pool, image, snap and device"),
        (
            "id\tpool\timage\tsnap\tdevice\n0\trbd\n",
            "there is no column image in the line \"0\\trbd\"",
        ),
        (
            "id pool image snap device\n0  rbd  m     -\n",
            "there is no column device in the line \"0  rbd  m     -\"",
        ),
    ] {
        assert_eq!(parse::mappings_plain(table).unwrap_err().to_string(), why);
    }
    assert!(parse::mappings("[{}]").is_err());
}

#[test]
fn the_rest_is_read_as_it_was_recorded() {
    assert_eq!(parse::size(&fixture("info.json")).unwrap(), SIZE.bytes());
    let images = parse::images(&fixture("ls-long.json")).unwrap();
    let names: Vec<_> = images
        .iter()
        .map(|image| (image.name.as_str(), image.bytes >> 20))
        .collect();
    assert_eq!(names, [("m", 64), ("vol1", 256)]);
    assert_eq!(parse::snapshots(&fixture("snap-ls.json")).unwrap(), ["s"]);
    assert_eq!(
        parse::watchers(&fixture("status.json")).unwrap(),
        ["192.168.77.2:0/336981338"]
    );
    assert!(parse::watchers(&fixture("status-none.json")).unwrap().is_empty());
    let old = r#"{"watchers":{"watcher":{"address":"10.0.0.1:0/7","client":1,"cookie":1}}}"#;
    assert_eq!(parse::watchers(old).unwrap(), ["10.0.0.1:0/7"]);
    assert_eq!(
        parse::metadata(&fixture("image-meta.json"), "other")
            .unwrap()
            .as_deref(),
        Some("y")
    );
    assert_eq!(
        parse::metadata(&fixture("image-meta.json"), "none").unwrap(),
        None
    );
    assert_eq!(parse::metadata("", "other").unwrap(), None);
}

#[test]
fn failures_are_told_apart() {
    let of = |name: &str| {
        let command = Command::query("rbd");
        let failed = failure(name).check(&command).unwrap_err();
        let pool = Pool {
            name: "rbd",
            user: None,
        };
        RbdError::of(
            pool,
            ToolError::Failed {
                kind: classify(&failed),
                failed: Box::new(failed),
            },
        )
    };
    for (name, kind) in [
        ("no_image", ErrorKind::NotFound),
        ("no_image_to_remove", ErrorKind::NotFound),
        ("taken", ErrorKind::AlreadyExists),
        ("snapshot_taken", ErrorKind::AlreadyExists),
        ("watchers", ErrorKind::Busy),
        ("snapshots", ErrorKind::Busy),
        ("mounted", ErrorKind::Busy),
        ("shrink", ErrorKind::Other),
    ] {
        let error = of(name);
        assert!(matches!(error, RbdError::Tool(_)), "{name}: {error}");
        assert_eq!(error.kind(), kind, "{name}");
    }
    for name in ["no_pool", "no_pool_to_create_in", "no_pool_to_list"] {
        let error = of(name);
        assert!(matches!(error, RbdError::NoPool { .. }), "{name}: {error}");
        assert!(
            error
                .hint()
                .unwrap()
                .contains("`ceph osd pool create rbd && rbd pool init rbd`")
        );
    }
    let error = of("denied");
    assert_eq!(
        error.to_string(),
        "the Ceph user client.admin may not do that in the pool rbd"
    );
    let [no_key, no_monitor, no_configuration] = ["no_key", "no_monitor", "no_configuration"].map(of);
    for error in [&no_key, &no_monitor, &no_configuration] {
        assert_eq!(error.to_string(), "the Ceph cluster cannot be reached");
    }
    assert!(
        no_key
            .hint()
            .unwrap()
            .contains("/etc/ceph/ceph.client.admin.keyring")
    );
    assert!(no_monitor.hint().unwrap().contains("`ceph --id admin -s`"));
    assert!(
        no_configuration
            .hint()
            .unwrap()
            .starts_with("/etc/ceph/ceph.conf names the monitors")
    );
}

#[test]
fn a_failure_that_is_no_error_number_means_nothing() {
    let failed = |stderr: &str| {
        let output = Output::new(Status::Exited(1)).with_stderr(stderr);
        classify(&output.check(&Command::query("rbd")).unwrap_err())
    };
    assert_eq!(failed("rbd: unrecognised option '--format'"), ErrorKind::Other);
    assert_eq!(
        failed("rbd: error opening image m: (2) No such file"),
        ErrorKind::NotFound
    );
}

#[test]
fn an_image_is_created_once_and_another_one_is_not_taken_for_it() {
    let (first, _) = host(
        Scripted::new()
            .expect(INFO, failure("no_image"))
            .expect("rbd --client_mount_timeout=20 create --size 64 rbd/m", ""),
    );
    let mut disk = disk();
    assert_eq!(RbdDriver.create(&first, &target(&disk)).unwrap(), Change::Made);
    let (again, _) = host(Scripted::new().allow(INFO, fixture("info.json")));
    assert_eq!(
        RbdDriver.create(&again, &target(&disk)).unwrap(),
        Change::AlreadyThere
    );
    disk.size = Mebibytes(32);
    let error = RbdDriver.create(&again, &target(&disk)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        told(&error),
        "cannot create disk/0 (rbd/m) on node node1: there is an image rbd/m already, with 67108864 bytes"
    );
}

#[test]
fn the_pool_and_the_user_are_the_disks() {
    let (host, script) = host(Scripted::new().allow("rbd ...", fixture("info.json")));
    let mut disk = disk();
    disk.params = object(json!({"pool": "second", "user-id": "vm"}));
    assert_eq!(
        RbdDriver.actual_size(&host, &target(&disk)).unwrap(),
        SIZE.bytes()
    );
    assert_eq!(
        script.lines(),
        ["rbd --id vm --client_mount_timeout=20 info --format json second/m"]
    );
    let uri = RbdDriver.userspace_uri(&host, &target(&disk), "kvm").unwrap();
    assert_eq!(uri, "rbd:second/m:id=vm");
    disk.params = object(json!({"pool": "a:b"}));
    assert_eq!(
        RbdDriver.userspace_uri(&host, &target(&disk), "kvm").unwrap(),
        r"rbd:a\:b/m"
    );
    let error = RbdDriver
        .userspace_uri(&host, &target(&disk), "xen-pvm")
        .unwrap_err();
    assert_eq!(
        told(&error),
        "cannot give a hypervisor direct access to disk/0 (rbd/m) on node node1: xen-pvm cannot reach rbd disks without the kernel"
    );
    assert!(error.hint().unwrap().contains("kernelspace"));
}

#[test]
fn names_that_tools_take_apart_and_unknown_parameters_are_refused() {
    let (host, _) = host(Scripted::new());
    let mut disk = disk();
    for name in ["", "ns/m", "m@s"] {
        disk.logical_id = LogicalId::Rbd {
            volume: name.to_owned(),
        };
        let error = RbdDriver.find(&host, &target(&disk)).unwrap_err();
        assert!(
            told(&error).ends_with("cannot be the name of an image"),
            "{error}"
        );
    }
    disk = super::tests::disk();
    disk.params = object(json!({"pol": "x"}));
    let error = RbdDriver.find(&host, &target(&disk)).unwrap_err();
    assert!(
        told(&error).ends_with("has no parameter \"pol\""),
        "{}",
        told(&error)
    );
}

#[test]
fn what_is_not_there_is_found_as_that_but_a_missing_pool_is_an_error() {
    let (no_image, _) = host(Scripted::new().allow("rbd ...", failure("no_image")));
    assert_eq!(RbdDriver.find(&no_image, &target(&disk())).unwrap(), None);
    let error = RbdDriver.actual_size(&no_image, &target(&disk())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let (no_pool, _) = host(Scripted::new().allow("rbd ...", failure("no_pool")));
    for result in [
        RbdDriver.find(&no_pool, &target(&disk())).map(drop),
        RbdDriver.grow(&no_pool, &target(&disk()), SIZE, true).map(drop),
    ] {
        let told = told(&result.unwrap_err());
        assert!(
            told.contains(
                ": there is no pool rbd: `rbd --client_mount_timeout=20 info --format json rbd/m` failed"
            ),
            "{told}"
        );
    }
}

#[test]
fn a_tool_without_json_is_asked_for_its_table() {
    let (host, _) = host(
        Scripted::new()
            .expect(INFO, fixture("info.json"))
            .expect(
                MAPPED,
                Output::new(Status::Exited(1)).with_stderr("rbd: unknown option --format"),
            )
            .expect("rbd showmapped", ""),
    );
    let found = RbdDriver.find(&host, &target(&disk())).unwrap().unwrap();
    assert_eq!(found.path, None);
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    let resize = "rbd --client_mount_timeout=20 resize --no-progress --size 96 rbd/m";
    let (host, script) = host(
        Scripted::new()
            .allow(INFO, fixture("info.json"))
            .expect(resize, ""),
    );
    let disk = disk();
    let grow = |to, dry_run| RbdDriver.grow(&host, &target(&disk), Mebibytes(to), dry_run);
    assert!(grow(32, false).is_err());
    assert_eq!(grow(64, false).unwrap(), Change::AlreadyThere);
    assert_eq!(grow(96, true).unwrap(), Change::Made);
    assert!(!script.lines().contains(&resize.to_owned()));
    assert_eq!(grow(96, false).unwrap(), Change::Made);
}

#[test]
fn all_mappings_of_an_image_go_and_no_others() {
    let twice = r#"[{"id":"0","pool":"rbd","name":"m","snap":"-","device":"/dev/rbd0"},
        {"id":"1","pool":"rbd","name":"m","snap":"s","device":"/dev/rbd1"},
        {"id":"2","pool":"other","name":"m","snap":"-","device":"/dev/rbd2"},
        {"id":"3","pool":"rbd","name":"m","snap":"-","device":"/dev/rbd3"}]"#;
    let (host, script) = host(Scripted::new().allow(MAPPED, twice).allow("rbd unmap ...", ""));
    assert_eq!(RbdDriver.shutdown(&host, &target(&disk())).unwrap(), Change::Made);
    let unmapped: Vec<_> = script.lines().into_iter().skip(1).collect();
    assert!(
        unmapped[0].starts_with("rbd unmap /dev/rbd0") && unmapped[1].starts_with("rbd unmap /dev/rbd3"),
        "{unmapped:?}"
    );
    assert_eq!(unmapped.len(), 2);
}

#[test]
fn without_udev_nothing_waits_for_it() {
    let image = Image {
        pool: Pool {
            name: "rbd",
            user: None,
        },
        name: "m",
    };
    let device = std::path::Path::new("/dev/rbd0");
    let lines = |udev| {
        [
            image.map(udev).to_string(),
            super::commands::unmap(device, udev).to_string(),
        ]
    };
    assert_eq!(
        lines(true),
        ["rbd --client_mount_timeout=20 map rbd/m", "rbd unmap /dev/rbd0"]
    );
    assert_eq!(
        lines(false),
        [
            "rbd --client_mount_timeout=20 map rbd/m --options noudev",
            "rbd unmap /dev/rbd0 --options noudev"
        ]
    );
}

const RM: &str = "rbd --client_mount_timeout=20 rm --no-progress rbd/m";
const SNAPSHOTS: &str = "rbd --client_mount_timeout=20 snap ls --format json rbd/m";
const STATUS: &str = "rbd --client_mount_timeout=20 status --format json rbd/m";

fn remove(script: Scripted, patience: Duration) -> Result<Change, RbdError> {
    let (host, _) = host(script);
    let pool = Pool {
        name: "rbd",
        user: None,
    };
    Image { pool, name: "m" }.remove_in_time(&host, patience)
}

#[test]
fn a_client_that_died_is_waited_for() {
    let script = Scripted::new()
        .expect(RM, failure("watchers"))
        .expect(SNAPSHOTS, "[]")
        .expect(STATUS, fixture("status.json"))
        .expect(STATUS, fixture("status-none.json"))
        .expect(RM, "");
    assert_eq!(remove(script, Duration::from_secs(60)).unwrap(), Change::Made);
}

#[test]
fn a_client_that_lives_is_named_with_the_command_that_ends_it() {
    let script = Scripted::new()
        .expect(RM, failure("watchers"))
        .expect(SNAPSHOTS, "[]")
        .expect(STATUS, fixture("status.json"));
    let error = remove(script, Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "rbd/m is open at 192.168.77.2:0/336981338");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(
        error
            .hint()
            .unwrap()
            .contains("`ceph osd blocklist add 192.168.77.2:0/336981338`")
    );
}

#[test]
fn snapshots_of_others_keep_an_image_and_those_of_a_killed_copy_do_not() {
    let script = Scripted::new()
        .expect(RM, failure("snapshots"))
        .expect(SNAPSHOTS, fixture("snap-ls.json"));
    let error = remove(script, Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "rbd/m has snapshots: s");
    assert!(error.hint().unwrap().contains("`rbd snap purge rbd/m`"));
    let script = Scripted::new()
        .expect(RM, failure("snapshots"))
        .expect(SNAPSHOTS, r#"[{"id":4,"name":"gnt-disk.copy","size":1}]"#)
        .expect(
            "rbd --client_mount_timeout=20 snap rm --no-progress rbd/m@gnt-disk.copy",
            "",
        )
        .expect(RM, "");
    assert_eq!(remove(script, Duration::ZERO).unwrap(), Change::Made);
}

#[test]
fn a_removal_that_stays_refused_for_no_reason_that_we_see_ends() {
    let script = Scripted::new()
        .expect(RM, failure("watchers"))
        .expect(SNAPSHOTS, "[]")
        .expect(STATUS, fixture("status-none.json"))
        .expect(RM, failure("watchers"));
    let error = remove(script, Duration::from_secs(60)).unwrap_err();
    assert!(error.to_string().contains("image still has watchers"), "{error}");
}

#[test]
fn what_is_removed_already_is_removed() {
    let (host, _) = host(
        Scripted::new()
            .expect(MAPPED, "[]")
            .expect(INFO, failure("no_image")),
    );
    assert_eq!(
        RbdDriver.remove(&host, &target(&disk())).unwrap(),
        Change::AlreadyThere
    );
}

#[test]
fn a_snapshot_is_a_copy_of_one_moment_without_an_owner() {
    let rbd = |args: &str| format!("rbd --client_mount_timeout=20 {args}");
    let (host, _) = host(
        Scripted::new()
            .expect(&rbd("info --format json rbd/copy"), failure("no_image"))
            .expect(
                &rbd("snap create --no-progress rbd/m@gnt-disk.copy"),
                failure("snapshot_taken"),
            )
            .expect(&rbd("snap rm --no-progress rbd/m@gnt-disk.copy"), "")
            .expect(&rbd("snap create --no-progress rbd/m@gnt-disk.copy"), "")
            .expect(&rbd("cp --no-progress rbd/m@gnt-disk.copy rbd/copy"), "")
            .expect(
                &rbd("image-meta list --format json rbd/copy"),
                fixture("image-meta.json"),
            )
            .expect(&rbd("image-meta remove rbd/copy gnt-disk"), "")
            .expect(&rbd("snap rm --no-progress rbd/m@gnt-disk.copy"), ""),
    );
    let id = RbdDriver.snapshot(&host, &target(&disk()), "copy", SIZE).unwrap();
    assert_eq!(
        id,
        LogicalId::Rbd {
            volume: "copy".to_owned()
        }
    );
}

#[test]
fn a_copy_that_fails_leaves_neither_copy_nor_snapshot() {
    let rbd = |args: &str| format!("rbd --client_mount_timeout=20 {args}");
    let full = Output::new(Status::Exited(28)).with_stderr("rbd: copy failed: (28) No space left on device");
    let (host, _) = host(
        Scripted::new()
            .expect(&rbd("info --format json rbd/copy"), failure("no_image"))
            .expect(&rbd("snap create --no-progress rbd/m@gnt-disk.copy"), "")
            .expect(&rbd("cp --no-progress rbd/m@gnt-disk.copy rbd/copy"), full)
            .expect(&rbd("rm --no-progress rbd/copy"), failure("no_image_to_remove"))
            .expect(&rbd("snap rm --no-progress rbd/m@gnt-disk.copy"), ""),
    );
    let error = RbdDriver
        .snapshot(&host, &target(&disk()), "copy", SIZE)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
}

#[test]
fn volumes_are_listed_with_their_owners() {
    let rbd = |args: &str| format!("rbd --client_mount_timeout=20 {args}");
    let (host, _) = host(
        Scripted::new()
            .allow(
                &rbd("ls --long --format json --pool rbd"),
                fixture("ls-long.json"),
            )
            .allow(
                &rbd("image-meta list --format json rbd/m"),
                fixture("image-meta.json"),
            )
            .allow(&rbd("image-meta list --format json rbd/vol1"), ""),
    );
    let found = RbdDriver.volumes(&host, &Object::new()).unwrap();
    let owners: Vec<_> = found
        .iter()
        .map(|volume| {
            (
                volume.logical_id.volume().into_owned(),
                volume.bytes,
                volume.owner.instance.clone(),
            )
        })
        .collect();
    assert_eq!(
        owners,
        [
            ("m".to_owned(), Some(64 << 20), Some("web.example.org".to_owned())),
            ("vol1".to_owned(), Some(256 << 20), None)
        ]
    );
    let (host, _) = self::host(Scripted::new().allow("rbd ...", failure("no_pool_to_list")));
    let error = RbdDriver
        .volumes(&host, &object(json!({"pool": "gone"})))
        .unwrap_err();
    assert!(
        told(&error).starts_with("cannot list the volumes of rbd disks on node node1: there is no pool gone")
    );
}

#[test]
fn the_room_in_a_pool_is_told() {
    let told = |pool: &str, df: &str| {
        let (host, _) = host(Scripted::new().allow(
            "ceph --id vms --client_mount_timeout=20 df --format json",
            fixture(df),
        ));
        let params = object(json!({"pool": pool, "user-id": "vms"}));
        RbdDriver.space(&host, &params).unwrap()
    };
    let space = |name: &str, free, total| Space {
        name: name.to_owned(),
        free: Mebibytes(free),
        total: Mebibytes(total),
    };
    assert_eq!(told("rbd", "df.json"), [space("rbd", 940, 972)]);
    assert_eq!(told("second", "df.json"), [space("second", 940, 940)]);
    assert_eq!(told("rbd", "df-no-manager.json"), []);

    for (name, hint) in [
        ("ceph_no_key", "ceph.client.admin.keyring"),
        ("ceph_no_monitor", "do the monitors"),
        ("ceph_no_configuration", "`mon host`"),
    ] {
        let (host, _) = host(Scripted::new().allow("ceph ...", failure(name)));
        let error = RbdDriver.space(&host, &Object::new()).unwrap_err();
        assert!(error.to_string() == "cannot tell the free space for rbd disks on node node1");
        assert!(error.hint().unwrap().contains(hint), "{name}: {error:?}");
    }
}

#[test]
fn disks_of_this_type_are_not_renamed() {
    let (host, _) = host(Scripted::new());
    let disk = disk();
    assert!(matches!(
        RbdDriver.rename(&host, &target(&disk), &disk.logical_id),
        Err(Error::Unsupported {
            operation: Operation::Rename,
            ..
        })
    ));
}

fn object(value: serde_json::Value) -> Object {
    serde_json::from_value(value).unwrap()
}
