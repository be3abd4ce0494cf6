//! What programs read: the shapes of the JSON, fields and separators of lists, the text of dry runs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{Sandbox, text};

fn has_keys(object: &Value, keys: &[&str]) {
    for key in keys {
        assert!(object.get(key).is_some(), "{key}: {object}");
    }
}

#[test]
fn instances() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M --disk 1:size=2M,name=data,mode=ro");
    sandbox.ok("add thin -t diskless");
    let node = text(&sandbox.json("cluster info"), "master").to_owned();

    let list = sandbox.json("list");
    assert_eq!(list.as_array().unwrap().len(), 2);
    let web = &list[1];
    has_keys(
        web,
        &[
            "name",
            "uuid",
            "disk_template",
            "pnode",
            "snodes",
            "disks",
            "disks_active",
        ],
    );
    assert_eq!(
        json!([
            web["name"],
            web["disk_template"],
            web["pnode"],
            web["snodes"],
            web["disks_active"]
        ]),
        json!(["web", "ext", node, [], false])
    );
    let disk = &web["disks"][1];
    let keys = [
        "uuid",
        "name",
        "size",
        "logical_id",
        "iv_name",
        "mode",
        "dev_type",
        "params",
        "nodes",
        "children",
    ];
    has_keys(disk, &keys);
    assert_eq!(
        json!([
            disk["name"],
            disk["size"],
            disk["iv_name"],
            disk["mode"],
            disk["dev_type"],
            disk["params"]
        ]),
        json!(["data", 2, "disk/1", "ro", "ext", {"provider": "ext"}])
    );
    assert_eq!(disk.get("dev_path"), None);

    let activated = sandbox.json("activate web");
    has_keys(&activated, &["operation", "instance", "disks", "warnings"]);
    has_keys(
        &activated["disks"][0],
        &["node", "iv_name", "dev_path", "link", "uuid", "uri"],
    );
    let active = sandbox.json("list web");
    for key in ["dev_path", "link"] {
        assert_eq!(active[0]["disks"][1][key], activated["disks"][1][key], "{key}");
    }

    let info = sandbox.json("info web");
    has_keys(
        &info,
        &[
            "name",
            "uuid",
            "disk_template",
            "pnode",
            "snodes",
            "disks",
            "disks_active",
        ],
    );
    has_keys(&info["disks"][0], &["status", "pstatus", "dev_path", "link"]);
    has_keys(
        &info["disks"][0]["pstatus"],
        &[
            "dev_path",
            "major",
            "minor",
            "sync_percent",
            "estimated_time",
            "is_degraded",
            "ldisk_status",
        ],
    );
    assert_eq!(sandbox.json("info web --static")["disks"][0].get("status"), None);

    let grown = sandbox.json("grow web data 1M");
    assert_eq!(
        json!([grown["instance"], grown["disks"][0]["size"]]),
        json!(["web", 3])
    );
    for arguments in [
        "snapshot web --disk 0:snapshot_name=s",
        "modify web --disk 0:name=root",
        "deactivate web",
    ] {
        has_keys(&sandbox.json(arguments), &["operation", "instance", "warnings"]);
    }
    let detached = sandbox.json("list --detached");
    has_keys(
        &detached[0],
        &["uuid", "name", "dev_type", "size", "logical_id", "params"],
    );
    assert_eq!(sandbox.json("rename web www")["instance"], "www");
    assert_eq!(sandbox.json("remove www")["disks"].as_array().unwrap().len(), 2);
}

#[test]
fn operations() {
    let sandbox = Sandbox::new();
    let added = sandbox.json("add web --disk 0:size=1M");
    assert_eq!(sandbox.json("operation list"), json!([]));
    let all = sandbox.json("operation list --all");
    has_keys(
        &all[0],
        &[
            "id",
            "kind",
            "instance",
            "state",
            "step",
            "started",
            "finished",
            "interrupted",
        ],
    );
    assert_eq!(
        json!([
            all[0]["id"],
            all[0]["kind"],
            all[0]["instance"],
            all[0]["state"],
            all[0]["step"]
        ]),
        json!([added["operation"], "add", "web", "done", null])
    );
    let prefix = &text(&added, "operation")[..8];
    let shown = sandbox.json(&format!("operation show {prefix}"));
    assert_eq!(shown["steps"][0]["name"], "create-disk");
    assert_eq!(shown["steps"][0]["state"], "done");
    assert!(
        text(&shown["steps"][0], "action").starts_with("create disk/0"),
        "{shown}"
    );
    let text = sandbox.ok(&format!("operation show {prefix}")).stdout;
    assert!(text.contains("  - done: create disk/0"), "{text}");
}

