//! Tests on real files and real loop devices, as root.

mod blockdev;
mod capabilities;
mod dry_run;
mod ext;
mod files;
mod lifecycle;
mod tree;

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Settings};
use gnt_process::{DryRun, System};
use gnt_tests::place::{copy_providers, private_dir};
use serde_json::json;
use tempfile::TempDir;

use crate::{Error, Host, Target};

const INSTANCE: &str = "web.example.org";

/// A node of its own: all that it has is in one directory, which goes, with every loop device on a file in it, however the
/// test ends.
pub(super) struct World {
    dir: TempDir,
    pub(super) host: Host,
    settings: Settings,
}

impl World {
    pub(super) fn new() -> Self {
        let dir = private_dir().unwrap();
        let state = dir.path().join("state");
        let mut settings = Settings::under(&state);
        let shipped = dir.path().join("shipped");
        copy_providers("providers", &shipped).unwrap();
        settings.es_search_path = vec![state.join("providers"), shipped];
        settings.es_timeout = 60;
        let host = Host::new("node1", &settings, &state, Arc::new(System));
        Self { dir, host, settings }
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The same node in a dry run.
    pub(super) fn dry_run(&self) -> (Host, Arc<DryRun>) {
        let dry_run = Arc::new(DryRun::new(System));
        let host = Host::dry_run("node1", &self.settings, &self.path("state"), Arc::clone(&dry_run));
        (host, dry_run)
    }

    /// A disk as `generate_disk_template` makes it, the directory of its file included.
    pub(super) fn disk(&self, device: LogicalDevice, index: u32, size: Mebibytes) -> Disk {
        let name = format!("01234567-89ab-cdef-0123-456789abcde{index}.{device}.disk{index}");
        let id = match device {
            LogicalDevice::File | LogicalDevice::SharedFile => {
                let base = match device {
                    LogicalDevice::File => "file-storage",
                    _ => "shared-file-storage",
                };
                let directory = self.path("state").join(base).join(INSTANCE);
                self.host.file_storage.create_directory(&directory).unwrap();
                LogicalId::File {
                    driver: gnt_config::FileDriver::Loop,
                    path: directory.join(name).to_str().unwrap().to_owned(),
                }
            }
            LogicalDevice::Blockdev => LogicalId::BlockDev {
                path: self.loop_device(&name, size).to_str().unwrap().to_owned(),
            },
            LogicalDevice::Ext => LogicalId::Ext {
                provider: "ext".to_owned(),
                volume: name,
            },
            // Of a group that no host has.
            LogicalDevice::Plain => LogicalId::Lv {
                vg: "gnt-disk-no-such-group".to_owned(),
                lv: name,
            },
            LogicalDevice::Rbd => LogicalId::Rbd { volume: name },
            LogicalDevice::Gluster => LogicalId::Gluster {
                driver: gnt_config::FileDriver::Loop,
                path: name,
            },
            // Of two nodes of which this is neither.
            LogicalDevice::Drbd => LogicalId::Drbd8 {
                nodes: ["node-a".to_owned(), "node-b".to_owned()],
                port: Some(11000),
                minors: [0, 0],
                secret: gnt_config::Secret::new("secret"),
            },
        };
        let params = match device {
            // In a pool that no cluster has.
            LogicalDevice::Rbd => json!({"pool": "gnt-disk-no-such-pool"}),
            // Of a server that no name means.
            LogicalDevice::Gluster => json!({"host": "gnt-disk-no-such-server.invalid"}),
            _ => json!({}),
        };
        Disk {
            params: serde_json::from_value(params).unwrap(),
            uuid: format!("disk-uuid-{index}"),
            iv_name: Some(format!("disk/{index}")),
            ..Disk::new(device, id, size)
        }
    }

    /// A loop device on a new file.
    pub(super) fn loop_device(&self, name: &str, size: Mebibytes) -> PathBuf {
        let file = self.path(name);
        File::create(&file).unwrap().set_len(size.bytes()).unwrap();
        let output = run("losetup", &["--find", "--show", file.to_str().unwrap()]);
        PathBuf::from(output.trim())
    }

    /// The loop devices on files of this world.
    pub(super) fn loop_devices(&self) -> Vec<String> {
        let listed = run(
            "losetup",
            &["--list", "--noheadings", "--output", "NAME,BACK-FILE"],
        );
        let ours = |line: &str| {
            let (name, file) = line.split_once(char::is_whitespace)?;
            file.trim_start()
                .starts_with(self.dir.path().to_str()?)
                .then(|| name.to_owned())
        };
        listed.lines().filter_map(ours).collect()
    }

    /// An External Storage provider: one script for all actions, `$action` telling which one it is.
    pub(super) fn provider(&self, name: &str, optional: &[&str], script: &str) {
        let dir = self.path("state/providers").join(name);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755).create(&dir).unwrap();
        let write = |name: &str, text: &str, mode| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        write("parameters.list", "", 0o644);
        let script = format!("#!/bin/sh\naction=${{0##*/}}\necho $action >>calls\n{script}\n");
        let required = [
            "create", "attach", "detach", "remove", "grow", "setinfo", "verify",
        ];
        for action in required.iter().chain(optional) {
            write(action, &script, 0o755);
        }
    }

    /// What a provider was asked since the last time that this was called.
    pub(super) fn calls(&self, provider: &str) -> Vec<String> {
        let log = self.path("state/providers").join(provider).join("calls");
        let calls = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        calls.lines().map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for device in self.loop_devices() {
            let _ = Command::new("losetup").args(["--detach", &device]).status();
        }
    }
}

pub(super) fn target(disk: &Disk) -> Target<'_> {
    Target::new(disk, INSTANCE)
}

pub(super) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?} (as root?): {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes a recognisable block at the beginning and one at the end of the first `size`.
pub(super) fn write_pattern(path: &Path, size: Mebibytes) {
    let file = File::options().write(true).open(path).unwrap();
    for (offset, byte) in pattern(size) {
        file.write_all_at(&[byte; 4096], offset).unwrap();
    }
    file.sync_all().unwrap();
}

pub(super) fn has_pattern(path: &Path, size: Mebibytes) -> bool {
    let file = File::open(path).unwrap();
    pattern(size).into_iter().all(|(offset, byte)| {
        let mut block = [0; 4096];
        file.read_exact_at(&mut block, offset).unwrap();
        block == [byte; 4096]
    })
}

fn pattern(size: Mebibytes) -> [(u64, u8); 2] {
    [(0, 0xa5), (size.bytes() - 4096, 0x5a)]
}

/// An error with its causes, as the command line shows it.
pub(super) fn told(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
