//! A script may print as much as it likes. Alone in its file, because it looks at the memory of the whole
//! process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::Duration;

use common::World;

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_gibibyte_of_output_takes_little_memory() {
    let world = World::with("fixtures/providers").unwrap();
    let storage = world.storage(Duration::from_secs(120));
    let volume = world.volume("floods", "u.ext.disk0");
    let before = peak();
    let error = storage.attach(&volume).unwrap_err();
    let took = peak() - before;
    assert!(took < 4096, "{took} KiB");

    let told = error.to_string();
    assert!(
        told.contains("it printed 1073741824 bytes on standard output"),
        "{told}"
    );
    assert!(told.len() < 4096, "{told}");
    let log = fs::metadata(storage.log_path("floods")).unwrap().len();
    assert!(log < 64 << 10, "{log} bytes logged");
}