#[test]
fn providers() {
    let sandbox = Sandbox::new().with_odd_providers();
    let list = sandbox.json("provider list");
    let named = |name: &str| {
        list.as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .unwrap()
    };
    has_keys(named("ext"), &["name", "dir", "status", "parameters"]);
    assert_eq!(
        json!([named("ext")["status"], named("ext")["parameters"]]),
        json!(["ok", ["dir"]])
    );
    assert_eq!(named("not-executable")["status"], "broken");

    let diagnosis = sandbox.run("--json provider diagnose");
    assert_eq!(diagnosis.status, 3);
    let diagnosis: Value = serde_json::from_str(&diagnosis.stdout).unwrap();
    let rows = diagnosis.as_array().unwrap();
    let broken = rows.iter().find(|row| row["name"] == "not-executable").unwrap();
    assert_eq!(broken["problems"][0]["file"], "attach");
    let text = sandbox.run("provider diagnose").stdout;
    assert!(text.contains("- no-parameters-list: broken\n"), "{text}");
    assert!(text.contains("    - parameters.list: missing\n"), "{text}");

    let actions = sandbox.json("provider actions no-optional");
    let action = |name: &str| {
        actions
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["action"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        action("create"),
        json!({"action": "create", "kind": "required", "present": true})
    );
    assert_eq!(
        action("snapshot"),
        json!({"action": "snapshot", "kind": "optional", "present": false})
    );
    assert_eq!(
        action("list"),
        json!({"action": "list", "kind": "extension", "present": false})
    );

    sandbox.ok("add web --disk 0:size=1M");
    let info = sandbox.json("provider info ext");
    has_keys(&info, &["name", "dir", "parameters", "actions", "volumes", "log"]);
    has_keys(&info["parameters"][0], &["name", "description"]);
    assert_eq!(
        json!([info["volumes"][0]["instance"], info["volumes"][0]["index"]]),
        json!(["web", 0])
    );
    assert!(sandbox.ok("provider info ext").stdout.contains("disk/0 of web"));
    let silent = sandbox.ok("provider info no-optional").stdout;
    assert!(silent.contains("the provider cannot list them"), "{silent}");
    // It wants a parameter that nobody gives.
    assert_eq!(sandbox.run("provider info exits-3").status, 3);
    sandbox.ok("remove web");
}

#[test]
fn a_shadowed_provider_is_told() {
    let sandbox = Sandbox::new().with_odd_providers();
    let copied = sandbox.state().join("providers/argv0");
    let copy = std::process::Command::new("cp")
        .arg("-a")
        .args([sandbox.path("odd/argv0"), copied])
        .status();
    assert!(copy.unwrap().success());
    let diagnosis: Value = serde_json::from_str(&sandbox.run("--json provider diagnose").stdout).unwrap();
    let rows = diagnosis
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["name"] == "argv0");
    let rows: Vec<_> = rows
        .map(|row| (text(row, "status"), row["shadowed_by"].clone()))
        .collect();
    let first = sandbox.path("odd/argv0");
    assert_eq!(rows, [("ok", Value::Null), ("shadowed", json!(first))]);
}

