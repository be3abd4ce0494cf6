//! What goes wrong: interrupted operations, damaged and unreachable stores, readers that go away; and that nothing of it
//! shows a secret.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::{Run, Sandbox, text};

/// Starts an `add` that has made one volume and hangs while it makes the other.
fn hanging(sandbox: &Sandbox) -> (Child, Value) {
    let dir = sandbox.path("volumes");
    let disk = format!("1:size=1M,provider=hangs,on=create,dir={}", dir.display());
    let child = sandbox.start(&format!("add web --disk 0:size=1M --disk {disk}"));
    let operation = sandbox.wait_for_operation(|operation| operation["steps_done"] == 1);
    assert_eq!(operation["state"], "running");
    (child, operation)
}

/// The same, and kills it.
fn interrupted(sandbox: &Sandbox) -> Value {
    let (mut child, operation) = hanging(sandbox);
    child.kill().unwrap();
    child.wait().unwrap();
    operation
}

#[test]
fn an_interrupted_operation_is_told_and_can_be_aborted() {
    let sandbox = Sandbox::new().with_odd_providers();
    let operation = interrupted(&sandbox);
    let id = text(&operation, "id");
    let listed = sandbox.json("operation list");
    assert_eq!(
        json!([listed[0]["interrupted"], listed[0]["step"]]),
        json!([true, "create-disk"])
    );

    let list = sandbox.run("list");
    assert_eq!(list.status, 3);
    let warning = format!(
        "warning: operation {id} (add web) was interrupted: run gnt-disk operation resume {id}, or abort\n"
    );
    assert_eq!(list.stderr, warning);
    let verify = sandbox.run("verify");
    assert_eq!(verify.status, 3);
    assert!(verify.stdout.contains("interrupted: web: "), "{verify:?}");

    sandbox.ok(&format!("--dry-run operation abort {id}"));
    let aborted = sandbox.ok(&format!("operation abort {}", &id[..6]));
    assert_eq!(aborted.stdout, format!("operation {id} (add web) was undone\n"));
    assert_eq!(sandbox.json("operation list"), json!([]));
    assert_eq!(sandbox.json("list"), json!([]));
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.assert_empty();
    assert_eq!(fs::read_dir(sandbox.path("volumes")).unwrap().count(), 0);
}

#[test]
fn an_interrupted_operation_can_be_resumed() {
    let sandbox = Sandbox::new().with_odd_providers();
    interrupted(&sandbox);
    // Somebody has mended it.
    fs::copy(
        sandbox.path("odd/path-with-newline/provider"),
        sandbox.path("odd/hangs/provider"),
    )
    .unwrap();
    let resumed = sandbox.json("operation resume --all");
    assert_eq!(resumed["operations"][0]["state"], "done");
    assert_eq!(sandbox.json("list")[0]["disk.sizes"], json!([1, 1]));
    sandbox.ok("activate web");
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

#[test]
fn what_became_of_each_operation_is_told() {
    let sandbox = Sandbox::new().with_odd_providers();
    let ids = ["web", "db"].map(|name| {
        let dir = sandbox.path(name);
        fs::create_dir(&dir).unwrap();
        let disk = format!("1:size=1M,provider=hangs,on=create,dir={}", dir.display());
        let mut child = sandbox.start(&format!("add {name} --disk 0:size=1M --disk {disk}"));
        let began = |operation: &Value| operation["instance"] == name && operation["steps_done"] == 1;
        let id = text(&sandbox.wait_for_operation(began), "id").to_owned();
        let running = sandbox.json(&format!("operation show {id}"));
        assert_eq!(running["steps"][1]["state"], "running");
        child.kill().unwrap();
        child.wait().unwrap();
        let dead = sandbox.json(&format!("operation show {id}"));
        assert_eq!(dead["steps"][1]["state"], "pending");
        id
    });
    fs::copy(
        sandbox.path("odd/path-with-newline/provider"),
        sandbox.path("odd/hangs/provider"),
    )
    .unwrap();
    fs::remove_dir(sandbox.path("db")).unwrap();
    fs::write(sandbox.path("db"), "").unwrap();
    let resumed = sandbox.run("operation resume --all");
    assert_eq!(resumed.status, 1, "{resumed:?}");
    let [web, db] = &ids;
    assert_eq!(
        resumed.stdout,
        format!("operation {web} (add web) was finished\n")
    );
    for told in [
        format!("operation {db} (add db): error: "),
        "error: 1 of 2 operations could not be resumed".to_owned(),
    ] {
        assert!(resumed.stderr.contains(&told), "{told}: {resumed:?}");
    }
}

#[test]
fn what_never_began_is_no_history() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web --disk 0:size=1M");
    let before = sandbox.json("operation list --all");
    let node = text(&sandbox.json("cluster info"), "master").to_owned();
    sandbox.fails(1, "add web --disk 0:size=1M");
    sandbox.fails(1, "snapshot web --disk 7");
    sandbox.ok("--dry-run grow web 0 1M");
    let evacuated = sandbox.run(&format!("--dry-run node evacuate {node}"));
    assert_eq!(evacuated.status, 1, "{evacuated:?}");
    let drained = sandbox.run(&format!("--dry-run node drain {node}"));
    assert_eq!(drained.status, 1, "{drained:?}");
    assert_eq!(sandbox.json("operation list --all"), before);
}

