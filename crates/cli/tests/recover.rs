//! The configuration is lost, and rebuilt from the disks.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::{Run, Sandbox, text};

/// The database goes, as after a disk failure; the volumes stay.
fn lose_configuration(sandbox: &Sandbox) {
    sandbox.lose_store();
    sandbox.ok("cluster init --enabled-disk-templates ext,file,sharedfile");
}

/// What there is to know of an instance, but for what belongs to the cluster.
fn known(sandbox: &Sandbox) -> Vec<Value> {
    let all = sandbox.json("list");
    let mut all = all.as_array().unwrap().clone();
    for instance in &mut all {
        for disk in instance["disks"].as_array_mut().unwrap() {
            // The node has another UUID, and is called by its name.
            assert!(disk["nodes"].as_array().unwrap().len() <= 1);
        }
    }
    all
}

/// The disks that no instance has. What place they had is forgotten.
fn detached(sandbox: &Sandbox) -> Vec<Value> {
    let mut all = sandbox.json("list --detached").as_array().unwrap().clone();
    for disk in &mut all {
        disk["iv_name"] = Value::Null;
    }
    all
}

fn link(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.state().join("instance-disks").join(name)
}

/// Writes something to a disk in use, and reads what is there.
fn write(sandbox: &Sandbox, name: &str, content: &str) {
    let dd = Command::new("sh")
        .args([
            "-c",
            "printf %s \"$1\" | dd of=\"$2\" bs=4096 conv=notrunc,fsync status=none",
            "sh",
            content,
        ])
        .arg(link(sandbox, name))
        .status();
    assert!(dd.unwrap().success());
}

fn content(sandbox: &Sandbox, name: &str, length: usize) -> String {
    let bytes = fs::read(link(sandbox, name)).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

const TEMPLATES: [&str; 3] = ["ext", "file", "sharedfile"];

#[test]
fn instances_are_as_they_were_and_so_is_their_data() {
    let sandbox = Sandbox::new();
    for template in TEMPLATES {
        sandbox.ok(&format!(
            "add {template}.example.org -t {template} --disk 0:size=8,name=root --disk 1:size=4,mode=ro --disk 2:size=4"
        ));
        sandbox.ok(&format!("modify {template}.example.org --disk 1:detach"));
        sandbox.ok(&format!("grow {template}.example.org 1 8"));
        sandbox.ok(&format!("activate {template}.example.org"));
        write(&sandbox, &format!("{template}.example.org:1"), template);
    }
    sandbox.ok("deactivate file.example.org");
    sandbox.ok("snapshot ext.example.org --disk 0:snapshot_name=before");
    let (before, loose) = (known(&sandbox), detached(&sandbox));
    lose_configuration(&sandbox);
    assert_eq!(sandbox.json("list"), json!([]));

    // It only tells what it would do.
    let told = sandbox.run("recover");
    assert_eq!(told.status, 3, "{told:?}");
    assert!(told.stdout.contains("ext.example.org"), "{told:?}");
    assert!(
        told.stdout.ends_with(
            "Nothing was recorded: gnt-disk recover --yes records 3 instances and 4 detached disks.\n"
        ),
        "{told:?}"
    );
    assert_eq!(sandbox.json("list"), json!([]));

    let recovered = sandbox.json("recover --yes");
    assert_eq!(recovered["remarks"], json!([]));
    assert_eq!(recovered["instances"].as_array().unwrap().len(), 3);
    assert_eq!(known(&sandbox), before);
    assert_eq!(detached(&sandbox), loose);
    assert_eq!(sandbox.ok("verify").stdout, "The storage is as configured.\n");
    let again = sandbox.ok("recover --yes");
    assert_eq!(
        again.stdout,
        "Nothing was found that the configuration does not have.\n"
    );

    sandbox.ok("activate file.example.org");
    for template in TEMPLATES {
        let name = format!("{template}.example.org:1");
        assert_eq!(content(&sandbox, &name, template.len()), template);
        sandbox.ok(&format!("remove {template}.example.org"));
    }
}

#[test]
fn one_instance_of_several_can_be_recovered() {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        sandbox.ok(&format!("add {name} -t file --disk 0:size=4"));
    }
    lose_configuration(&sandbox);
    let Run { status, .. } = sandbox.run("recover --yes a");
    assert_eq!(status, 3, "there is more");
    let names: Vec<_> = known(&sandbox)
        .iter()
        .map(|instance| text(instance, "name").to_owned())
        .collect();
    assert_eq!(names, ["a"]);
    let refused = sandbox.fails(1, "recover --yes c");
    assert!(refused.contains("nothing was found of c"), "{refused}");
    sandbox.ok("recover --yes");
    assert_eq!(known(&sandbox).len(), 2);
}

