//! Nodes and groups: what programs read of them, what is refused, how keys are brought.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Run, Sandbox, text};

/// A cluster of this machine and node2, for which there are no keys.
fn two_nodes() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init --enabled-disk-templates file,ext");
    let here = here(&sandbox);
    sandbox.ok(&format!(
        "node modify {here} --primary-ip 192.0.2.1 --secondary-ip 198.51.100.1"
    ));
    sandbox.ok("node add node2 --primary-ip 192.0.2.2 --secondary-ip 198.51.100.2");
    sandbox
}

/// Name of this machine.
fn here(sandbox: &Sandbox) -> String {
    text(&sandbox.json("cluster info"), "master").to_owned()
}

#[test]
fn nodes_are_listed_with_their_room_where_they_can_be_asked() {
    let sandbox = two_nodes();
    let name = here(&sandbox);
    sandbox.ok("add web --disk 0:size=1M");
    let nodes = sandbox.json(&format!("node list {name} node2"));
    let [here, other] = nodes.as_array().unwrap().as_slice() else {
        panic!("{nodes}")
    };
    assert_eq!(
        json!([
            here["name"],
            here["role"],
            here["pinst_cnt"],
            here["pinst_list"],
            here["sinst_cnt"],
            here["master"]
        ]),
        json!([name, "M", 1, ["web"], 0, true])
    );
    assert_eq!(
        json!([
            other["primary_ip"],
            other["sip"],
            other["group"],
            other["offline"],
            other["drained"],
            other["dfree"]
        ]),
        json!(["192.0.2.2", "198.51.100.2", "default", false, false, null])
    );
    let (free, total) = (here["dfree"].as_u64().unwrap(), here["dtotal"].as_u64().unwrap());
    assert!(0 < free && free <= total, "{here}");
    let table = sandbox.ok(&format!(
        "node list -o name,pip,role --no-headers --separator | {name} node2"
    ));
    assert_eq!(table.stdout, format!("{name}|192.0.2.1|M\nnode2|192.0.2.2|R\n"));
    let headings = sandbox.ok("node list -o +group").stdout;
    let headings: Vec<&str> = headings.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        headings,
        ["Node", "Role", "DTotal", "DFree", "Pinst", "Sinst", "Group"]
    );

    let info = sandbox.json(&format!("node info {name}"));
    let state = sandbox.state();
    let places: Vec<&str> = info["storage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| text(place, "name"))
        .collect();
    assert!(
        places.contains(&state.join("file-storage").to_str().unwrap()),
        "{places:?}"
    );
    assert_eq!(sandbox.json("node info").as_array().unwrap().len(), 2);
    let storage = sandbox.json("node list-storage");
    let first = &storage[0];
    assert_eq!(json!([first["node"], first["template"]]), json!([name, "file"]));
    let number = |key: &str| first[key].as_u64().unwrap();
    assert_eq!(number("size"), number("used") + number("free"));
}

