//! Ganeti's `config.data`, in and out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Run, Sandbox};

/// What was recorded of clusters, as the sandbox's copies of it.
fn recorded(sandbox: &Sandbox) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config");
    let files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| sandbox.copy(&entry.unwrap().path()))
        .collect();
    assert!(!files.is_empty());
    files
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn what_is_imported_is_exported() {
    let source = Sandbox::new();
    for file in recorded(&source) {
        let sandbox = Sandbox::new();
        let imported = sandbox.json(&format!("import {}", file.display()));
        assert_eq!(
            imported["instances"],
            read(&file)["instances"].as_object().unwrap().len()
        );
        let exported: Value = serde_json::from_str(&sandbox.ok("export").stdout).unwrap();
        assert_eq!(exported, read(&file), "{}", file.display());

        let copy = sandbox.path("config.data");
        sandbox.ok(&format!("export {}", copy.display()));
        assert_eq!(read(&copy), exported);
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
        sandbox.ok("list");
        assert_eq!(
            serde_json::from_str::<Value>(&sandbox.ok("export -").stdout).unwrap(),
            exported
        );
    }
}

#[test]
fn standard_input_can_be_imported() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command();
    let run: Run = command
        .args(["import", "-"])
        .stdin(File::open(&recorded(&sandbox)[0]).unwrap())
        .output()
        .unwrap()
        .into();
    assert_eq!(run.status, 0, "{run:?}");
    assert_eq!(
        sandbox.json("cluster info")["name"],
        read(&recorded(&sandbox)[0])["cluster"]["cluster_name"]
    );
}

#[test]
fn what_is_there_is_replaced_only_if_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web -t diskless");
    let file = recorded(&sandbox)[0].display().to_string();
    let error = sandbox.fails(1, &format!("import {file}"));
    assert!(error.contains("holds 1 instances"), "{error}");
    assert_eq!(sandbox.json("list").as_array().unwrap().len(), 1);
    sandbox.ok(&format!("import --replace {file}"));
    assert_eq!(sandbox.run("info web").status, 1);
}

#[test]
fn a_bad_file_is_refused_with_the_place() {
    let sandbox = Sandbox::new();
    let good = read(&recorded(&sandbox)[0]);
    let file = sandbox.path("bad.data");
    let refused = |text: String, message: &str| {
        fs::write(&file, text).unwrap();
        let error = sandbox.fails(1, &format!("import {}", file.display()));
        let import = format!("error: cannot import {}\n  because: ", file.display());
        assert!(error.contains(&import), "{error}");
        assert!(error.contains(message), "{message}: {error}");
    };
    let changed = |change: fn(&mut Value)| {
        let mut config = good.clone();
        change(&mut config);
        config.to_string()
    };
    refused("{\"version\": 3000000,".to_owned(), "line 1");
    refused("nonsense".to_owned(), "is not JSON");
    refused(changed(|config| config["version"] = json!(2_160_000)), "2.16");
    refused(changed(|config| config["disks"] = json!(7)), "disks");
    refused(
        changed(|config| {
            let disks = config["disks"].as_object_mut().unwrap();
            let uuid = disks.keys().next().unwrap().clone();
            disks[&uuid]["size"] = "large".into();
        }),
        "/size",
    );
    refused(
        changed(|config| {
            let disks = config["disks"].as_object_mut().unwrap();
            let uuid = disks.keys().next().unwrap().clone();
            disks.remove(&uuid);
        }),
        "because: ",
    );
    let error = sandbox.fails(1, "import /nowhere/config.data");
    assert!(
        error.contains("cannot read /nowhere/config.data\n  because: No such file"),
        "{error}"
    );
    assert!(!sandbox.state().exists());
    sandbox.ok("cluster init");
    let error = sandbox.fails(1, "export /nowhere/config.data");
    assert!(error.contains("cannot write /nowhere/config.data"), "{error}");
}

#[test]
fn a_cluster_made_here_is_exported_too() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M");
    let exported: Value = serde_json::from_str(&sandbox.ok("export").stdout).unwrap();
    for key in [
        "version",
        "cluster",
        "nodes",
        "nodegroups",
        "instances",
        "networks",
        "disks",
        "filters",
        "serial_no",
    ] {
        assert!(exported.get(key).is_some(), "{key}");
    }
    let other = Sandbox::new();
    let file = other.path("config.data");
    fs::write(&file, exported.to_string()).unwrap();
    other.ok(&format!("import {}", file.display()));
    assert_eq!(other.json("list"), sandbox.json("list"));
    sandbox.ok("remove web");
}
