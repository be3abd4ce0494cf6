//! Tests that need a process of their own run this program again, for one test that is otherwise ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

const STATE: &str = "STATE";

/// Makes `command`, which ends in this program, run the ignored test `name` on the state directory.
pub(super) fn prepare(command: &mut Command, name: &str, state: &Path) {
    command
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("tests::{name}"))
        .env(STATE, state)
        .env("RUST_BACKTRACE", "0");
}

/// Runs the test to its end, and fails as it does.
pub(super) fn run(mut command: Command, name: &str, state: &Path) {
    prepare(&mut command, name, state);
    let output = command.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{name}: {stdout}{stderr}"
    );
}

/// In the child: the state directory.
pub(super) fn state() -> PathBuf {
    std::env::var_os(STATE)
        .expect("only another test runs this one")
        .into()
}