#[test]
fn nodes_are_changed_and_removed_unless_something_is_on_them() {
    let sandbox = two_nodes();
    let drained = sandbox.json("node modify node2 --drained yes");
    assert_eq!(
        json!([drained["node"], drained["drained"], drained["role"]]),
        json!(["node2", true, "D"])
    );
    assert!(drained["operation"].is_string());
    let offline = sandbox.json("node modify node2 --offline yes");
    assert_eq!(
        json!([offline["offline"], offline["drained"]]),
        json!([true, false])
    );
    assert!(sandbox.ok("cluster info").stdout.contains("node2 (offline)"));
    let refused = sandbox.fails(1, "add web --disk 0:size=1M -n node2");
    assert!(refused.contains("node node2 is set offline"), "{refused}");
    assert!(
        refused.contains("gnt-disk node modify node2 --offline no"),
        "{refused}"
    );

    for (arguments, status, message) in [
        ("node modify MASTER --offline yes", 1, "it is the master node"),
        ("node modify node2 --offline yes --drained yes", 1, "not both"),
        (
            "node modify node2 --secondary-ip 198.51.100.1",
            1,
            "198.51.100.1 is that of node",
        ),
        (
            "node modify node2 --secondary-ip somewhere",
            2,
            "invalid IP address",
        ),
        (
            "node modify node2 --group nowhere",
            1,
            "there is no node group nowhere",
        ),
        (
            "node modify node2 --node-parameters exclusive_storage=true",
            2,
            "cannot be set for one node",
        ),
        (
            "node modify node2 --node-parameters ssh_port",
            2,
            "is not KEY=VALUE",
        ),
        ("node modify node2", 2, "nothing to change was given"),
        ("node modify node9 --offline no", 1, "there is no node node9"),
        ("node remove MASTER", 1, "it is the master node"),
        (
            "node add node2 --primary-ip 192.0.2.9",
            1,
            "there is a node node2 already",
        ),
        ("node add a/b --primary-ip 192.0.2.9", 2, "a/b"),
        ("node add nowhere.invalid", 2, "has no address"),
        ("node add node3 --ssh=-oProxyCommand=x", 2, "--ssh"),
    ] {
        let arguments = arguments.replace("MASTER", &here(&sandbox));
        let error = sandbox.fails(status, &arguments);
        assert!(error.contains(message), "{arguments}: {error}");
    }
    assert_eq!(sandbox.json("operation list"), json!([]));
    let noted = sandbox.ok("--dry-run node remove node2").stdout;
    assert!(noted.contains("node"), "{noted}");
    sandbox.ok("node remove node2");
    assert_eq!(
        sandbox.json("node list -o name"),
        json!([{"name": here(&sandbox)}])
    );
}

#[test]
fn groups_are_made_changed_renamed_and_removed() {
    let sandbox = two_nodes();
    sandbox.ok("group add racks -D plain:stripes=2 --node-parameters exclusive_storage=true");
    sandbox.ok("node modify node2 --group racks");
    let groups = sandbox.json("group list");
    let racks = &groups[1];
    assert_eq!(
        json!([
            racks["name"],
            racks["node_cnt"],
            racks["node_list"],
            racks["diskparams"],
            racks["ndparams"]
        ]),
        json!(["racks", 1, ["node2"], {"plain": {"stripes": 2}}, {"exclusive_storage": true}])
    );
    assert!(
        sandbox
            .fails(1, "node add node3 --primary-ip 192.0.2.3")
            .contains("several node groups")
    );
    assert!(
        sandbox
            .fails(1, "group remove racks")
            .contains("the nodes node2 are in it")
    );
    assert!(
        sandbox
            .fails(1, "group rename racks default")
            .contains("there is a node group default already")
    );
    let wrong = sandbox.fails(2, "group modify racks -D plain:stripes=many");
    assert!(wrong.contains("stripes"), "{wrong}");
    let renamed = sandbox.json("group rename racks rack1");
    assert_eq!(
        (text(&renamed, "name"), &renamed["uuid"]),
        ("rack1", &racks["uuid"])
    );
    sandbox.ok("group modify rack1 --node-parameters exclusive_storage=default");
    assert_eq!(sandbox.json("group info rack1")["ndparams"], json!({}));
    sandbox.ok("node modify node2 --group default");
    assert!(
        sandbox
            .ok("--dry-run group remove rack1")
            .stdout
            .contains("# remove node group rack1")
    );
    sandbox.ok("group remove rack1");
    assert_eq!(sandbox.json("group list").as_array().unwrap().len(), 1);
}

