//! The whole life of disks of each template, on real devices.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Command;

use serde_json::{Value, json};
use support::{Run, Sandbox, text};

const MARKER: &[u8] = b"written before everything else";

fn write_marker(device: &str) {
    let mut file = File::options().write(true).open(device).unwrap();
    file.write_all(MARKER).unwrap();
    file.sync_all().unwrap();
}

fn has_marker(device: &str) -> bool {
    let mut found = vec![0; MARKER.len()];
    File::open(device).unwrap().read_exact(&mut found).unwrap();
    found == MARKER
}

/// Mebibytes.
fn size(device: &str) -> u64 {
    File::open(device).unwrap().seek(SeekFrom::End(0)).unwrap() >> 20
}

fn link(sandbox: &Sandbox, instance: &str, index: u32) -> String {
    let link = sandbox.state().join(format!("instance-disks/{instance}:{index}"));
    link.to_str().unwrap().to_owned()
}

#[test]
fn the_first_command_makes_a_cluster_and_says_so_once() {
    let sandbox = Sandbox::new();
    let first = sandbox.ok("add web --disk 0:size=8M");
    assert!(
        first.stderr.starts_with("made a new cluster of one node, "),
        "{first:?}"
    );
    assert_eq!(sandbox.ok("list").stderr, "");
    assert_eq!(sandbox.json("cluster info")["enabled_disk_templates"][0], "ext");
}

#[test]
fn what_only_looks_makes_no_cluster() {
    let sandbox = Sandbox::new();
    for arguments in [
        "list",
        "info typo",
        "verify",
        "export",
        "recover --yes",
        "cluster info",
        "cluster modify --es-timeout 5",
        "operation list",
        "node add n2 --primary-ip 192.0.2.2",
        "--dry-run remove web",
        "import /nowhere/config.data",
    ] {
        let error = sandbox.fails(1, arguments);
        if !arguments.starts_with("import") {
            assert!(
                error.contains("there is no configuration in"),
                "{arguments}: {error}"
            );
            assert!(
                error.contains("hint: is it another directory, --state DIR?"),
                "{error}"
            );
        }
        assert!(!sandbox.state().exists(), "{arguments}");
    }
}

#[test]
fn a_lost_configuration_is_not_replaced_by_a_new_one() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init --primary-ip 192.0.2.1");
    sandbox.ok(&format!(
        "node add n2 --primary-ip 192.0.2.2 --bundle {}",
        sandbox.path("bundle").display()
    ));
    sandbox.lose_store();
    for arguments in [
        "list",
        "add web --disk 0:size=1M",
        "--dry-run add web -t diskless",
        "recover",
    ] {
        let error = sandbox.fails(1, arguments);
        assert!(error.contains("hint: it was lost"), "{arguments}: {error}");
        assert!(
            error.contains("'gnt-disk cluster init'") && error.contains("'gnt-disk recover'"),
            "{error}"
        );
    }
    sandbox.ok("cluster init --primary-ip 192.0.2.1");
    sandbox.ok("recover");
}

#[test]
fn several_first_commands_at_once_make_one_cluster() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let sandbox = Sandbox::new();
    let first: Vec<_> = NAMES
        .iter()
        .map(|name| sandbox.start(&format!("--json add {name} -t diskless")))
        .collect();
    let runs: Vec<Run> = first
        .into_iter()
        .map(|child| child.wait_with_output().unwrap().into())
        .collect();
    let told = |run: &&Run| run.stderr.contains("made a new cluster");
    assert_eq!(runs.iter().filter(told).count(), 1, "{runs:?}");
    for run in &runs {
        assert_eq!(run.status, 0, "{run:?}");
    }
    let listed = sandbox.ok("list -o name --no-headers").stdout;
    assert_eq!(listed.lines().collect::<Vec<_>>(), NAMES);
}

