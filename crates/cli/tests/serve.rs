//! Two nodes on this machine: the manager's commands, and the daemon that does what they ask.

#![cfg(test)]

mod support;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{PATIENCE, Sandbox};

/// All addresses of 127/8 are this machine's, so that each test has some for itself.
fn address(number: u8) -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{number}", 1 + (pid >> 8) % 250, pid % 256)
}

/// A manager, and a node that joined.
struct Pair {
    sandbox: Sandbox,
    address: String,
    daemon: Option<Child>,
}

impl Pair {
    fn new(test: u8) -> Self {
        let address = address(test);
        let sandbox = Sandbox::new();
        sandbox.ok("cluster init --name lab");
        let bundle = sandbox.path("bundle").display().to_string();
        let add = format!("node add node2 --primary-ip {address} --secondary-ip {address} --bundle {bundle}");
        // It warns of the manager's own address.
        assert_eq!(sandbox.run(&add).status, 3);
        // On machines of their own both have the same state directory, below which it is made.
        std::fs::create_dir_all(sandbox.state().join("file-storage")).unwrap();
        let mut pair = Self {
            sandbox,
            address,
            daemon: None,
        };
        let join = pair.node().args(["node", "join", &bundle]).output().unwrap();
        assert!(join.status.success(), "{join:?}");
        pair.serve();
        pair
    }

