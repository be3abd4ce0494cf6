//! Replacing and recreating disks, and emptying a node, as far as one machine without drbd goes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Sandbox, text};

#[test]
fn lost_disks_are_made_anew() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web -t file --disk 0:size=2M --disk 1:size=3M");
    let shown = sandbox.json("info web");
    let path = |index: usize| {
        shown["disks"][index]["logical_id"][1]
            .as_str()
            .unwrap()
            .to_owned()
    };

    let refused = sandbox.fails(1, "recreate web");
    assert!(
        refused.contains("disk/0")
            && refused.contains("is still there on node")
            && refused.contains("--force"),
        "{refused}"
    );
    fs::remove_file(path(1)).unwrap();
    let dry = sandbox.ok("--dry-run recreate web --disk 1");
    assert!(dry.stdout.contains(&path(1)), "{dry:?}");
    assert!(!fs::exists(path(1)).unwrap());

    let made = sandbox.json("recreate web --disk 1");
    assert_eq!(made["disks"][1]["uuid"], shown["disks"][1]["uuid"]);
    assert_eq!(fs::metadata(path(1)).unwrap().len(), 3 << 20);

    fs::write(path(0), "old").unwrap();
    sandbox.ok("recreate-disks web --disk 0 --force");
    assert_eq!(fs::read(path(0)).unwrap(), vec![0; 2 << 20]);

    sandbox.ok("activate web");
    let active = sandbox.fails(1, "recreate web");
    assert!(active.contains("deactivate web"), "{active}");
}

#[test]
fn only_mirrored_disks_have_something_to_replace() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M");
    for arguments in ["replace-disks web -p", "replace-disks web -n node2"] {
        let refused = sandbox.fails(1, arguments);
        assert!(refused.contains("no disk of web is mirrored"), "{refused}");
    }
    for (arguments, message) in [
        ("replace-disks web", "required arguments were not provided"),
        ("replace-disks web -p -s", "cannot be used with"),
        ("replace-disks web -a --disks 0", "cannot be used with"),
        ("recreate web --disk 0 -n other", "cannot be used with"),
        ("node evacuate n -p -s", "cannot be used with"),
        ("node evacuate n --parallel 0", "invalid value '0'"),
    ] {
        let refused = sandbox.fails(2, arguments);
        assert!(refused.contains(message), "{arguments}: {refused}");
    }
}

#[test]
fn what_cannot_leave_a_node_is_told_one_by_one() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let node = text(&sandbox.json("cluster info"), "master").to_owned();
    let nothing = sandbox.json(&format!("node evacuate {node}"));
    assert_eq!(nothing, json!({"node": node, "instances": []}));

    sandbox.ok("add here -t file --disk 0:size=1M");
    sandbox.ok("add anywhere --disk 0:size=1M");
    let refused = sandbox.run(&format!("node evacuate {node}"));
    assert_eq!(
        (refused.status, refused.stdout),
        (1, format!("0 instances were moved away from {node}\n"))
    );
    let refused = refused.stderr;
    for told in [
        "anywhere: cannot be moved: there is no other node for instance anywhere that is neither offline nor drained",
        "here: cannot be moved: there is no other node for instance here",
        "hint: name a node with -n NODE",
        "2 of 2 instances could not be moved away",
    ] {
        assert!(refused.contains(told), "{told}: {refused}");
    }
    let run = sandbox.run(&format!("--json node evacuate {node}"));
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    let told = answer["instances"].as_array().unwrap();
    assert!(
        told.iter().all(|instance| instance["error"].is_string()),
        "{answer}"
    );
    assert_eq!((run.status, told.len()), (1, 2));
    assert_eq!(sandbox.json("list").as_array().unwrap().len(), 2);
}