#[test]
fn ext() {
    let sandbox = Sandbox::new();
    let added = sandbox.json("add web --disk 0:size=8M --disk 1:size=4M,name=data");
    assert_eq!(added["disks"][1]["name"], "data");
    assert_eq!(added["disks"][0]["logical_id"][0], "ext");

    let node = text(&sandbox.json("cluster info"), "master").to_owned();
    let activated = sandbox.ok("activate web").stdout;
    let lines: Vec<&str> = activated.lines().collect();
    let device = lines[0].strip_prefix(&format!("{node}:disk/0:")).unwrap();
    assert!(
        lines[1].starts_with(&format!("{node}:disk/1:/dev/")),
        "{activated}"
    );
    assert_eq!(sandbox.ok("activate web").stdout, activated);
    let with_links = sandbox.ok("activate web --links").stdout;
    assert_eq!(
        with_links.lines().next().unwrap(),
        format!("{} {}", lines[0], link(&sandbox, "web", 0))
    );
    assert_eq!(
        fs::read_link(link(&sandbox, "web", 0)).unwrap().to_str(),
        Some(device)
    );
    write_marker(device);
    assert_eq!(size(device), 8);

    assert!(sandbox.ok("grow web 0 4M").stdout.contains(" 12M "));
    assert_eq!(size(device), 12);
    sandbox.ok("grow web data 16M --absolute");
    sandbox.ok("grow web data 16M --absolute");
    let shrunk = sandbox.fails(1, "grow web 1 8M --absolute");
    assert!(
        shrunk.contains("cannot shrink") && shrunk.contains("hint: disks only grow"),
        "{shrunk}"
    );
    assert!(has_marker(device));

    let info = sandbox.json("info web");
    assert_eq!(info["disks"][0]["status"], "ok");
    assert_eq!(info["disks"][0]["pstatus"]["dev_path"], device);
    assert_eq!(info["disks"][0]["pstatus"]["bytes"], 12 << 20);
    assert_eq!(info["disks"][1]["size"], 16);

    let snapshot = sandbox.json("snapshot web --disk 0:snapshot_name=before");
    let uuid = text(&snapshot["disks"][0], "uuid").to_owned();
    assert_eq!(snapshot["disks"][0]["logical_id"], json!(["ext", "before"]));
    assert_eq!(sandbox.json("list --detached")[0]["uuid"], uuid.as_str());

    // The instance's disks are in use, so what is attached is too.
    sandbox.ok(&format!(
        "modify web --disk attach:uuid={uuid} --disk 2:name=old,mode=ro"
    ));
    assert!(has_marker(&link(&sandbox, "web", 2)));
    sandbox.ok("modify web --disk 0:add,size=2M");
    assert_eq!(size(&link(&sandbox, "web", 0)), 2);
    assert!(has_marker(&link(&sandbox, "web", 1)));
    let disks = sandbox.json("info web")["disks"].clone();
    let column = |key: &str| -> Vec<Value> {
        disks
            .as_array()
            .unwrap()
            .iter()
            .map(|disk| disk[key].clone())
            .collect()
    };
    assert_eq!(
        column("name"),
        [Value::Null, Value::Null, "data".into(), "old".into()]
    );
    assert_eq!(column("iv_name"), ["disk/0", "disk/1", "disk/2", "disk/3"]);
    assert_eq!(column("mode"), ["rw", "rw", "rw", "ro"]);

    sandbox.ok("modify web --disk 0:remove --disk remove");
    sandbox.ok("modify web --disk data:detach");
    assert_eq!(
        sandbox
            .ok("list --no-headers -o name,disk.sizes,disks_active")
            .stdout,
        "web 12M Y\n"
    );
    sandbox.ok("verify");

    let active = sandbox.fails(1, "rename web www");
    assert!(
        active.contains("hint: run 'gnt-disk deactivate web' first"),
        "{active}"
    );
    sandbox.ok("deactivate web");
    assert_eq!(sandbox.loop_devices(), [""; 0]);
    sandbox.ok("rename web www");
    sandbox.ok("modify www --disk attach:data");
    sandbox.ok("activate www");
    assert!(has_marker(&link(&sandbox, "www", 0)));
    sandbox.ok("verify");
    sandbox.ok("remove www");
    sandbox.assert_empty();
    assert_eq!(sandbox.json("list"), json!([]));
    assert_eq!(sandbox.json("verify"), json!([]));
}