    /// The program on the node.
    fn node(&self) -> Command {
        let mut command = self.sandbox.command();
        command.env("GNT_DISK_STATE", self.sandbox.path("node2"));
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.sandbox.path("log")).unwrap()
    }

    /// Starts the daemon, and waits until it listens.
    fn serve(&mut self) {
        let log = File::create(self.sandbox.path("log")).unwrap();
        let daemon = self.node().arg("serve").stderr(log).stdout(Stdio::null()).spawn();
        self.daemon = Some(daemon.unwrap());
        let begun = Instant::now();
        while !self.log().contains("listening") {
            assert!(begun.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn stop(&mut self) -> i32 {
        let mut daemon = self.daemon.take().unwrap();
        kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
        daemon.wait().unwrap().code().unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn an_instances_disks_live_on_another_node() {
    let mut pair = Pair::new(1);
    let sandbox = &pair.sandbox;
    sandbox.ok("add web -t file --disk 0:size=8M -n node2");
    let before = sandbox.json("list");
    assert_eq!(before[0]["pnode"], json!("node2"));
    let active = sandbox.json("activate web");
    let device = active["disks"][0]["dev_path"]
        .as_str()
        .unwrap_or_else(|| panic!("{active}"))
        .to_owned();
    assert_eq!(std::fs::metadata(&device).unwrap().len(), 8 << 20);
    sandbox.ok("grow web 0 4M");
    assert_eq!(std::fs::metadata(&device).unwrap().len(), 12 << 20);
    let rehearsal = sandbox.ok("--dry-run remove web").stdout;
    assert!(rehearsal.contains("# on node node2: "), "{rehearsal}");
    assert!(std::fs::exists(&device).unwrap());
    assert_eq!(sandbox.json("info web")["pnode"], json!("node2"));
    sandbox.ok("deactivate web");
    sandbox.ok("remove web");
    assert!(!std::fs::exists(&device).unwrap());

    let log = pair.log();
    let create = log
        .lines()
        .find(|line| line.contains("procedure=\"blockdev_create\""))
        .unwrap();
    for part in [
        "instance=\"web\"",
        "operation=",
        "milliseconds=",
        "outcome=\"ok\"",
        "disk=\"disk/0 ",
    ] {
        assert!(create.contains(part), "{create}");
    }
    assert_eq!(pair.stop(), 0);
    assert!(pair.log().contains("stopped"), "{}", pair.log());
    let error = pair.sandbox.fails(1, "add web -t file --disk 0:size=8M -n node2");
    assert!(error.contains("node node2 cannot be reached"), "{error}");
    assert!(error.contains("systemctl status gnt-disk"), "{error}");
    assert_eq!(pair.sandbox.json("list"), json!([]));
}

#[test]
fn a_node_gets_no_cluster_of_its_own() {
    let mut pair = Pair::new(8);
    for arguments in [
        "list",
        "verify",
        "--dry-run list",
        "cluster init",
        "provider list",
        "recover",
    ] {
        let refused = pair.node().args(arguments.split(' ')).output().unwrap();
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{arguments}: {error}");
        assert!(
            error.contains("this machine is node node2 of cluster lab"),
            "{arguments}: {error}"
        );
        assert!(
            error.contains("master node") && error.contains("node.json"),
            "{error}"
        );
    }
    assert!(!pair.sandbox.path("node2/store.db").exists());
    // It can still join again.
    let bundle = pair.sandbox.path("bundle");
    let join = pair.node().args(["node", "join"]).arg(bundle).output().unwrap();
    assert!(join.status.success(), "{join:?}");
    pair.stop();
}

const SECRET: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_node_is_told_what_a_change_makes_of_it_also_when_that_is_warned_of() {
    let mut pair = Pair::new(9);
    let sandbox = &pair.sandbox;
    sandbox.ok("group add alone --node-parameters exclusive_storage=true");
    sandbox.ok("add web -t diskless");
    let mut config: Value = serde_json::from_str(&sandbox.ok("export").stdout).unwrap();
    let here = config["cluster"]["master_node"].clone();
    let nodes = config["nodes"].as_object().unwrap().values();
    let there = nodes
        .map(|node| node["uuid"].clone())
        .find(|uuid| *uuid != here)
        .unwrap();
    let volume = |name: &str| json!({"uuid": name, "dev_type": "plain", "logical_id": ["xenvg", name], "size": 64, "params": {}, "children": [], "serial_no": 1});
    config["disks"]["mirror"] = json!({
        "uuid": "mirror", "dev_type": "drbd", "logical_id": [here, there, 11000, 0, 0, SECRET], "size": 64, "params": {},
        "children": [volume("data"), volume("meta")], "serial_no": 1, "iv_name": "disk/0",
    });
    let web = config["instances"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .next()
        .unwrap();
    web["disks"] = json!(["mirror"]);
    web["disk_template"] = json!("drbd");
    let file = sandbox.path("config.data");
    std::fs::write(&file, config.to_string()).unwrap();
    sandbox.ok(&format!("import --replace {}", file.display()));
    let moved = sandbox.run("node modify node2 --group alone");
    assert_eq!(moved.status, 3, "{moved:?}");
    assert!(
        moved
            .stderr
            .contains("the nodes of web are now in different groups"),
        "{moved:?}"
    );
    let kept = std::fs::read_to_string(sandbox.path("node2/node.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["exclusive_storage"], json!(true));

    // Nothing here has such a mirror, and the node is told of it as a whole.
    let failed = sandbox.run("--verbose activate web");
    assert_ne!(failed.status, 0, "{failed:?}");
    let log = pair.log();
    let calls = || {
        log.lines()
            .filter(|line| line.contains("web") && line.contains("drbd"))
    };
    assert!(calls().count() > 0, "{log}");
    for told in [&log, &failed.stdout, &failed.stderr] {
        assert!(!told.contains(SECRET), "{told}");
    }
    pair.stop();
}

#[test]
fn a_node_hears_of_changed_settings_also_when_it_was_down() {
    let mut pair = Pair::new(2);
    let kept = |pair: &Pair| std::fs::read_to_string(pair.sandbox.path("node2/node.json")).unwrap();
    pair.sandbox
        .ok("cluster modify --add-file-storage-path /srv/first");
    assert!(kept(&pair).contains("/srv/first"));
    pair.stop();
    let missed = pair
        .sandbox
        .run("cluster modify --add-file-storage-path /srv/second");
    assert_eq!(missed.status, 3, "{missed:?}");
    assert!(
        missed
            .stderr
            .contains("node node2 works by the settings that it had"),
        "{missed:?}"
    );
    pair.serve();
    pair.sandbox.ok("node modify node2 --offline no");
    assert!(kept(&pair).contains("/srv/second"));
}

#[test]
fn a_node_with_another_address_listens_there_when_it_is_started_again() {
    let mut pair = Pair::new(4);
    let kept = |pair: &Pair| std::fs::read_to_string(pair.sandbox.path("node2/node.json")).unwrap();
    let move_to = |pair: &Pair, to: &str| {
        let moved = pair.sandbox.run(&format!("node modify node2 --primary-ip {to}"));
        assert_eq!(moved.status, 3, "{moved:?}");
        moved.stderr
    };
    let before = pair.address.clone();
    let told = move_to(&pair, &address(5));
    assert!(
        told.contains(&format!("listens on {before} until it is started again")),
        "{told}"
    );
    assert!(told.contains("systemctl restart gnt-disk"), "{told}");
    assert!(kept(&pair).contains(&address(5)));
    pair.stop();
    pair.serve();
    pair.sandbox.ok("cluster modify --es-timeout 100");
    assert!(kept(&pair).contains("100"));

    // One that is down gets the address with its keys.
    pair.stop();
    let told = move_to(&pair, &address(6));
    assert!(
        told.contains("does not know its new address") && told.contains("--readd"),
        "{told}"
    );
    assert!(kept(&pair).contains(&address(5)));
    let bundle = pair.sandbox.path("again").display().to_string();
    let readd = |pair: &Pair| {
        pair.sandbox
            .ok(&format!("node add node2 --readd --bundle {bundle}"));
        let joined = pair.node().args(["node", "join", &bundle]).output().unwrap();
        assert!(joined.status.success());
    };
    readd(&pair);
    pair.serve();
    pair.sandbox.ok("cluster modify --es-timeout 101");
    let told = pair.sandbox.run(&format!(
        "node modify node2 --offline yes --primary-ip {}",
        address(7)
    ));
    assert!(told.stderr.contains("it is offline"), "{told:?}");

    // An address that the machine does not have.
    pair.sandbox
        .run("node modify node2 --offline no --primary-ip 192.0.2.1");
    std::fs::remove_file(pair.sandbox.path("again")).unwrap();
    readd(&pair);
    let lost = pair.node().arg("serve").output().unwrap();
    let error = String::from_utf8(lost.stderr).unwrap();
    assert!(
        error.contains("does not have the address of node node2"),
        "{error}"
    );
    assert!(error.contains("node modify node2 --primary-ip"), "{error}");
}

#[test]
fn only_a_node_serves_and_only_at_an_address_that_it_has() {
    let mut pair = Pair::new(3);
    let nowhere = Sandbox::new();
    let error = nowhere.fails(1, "serve");
    assert!(
        error.contains("this machine is a node of no cluster") && error.contains("node join"),
        "{error}"
    );
    nowhere.fails(2, "--dry-run serve");
    let taken = pair.node().arg("serve").output().unwrap();
    let error = String::from_utf8(taken.stderr).unwrap();
    assert!(
        error.contains(&format!("cannot listen on {}:1811", pair.address)),
        "{error}"
    );
    assert!(error.contains("another gnt-disk serve"), "{error}");
    let elsewhere = pair
        .node()
        .args(["serve", "--listen", "192.0.2.1:1811"])
        .output()
        .unwrap();
    let error = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(error.contains("does not have that address"), "{error}");
    // Who manages a cluster is not a node of another.
    let bundle = pair.sandbox.path("bundle").display().to_string();
    let error = pair.sandbox.fails(1, &format!("node join {bundle}"));
    assert!(error.contains("there is a cluster in"), "{error}");
    pair.stop();
}
