//! What is refused before anything is done: devices that are disks already or in use, providers that cannot do it,
//! templates without a driver.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Run, Sandbox};

/// A loop device on a file in the sandbox.
fn loop_device(sandbox: &Sandbox, name: &str) -> String {
    let file = sandbox.path(name);
    fs::File::create(&file).unwrap().set_len(4 << 20).unwrap();
    let made = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&file)
        .output()
        .unwrap();
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Another path to a device, below /dev.
struct Alias(PathBuf);

impl Alias {
    fn of(device: &str) -> Self {
        let name = device.trim_start_matches("/dev/");
        let path = Path::new("/dev").join(format!("gnt-disk-test-{}-{name}", std::process::id()));
        std::os::unix::fs::symlink(device, &path).unwrap();
        Self(path)
    }
}

impl Drop for Alias {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn nothing_was_done(sandbox: &Sandbox) {
    let operations = sandbox.json("operation list --all");
    for operation in operations.as_array().unwrap() {
        assert!(
            operation["state"] == "done" || operation["steps_total"] == 0,
            "{operation}"
        );
    }
}

#[test]
fn a_device_becomes_one_disk_only_whatever_it_is_called() {
    let sandbox = Sandbox::new();
    let (device, other) = (loop_device(&sandbox, "one"), loop_device(&sandbox, "two"));
    let alias = Alias::of(&device);
    let alias = alias.0.to_str().unwrap();
    sandbox.ok(&format!("add web -t blockdev --disk 0:adopt={device}"));
    for path in [device.as_str(), alias] {
        let error = sandbox.fails(
            1,
            &format!("add db -t blockdev --disk 0:adopt={other} --disk 1:adopt={path}"),
        );
        let told = format!("error: device {path} is a disk of instance web already");
        assert!(error.starts_with(&told), "{error}");
        let error = sandbox.fails(1, &format!("modify web --disk add:adopt={path}"));
        assert!(error.starts_with(&told), "{error}");
    }
    let other_alias = Alias::of(&other);
    let both = format!(
        "--disk 0:adopt={other} --disk 1:adopt={}",
        other_alias.0.display()
    );
    let error = sandbox.fails(2, &format!("add db -t blockdev {both}"));
    assert!(
        error.starts_with("error: disks 0 and 1 have the same adopt"),
        "{error}"
    );
    sandbox.ok("modify web --disk 0:detach");
    let error = sandbox.fails(1, &format!("add db -t blockdev --disk 0:adopt={alias}"));
    assert!(
        error.contains(&format!("is a disk that is detached already, as {device}")),
        "{error}"
    );
    nothing_was_done(&sandbox);
}

#[test]
fn a_device_in_use_is_not_adopted() {
    let sandbox = Sandbox::new();
    let device = loop_device(&sandbox, "one");
    let mounted = sandbox.path("mounted");
    fs::create_dir(&mounted).unwrap();
    let status = |program: &str, arguments: &[&str]| {
        assert!(
            Command::new(program).args(arguments).status().unwrap().success(),
            "{program}"
        );
    };
    status("mkfs.ext4", &["-q", &device]);
    status("mount", &[&device, mounted.to_str().unwrap()]);
    let error = sandbox.run(&format!("add web -t blockdev --disk 0:adopt={device}"));
    status("umount", &[mounted.to_str().unwrap()]);
    assert_eq!(error.status, 1, "{error:?}");
    assert!(
        error
            .stderr
            .contains(&format!("because: {device} is in use on this node")),
        "{error:?}"
    );
    sandbox.ok(&format!("add web -t blockdev --disk 0:adopt={device}"));
    nothing_was_done(&sandbox);
}

#[test]
fn a_provider_that_cannot_do_it_is_not_asked() {
    let sandbox = Sandbox::new().with_odd_providers();
    for (provider, why) in [
        ("lost", "there is no provider lost"),
        ("no-parameters-list", "parameters.list: missing"),
        ("not-executable", "attach: not executable"),
    ] {
        let error = sandbox.fails(
            1,
            &format!("add web --disk 0:size=1M --disk 1:size=1M,provider={provider}"),
        );
        assert!(error.starts_with("error: cannot create disk/1 ("), "{error}");
        assert!(error.contains(why), "{error}");
    }
    let dir = format!("dir={}", sandbox.path("volumes").display());
    sandbox.ok(&format!("add web --disk 0:size=1M,provider=no-optional,{dir}"));
    let error = sandbox.fails(1, "snapshot web --disk 0:snapshot_name=copy");
    assert!(
        error.contains("the provider no-optional cannot snapshot"),
        "{error}"
    );
    nothing_was_done(&sandbox);
    sandbox.ok("remove web");
}

#[test]
fn a_provider_that_cannot_tell_what_it_has_can_snapshot() {
    let sandbox = Sandbox::new().with_odd_providers();
    let provider = sandbox.path("odd/ganeti");
    let plain = sandbox.path("odd/path-with-newline");
    let copied = Command::new("cp").arg("-a").args([&plain, &provider]).status();
    assert!(copied.unwrap().success());
    for extension in ["info", "list"] {
        fs::remove_file(provider.join(extension)).unwrap();
    }
    let dir = format!("dir={}", sandbox.path("volumes").display());
    sandbox.ok(&format!("add web --disk 0:size=3M,provider=ganeti,{dir}"));
    sandbox.ok("snapshot web --disk 0:snapshot_name=copy,snapshot_size=1M");
    let detached = sandbox.json("list --detached");
    assert_eq!(
        json!([detached[0]["volume"], detached[0]["size"]]),
        json!(["ganeti/copy", 3])
    );
    let error = sandbox.fails(1, "snapshot web --disk 0:snapshot_name=copy");
    assert!(
        error.contains("there is a volume ganeti/copy already\n  hint: choose another"),
        "{error}"
    );
    sandbox.ok("modify web --disk attach:copy");
    sandbox.ok("activate web");
    assert_eq!(sandbox.json("verify"), json!([]));
    sandbox.ok("remove web");
    assert_eq!(sandbox.loop_devices(), [""; 0]);
}

#[test]
fn a_template_that_does_not_suit_is_refused_with_advice() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let error = sandbox.fails(1, "add web -t drbd --disk 0:size=1M");
    assert!(error.contains("template drbd needs a secondary node"), "{error}");
    sandbox.ok("cluster modify --disable-template sharedfile");
    let error = sandbox.fails(1, "add web -t sharedfile --disk 0:size=1M");
    assert!(
        error.contains("hint: 'gnt-disk cluster modify --enable-template sharedfile'"),
        "{error}"
    );
    let error = sandbox.fails(1, "add web --disk 0:size=1M --file-storage-dir mail");
    assert!(
        error.contains("ext disks are not in a file storage directory"),
        "{error}"
    );
}