fn file_based(template: &str, dir: &str) {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!(
        "add web -t {template} --disk size=4M --disk size=2M --file-storage-dir racks/a"
    ));
    let file = sandbox.json("list")[0]["disks"][0]["logical_id"][1]
        .as_str()
        .unwrap()
        .to_owned();
    let instance_dir = sandbox.state().join(dir).join("racks/a/web");
    assert!(file.starts_with(instance_dir.to_str().unwrap()), "{file}");
    sandbox.ok("activate web");
    write_marker(&link(&sandbox, "web", 0));
    sandbox.ok("grow web 0 1M");
    assert_eq!(size(&file), 5);
    let refused = sandbox.fails(1, "snapshot web --disk 0:snapshot_name=x");
    assert!(refused.contains("cannot be snapshot"), "{refused}");
    sandbox.ok("modify web --disk add:size=1M");
    assert_eq!(size(&link(&sandbox, "web", 2)), 1);
    sandbox.ok("deactivate web");
    sandbox.ok("rename web www");
    assert!(!instance_dir.exists());
    sandbox.ok("activate www");
    assert!(has_marker(&link(&sandbox, "www", 0)));
    sandbox.ok("verify");
    sandbox.ok("remove www");
    assert!(!instance_dir.with_file_name("www").exists());
    assert_eq!(sandbox.json("verify"), json!([]));
}

#[test]
fn file() {
    file_based("file", "file-storage");
}

#[test]
fn sharedfile() {
    file_based("sharedfile", "shared-file-storage");
}

#[test]
fn nothing_is_made_outside_the_file_storage_directories() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let error = sandbox.fails(1, "add web -t file --disk 0:size=1M --file-storage-dir ../..");
    assert!(error.contains("not a plain path"), "{error}");
    let elsewhere = sandbox.path("elsewhere");
    let dir = elsewhere.display();
    let error = sandbox.fails(1, &format!("cluster modify --file-storage-dir {dir}"));
    assert!(error.contains("--add-file-storage-path"), "{error}");
    sandbox.ok(&format!(
        "cluster modify --add-file-storage-path {dir} --file-storage-dir {dir}/files"
    ));
    fs::create_dir(&elsewhere).unwrap();
    sandbox.ok("add web -t file --disk 0:size=1M");
    assert!(elsewhere.join("files/web").is_dir());
    sandbox.ok("remove web");
}

#[test]
fn a_directory_in_which_others_have_disks_keeps_its_name() {
    let sandbox = Sandbox::new();
    sandbox.ok("add old -t file --disk 0:size=1M --disk 1:size=1M,name=kept");
    sandbox.ok("modify old --disk kept:detach");
    sandbox.ok("rename old new");
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.ok("add other -t file --disk 0:size=1M");
    sandbox.ok("modify other --disk attach:kept");
    sandbox.ok("activate other");
    assert_eq!(sandbox.json("info other")["disks"][1]["status"], "ok");
    sandbox.ok("remove other");
    // Nobody else has disks there now.
    sandbox.ok("rename new newer");
    sandbox.ok("rename newer old");
    sandbox.ok("rename old newest");
    assert!(sandbox.state().join("file-storage/newest").is_dir());
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.ok("remove newest");
    sandbox.assert_empty();
}

