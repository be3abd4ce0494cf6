//! Moving a disk's data: conversion to other templates, images, wiping, snapshots that are restored; killed half-way, too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Sandbox, text};

const MIB: usize = 1 << 20;

/// The file that the data of a disk of instance `web` is in.
fn file(sandbox: &Sandbox, index: usize) -> PathBuf {
    let info = sandbox.json("info web");
    let disk = &info["disks"][index];
    let name = disk["logical_id"][1].as_str().unwrap();
    match text(disk, "dev_type") {
        "ext" => sandbox.state().join("ext-volumes").join(name).join("data"),
        _ => PathBuf::from(name),
    }
}

/// Bytes with a hole in the middle.
fn pattern(seed: usize, size: usize) -> Vec<u8> {
    let byte = |at: usize| match (size / 3..size / 2).contains(&at) {
        true => 0,
        false => (at.wrapping_mul(31) ^ (at >> 9) ^ seed) as u8,
    };
    (0..size).map(byte).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

/// An instance with two disks of 4 and 2 MiB, and what is on them.
fn with_data(template: &str) -> (Sandbox, [Vec<u8>; 2]) {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!(
        "add web -t {template} --disk 0:size=4M,name=root --disk 1:size=2M,mode=ro"
    ));
    let data = [pattern(1, 4 * MIB), pattern(2, 2 * MIB)];
    for (index, bytes) in data.iter().enumerate() {
        write(&file(&sandbox, index), bytes);
    }
    (sandbox, data)
}

fn assert_data(sandbox: &Sandbox, data: &[Vec<u8>; 2]) {
    for (index, bytes) in data.iter().enumerate() {
        assert!(fs::read(file(sandbox, index)).unwrap() == *bytes, "disk {index}");
    }
}