/// Runs the program on a terminal, where `answer` is typed.
fn on_terminal(sandbox: &Sandbox, arguments: &str, answer: &str) -> Run {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_gnt-disk"));
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("GNT_DISK_STATE", sandbox.state())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = script.stdin.take().unwrap();
    terminal.write_all(answer.as_bytes()).unwrap();
    drop(terminal);
    script.wait_with_output().unwrap().into()
}

#[test]
fn what_loses_data_is_asked_on_a_terminal() {
    let sandbox = Sandbox::new();
    sandbox.ok("add web -t file --disk size=1M");
    for (arguments, question) in [
        (
            "remove web",
            "Instance web and all data on its disks will be gone. Go on? [y/N]",
        ),
        (
            "wipe web --all",
            "What is on all disks of web will be overwritten",
        ),
        (
            "image web 0 /dev/null",
            "What is on disk 0 of web will be overwritten",
        ),
        ("recreate web --force", "What is still there of the disks of web"),
        ("operation abort --all --force", "Nothing will be undone"),
    ] {
        let refused = on_terminal(&sandbox, arguments, "n\n");
        assert_eq!(refused.status, 1, "{arguments}: {refused:?}");
        assert!(refused.stdout.contains(question), "{arguments}: {refused:?}");
        assert!(refused.stdout.contains("error: nothing was done"), "{refused:?}");
    }
    let dry = on_terminal(&sandbox, "--dry-run remove web", "");
    assert_eq!(dry.status, 0, "{dry:?}");
    let sure = on_terminal(&sandbox, "wipe web --all -y", "");
    assert_eq!(sure.status, 0, "{sure:?}");
    let agreed = on_terminal(&sandbox, "remove web", "y\n");
    assert_eq!(agreed.status, 0, "{agreed:?}");
    sandbox.assert_empty();
}
