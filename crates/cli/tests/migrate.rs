//! Instances that go to another node, as far as one machine can have two: the other one is marked offline, or does not answer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PATIENCE, Sandbox};

/// A cluster of this node and `away`, which no command can ask, with an ext instance web on `away`; `change` makes it what a test needs.
fn two_nodes(change: impl FnOnce(&mut Value, &str, &str)) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M");
    sandbox.ok("activate web");
    sandbox.ok("deactivate web");
    let mut config: Value = serde_json::from_str(&sandbox.ok("export").stdout).unwrap();
    let here = config["cluster"]["master_node"].as_str().unwrap().to_owned();
    let away = "11111111-2222-4333-8444-555555555555";
    let mut node = config["nodes"][&here].clone();
    node["uuid"] = away.into();
    node["name"] = "away.example.com".into();
    node["primary_ip"] = "192.0.2.9".into();
    node["secondary_ip"] = "192.0.2.9".into();
    config["nodes"][away] = node;
    let instances = config["instances"].as_object_mut().unwrap();
    let web = instances.values_mut().next().unwrap();
    web["primary_node"] = away.into();
    web["disks_active"] = true.into();
    change(&mut config, &here, away);
    let file = sandbox.path("config.data");
    fs::write(&file, config.to_string()).unwrap();
    sandbox.ok(&format!("import --replace {}", file.display()));
    sandbox
}

fn offline(config: &mut Value, _here: &str, away: &str) {
    config["nodes"][away]["offline"] = true.into();
}

fn first_instance(config: &mut Value) -> &mut Value {
    let instances = config["instances"].as_object_mut().unwrap();
    instances.values_mut().next().unwrap()
}

/// The directory of web's only volume.
fn volume(sandbox: &Sandbox) -> std::path::PathBuf {
    let volumes = fs::read_dir(sandbox.state().join("ext-volumes")).unwrap();
    let mut paths = volumes.map(|entry| entry.unwrap().path());
    paths.next().unwrap()
}

fn this_node(sandbox: &Sandbox) -> String {
    let info = sandbox.json("cluster info");
    info["master"].as_str().unwrap().to_owned()
}

#[test]
fn an_instance_of_a_dead_node_is_taken_over() {
    let sandbox = two_nodes(offline);
    let here = this_node(&sandbox);
    // The node died with the volume open.
    let record = volume(&sandbox).join("open.away");
    fs::write(&record, "exclusive\n").unwrap();
    let run = sandbox.run(&format!("--json failover web -n {here}"));
    assert_eq!(run.status, 3, "{run:?}");
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(answer["pnode"], here.as_str());
    assert!(answer["disks"][0]["link"].is_string(), "{answer}");
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with(
            "node away.example.com is marked offline, and was not asked to give up the disks of web"
        ),
        "{warning}"
    );
    assert!(!record.exists());
    let info = sandbox.json("info web");
    assert_eq!(
        (&info["pnode"], &info["disks"][0]["status"]),
        (&json!(here), &json!("ok"))
    );
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

#[test]
fn a_node_that_does_not_answer_is_not_given_up() {
    let sandbox = two_nodes(|_, _, _| {});
    let here = this_node(&sandbox);
    let error = sandbox.fails(1, &format!("failover web -n {here}"));
    assert!(
        error.starts_with(
            "error: node away.example.com, on which instance web runs, does not answer\n  because: "
        ),
        "{error}"
    );
    assert!(
        error.contains("hint: make sure that it is off") && error.contains("--offline yes"),
        "{error}"
    );
    assert_eq!(sandbox.json("list web")[0]["pnode"], "away.example.com");
    assert_eq!(sandbox.loop_devices(), [""; 0]);
}

