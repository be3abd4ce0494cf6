//! What there is in a guest that a test may have left: seen from inside.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use gnt_process::{Command, Runner, System};

/// Where disks and what belongs to them have files.
const DIRECTORIES: [&str; 3] = ["/var/lib/gnt-disk", "/var/lib/ganeti", "/run/ganeti"];

/// A line for each thing. What cannot be looked at is a line too.
pub(crate) fn take() -> BTreeSet<String> {
    let mut found = kernel();
    found.extend(volumes());
    found
}

/// What can be told without running a program.
pub(crate) fn kernel() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    found.extend(mounts());
    found.extend(block_devices());
    for directory in DIRECTORIES {
        files(Path::new(directory), &mut found);
    }
    found
}

fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mount = |line: &str| {
        let mut words = line.split(' ');
        Some(format!("mount of {} on {}", words.next()?, words.next()?))
    };
    text.lines().filter_map(mount).collect()
}

fn block_devices() -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let read = |file: &str| {
                let text = fs::read_to_string(entry.path().join(file)).ok()?;
                Some(text.trim_end().to_owned())
            };
            let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            match kind {
                "loop" => Some(format!("loop device {name} on {}", read("loop/backing_file")?)),
                "dm" => Some(format!("device mapper device {}", read("dm/name")?)),
                "drbd" | "rbd" => Some(format!("device {name}")),
                "nbd" => Some(format!("device {name} of process {}", read("pid")?)),
                _ => None,
            }
        })
        .collect()
}

/// Logs stay on purpose.
fn files(directory: &Path, found: &mut BTreeSet<String>) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            found.insert(format!("directory {}: {error}", directory.display()));
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && entry.file_name() == "log" => {}
            Ok(kind) if kind.is_dir() => files(&path, found),
            _ => {
                found.insert(format!("file {}", path.display()));
            }
        }
    }
}

fn volumes() -> Vec<String> {
    let lvs = Command::query("lvs").args([
        "--noheadings",
        "--readonly",
        "--separator=/",
        "--options=vg_name,lv_name",
    ]);
    let mut found = lines(&lvs, |line| Some(format!("logical volume {}", line.trim())));
    if Path::new("/proc/drbd").exists() {
        let show = Command::query("drbdsetup").arg("show");
        found.extend(lines(&show, |line| {
            let name = line.strip_prefix("resource ")?;
            Some(format!("drbd resource {}", name.trim_end_matches(" {")))
        }));
    }
    found
}

fn lines(command: &Command, line: fn(&str) -> Option<String>) -> Vec<String> {
    let ran = System.run(command).map_err(|error| error.to_string());
    let checked = ran.and_then(|output| output.check(command).map_err(|error| error.to_string()));
    match checked {
        Ok(output) => output.stdout.text().lines().filter_map(line).collect(),
        Err(error) => vec![error],
    }
}