#[test]
fn keys_are_taken_to_a_node_in_a_file() {
    let sandbox = two_nodes();
    let file = sandbox.path("bundle");
    let path = file.display();
    let noted = sandbox.ok(&format!("--dry-run node add node2 --readd --bundle {path}"));
    assert!(noted.stdout.contains("give new keys to node node2"), "{noted:?}");
    assert!(!file.exists() && !sandbox.state().join("manager.json").exists());

    let told = sandbox.ok(&format!("node add node2 --readd --bundle {path}"));
    assert!(told.stdout.contains("gnt-disk node join"), "{told:?}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = key_in(&fs::read_to_string(&file).unwrap());
    assert!(!format!("{told:?}").contains(&key));
    // What is there is not written over.
    sandbox.fails(1, &format!("node add node2 --readd --bundle {path}"));

    let node = Sandbox::new();
    node.ok(&format!("--dry-run node join {path}"));
    assert!(!node.state().exists());
    let joined = node.json(&format!("node join {path}"));
    assert_eq!(joined["node"], "node2");
    assert!(node.state().join("node.json").exists() && node.state().join("providers/ext/create").exists());
    assert!(!node.state().join("store.db").exists());
    // Again, with new keys, but not as another node.
    fs::remove_file(&file).unwrap();
    sandbox.ok(&format!("node add node2 --readd --bundle {path}"));
    node.ok(&format!("node join {path}"));
    let other = sandbox.path("other");
    sandbox.ok(&format!(
        "node add node3 --primary-ip 192.0.2.3 --bundle {}",
        other.display()
    ));
    let refused = node.fails(1, &format!("node join {}", other.display()));
    assert!(refused.contains("this machine is node node2"), "{refused}");
    fs::write(&other, "{\"key\": \"PRIVATE\"}").unwrap();
    let refused = node.fails(1, &format!("node join {}", other.display()));
    assert!(
        refused.contains("is not what gnt-disk wrote") && !refused.contains("PRIVATE"),
        "{refused}"
    );
}

/// `ssh` is one that runs the command here, or fails.
#[test]
fn keys_are_brought_to_a_node_over_ssh() {
    let sandbox = two_nodes();
    let node = Sandbox::new();
    let tools = sandbox.path("tools");
    fs::create_dir(&tools).unwrap();
    let ssh = |script: &str| {
        let file = tools.join("ssh");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // Programs are looked for in the system's own directories: one of them is another for this process.
    let run = |arguments: &str| -> Run {
        let mut command = Command::new("unshare");
        let mounted = "mount --bind \"$0\" /usr/local/sbin && exec \"$@\"";
        command.args(["--mount", "sh", "-c", mounted]);
        command.arg(&tools).arg(env!("CARGO_BIN_EXE_gnt-disk"));
        command.env("GNT_DISK_STATE", sandbox.state());
        command
            .args(arguments.split_whitespace())
            .output()
            .unwrap()
            .into()
    };
    ssh("echo 'Permission denied (publickey).' >&2; exit 255");
    let failed = run("node add node3 --primary-ip 192.0.2.3 --ssh root@node3");
    assert_eq!(failed.status, 1, "{failed:?}");
    assert!(failed.stderr.contains("node node3 was not added"), "{failed:?}");
    assert!(failed.stderr.contains("Permission denied"), "{failed:?}");
    assert_eq!(sandbox.json("node list -o name").as_array().unwrap().len(), 2);

    let (gnt_disk, log) = (env!("CARGO_BIN_EXE_gnt-disk"), sandbox.path("log"));
    // The connection breaks off when the node has its keys: it can be tried again.
    ssh(&format!(
        "{gnt_disk} --state {} node join - && exit 255",
        node.state().display()
    ));
    let lost = run("node add node3 --primary-ip 192.0.2.3 --ssh root@node3");
    assert_eq!(lost.status, 1, "{lost:?}");
    assert!(node.state().join("node.json").exists());
    assert_eq!(sandbox.json("node list -o name").as_array().unwrap().len(), 2);

    ssh(&format!(
        "echo \"$@\" > {}; exec {gnt_disk} --state {} node join -",
        log.display(),
        node.state().display()
    ));
    let added =
        run("-v node add node3 --primary-ip 192.0.2.3 --node-parameters ssh_port=2222 --ssh root@node3");
    assert_eq!(added.status, 0, "{added:?}");
    let line = fs::read_to_string(log).unwrap();
    let state = sandbox.state();
    assert_eq!(
        line.trim(),
        format!(
            "-o BatchMode=yes -o ConnectTimeout=20 -p 2222 -- root@node3 gnt-disk --state {} node join -",
            state.display()
        )
    );
    let kept = fs::read_to_string(node.state().join("node.json")).unwrap();
    let key = key_in(&kept);
    assert!(!format!("{added:?}").contains(&key));
    let config: Value = serde_json::from_str(&kept).unwrap();
    // Nothing answers there.
    let info = sandbox.run("--json node info node3");
    assert!(
        info.status == 3 && info.stderr.contains("node3 cannot be reached"),
        "{info:?}"
    );
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(config["uuid"], info["uuid"]);
}

/// The first line of a private key that is below its heading.
fn key_in(bundle: &str) -> String {
    let bundle: Value = serde_json::from_str(bundle).unwrap();
    text(&bundle, "key").lines().nth(1).unwrap().to_owned()
}

#[test]
fn a_new_cluster_is_told_that_its_master_cannot_be_reached() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let run = sandbox.run("node add node2 --primary-ip 192.0.2.2");
    assert_eq!(run.status, 3, "{run:?}");
    assert!(run.stderr.contains("--primary-ip"), "{run:?}");
}

#[test]
fn a_cluster_that_was_made_with_addresses_takes_nodes_at_once() {
    let sandbox = Sandbox::new();
    sandbox.fails(2, "cluster init --secondary-ip 198.51.100.1");
    sandbox.fails(1, "cluster init --primary-ip 0.0.0.0");
    assert!(!sandbox.state().exists());
    sandbox.ok("cluster init --node n1 --primary-ip 192.0.2.1 -s 198.51.100.1");
    let node = sandbox.json("node info n1");
    assert_eq!(
        json!([node["primary_ip"], node["secondary_ip"]]),
        json!(["192.0.2.1", "198.51.100.1"])
    );
    sandbox.ok("node add n2 --primary-ip 192.0.2.2");
}

#[test]
fn a_node_stays_itself_whatever_the_machine_is_called() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init --node n1 --primary-ip 192.0.2.1");
    sandbox.ok("node add n2 --primary-ip 192.0.2.2");
    sandbox.ok("add web -n n1 --disk 0:size=1M");
    sandbox.ok("activate web");
    sandbox.ok("deactivate web");
    sandbox.ok("remove web");

    // Taken over from elsewhere, the configuration does not say which node this is.
    let exported = sandbox.path("config.data");
    sandbox.ok("add kept -n n1 --disk 0:size=1M");
    sandbox.ok(&format!("export {}", exported.display()));
    let other = Sandbox::new();
    other.ok(&format!("import {}", exported.display()));
    let error = other.fails(1, "activate kept");
    assert!(
        error.contains("no node of the cluster is called like this host ("),
        "{error}"
    );
    assert!(
        error.contains("gnt-disk cluster modify --this-node NODE"),
        "{error}"
    );
    other.fails(1, "cluster modify --this-node n3");
    other.ok("--dry-run cluster modify --this-node n1");
    other.fails(1, "activate kept");
    other.ok("cluster modify --this-node n1");
    // It may look, and finds no volume there.
    let run = other.run("info kept");
    assert!(run.stdout.contains("missing"), "{run:?}");
}