#[test]
fn a_dry_run_of_a_failover_changes_nothing() {
    let sandbox = two_nodes(offline);
    let here = this_node(&sandbox);
    let before = sandbox.files();
    let planned = sandbox.run(&format!("--dry-run -v failover web -n {here}"));
    assert!(planned.stderr.contains(&format!(" on {here}\n")), "{planned:?}");
    assert!(
        planned.stdout.contains("VOL_OPEN_DEAD_NODE=away.example.com"),
        "{planned:?}"
    );
    assert!(planned.stdout.contains("# configuration: "), "{planned:?}");
    // That something was asked is logged.
    let log = sandbox.state().join("log/extstorage/ext.log");
    assert_eq!(sandbox.changed_since(&before), BTreeSet::from([log]));
    assert_eq!(sandbox.json("list web")[0]["pnode"], "away.example.com");
}

#[test]
fn a_migration_that_was_broken_off_waits_for_its_cleanup() {
    let sandbox = two_nodes(|config, here, away| {
        offline(config, here, away);
        first_instance(config)["gnt-disk:migration"] = json!({"source": away, "target": here});
    });
    let here = this_node(&sandbox);
    fs::write(volume(&sandbox).join("open.away"), "shared\n").unwrap();
    for command in [
        "grow web 0 1M",
        "remove web",
        "activate web",
        "rename web www",
        &format!("failover web -n {here}"),
    ] {
        let error = sandbox.fails(1, command);
        let told =
            format!("error: instance web is being migrated from node away.example.com to node {here}\n");
        assert!(error.starts_with(&told), "{command}: {error}");
        assert!(error.contains("gnt-disk migrate --cleanup"), "{command}: {error}");
    }
    let info = sandbox.run("--json info --static web");
    assert_eq!(info.status, 3, "{info:?}");
    let shown: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(
        shown["migration"],
        json!({"source": "away.example.com", "target": here})
    );
    assert!(!sandbox.ok("export").stdout.contains("gnt-disk:migration"));
    let verify = sandbox.run("verify");
    let told = format!(
        "half-migrated: web: the instance is being migrated from node away.example.com to node {here}"
    );
    assert!(verify.stdout.contains(&told), "{verify:?}");
    let mend = "gnt-disk migrate web --cleanup --runs-on NODE";
    assert!(verify.stdout.contains(&format!("mend: {mend}")), "{verify:?}");
    let list = sandbox.run("list -o name,migration");
    assert_eq!(list.status, 3, "{list:?}");
    assert!(list.stderr.contains(mend), "{list:?}");
    assert!(list.stdout.contains("away.example.com"), "{list:?}");
    let error = sandbox.fails(2, "migrate web --cleanup");
    assert!(error.contains("--runs-on NODE"), "{error}");
    let error = sandbox.fails(1, "migrate web --cleanup --runs-on away.example.com");
    assert!(
        error.contains("node away.example.com is marked offline"),
        "{error}"
    );
    let error = sandbox.fails(1, "migrate web --abort");
    assert!(
        error.contains("node away.example.com is marked offline"),
        "{error}"
    );
    let located = sandbox.run_list(&["migrate", "web", "--cleanup", "--locate", "true"]);
    assert!(
        located.stderr.contains("does not seem to run anywhere"),
        "{located:?}"
    );

    let located = format!("test $GNT_DISK_SOURCE = away.example.com && echo {here}");
    let run = sandbox.run_list(&["--json", "migrate", "web", "--cleanup", "--locate", &located]);
    assert_eq!(run.status, 3, "{run:?}");
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(answer["pnode"], here.as_str());
    assert!(!volume(&sandbox).join("open.away").exists());
    // Done already.
    for arguments in [
        &format!("--cleanup --runs-on {here}"),
        "--finish",
        "--abort",
        "--cleanup --locate true",
    ] {
        let again =
            sandbox.run_list(&[&["migrate", "web"][..], &arguments.split(' ').collect::<Vec<_>>()].concat());
        assert_eq!(again.status, 0, "{arguments}: {again:?}");
        let told =
            format!("nothing was to be done: instance web is not being migrated; it is on node {here}\n");
        assert_eq!(again.stderr, told, "{arguments}");
    }
    let error = sandbox.fails(1, "migrate web --cleanup --runs-on away.example.com");
    let told = format!("error: instance web is not being migrated; it is on node {here}\n");
    assert!(error.starts_with(&told), "{error}");
    sandbox.ok("grow web 0 1M");
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

/// Only what locates an instance runs here: it is started, marked and found as what moves it is.
#[test]
fn what_a_killed_manager_left_running_is_ended_before_the_migration() {
    let sandbox = two_nodes(|config, here, away| {
        offline(config, here, away);
        first_instance(config)["gnt-disk:migration"] = json!({"source": away, "target": here});
    });
    let here = this_node(&sandbox);
    let started = sandbox.path("started");
    let line = format!("echo $$ > {}; sleep 600; :", started.display());
    let mut manager = sandbox
        .command()
        .args(["migrate", "web", "--cleanup", "--locate", &line])
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let pid = loop {
        let line = fs::read_to_string(&started).unwrap_or_default();
        if let Some(pid) = line.strip_suffix('\n') {
            break pid.to_owned();
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    };
    manager.kill().unwrap();
    manager.wait().unwrap();
    let is_running = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(is_running());
    sandbox.ok("--dry-run migrate web --finish");
    assert!(is_running());
    let run = sandbox.run(&format!("migrate web --cleanup --runs-on {here}"));
    assert!(!is_running());
    assert_eq!(run.status, 3, "{run:?}");
    let told = "warning: a command that was moving instance web still ran, and was ended";
    assert!(run.stderr.contains(told), "{run:?}");
    assert_eq!(sandbox.json("info web")["pnode"], here.as_str());
    // There is nothing to tell any more.
    sandbox.ok("migrate web --finish");
    sandbox.ok("remove web");
}

#[test]
fn what_cannot_go_to_another_node_says_what_can() {
    let sandbox = Sandbox::new();
    sandbox.ok("add files -t file --disk 0:size=1M");
    sandbox.ok("add web --disk 0:size=1M");
    let here = this_node(&sandbox);
    for (command, message) in [
        (
            "migrate files --prepare".to_owned(),
            "hint: 'gnt-disk move' copies the disks",
        ),
        (
            "failover files".to_owned(),
            "hint: 'gnt-disk move' copies the disks",
        ),
        (
            "migrate web --prepare".to_owned(),
            "hint: name the node with -n NODE",
        ),
        ("failover web -n nowhere".to_owned(), "there is no node nowhere"),
        (
            format!("migrate web -n {here} --prepare"),
            "instance web is on node",
        ),
        (
            format!("move web -n {here}"),
            "hint: 'gnt-disk failover' gives the instance another node",
        ),
        (format!("move files -n {here}"), "instance files is on node"),
        ("move files -n nowhere".to_owned(), "there is no node nowhere"),
        (
            "migrate nobody --finish".to_owned(),
            "there is no instance nobody",
        ),
    ] {
        let error = sandbox.fails(1, &command);
        assert!(error.contains(message), "{command}: {error}");
    }
    for (arguments, message) in [
        ("migrate web", "--transfer <COMMAND>"),
        ("migrate web --prepare --finish", "cannot be used with"),
        ("migrate web --finish -n node2", "cannot be used with"),
        ("migrate web --prepare --runs-on node2", "cannot be used with"),
        (
            "migrate web --prepare --transfer-timeout 5",
            "cannot be used with",
        ),
        (
            "migrate web --transfer true --transfer-timeout 0",
            "invalid value '0'",
        ),
        ("failover", "<INSTANCE>"),
        ("move files", "--target-node <NODE>"),
    ] {
        let error = sandbox.fails(2, arguments);
        assert!(error.contains(message), "{arguments}: {error}");
    }
    for (arguments, taught) in [
        (
            "migrate --help",
            "gnt-disk migrate web1 --cleanup --runs-on node2",
        ),
        ("failover --help", "gnt-disk failover web1 -n node3"),
        ("move --help", "gnt-disk move web1 -n node2"),
    ] {
        assert!(sandbox.ok(arguments).stdout.contains(taught), "{arguments}");
    }
}