#[test]
fn what_is_missing_is_told_and_left_out_until_it_is_wanted() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web -t file --disk 0:size=4 --disk 1:size=4 --disk 2:size=4");
    let disks = sandbox.json("info web");
    let path = disks["disks"][1]["logical_id"][1].as_str().unwrap().to_owned();
    lose_configuration(&sandbox);
    fs::remove_file(path).unwrap();
    let told = sandbox.run("recover --yes");
    assert_eq!(told.status, 3);
    assert!(
        told.stdout.contains(
            "missing: web: no volume was found that says that it is disk/1\n  mend: gnt-disk recover"
        ),
        "{told:?}"
    );
    assert!(
        told.stdout
            .ends_with("Nothing of that can be recovered as it is.\n"),
        "{told:?}"
    );
    assert_eq!(sandbox.fails(1, "recover --yes web").lines().count(), 2);
    let run = sandbox.run("recover --yes --incomplete web");
    assert_eq!(run.status, 3, "{run:?}");
    assert_eq!(known(&sandbox)[0]["disk.count"], 2);
    assert_eq!(sandbox.ok("verify").stdout, "The storage is as configured.\n");
}

#[test]
fn a_dry_run_records_nothing() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web -t file --disk 0:size=4");
    lose_configuration(&sandbox);
    let before = sandbox.files();
    let run = sandbox.run("--dry-run recover --yes");
    assert!(run.stdout.contains("web"), "{run:?}");
    // What providers are asked they log.
    let log = sandbox.state().join("log");
    let changed = sandbox.changed_since(&before);
    assert!(changed.iter().all(|path| path.starts_with(&log)), "{changed:?}");
    assert_eq!(sandbox.json("list"), json!([]));
}

#[test]
fn verify_mends_what_loses_nothing_by_it() {
    let sandbox = Sandbox::new();
    for template in ["ext", "file"] {
        sandbox.ok(&format!("add {template} -t {template} --disk 0:size=4"));
    }
    sandbox.ok("activate ext");
    let links = sandbox.state().join("instance-disks");
    fs::remove_file(links.join("ext:0")).unwrap();
    std::os::unix::fs::symlink("/dev/null", links.join("gone:0")).unwrap();
    let meta = fs::read_dir(sandbox.state().join("ext-volumes"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("meta");
    let told = fs::read_to_string(&meta).unwrap();
    fs::write(
        &meta,
        told.replace("\\u0022index\\u0022:0", "\\u0022index\\u0022:5"),
    )
    .unwrap();

    let found = sandbox.run("--json verify");
    assert_eq!(found.status, 3);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let mut kinds: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| text(finding, "kind").to_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["not-active", "stale-link", "stale-metadata"]);

    let dry = sandbox.ok("--dry-run verify --repair");
    assert!(dry.stdout.contains("gone:0"), "{dry:?}");
    assert_eq!(sandbox.run("verify").status, 3, "a dry run mends nothing");

    let repaired = sandbox.json("verify --repair");
    assert_eq!(repaired["findings"], json!([]));
    assert_eq!(repaired["repaired"].as_array().unwrap().len(), 3);
    assert_eq!(repaired.as_object().unwrap().len(), 2);
    assert_eq!(sandbox.json("verify"), json!([]));
    assert!(links.join("ext:0").exists() && !links.join("gone:0").is_symlink());
    assert_eq!(fs::read_to_string(&meta).unwrap(), told);
    assert_eq!(sandbox.ok("verify").stdout, "The storage is as configured.\n");
    sandbox.ok("remove ext");
}
