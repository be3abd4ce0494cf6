//! What a restart of the node, or somebody's hand, leaves behind: devices that are gone, links that lead elsewhere,
//! volumes that are missing. It is told, it can be mended, and it keeps nobody from removing what is left.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PATIENCE, Sandbox, text};

/// Detaches every loop device behind the program's back. One that another program looks at goes away a moment later.
fn detach_all(sandbox: &Sandbox) {
    for device in sandbox.loop_devices() {
        let status = Command::new("losetup").args(["--detach", &device]).status();
        assert!(status.unwrap().success(), "{device}");
    }
    let deadline = Instant::now() + PATIENCE;
    while !sandbox.loop_devices().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", sandbox.loop_devices());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What must need attention prints as JSON.
fn attention(sandbox: &Sandbox, arguments: &str) -> Value {
    let run = sandbox.run(&format!("--json {arguments}"));
    assert_eq!(run.status, 3, "{arguments}: {run:?}");
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn after_a_restart_verify_and_info_tell_what_is_not_in_use_and_activate_mends_it() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M --disk 1:size=2M");
    sandbox.ok("add files -t file --disk 0:size=1M");
    for instance in ["web", "files"] {
        sandbox.ok(&format!("activate {instance}"));
    }
    detach_all(&sandbox);

    let findings = attention(&sandbox, "verify");
    let told: Vec<_> = findings
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (text(finding, "kind"), text(finding, "mend")))
        .collect();
    assert_eq!(told, [("not-active", "gnt-disk activate web"); 2], "{findings}");
    let info = attention(&sandbox, "info web");
    for disk in info["disks"].as_array().unwrap() {
        assert_eq!(disk["status"], "inactive", "{info}");
        assert_eq!(
            json!([disk["dev_path"], disk["link"]]),
            json!([null, null]),
            "{info}"
        );
    }
    let info = sandbox.run("info web");
    assert!(
        info.stderr.contains("should be active, and is not attached"),
        "{info:?}"
    );
    assert_eq!(sandbox.run("info files").status, 0);

    sandbox.ok("activate web");
    assert_eq!(sandbox.json("verify"), json!([]));
    assert_eq!(sandbox.json("info web")["disks"][1]["status"], "ok");

    fs::remove_dir_all(sandbox.state().join("instance-disks")).unwrap();
    let findings = attention(&sandbox, "verify");
    assert_eq!(findings.as_array().unwrap().len(), 3, "{findings}");
    for instance in ["web", "files"] {
        sandbox.ok(&format!("activate {instance}"));
    }
    assert_eq!(sandbox.json("verify"), json!([]));
    for instance in ["web", "files"] {
        sandbox.ok(&format!("remove {instance}"));
    }
    sandbox.assert_empty();
}

#[test]
fn a_link_that_leads_to_another_disk_is_told() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M --disk 1:size=2M");
    sandbox.ok("activate web");
    let link = |index: u32| sandbox.state().join(format!("instance-disks/web:{index}"));
    let other = fs::read_link(link(1)).unwrap();
    fs::remove_file(link(0)).unwrap();
    std::os::unix::fs::symlink(&other, link(0)).unwrap();

    let findings = attention(&sandbox, "verify");
    assert_eq!(findings.as_array().unwrap().len(), 1, "{findings}");
    let message = text(&findings[0], "message");
    let leads = format!("has a link that leads to {}", other.display());
    assert!(message.contains(&leads), "{message}");
    let info = attention(&sandbox, "info web");
    assert_eq!(info["disks"][0]["status"], "inactive");
    assert_eq!(info["disks"][0]["link"], json!(null));
    assert_eq!(info["disks"][1]["status"], "ok");
    sandbox.ok("activate web");
    assert_eq!(sandbox.json("verify"), json!([]));
}

#[test]
fn a_disk_without_a_path_needs_no_link() {
    let sandbox = Sandbox::new().with_odd_providers();
    let dir = sandbox.path("volumes");
    let disk = format!(
        "0:size=1M,access=userspace,provider=uris-without-path,dir={}",
        dir.display()
    );
    sandbox.ok(&format!("add web --disk {disk}"));
    sandbox.ok("activate web");
    assert_eq!(sandbox.json("verify"), json!([]));
    assert_eq!(sandbox.json("info web")["disks"][0]["status"], "ok");
    sandbox.ok("remove web");
}

#[test]
fn links_that_nobody_wants_are_told_with_what_removes_them() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M");
    let dir = sandbox.state().join("instance-disks");
    fs::create_dir_all(&dir).unwrap();
    for name in ["web:0", "gone:0"] {
        std::os::unix::fs::symlink("/dev/null", dir.join(name)).unwrap();
    }
    let findings = attention(&sandbox, "verify");
    let mends: Vec<&str> = findings
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| text(finding, "mend"))
        .collect();
    let remove = format!("rm {}", dir.join("gone:0").display());
    assert_eq!(mends, [remove.as_str(), "gnt-disk deactivate web"], "{findings}");
    fs::remove_file(dir.join("gone:0")).unwrap();
    sandbox.ok("deactivate web");
    assert_eq!(sandbox.json("verify"), json!([]));
}

#[test]
fn a_missing_volume_is_told_and_its_instance_can_be_removed() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M --disk 1:size=1M");
    sandbox.ok("add files -t file --disk 0:size=1M");
    let volume = sandbox.json("info web")["disks"][0]["logical_id"][1]
        .as_str()
        .unwrap()
        .to_owned();
    fs::remove_dir_all(sandbox.state().join("ext-volumes").join(volume)).unwrap();
    let file = sandbox.json("info files")["disks"][0]["logical_id"][1]
        .as_str()
        .unwrap()
        .to_owned();
    fs::remove_file(file).unwrap();

    for finding in attention(&sandbox, "verify").as_array().unwrap() {
        assert_eq!(finding["kind"], "missing", "{finding}");
        let name = text(finding, "instance");
        let mend = format!("gnt-disk recreate {name} --disk 0");
        assert!(text(finding, "mend").starts_with(&mend), "{finding}");
    }
    assert_eq!(attention(&sandbox, "info web")["disks"][0]["status"], "missing");
    assert!(sandbox.fails(1, "activate files").contains("is not there"));
    sandbox.ok("modify web --disk 0:remove");
    for instance in ["web", "files"] {
        sandbox.ok(&format!("remove {instance}"));
    }
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.assert_empty();
}