#[test]
fn the_next_command_heals_what_was_interrupted() {
    let sandbox = Sandbox::new().with_odd_providers();
    let operation = interrupted(&sandbox);
    let added = sandbox.run("add web --disk 0:size=2M");
    assert_eq!(added.status, 0, "{added:?}");
    assert!(added.stderr.contains(text(&operation, "id")), "{added:?}");
    assert_eq!(sandbox.json("list")[0]["disk.sizes"], json!([2]));
    sandbox.ok("remove web");
    sandbox.assert_empty();
}

#[test]
fn an_operation_can_be_given_up_and_verify_shows_what_is_left() {
    let sandbox = Sandbox::new().with_odd_providers();
    interrupted(&sandbox);
    sandbox.ok("operation abort --all --force");
    assert_eq!(sandbox.json("operation list --all")[1]["state"], "failed");
    let verify = sandbox.run("--json verify");
    assert_eq!(verify.status, 3);
    let findings: Value = serde_json::from_str(&verify.stdout).unwrap();
    assert_eq!(
        json!([findings[0]["kind"], findings[0]["instance"]]),
        json!(["orphan", "web"])
    );
    assert_eq!(sandbox.run("list").status, 0);
}

#[test]
fn a_running_operation_keeps_others_out_and_says_who_it_is() {
    let sandbox = Sandbox::new().with_odd_providers();
    let (mut child, operation) = hanging(&sandbox);
    assert_eq!(operation["interrupted"], false);
    let error = sandbox.fails(1, "add web --disk 0:size=1M");
    assert!(error.contains(&format!("process {} on", child.id())), "{error}");
    assert!(error.contains("hint: wait until it is done"), "{error}");
    let error = sandbox.fails(1, &format!("operation abort {}", text(&operation, "id")));
    assert!(error.contains("is run by"), "{error}");
    sandbox.ok("add other --disk 0:size=1M");
    sandbox.ok("remove other");
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.ok("operation abort --all");
    sandbox.assert_empty();
}

#[test]
fn a_store_that_cannot_be_used_is_named_with_advice() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.state(), "").unwrap();
    let error = sandbox.fails(2, "list");
    assert!(error.contains(sandbox.state().to_str().unwrap()), "{error}");
    assert!(error.contains("it is not a directory\n  hint: choose"), "{error}");
    let error = sandbox.fails(1, "--state /proc/nowhere/state add web -t diskless");
    assert!(
        error.contains("error: cannot open the store /proc/nowhere/state\n  because: "),
        "{error}"
    );
}

#[test]
fn a_user_who_may_not_is_told_so() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    // Where the program was built, that user may not be allowed to go.
    let program = sandbox.path("gnt-disk");
    // Not by this process: a program that another thread's child has open for writing cannot be run.
    let copy = Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_gnt-disk")), &program])
        .status();
    assert!(copy.unwrap().success());
    for path in [program.parent().unwrap(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = |state: &Path, arguments: &str| -> Run {
        let mut command = Command::new(&program);
        command
            .arg("--state")
            .arg(state)
            .args(arguments.split_whitespace());
        command.uid(65534).gid(65534);
        command.output().unwrap().into()
    };
    for (state, arguments) in [
        (sandbox.state(), "list"),
        (sandbox.path("not-there"), "add web -t diskless"),
    ] {
        let run = nobody(&state, arguments);
        assert_eq!(run.status, 1, "{run:?}");
        assert!(
            run.stderr.contains("no permission") && run.stderr.contains("hint: run as root"),
            "{run:?}"
        );
    }
}

#[test]
fn a_state_that_cannot_be_looked_at_is_not_taken_for_an_empty_one() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("file"), "").unwrap();
    for state in ["file", "file/below"] {
        for dry_run in ["", "--dry-run "] {
            let state = sandbox.path(state);
            let run = sandbox.run(&format!("--state {} {dry_run}list", state.display()));
            assert!(run.status == 1 || run.status == 2, "{dry_run}{run:?}");
            assert!(run.stderr.contains(state.to_str().unwrap()), "{dry_run}{run:?}");
        }
    }
}