#[test]
fn blockdev() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("disk.img");
    File::create(&file).unwrap().set_len(4 << 20).unwrap();
    let losetup = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&file)
        .output()
        .unwrap();
    let device = String::from_utf8(losetup.stdout).unwrap().trim().to_owned();
    write_marker(&device);

    let error = sandbox.fails(2, "add old -t blockdev --disk 0:size=4M");
    assert!(error.contains("adopt is missing"), "{error}");
    sandbox.ok(&format!("add old -t blockdev --disk 0:adopt={device}"));
    let error = sandbox.fails(1, &format!("add other -t blockdev --disk 0:adopt={device}"));
    assert!(error.contains("is a disk of instance old already"), "{error}");
    assert_eq!(sandbox.json("list")[0]["disks"][0]["size"], 4);
    sandbox.ok("activate old");
    assert!(has_marker(&link(&sandbox, "old", 0)));
    let error = sandbox.fails(1, "grow old 0 1M");
    assert!(error.contains("fixed size"), "{error}");
    sandbox.ok("remove old");
    assert!(has_marker(&device), "its data is not ours to remove");
}

#[test]
fn diskless() {
    let sandbox = Sandbox::new();
    sandbox.ok("add thin -t diskless");
    sandbox.ok("activate thin");
    assert_eq!(sandbox.json("list")[0]["disk_template"], "diskless");
    sandbox.ok("deactivate thin");
    sandbox.ok("remove thin");
}

#[test]
fn an_operation_that_fails_leaves_nothing() {
    let sandbox = Sandbox::new().with_odd_providers();
    let volumes = sandbox.path("volumes");
    let disk = format!("provider=create-fails-after-making,dir={}", volumes.display());
    let error = sandbox.fails(1, &format!("add web --disk 0:size=1M --disk 1:size=1M,{disk}"));
    assert!(
        error.contains("everything it did was undone\n  because: "),
        "{error}"
    );
    assert_eq!(fs::read_dir(volumes).unwrap().count(), 0);
    sandbox.assert_empty();
    assert_eq!(sandbox.json("list"), json!([]));
    assert_eq!(sandbox.json("operation list"), json!([]));
    assert_eq!(sandbox.json("operation list --all")[1]["state"], "undone");
}

#[test]
fn a_disk_that_is_gone_needs_attention() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web -t file --disk 0:size=1M");
    let file = sandbox.json("list")[0]["disks"][0]["logical_id"][1]
        .as_str()
        .unwrap()
        .to_owned();
    fs::remove_file(file).unwrap();
    let info = sandbox.run("--json info web");
    assert_eq!(info.status, 3, "{info:?}");
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(info["disks"][0]["status"], "missing");
    let verify = sandbox.run("verify");
    assert_eq!(verify.status, 3);
    assert!(
        verify.stdout.starts_with("missing: ") && verify.stdout.contains("  mend: gnt-disk"),
        "{verify:?}"
    );
    assert_eq!(sandbox.run("info web --static").status, 0);
}

#[test]
fn the_shipped_provider_is_put_right() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let attach = sandbox.state().join("providers/ext/attach");
    let shipped = fs::read(&attach).unwrap();
    fs::write(&attach, "#!/bin/sh\nexit 1\n").unwrap();
    sandbox.ok("list");
    assert_eq!(fs::read(&attach).unwrap(), shipped);
}

#[test]
fn two_states_never_meet() {
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    let live = |sandbox: &Sandbox, mib: u64| {
        for _ in 0..3 {
            sandbox.ok(&format!("add web --disk 0:size={mib}M,name=root"));
            sandbox.ok("activate web");
            assert_eq!(size(&link(sandbox, "web", 0)), mib);
            let list = sandbox
                .ok("list --no-headers -o name,disk.sizes,disks_active")
                .stdout;
            assert_eq!(list, format!("web {mib}M Y\n"));
            assert_eq!(sandbox.json("verify"), json!([]));
            sandbox.ok("remove web");
        }
        sandbox.assert_empty();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| live(&sandboxes[0], 1));
        scope.spawn(|| live(&sandboxes[1], 2));
    });
}