#[test]
fn disks_keep_their_data_through_every_template() {
    let (sandbox, data) = with_data("file");
    for template in ["ext", "sharedfile", "file", "sharedfile", "ext", "file"] {
        let converted = sandbox.json(&format!("convert web -t {template} --verify"));
        assert_eq!(converted["warnings"], json!([]));
        let disks = converted["disks"].as_array().unwrap();
        let told: Vec<Value> = disks
            .iter()
            .map(|disk| json!([disk["dev_type"], disk["size"], disk["mode"], disk["name"]]))
            .collect();
        assert_eq!(
            told,
            [
                json!([template, 4, "rw", "root"]),
                json!([template, 2, "ro", null])
            ]
        );
        assert_data(&sandbox, &data);
        // What was a hole is one again.
        let room = fs::metadata(file(&sandbox, 0)).unwrap().blocks() * 512;
        assert!(room < 4 * MIB as u64, "{template}: {room}");
        assert_eq!(sandbox.json("verify"), json!([]));
        assert_eq!(sandbox.json("list --detached"), json!([]));
        assert_eq!(sandbox.json("info web")["disks_active"], false);
        assert_eq!(sandbox.loop_devices(), [""; 0]);
    }
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

#[test]
fn a_conversion_that_is_killed_goes_on_where_it_stopped_or_is_undone() {
    for (deed, template) in [("resume", "ext"), ("abort", "file")] {
        let (sandbox, data) = with_data("file");
        let child = sandbox.start("convert web -t ext --bwlimit 1M");
        let copying = |operation: &Value| {
            operation["step"]
                .as_str()
                .is_some_and(|step| step.starts_with("copy"))
        };
        let operation = sandbox.wait_for_operation(copying);
        let id = text(&operation, "id");
        let progress = || {
            let shown = sandbox.json(&format!("operation show {id}"));
            let steps = shown["steps"].as_array().unwrap().clone();
            steps
                .iter()
                .filter_map(|step| step["progress"].as_u64())
                .sum::<u64>()
        };
        while progress() < 2 * MIB as u64 {
            std::thread::sleep(Duration::from_millis(20));
        }
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait_with_output().unwrap();
        let stopped = progress();
        assert!(stopped < 6 * MIB as u64, "{stopped}");
        sandbox.ok(&format!("operation {deed} {id}"));
        assert_eq!(sandbox.json("info web")["disk_template"], template);
        assert_data(&sandbox, &data);
        assert_eq!(sandbox.json("verify"), json!([]));
        assert_eq!(sandbox.json("list --detached"), json!([]));
        assert_eq!(sandbox.loop_devices(), [""; 0]);
        sandbox.ok("remove web");
        sandbox.assert_empty();
    }
}

#[test]
fn a_wipe_that_is_broken_off_goes_on_only_when_it_is_told_to() {
    for deed in ["resume", "abort"] {
        let (sandbox, [data, _]) = with_data("file");
        let path = file(&sandbox, 0);
        let child = sandbox.start("wipe web --disk 0 --bwlimit 1M");
        let operation = sandbox.wait_for_operation(|operation| operation["step"] == "wipe-disk");
        let id = text(&operation, "id");
        let wiped = || {
            let shown = sandbox.json(&format!("operation show {id}"));
            let steps = shown["steps"].as_array().unwrap().clone();
            steps
                .iter()
                .find_map(|step| step["progress"].as_u64())
                .unwrap_or(0) as usize
        };
        while wiped() == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert!(
            told.contains(&format!("hint: 'gnt-disk operation resume {id}' goes on")),
            "{told}"
        );
        let stopped = wiped();
        assert!(stopped < 4 * MIB, "{stopped}");
        for command in ["activate web", "grow web 0 1M", "remove web"] {
            let error = sandbox.fails(1, command);
            assert!(
                error.contains("it does not go on by itself"),
                "{command}: {error}"
            );
            for way in ["resume", "abort"] {
                assert!(
                    error.contains(&format!("operation {way} {id}")),
                    "{command}: {error}"
                );
            }
        }
        // At most the piece that was on its way.
        let intact = (stopped + MIB).min(4 * MIB);
        assert!(fs::read(&path).unwrap()[intact..] == data[intact..]);
        let ended = sandbox.run(&format!("operation {deed} {id}"));
        if deed == "resume" {
            assert_eq!(ended.status, 0, "{ended:?}");
            assert!(fs::read(&path).unwrap() == vec![0; 4 * MIB]);
        } else {
            assert_eq!(ended.status, 3, "{ended:?}");
            assert!(ended.stderr.contains("may be overwritten"), "{ended:?}");
            assert!(fs::read(&path).unwrap()[intact..] == data[intact..]);
        }
        sandbox.ok("activate web");
        sandbox.ok("remove web");
        sandbox.assert_empty();
    }
}

#[test]
fn what_cannot_be_converted_is_refused() {
    let (sandbox, data) = with_data("file");
    let files = sandbox.files();
    for (arguments, status, message) in [
        ("-t file", 1, "are file disks already"),
        ("-t diskless", 1, "no disks can be converted to diskless"),
        ("-t blockdev", 1, "no disks can be converted to blockdev"),
        ("-t drbd", 1, "drbd"),
        ("-t ext -n vm:vm", 1, "no secondary node"),
        ("-t ext -n nowhere", 1, "nowhere"),
        ("-t ext --disk 7:provider=x", 1, "has no disk 7"),
        ("-t ext --disk provider=x", 2, "no disk is named"),
        (
            "-t sharedfile --ext-params colour=red",
            2,
            "colour is not a parameter of sharedfile disks",
        ),
        ("-t ext --ext-params provider=none", 1, "none"),
        ("-t sharedfile --bwlimit 0", 2, "would never end"),
    ] {
        let error = sandbox.fails(status, &format!("convert web {arguments}"));
        assert!(error.contains(message), "{arguments}: {error}");
    }
    assert_eq!(sandbox.changed_since(&files), [].into());
    sandbox.ok("activate web");
    let error = sandbox.fails(1, "convert web -t ext");
    assert!(error.contains("run 'gnt-disk deactivate web' first"), "{error}");
    assert_data(&sandbox, &data);
}

#[test]
fn a_failed_conversion_leaves_everything_as_it_was() {
    let (sandbox, data) = with_data("file");
    let sandbox = sandbox.with_odd_providers();
    let params = format!(
        "provider=create-fails-after-making,dir={}",
        sandbox.path("volumes").display()
    );
    let error = sandbox.fails(1, &format!("convert web -t ext --disk 1:{params}"));
    assert!(error.contains("everything it did was undone"), "{error}");
    assert_eq!(sandbox.json("info web")["disk_template"], "file");
    assert_data(&sandbox, &data);
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

#[test]
fn a_dry_run_tells_what_would_be_copied() {
    let (sandbox, data) = with_data("file");
    let told = sandbox.ok("--dry-run convert web -t sharedfile").stdout;
    let copies = told.lines().filter(|line| line.starts_with("# copy ")).count();
    assert_eq!(copies, 2, "{told}");
    assert_eq!(sandbox.json("info web")["disk_template"], "file");
    assert_data(&sandbox, &data);
}

#[test]
fn an_image_is_written_and_a_disk_is_wiped() {
    for template in ["file", "ext"] {
        let (sandbox, mut data) = with_data(template);
        let image = pattern(3, MIB + 12345);
        fs::write(sandbox.path("image"), &image).unwrap();
        let arguments = format!("image web root {} --verify", sandbox.path("image").display());
        assert_eq!(sandbox.json(&arguments)["warnings"], json!([]));
        data[0][..image.len()].copy_from_slice(&image);
        assert_data(&sandbox, &data);

        sandbox.ok("wipe web --disk 1");
        data[1].fill(0);
        assert_data(&sandbox, &data);
        // They are written, not only given back.
        assert!(fs::metadata(file(&sandbox, 1)).unwrap().blocks() * 512 >= 2 * MIB as u64);
        let error = sandbox.fails(1, &format!("image web 1 {}", file(&sandbox, 0).display()));
        assert!(error.contains("less than the 4194304 bytes"), "{error}");
        let error = sandbox.fails(1, "image web 0 /no/such/image");
        assert!(error.contains("cannot read the image /no/such/image"), "{error}");
        sandbox.fails(2, "wipe web");
        sandbox.ok("wipe web --all");
        assert_data(&sandbox, &[vec![0; 4 * MIB], vec![0; 2 * MIB]]);
        assert_eq!(sandbox.json("verify"), json!([]));
        assert_eq!(sandbox.loop_devices(), [""; 0]);
        sandbox.ok("activate web");
        for arguments in ["wipe web --all", "image web 0 image"] {
            let error = sandbox.fails(1, arguments);
            assert!(error.contains("run 'gnt-disk deactivate web' first"), "{error}");
        }
    }
}

#[test]
fn a_disk_is_restored_from_a_snapshot() {
    let (sandbox, data) = with_data("ext");
    sandbox.ok("snapshot web --disk 0:snapshot_name=before");
    write(&file(&sandbox, 0), &pattern(9, 4 * MIB));
    let restored = sandbox.json("snapshot web --restore 0:before --verify");
    assert_eq!(restored["disks"][0]["name"], "root");
    assert_data(&sandbox, &data);
    let error = sandbox.fails(1, "snapshot web --restore 1:before");
    assert!(error.contains("is a snapshot of disk/0"), "{error}");
    let error = sandbox.fails(1, "snapshot web --restore 0:after");
    assert!(error.contains("there is no detached disk after"), "{error}");
    sandbox.fails(2, "snapshot web --restore before");
    assert_eq!(sandbox.json("verify"), json!([]));

    sandbox.ok("activate web");
    sandbox.fails(1, "snapshot web --restore 0:before");
    sandbox.ok("snapshot web --remove before");
    assert_eq!(sandbox.json("list --detached"), json!([]));
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

#[test]
fn a_detached_disk_is_no_snapshot() {
    let (sandbox, data) = with_data("ext");
    sandbox.ok("snapshot web --disk 0:snapshot_name=before");
    sandbox.ok("add db --disk size=4M,name=loose");
    sandbox.ok("modify db --disk loose:detach");
    for arguments in ["--remove loose", "--restore 0:loose"] {
        let error = sandbox.fails(1, &format!("snapshot web {arguments}"));
        assert!(error.contains("is no snapshot, but a detached disk"), "{error}");
        assert!(error.contains("--disk attach:UUID"), "{error}");
    }
    let error = sandbox.fails(1, "snapshot db --remove before");
    assert!(
        error.contains("is a snapshot of another instance's disk"),
        "{error}"
    );
    assert_data(&sandbox, &data);
    assert!(!sandbox.ok("export").stdout.contains("snapshot-of"));
    // Attached, it is a disk like any other.
    sandbox.ok("modify web --disk attach:before");
    sandbox.ok("modify web --disk before:detach");
    sandbox.fails(1, "snapshot web --remove before");
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.ok("modify db --disk attach:loose --disk attach:before --disk loose:remove --disk before:remove");
    sandbox.ok("remove db");
    sandbox.ok("remove web");
    sandbox.assert_empty();
}