/// Whoever waits for a bundle that never ends does not fill the memory.
#[test]
fn a_bundle_without_end_is_refused() {
    let node = Sandbox::new();
    let mut command = node.command();
    command.args(["node", "join", "-"]);
    let mut zeros = Command::new("cat")
        .arg("/dev/zero")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = command.stdin(zeros.stdout.take().unwrap()).output().unwrap();
    // It has the other end of the pipe.
    drop(command);
    zeros.wait().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// Nobody listens there; the configuration is known all the same.
#[test]
fn an_instance_on_a_node_that_does_not_answer_is_shown() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init --node n1 --primary-ip 127.0.0.1");
    sandbox.ok("add web --disk 0:size=1M");
    let add = format!(
        "node add n2 --primary-ip 127.81.7.2 --bundle {}",
        sandbox.path("bundle").display()
    );
    assert_eq!(sandbox.run(&add).status, 3);
    sandbox.ok("cluster modify --this-node n2");
    let run = sandbox.run("--json info web");
    assert_eq!(run.status, 3, "{run:?}");
    assert!(run.stderr.contains("node n1 cannot be reached"), "{run:?}");
    let shown: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        json!([shown["name"], shown["disks"][0]["status"]]),
        json!(["web", "unknown"])
    );
    sandbox.ok("cluster modify --this-node n1");
}
