//! The driver on recorded answers of real tools.

use std::path::Path;
use std::sync::Arc;

use gnt_config::{Disk, DynamicParams, LogicalDevice, LogicalId, Mebibytes, Object, Secret, Settings};
use gnt_process::{DryRun, Effect, Output, Scripted, Status as Exit, System};
use serde_json::json;

use super::*;
use crate::error::ErrorKind;
use crate::tests::told;
use crate::tree::{self, Activation};

/// What a real drbd said: see `fixtures/drbd/README.md`.
pub(super) fn recorded(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/drbd")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const PROC: &str = "cat /proc/drbd";
const SHOW: &str = "drbdsetup show 0";
const GENERATIONS: &str = "drbdmeta /dev/drbd0 v08 /dev/xenvg/m0 flex-external get-gi";
const JUST_CREATED: &str =
    "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n";
const USED: &str = "5E2A909E1C992CD2:0000000000000000:307B8C3EAE92E8FE:307A8C3EAE92E8FF:1:1:1:1:0:0:0\n";
const FREE: &str = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 059B1B470318F053F5077D5 \n";

const ATTACH: [&str; 5] = [
    "drbdsetup new-resource resource0",
    "drbdsetup new-minor resource0 0 0",
    "drbdmeta /dev/drbd0 v08 /dev/xenvg/m0 flex-external apply-al",
    "drbdsetup attach 0 /dev/xenvg/d0 /dev/xenvg/m0 flexible --on-io-error=detach --size 64m",
    "drbdsetup disk-options 0 --resync-rate 61440",
];
const CONNECT: [&str; 3] = [
    "drbdsetup new-resource resource0",
    "drbdsetup new-minor resource0 0 0",
    "drbdsetup connect resource0 ipv4:192.168.78.1:11000 ipv4:192.168.78.2:11000 --protocol C \
     --after-sb-0pri discard-zero-changes --after-sb-1pri consensus --cram-hmac-alg md5 --shared-secret <redacted>",
];

/// The disk that was recorded, on the first node.
fn disk() -> Disk {
    let volume = |lv: &str, size| {
        let (vg, lv) = ("xenvg".to_owned(), lv.to_owned());
        Disk::new(LogicalDevice::Plain, LogicalId::Lv { vg, lv }, size)
    };
    Disk {
        uuid: "disk-uuid".to_owned(),
        children: vec![volume("d0", Mebibytes(64)), volume("m0", Mebibytes(128))],
        dynamic_params: Some(DynamicParams {
            local_ip: "192.168.78.1".to_owned(),
            remote_ip: "192.168.78.2".to_owned(),
            local_minor: 0,
            remote_minor: 5,
        }),
        ..Disk::new(
            LogicalDevice::Drbd,
            LogicalId::Drbd8 {
                nodes: ["a".to_owned(), "b".to_owned()],
                port: Some(11000),
                minors: [0, 5],
                secret: Secret::new("5ecre7"),
            },
            Mebibytes(64),
        )
    }
}

fn volumes() -> [Option<BlockDevice>; 2] {
    let volume = |name: &str, size: Mebibytes| {
        Some(BlockDevice {
            path: Some(format!("/dev/xenvg/{name}").into()),
            bytes: Some(size.bytes()),
            ..BlockDevice::default()
        })
    };
    [volume("d0", Mebibytes(64)), volume("m0", Mebibytes(128))]
}

/// A node that answers by a script.
struct Node {
    script: Arc<Scripted>,
    host: Host,
}

impl Node {
    fn new(script: Scripted) -> Self {
        let script = Arc::new(script);
        let state = Path::new("/nonexistent");
        let runner = Arc::<Scripted>::clone(&script);
        let host = Host::new("node1", &Settings::under(state), state, runner);
        Self { script, host }
    }

    /// One whose `/proc/drbd` and setup are recorded, and stay so.
    fn with(proc: &str, show: &str) -> Self {
        Self::new(running(Scripted::new(), proc, show))
    }

    fn changes(&self) -> Vec<String> {
        let calls = self.script.calls().into_iter();
        let changes = calls.filter(|call| call.effect() == Effect::Change);
        changes.map(|call| call.to_string()).collect()
    }

    fn assemble(&self, disk: &Disk, children: &[Option<BlockDevice>]) -> Result<BlockDevice, Error> {
        DrbdDriver.assemble(&self.host, &Target::new(disk, "web").with_children(children))
    }
}

fn running(script: Scripted, proc: &str, show: &str) -> Scripted {
    script
        .allow(PROC, recorded(&format!("proc/{proc}")).as_str())
        .allow(SHOW, recorded(&format!("show/{show}")).as_str())
        .allow("cat /sys/block/drbd0/size", "131072\n")
}

fn changeable(script: Scripted) -> Scripted {
    script
        .allow("drbdsetup ...", "")
        .allow("drbdmeta ...", "")
        .allow("dd ...", "")
        .allow("dmesg", recorded("log/split_brain").as_str())
}

fn failed(name: &str) -> Output {
    let text = recorded(&format!("failures/{name}"));
    let mut lines: Vec<_> = text.lines().skip(1).collect();
    let code = lines.pop().unwrap().strip_prefix("rc=").unwrap();
    Output::new(Exit::Exited(code.parse().unwrap())).with_stderr(lines.join("\n"))
}

/// Recorded on the second node, where the minor of the first is the same.
fn disk_with_two_primaries() -> Disk {
    let mut disk = disk();
    disk.dynamic_params = Some(DynamicParams {
        local_ip: "192.168.78.2".to_owned(),
        remote_ip: "192.168.78.1".to_owned(),
        local_minor: 0,
        remote_minor: 5,
    });
    disk
}

#[test]
fn a_connection_is_told_how_many_may_be_primary() {
    let (connected, dual) = (recorded("proc/connected"), recorded("show/dual"));
    let single = dual.replace("        allow-two-primaries\tyes;\n", "");
    let command = |two: &str| {
        let ends = "ipv4:192.168.78.2:11000 ipv4:192.168.78.1:11000";
        format!("drbdsetup net-options {ends} --protocol C --allow-two-primaries={two}")
    };
    let disk = disk_with_two_primaries();
    let volumes = volumes();
    let target = Target::new(&disk, "web").with_children(&volumes);
    for (before, after, multimaster, told) in [
        (&single, &dual, true, Some(command("yes"))),
        (&dual, &single, false, Some(command("no"))),
        (&single, &single, false, None),
        (&dual, &dual, true, None),
    ] {
        let script = Scripted::new().expect(PROC, connected.as_str());
        let script = script
            .expect(SHOW, before.as_str())
            .allow(PROC, connected.as_str())
            .allow(SHOW, after.as_str());
        let node = Node::new(changeable(script));
        let change = DrbdDriver.attach_net(&node.host, &target, multimaster).unwrap();
        assert_eq!(node.changes(), Vec::from_iter(told.clone()));
        assert_eq!(change == Change::Made, told.is_some());
    }
    let script = Scripted::new()
        .allow(PROC, connected.as_str())
        .allow(SHOW, dual.as_str())
        .allow("drbdsetup net-options ...", failed("net_options_both_primary"));
    let node = Node::new(script);
    let error = DrbdDriver.attach_net(&node.host, &target, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(told(&error).contains("both nodes are primary"), "{error}");
}

/// What runs, what is to run, and what is done about it (`_FastAssemble`, `_SlowAssemble`).
#[test]
fn what_is_missing_is_brought_up_and_nothing_else() {
    let with_disk_elsewhere = recorded("show/full").replace("/dev/xenvg/d0", "/dev/xenvg/other");
    let with_peer_elsewhere = recorded("show/full").replace("192.168.78.2", "192.168.78.3");
    let with_net_elsewhere = recorded("show/no_disk").replace("192.168.78.2", "192.168.78.3");
    let of_others = recorded("show/full").replace("resource0", "mine");
    let without_anything = recorded("show/unconfigured");
    let disconnect = "drbdsetup disconnect ipv4:192.168.78.1:11000 ipv4:192.168.78.3:11000";
    let all = [&ATTACH[..], &CONNECT].concat();
    let reconnect = [&[disconnect], &CONNECT[..]].concat();
    let (full, no_net, no_disk) = (
        recorded("show/full"),
        recorded("show/no_net"),
        recorded("show/no_disk"),
    );
    for (what, proc, show, volumes_are_there, expected) in [
        ("nothing runs", FREE, "", true, Some(all.as_slice())),
        ("nothing runs, no volumes", FREE, "", false, Some(&CONNECT)),
        (
            "a minor and no more",
            &recorded("proc/unconfigured"),
            &without_anything,
            true,
            Some(&all),
        ),
        ("all runs", &recorded("proc/connected"), &full, true, Some(&[])),
        (
            "all runs, volumes not to be found",
            &recorded("proc/connected"),
            &full,
            false,
            Some(&[]),
        ),
        (
            "no connection",
            &recorded("proc/standalone"),
            &no_net,
            true,
            Some(&CONNECT),
        ),
        (
            "no disk",
            &recorded("proc/diskless"),
            &no_disk,
            true,
            Some(&ATTACH),
        ),
        (
            "no disk, no volumes",
            &recorded("proc/diskless"),
            &no_disk,
            false,
            Some(&[]),
        ),
        (
            "another peer",
            &recorded("proc/wfconnection"),
            &with_peer_elsewhere,
            true,
            Some(&reconnect),
        ),
        (
            "another disk",
            &recorded("proc/connected"),
            &with_disk_elsewhere,
            true,
            None,
        ),
        (
            "no disk and another peer",
            &recorded("proc/diskless"),
            &with_net_elsewhere,
            true,
            None,
        ),
        (
            "another resource",
            &recorded("proc/connected"),
            &of_others,
            true,
            None,
        ),
    ] {
        let mut script = Scripted::new().expect(PROC, proc);
        if proc != FREE && !proc.contains("Unconfigured") {
            script = script.expect(SHOW, show);
        }
        // Afterwards it is as it should be.
        let after = if volumes_are_there {
            "connected"
        } else {
            "diskless"
        };
        let setup = if volumes_are_there || show == full {
            "full"
        } else {
            "no_disk"
        };
        let node = Node::new(changeable(running(script, after, setup)));
        let children = if volumes_are_there {
            volumes()
        } else {
            [None, None]
        };
        match (node.assemble(&disk(), &children), expected) {
            (Ok(device), Some(expected)) => {
                assert_eq!(node.changes(), expected, "{what}");
                assert_eq!(device.path.as_deref(), Some(Path::new("/dev/drbd0")), "{what}");
                assert_eq!((device.major, device.minor), (Some(147), Some(0)), "{what}");
            }
            (Err(error), None) => {
                assert_eq!(node.changes(), [""; 0], "{what}");
                assert_eq!(error.kind(), ErrorKind::Busy, "{what}");
                assert!(
                    told(&error).contains("minor 0 runs something else"),
                    "{what}: {error}"
                );
            }
            (other, _) => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn what_belongs_to_others_is_neither_closed_nor_shut_down() {
    let script = Scripted::new().allow(PROC, recorded("proc/connected").as_str());
    let node = Node::new(script.allow(SHOW, recorded("show/full").replace("resource0", "mine").as_str()));
    let (disk, host) = (disk(), &node.host);
    let target = Target::new(&disk, "web");
    assert_eq!(DrbdDriver.shutdown(host, &target).unwrap(), Change::AlreadyThere);
    assert_eq!(DrbdDriver.remove(host, &target).unwrap(), Change::AlreadyThere);
    DrbdDriver.close(host, &target).unwrap();
    assert_eq!(DrbdDriver.find(host, &target).unwrap(), None);
    assert_eq!(node.changes(), [""; 0]);
}

#[test]
fn half_a_device_goes_again() {
    let script = Scripted::new().expect(PROC, FREE);
    let script = script.allow("drbdsetup attach ...", failed("attach_in_use"));
    let node = Node::new(changeable(script));
    let error = node.assemble(&disk(), &volumes()).unwrap_err();
    assert_eq!(node.changes().last().unwrap(), "drbdsetup down resource0");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(
        error.hint().unwrap(),
        "something else has the volume: `lsblk` shows what"
    );
    // What ran before stays.
    let script = running(Scripted::new(), "diskless", "no_disk");
    let node = Node::new(changeable(
        script.allow("drbdsetup attach ...", failed("attach_too_small")),
    ));
    let error = node.assemble(&disk(), &volumes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(!node.changes().iter().any(|line| line.contains("down")));
}

#[test]
fn secrets_are_in_no_error() {
    let script = Scripted::new().allow(PROC, recorded("proc/standalone").as_str());
    let script = script.allow(SHOW, recorded("show/no_net").as_str());
    let repeated = Output::new(Exit::Exited(20)).with_stderr("bad option 5ecre7");
    let node = Node::new(changeable(script.allow("drbdsetup connect ...", repeated)));
    let error = node.assemble(&disk(), &volumes()).unwrap_err();
    let shown = format!("{} {error:?}", told(&error));
    assert!(
        shown.contains("bad option <redacted>") && !shown.contains("5ecre7"),
        "{shown}"
    );
    // The setup has it too.
    let script = Scripted::new().allow(PROC, recorded("proc/connected").as_str());
    let node = Node::new(script.allow(SHOW, recorded("show/full").replace("}", "").as_str()));
    let error = node.assemble(&disk(), &volumes()).unwrap_err();
    let shown = format!("{} {error:?}", told(&error));
    assert!(
        shown.contains("cannot make sense of what `drbdsetup show 0` printed"),
        "{shown}"
    );
    assert!(!shown.contains("sekrit"), "{shown}");
}

#[test]
fn other_kernels_are_refused() {
    let (disk, volumes) = (disk(), volumes());
    let target = Target::new(&disk, "web").with_children(&volumes);
    let refused = |output: Output| {
        let node = Node::new(Scripted::new().allow(PROC, output));
        let check = DrbdDriver
            .check(&node.host, &target, Operation::Create)
            .unwrap_err();
        let assemble = DrbdDriver.assemble(&node.host, &target).unwrap_err();
        assert_eq!(check.hint(), assemble.hint());
        (told(&check), check.hint().unwrap())
    };
    let (error, _) =
        refused("version: 9.1.7 (api:2/proto:110-121)\nTransports (api:18): tcp (9.1.7)\n".into());
    assert!(
        error.ends_with("the kernel has drbd 9.1.7, and only 8.4 is supported"),
        "{error}"
    );
    let (error, _) = refused("version: 8.3.11 (api:88/proto:86-96)\n".into());
    assert!(
        error.ends_with("the kernel has drbd 8.3.11, and only 8.4 is supported"),
        "{error}"
    );
    let missing = Output::new(Exit::Exited(1)).with_stderr("cat: /proc/drbd: No such file or directory\n");
    let (error, hint) = refused(missing);
    assert!(error.ends_with("the kernel module drbd is not loaded"), "{error}");
    assert!(hint.contains("modprobe drbd"), "{hint}");
}

#[test]
fn the_helper_is_the_one_that_the_cluster_wants() {
    let script = Scripted::new().allow("cat /sys/module/drbd/parameters/usermode_helper", "/bin/true\n");
    let node = Node::new(script);
    check_usermode_helper(&node.host, "/bin/true").unwrap();
    let error = check_usermode_helper(&node.host, "/bin/other").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel module drbd calls /bin/true for its events, not /bin/other"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("`echo /bin/other >/sys/module/drbd")
    );
    let used = used_minors(&Node::with("two_minors", "full").host).unwrap();
    assert_eq!(used, [0, 5]);
}

#[test]
fn what_runs_is_told_with_its_volumes_and_ends() {
    let script = Scripted::new()
        .allow(PROC, recorded("proc/two_minors"))
        .allow(SHOW, recorded("show/full"))
        .allow("drbdsetup show 5", recorded("show/ipv6_no_disk"));
    let found = minors(&Node::new(script).host).unwrap();
    let first = DrbdMinor {
        minor: 0,
        ours: true,
        data: Some("/dev/xenvg/d0".into()),
        meta: Some("/dev/xenvg/m0".into()),
        local: Some("192.168.78.1:11000".parse().unwrap()),
        remote: Some("192.168.78.2:11000".parse().unwrap()),
        primary: true,
        secret: Some(Secret::new("sekrit")),
    };
    assert_eq!(found[0], first);
    let second = &found[1];
    assert_eq!((second.minor, second.ours, second.primary), (5, true, false));
    assert_eq!(
        (&second.data, second.remote),
        (&None, Some("[fd00::2]:11005".parse().unwrap()))
    );
    assert!(!format!("{found:?}").contains("sekrit"));
    let sent = serde_json::to_value(&found).unwrap();
    assert_eq!(serde_json::from_value::<Vec<DrbdMinor>>(sent).unwrap(), found);
}

#[test]
fn metadata_is_made_once() {
    let disk = disk();
    let create = |script: Scripted, children: &[Option<BlockDevice>]| {
        let node = Node::new(changeable(script));
        let target = Target::new(&disk, "web").with_children(children);
        (DrbdDriver.create(&node.host, &target), node.changes())
    };
    let free = || Scripted::new().allow(PROC, FREE);
    let (made, changes) = create(
        free().allow(GENERATIONS, Output::new(Exit::Exited(1))),
        &volumes(),
    );
    assert_eq!(made.unwrap(), Change::Made);
    assert_eq!(
        changes,
        [
            "dd if=/dev/zero of=/dev/xenvg/m0 bs=1M count=1 oflag=direct conv=notrunc,fsync",
            "drbdmeta --force /dev/drbd0 v08 /dev/xenvg/m0 flex-external create-md",
        ]
    );
    let (made, changes) = create(free().allow(GENERATIONS, JUST_CREATED), &volumes());
    assert_eq!((made.unwrap(), changes), (Change::AlreadyThere, vec![]));
    let (made, changes) = create(running(Scripted::new(), "connected", "full"), &volumes());
    assert_eq!((made.unwrap(), changes), (Change::AlreadyThere, vec![]));
    // Metadata of a device that was in use would say wrong things about a new one.
    let (refused, changes) = create(free().allow(GENERATIONS, USED), &volumes());
    let error = refused.unwrap_err();
    assert_eq!((error.kind(), changes), (ErrorKind::AlreadyExists, vec![]));
    // That of another device is not written over.
    let busy =
        Output::new(Exit::Exited(20)).with_stderr("open(/dev/xenvg/m0) failed: Device or resource busy\n");
    let (refused, changes) = create(free().allow(GENERATIONS, busy), &volumes());
    assert_eq!((refused.unwrap_err().kind(), changes), (ErrorKind::Busy, vec![]));

    let resized = |index: usize, size: Mebibytes| {
        let mut volumes = volumes();
        volumes[index].as_mut().unwrap().bytes = Some(size.bytes());
        volumes
    };
    for (children, message) in [
        (resized(1, Mebibytes(127)), "should have from 128M to 1.0G"),
        (resized(1, Mebibytes(1025)), "should have from 128M to 1.0G"),
        (resized(0, Mebibytes(63)), "less than the 64M of the disk"),
        (
            [None, volumes()[1].clone()],
            "its data volume or its metadata volume is not there",
        ),
    ] {
        let (refused, changes) = create(free(), &children);
        let error = told(&refused.unwrap_err());
        assert!(error.contains(message), "{error}");
        assert_eq!(changes, [""; 0]);
    }
}

#[test]
fn only_what_nobody_ever_wrote_to_is_declared_good() {
    let disk = disk();
    let target = Target::new(&disk, "web");
    for (proc, generations, expected) in [
        ("inconsistent", JUST_CREATED, &["drbdsetup primary 0 --force"][..]),
        ("inconsistent", USED, &["drbdsetup primary 0"]),
        ("cut_secondary", JUST_CREATED, &["drbdsetup primary 0"]),
        ("synctarget", JUST_CREATED, &["drbdsetup primary 0"]),
        ("connected", JUST_CREATED, &[]),
    ] {
        let script = Scripted::new().allow("drbdsetup get-gi 0", generations);
        let node = Node::new(changeable(running(script, proc, "full")));
        DrbdDriver.open(&node.host, &target, true).unwrap();
        assert_eq!(node.changes(), expected, "{proc}");
    }
}

#[test]
fn a_new_disk_is_opened_without_its_peer_only_if_nobody_ever_wrote_to_it() {
    let disk = disk();
    let target = Target::new(&disk, "web");
    for (proc, generations, expected) in [
        ("wfconnection", JUST_CREATED, &["drbdsetup primary 0 --force"][..]),
        ("cut_secondary", JUST_CREATED, &["drbdsetup primary 0"]),
        ("inconsistent", JUST_CREATED, &["drbdsetup primary 0 --force"]),
        ("inconsistent", USED, &["drbdsetup primary 0"]),
    ] {
        let script = Scripted::new().allow("drbdsetup get-gi 0", generations);
        let node = Node::new(changeable(running(script, proc, "full")));
        DrbdDriver.open_new(&node.host, &target).unwrap();
        assert_eq!(node.changes(), expected, "{proc}");
    }
}

#[test]
fn why_it_cannot_be_primary_is_told() {
    let disk = disk();
    let target = Target::new(&disk, "web");
    let refused = |answer: Output, log: &str| {
        let script = Scripted::new()
            .allow("drbdsetup primary 0", answer)
            .allow("dmesg", log);
        let node = Node::new(changeable(
            running(script, "split_brain", "no_net").expect(
                PROC,
                recorded("proc/disconnected_primary")
                    .replace("Primary", "Secondary")
                    .as_str(),
            ),
        ));
        DrbdDriver.open(&node.host, &target, true).unwrap_err()
    };
    let error = refused(failed("primary_no_access"), "");
    assert!(
        told(&error).contains("no data that is up to date can be reached (StandAlone"),
        "{error}"
    );
    let error = refused(failed("primary_no_access"), &recorded("log/split_brain"));
    assert!(told(&error).contains("split brain: the copies on this node and on 192.168.78.2 differ"));
    let hint = error.hint().unwrap();
    assert!(
        hint.contains(
            "run there: `drbdsetup disconnect ipv4:192.168.78.2:11000 ipv4:192.168.78.1:11000; drbdsetup secondary 5 && drbdsetup invalidate 5`"
        ),
        "{hint}"
    );
    assert!(hint.contains("run here: `drbdsetup disconnect ipv4:192.168.78.1:11000 ipv4:192.168.78.2:11000; drbdsetup secondary 0 && drbdsetup invalidate 0`"), "{hint}");
    let peer = Output::new(Exit::Exited(11))
        .with_stderr("0: State change failed: (-1) Multiple primaries not allowed by config\n");
    let error = refused(peer, "");
    assert!(told(&error).contains("the other node is primary, and only one may be"));
    assert_eq!(error.kind(), ErrorKind::Busy);
}

#[test]
fn the_state_of_the_mirror_is_told() {
    use LocalDiskStatus::{Faulty, Okay, Sync, Unknown};
    let disk = disk();
    let target = Target::new(&disk, "web");
    for (proc, show, percent, seconds, degraded, ldisk) in [
        ("connected", "full", None, None, false, Okay),
        ("dual_primary", "full", None, None, false, Okay),
        ("verify_source", "full", None, None, false, Okay),
        ("inconsistent", "full", None, None, true, Unknown),
        ("syncsource", "full", Some(11.8), Some(30), true, Okay),
        ("synctarget", "full", Some(11.8), Some(15), true, Sync),
        // Half of what the kernel says nothing of: 56472 of 65536 KiB differ.
        ("paused_target", "full", Some(13.8), None, true, Sync),
        ("cut_primary", "full", None, None, true, Okay),
        ("split_brain", "no_net", None, None, true, Faulty),
        ("diskless", "no_disk", None, None, true, Faulty),
    ] {
        let sync = DrbdDriver
            .sync_status(&Node::with(proc, show).host, &target)
            .unwrap();
        let rounded = sync.sync_percent.map(|percent| (percent * 10.0).round() / 10.0);
        assert_eq!(
            (rounded, sync.is_degraded, sync.ldisk_status),
            (percent, degraded, ldisk),
            "{proc}"
        );
        assert_eq!(sync.estimated_time.is_some(), seconds.is_some(), "{proc}");
    }
    let progress = tree::wait_sync(&Node::with("paused_source", "full").host, &[target]).unwrap();
    assert!(
        !progress.done && (13.0..14.0).contains(&progress.percent),
        "{progress:?}"
    );
    let node = Node::new(changeable(running(Scripted::new(), "split_brain", "no_net")));
    let error = tree::wait_sync(&node.host, &[target]).unwrap_err();
    assert!(
        told(&error).starts_with("cannot connect drbd0/5 port 11000 on node node1: split brain"),
        "{error}"
    );
}

#[test]
fn disks_that_are_not_for_this_node_are_refused() {
    let node = Node::new(Scripted::new());
    let refused = |change: &dyn Fn(&mut DynamicParams)| {
        let mut disk = disk();
        change(disk.dynamic_params.as_mut().unwrap());
        told(&node.assemble(&disk, &volumes()).unwrap_err())
    };
    let error = refused(&|params| params.remote_ip = "fd00::1".to_owned());
    assert!(error.ends_with(
        "192.168.78.1 and fd00::1 cannot be connected: they must be two addresses of the same family"
    ));
    let error = refused(&|params| params.remote_ip.clone_from(&params.local_ip));
    assert!(error.contains("cannot be connected"), "{error}");
    let error = refused(&|params| params.local_ip = "n1".to_owned());
    assert!(error.ends_with("'n1' is not an IP address"), "{error}");
    let elsewhere = Disk {
        dynamic_params: None,
        ..disk()
    };
    let error = told(&node.assemble(&elsewhere, &volumes()).unwrap_err());
    assert!(error.contains("the disk does not live here"), "{error}");
    let mut params = Object::new();
    params.insert("protocol".to_owned(), json!("D"));
    let odd = Disk { params, ..disk() };
    assert!(told(&node.assemble(&odd, &volumes()).unwrap_err()).contains("protocol"));
}

#[test]
fn a_dry_run_tells_what_would_be_done() {
    let lvs = r#"{"report":[{"lv":[]}]}"#;
    let script = Scripted::new()
        .allow(PROC, FREE)
        .allow("lvs ...", lvs)
        .allow("pvs ...", r#"{"report":[{"pv":[{"pv_name":"/dev/a","vg_name":"xenvg","pv_size":"1073741824","pv_free":"1073741824","pv_missing":"","pv_allocatable":"allocatable","vg_extent_size":"4194304"}]}]}"#)
        .allow("cat /sys/block/drbd0/size", Output::new(Exit::Exited(1)).with_stderr("cat: /sys/block/drbd0/size: No such file or directory"))
        .allow(SHOW, failed("no_minor"))
        .allow(GENERATIONS, Output::new(Exit::Exited(20)).with_stderr("open(/dev/xenvg/m0) failed: No such file or directory"));
    let state = Path::new("/nonexistent");
    let unasked = Arc::new(DryRun::new(System));
    let mut host = Host::dry_run("node1", &Settings::under(state), state, unasked);
    let dry_run = Arc::new(DryRun::new(script));
    host.runner = Arc::<DryRun<Scripted>>::clone(&dry_run);
    let disk = disk();
    let target = Target::new(&disk, "");
    tree::create(&host, &target, "text").unwrap();
    tree::assemble(&host, &target, Activation::primary("kvm")).unwrap();
    let changes = dry_run.changes();
    let of_drbd: Vec<_> = changes
        .iter()
        .filter(|line| line.starts_with("drbd"))
        .map(String::as_str)
        .collect();
    let create = "drbdmeta --force /dev/drbd0 v08 /dev/xenvg/m0 flex-external create-md";
    let expected = [&[create], &ATTACH[..], &CONNECT, &["drbdsetup primary 0"]].concat();
    assert_eq!(of_drbd, expected);
}