#[test]
fn a_state_that_others_could_change_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (state, database) = (sandbox.state(), sandbox.state().join("store.db"));
    for (path, good) in [(&state, 0o750), (&database, 0o640)] {
        set_mode(path, good | 0o020);
        for arguments in ["list", "--dry-run list", "cluster init"] {
            let error = sandbox.fails(1, arguments);
            assert!(
                error.contains("is not safe to use: others may write to it"),
                "{error}"
            );
            let mend = format!("hint: chmod go-w {},", path.display());
            assert!(error.contains(&mend), "{error}");
        }
        set_mode(path, good);
        std::os::unix::fs::chown(path, Some(65534), None).unwrap();
        let error = sandbox.fails(1, "list");
        assert!(error.contains("belongs to user 65534"), "{error}");
        std::os::unix::fs::chown(path, Some(0), None).unwrap();
    }
    sandbox.ok("list");
    sandbox.ok("man");
}

#[test]
fn a_damaged_store_is_told_from_another_file() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web -t diskless");
    let database = sandbox.state().join("store.db");
    let good = fs::read(&database).unwrap();
    fs::write(
        &database,
        "this is a letter to my aunt, who has no database\n".repeat(100),
    )
    .unwrap();
    let error = sandbox.fails(1, "list");
    assert!(error.contains("is not a store of gnt-disk\n  hint: "), "{error}");

    fs::write(&database, good).unwrap();
    let mut file = File::options().write(true).open(&database).unwrap();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&[0xa5; 64 << 10]).unwrap();
    let error = sandbox.fails(1, "list");
    assert!(
        error.contains("damaged") && error.contains("hint: restore"),
        "{error}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    for arguments in ["list", "completions bash", "--help", "--json cluster info"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = sandbox.command();
        command
            .args(arguments.split_whitespace())
            .stdout(writer)
            .stderr(Stdio::piped());
        let run: Run = command.output().unwrap().into();
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{arguments}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = sandbox
        .command()
        .args(["info", "nobody"])
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = sandbox.command();
    let run: Run = command
        .arg("list")
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
        .into();
    assert_eq!(run.status, 1, "{run:?}");
    assert!(
        run.stderr
            .contains("error: cannot write to standard output\n  because: No space left"),
        "{run:?}"
    );
}

#[test]
fn secrets_are_shown_nowhere() {
    let sandbox = Sandbox::new();
    let disk = "0:size=1M,nas_password=hunter2secret";
    let added = sandbox.json(&format!("add web --disk {disk}"));
    assert_eq!(added["disks"][0]["params"]["nas_password"], "<redacted>");
    sandbox.ok("snapshot web --disk 0:snapshot_name=copy");
    let operation = text(&added, "operation").to_owned();
    for arguments in [
        "-v activate web",
        "info web",
        "--json info web",
        "--json list",
        "list --detached -o +params",
        "--json list --detached",
        "--dry-run grow web 0 1M",
        "-v grow web 0 1M",
        "--json verify",
        "operation list --all",
        &format!("operation show {operation}"),
        &format!("--json operation show {operation}"),
        "-v --json remove web",
    ] {
        let run = sandbox.ok(arguments);
        assert!(
            !format!("{run:?}").contains("hunter2secret"),
            "{arguments}: {run:?}"
        );
    }
    let log = fs::read_to_string(sandbox.state().join("log/extstorage/ext.log")).unwrap();
    assert!(log.contains("create") && !log.contains("hunter2secret"), "{log}");
}

#[test]
fn secrets_of_drbd_are_only_exported() {
    let sandbox = Sandbox::new();
    let config =
        sandbox.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config/config.data"));
    sandbox.ok(&format!("import {}", config.display()));
    let secret = "7e8f54ba7ac9e91eb11e206f0868ef4f1f166459";
    assert!(sandbox.ok("export").stdout.contains(secret));
    for arguments in [
        "--json list",
        "info inst5.rn",
        "--json info inst5.rn",
        "-v activate inst5.rn",
        "verify",
    ] {
        let run = sandbox.run(arguments);
        assert!(!format!("{run:?}").contains(secret), "{arguments}: {run:?}");
    }
    let info = sandbox.run("--json info inst5.rn").stdout;
    assert!(info.contains("<redacted>"), "{info}");
}