#[test]
fn the_cluster() {
    let sandbox = Sandbox::new();
    let state = sandbox.state();
    let made = sandbox.json("cluster init --name lab --node n1 --es-timeout 60 -D plain:stripes=2");
    assert_eq!(
        json!([made["name"], made["master"], made["nodes"]]),
        json!(["lab", "n1", ["n1"]])
    );
    assert_eq!(
        json!([made["es_timeout"], made["diskparams"]["plain"]["stripes"]]),
        json!([60, 2])
    );
    sandbox.ok("cluster modify --search-path /a:/b --enabled-disk-templates file,ext --vg-name fast");
    let info = sandbox.json("cluster info");
    assert_eq!(
        json!([
            info["es_search_path"],
            info["enabled_disk_templates"],
            info["volume_group_name"],
            info["state_dir"]
        ]),
        json!([["/a", "/b"], ["file", "ext"], "fast", state])
    );
    let text = sandbox.ok("cluster info").stdout;
    for line in [
        "Cluster name: lab\n",
        "  enabled disk templates: file, ext\n",
        "  ExtStorage Providers search path: /a, /b\n",
        "    stripes: 2 (default 1)\n",
        "    resync-rate: 61440\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    sandbox
        .ok("cluster modify --disable-template file --enable-template sharedfile -D plain:stripes=default");
    let info = sandbox.json("cluster info");
    assert_eq!(info["enabled_disk_templates"], json!(["ext", "sharedfile"]));
    assert_eq!(info["diskparams"]["plain"]["stripes"], 1);
}

#[test]
fn what_cluster_init_refuses_is_not_begun() {
    let sandbox = Sandbox::new();
    sandbox.fails(1, "cluster init --search-path relative");
    assert!(!sandbox.state().exists());
    sandbox.ok("cluster init --file-storage-dir /srv/files");
    assert_eq!(sandbox.json("cluster info")["file_storage_dir"], "/srv/files");
}

#[test]
fn lists_have_the_fields_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1536M --disk 1:size=1M");
    assert_eq!(
        sandbox
            .ok("list --no-headers --separator | -o name,disk.sizes")
            .stdout,
        "web|1536,1\n"
    );
    assert_eq!(
        sandbox.ok("list -o disk.sizes,disk.count").stdout,
        "Disk_sizes Disks\n   1.5G,1M     2\n"
    );
    let list = sandbox.ok("list -o +uuid").stdout;
    assert!(
        list.starts_with("Instance Disk_template Primary_node Disk_sizes Active UUID\n"),
        "{list}"
    );
    assert_eq!(sandbox.json("list -o name"), json!([{"name": "web"}]));
    sandbox.ok("remove web");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M,name=root --disk 1:size=1M");
    sandbox.ok("add files -t file --disk 0:size=1M");
    sandbox.ok("snapshot web --disk 0:snapshot_name=old");
    sandbox.ok("activate web");
    let (files, export) = (sandbox.files(), sandbox.ok("export").stdout);
    for (arguments, says) in [
        ("add two --disk 0:size=1M", "providers/ext/create\n"),
        ("add two -t file --disk 0:size=1M", "# configuration: set "),
        ("activate files", "# configuration: set instance files"),
        ("deactivate web", "providers/ext/detach\n"),
        ("remove web", "providers/ext/remove\n"),
        ("remove files", "# configuration: forget instance"),
        ("grow web 0 1M", "providers/ext/grow\n"),
        ("grow files 0 1M", "# configuration: set disk/0"),
        ("modify web --disk add:size=1M --disk 0:remove", "VOL_SIZE=1 "),
        ("modify web --disk attach:old", "# configuration: "),
        ("snapshot web --disk 0:snapshot_name=new", "VOL_SNAPSHOT_NAME=new"),
        ("rename files file", "# configuration: "),
        (
            "cluster modify --es-timeout 5",
            "# give External Storage scripts 5 s",
        ),
        (
            "import --replace ../../fixtures/config/config.data",
            "# import 6 instances and 9 disks",
        ),
    ] {
        let run = sandbox.ok(&format!("--dry-run {arguments}"));
        assert!(run.stdout.contains(says), "{arguments}: {run:?}");
        let json = sandbox.json(&format!("--dry-run {arguments}"));
        assert_eq!(json["dry_run"], true, "{arguments}");
        assert_eq!(
            json["changes"].as_array().unwrap().len(),
            run.stdout.lines().count(),
            "{arguments}"
        );
    }
    // Questions were really asked, and are in the log.
    let log = sandbox.state().join("log/extstorage/ext.log");
    assert_eq!(sandbox.changed_since(&files), BTreeSet::from([log]));
    assert_eq!(sandbox.ok("export").stdout, export);
    sandbox.ok("remove web");
    sandbox.ok("remove files");
}

#[test]
fn a_dry_run_where_there_is_nothing_makes_nothing() {
    let sandbox = Sandbox::new();
    let dry = sandbox.ok("--dry-run add web --disk 0:size=1M");
    let state = sandbox.state();
    let lines: Vec<&str> = dry.stdout.lines().collect();
    assert_eq!(
        lines[0],
        format!("# make a cluster of this node in {}", state.display())
    );
    let create = lines.iter().find(|line| line.ends_with("/ext/create")).unwrap();
    assert!(
        create.contains(&format!(" GNT_DISK_STATE={}", state.display())),
        "{create}"
    );
    assert!(
        create.starts_with(&format!("env -C {}/providers/ext ", state.display())),
        "{create}"
    );
    sandbox.ok("--dry-run cluster init --name lab");
    for arguments in ["--dry-run list", "--dry-run cluster info"] {
        let error = sandbox.fails(1, arguments);
        assert!(error.contains("there is no configuration"), "{error}");
    }
    assert!(sandbox.files().is_empty());
}

#[test]
fn a_cluster_knows_its_volume_groups_and_directories_from_the_beginning() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init --vg-name fast --exclusive-storage yes --gluster-storage-dir /srv/gluster");
    let info = sandbox.json("cluster info");
    assert_eq!(
        json!([
            info["volume_group_name"],
            info["diskparams"]["drbd"]["metavg"],
            info["ndparams"]["exclusive_storage"],
            info["gluster_storage_dir"]
        ]),
        json!(["fast", "fast", true, "/srv/gluster"])
    );
    sandbox.ok("cluster modify --exclusive-storage false -D drbd:metavg=slow");
    let error = sandbox.fails(1, "add web -t plain --disk 0:size=1G,spindles=2");
    assert!(error.contains("has no exclusive storage"), "{error}");
    let info = sandbox.json("cluster info");
    assert_eq!(info["diskparams"]["drbd"]["metavg"], "slow");
}

#[test]
fn what_has_no_mirror_is_in_sync_at_once() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=2M");
    let activated = sandbox.json("activate web --wait-for-sync");
    assert_eq!(activated["warnings"], json!([]));
    let status = &sandbox.json("info web")["disks"][0]["pstatus"];
    assert_eq!(
        json!([
            status["sync_percent"],
            status["estimated_time"],
            status["is_degraded"],
            status["ldisk_status"]
        ]),
        json!([null, null, false, 1])
    );
    sandbox.ok("remove web");
}
