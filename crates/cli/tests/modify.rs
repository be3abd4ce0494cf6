//! Changing an instance's disks, several at once, in use and not: all or none.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::Sandbox;

fn names(sandbox: &Sandbox) -> Vec<Value> {
    let list = sandbox.json("list web");
    let disks = list[0]["disks"].as_array().unwrap();
    disks.iter().map(|disk| disk["name"].clone()).collect()
}

fn with_disks(names: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let disks: String = names
        .iter()
        .map(|name| format!(" --disk size=1M,name={name}"))
        .collect();
    sandbox.ok(&format!("add web{disks}"));
    sandbox
}

#[test]
fn nothing_is_removed_when_a_later_change_fails() {
    for active in [false, true] {
        let sandbox = with_disks(&["a", "b"]).with_odd_providers();
        if active {
            sandbox.ok("activate web");
        }
        let failing = format!(
            "add:size=1M,provider=create-fails-after-making,dir={}",
            sandbox.path("volumes").display()
        );
        let error = sandbox.fails(1, &format!("modify web --disk 0:remove --disk {failing}"));
        assert!(error.contains("everything it did was undone"), "{error}");
        assert_eq!(names(&sandbox), ["a", "b"]);
        assert_eq!(sandbox.json("verify"), json!([]));
        assert_eq!(sandbox.json("info web")["disks"][0]["status"], "ok");
        sandbox.ok("remove web");
        sandbox.assert_empty();
    }
}

#[test]
fn a_disk_can_be_moved_to_another_place() {
    for active in [false, true] {
        let sandbox = with_disks(&["a", "b", "c"]);
        if active {
            sandbox.ok("activate web");
        }
        sandbox.ok("modify web --disk c:detach --disk 0:attach,name=c");
        assert_eq!(names(&sandbox), ["c", "a", "b"]);
        assert_eq!(sandbox.json("verify"), json!([]));
        sandbox.ok("modify web --disk -1:detach");
        let error = sandbox.fails(1, "modify web --disk attach:b --disk attach:b");
        assert!(error.contains("there is no detached disk b"), "{error}");
        sandbox.ok("modify web --disk attach:b");
        assert_eq!(names(&sandbox), ["c", "a", "b"]);
        sandbox.ok("remove web");
        sandbox.assert_empty();
    }
}

#[test]
fn names_are_names_and_no_other_disks() {
    let sandbox = with_disks(&["a", "b"]);
    for (change, status, message) in [
        ("0:name=", 2, "\"\" is not a valid disk name"),
        (
            "0:name=7",
            2,
            "\"7\" is not a valid disk name: expected more than a number",
        ),
        ("0:name=b", 1, "is called b already"),
        ("add:size=1M,name=b", 1, "is called b already"),
    ] {
        let error = sandbox.fails(status, &format!("modify web --disk {change}"));
        assert!(error.contains(message), "{change}: {error}");
    }
    assert_eq!(names(&sandbox), ["a", "b"]);
    sandbox.ok("modify web --disk 0:name=a --disk b:name=none --disk add:size=1M,name=b");
    assert_eq!(names(&sandbox), [json!("a"), json!(null), json!("b")]);

    sandbox.ok("add db --disk size=1M,name=b");
    sandbox.ok("modify db --disk b:detach");
    sandbox.ok("modify web --disk attach:b");
    let error = sandbox.fails(1, "grow web b 1M");
    assert!(
        error.contains("several disks of web are called b\n  hint: name the disk by its index or UUID"),
        "{error}"
    );
    sandbox.ok("grow web -1 1M");
}

#[test]
fn missing_volumes_do_not_keep_others_from_being_changed() {
    let sandbox = with_disks(&["a", "b", "c", "d"]);
    for index in [0, 1] {
        let disk = sandbox.json("list web")[0]["disks"][index].clone();
        let volume = disk["logical_id"][1].as_str().unwrap();
        fs::remove_dir_all(sandbox.state().join("ext-volumes").join(volume)).unwrap();
    }
    sandbox.ok("modify web --disk 1:name=lost");
    sandbox.ok("modify web --disk 0:remove");
    assert_eq!(names(&sandbox), ["lost", "c", "d"]);
    sandbox.ok("modify web --disk lost:remove");
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

#[test]
fn a_disk_that_is_about_to_be_removed_cannot_be_attached() {
    let sandbox = with_disks(&["a"]).with_odd_providers();
    let dir = sandbox.path("volumes");
    let disk = format!(
        "size=1M,name=doomed,provider=hangs,on=remove,dir={}",
        dir.display()
    );
    sandbox.ok(&format!("modify web --disk add:{disk}"));
    sandbox.ok("add db -t diskless");
    let mut child = sandbox.start("modify web --disk doomed:remove");
    sandbox.wait_for_operation(|operation| operation["step"] == "remove-disk");
    child.kill().unwrap();
    child.wait().unwrap();

    let error = sandbox.fails(1, "modify db --disk attach:doomed");
    assert!(error.contains("is being worked on by operation"), "{error}");
    assert!(error.contains("(modify web)\n  hint: wait until"), "{error}");
    let disks = sandbox.run("list db --no-headers -o disk.count").stdout;
    assert_eq!(disks.trim(), "0");
    // Somebody has mended it.
    let mended = sandbox.path("odd/path-with-newline/provider");
    fs::copy(mended, sandbox.path("odd/hangs/provider")).unwrap();
    sandbox.ok("operation resume --all");
    assert_eq!(sandbox.json("list --detached"), json!([]));
    for instance in ["web", "db"] {
        sandbox.ok(&format!("remove {instance}"));
    }
    assert_eq!(sandbox.json("verify"), json!([]));
}
