//! A place of its own for each test: a state directory, and the program that works in it. Whatever is left there when
//! the test ends, well or badly, is cleared away: loop devices too.
#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use gnt_tests::place::{copy_providers, private_dir};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a state directory in it.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            dir: private_dir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Copies a file to where its path has no blanks, which separate arguments.
    pub(crate) fn copy(&self, file: &Path) -> PathBuf {
        let copy = self.path(file.file_name().unwrap().to_str().unwrap());
        fs::copy(file, &copy).unwrap();
        copy
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The database goes, as after a disk failure.
    pub(crate) fn lose_store(&self) {
        for entry in fs::read_dir(self.state()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("store.db") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnt-disk"));
        command.env("GNT_DISK_STATE", self.state()).stdin(Stdio::null());
        command
    }

    /// Runs the program; arguments are separated by blanks.
    pub(crate) fn run(&self, arguments: &str) -> Run {
        self.run_list(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn run_list(&self, arguments: &[&str]) -> Run {
        self.command().args(arguments).output().unwrap().into()
    }

    /// The same for what must succeed without a warning.
    pub(crate) fn ok(&self, arguments: &str) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.status, 0, "{arguments}: {run:?}");
        run
    }

    /// What must succeed prints as JSON.
    pub(crate) fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("--json {arguments}")).stdout).unwrap()
    }

    /// What must fail with this status prints to standard error.
    pub(crate) fn fails(&self, status: i32, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.status, status, "{arguments}: {run:?}");
        assert_eq!(run.stdout, "", "{arguments}");
        run.stderr
    }

    /// Starts the program and lets it run.
    pub(crate) fn start(&self, arguments: &str) -> Child {
        let mut command = self.command();
        command
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Has the odd providers of `fixtures/providers` found besides the shipped one; their volumes go to `volumes`.
    pub(crate) fn with_odd_providers(self) -> Self {
        copy_providers("fixtures/providers", &self.path("odd")).unwrap();
        fs::create_dir(self.path("volumes")).unwrap();
        let (odd, shipped) = (self.path("odd"), self.state().join("providers"));
        let verb = match self.state().join("store.db").exists() {
            true => "modify",
            false => "init",
        };
        self.ok(&format!(
            "cluster {verb} --search-path {}:{}",
            odd.display(),
            shipped.display()
        ));
        self
    }

    /// Waits until the unfinished operations are as they should be.
    pub(crate) fn wait_for_operation(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let operations = self.json("operation list");
            if let Some(found) = operations
                .as_array()
                .unwrap()
                .iter()
                .find(|operation| wanted(operation))
            {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "{operations}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every file below the state directory but the database: mode, size, and a hash of the content or target.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, (u32, u64, u64)> {
        let mut files = BTreeMap::new();
        let mut pending = vec![self.dir.path().to_owned()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap();
                if name.starts_with("store.db") {
                    continue;
                }
                let content = if metadata.is_symlink() {
                    fs::read_link(&path)
                        .unwrap()
                        .into_os_string()
                        .into_encoded_bytes()
                } else if metadata.is_dir() {
                    pending.push(path.clone());
                    Vec::new()
                } else {
                    fs::read(&path).unwrap()
                };
                let mut hasher = DefaultHasher::new();
                content.hash(&mut hasher);
                files.insert(path, (metadata.mode(), metadata.len(), hasher.finish()));
            }
        }
        files
    }

    /// What was made, changed or removed since.
    pub(crate) fn changed_since(&self, before: &BTreeMap<PathBuf, (u32, u64, u64)>) -> BTreeSet<PathBuf> {
        let now = self.files();
        let differs = |path: &&PathBuf| before.get(*path) != now.get(*path);
        before.keys().chain(now.keys()).filter(differs).cloned().collect()
    }

    /// Loop devices on files below the directory.
    pub(crate) fn loop_devices(&self) -> Vec<String> {
        let list = Command::new("losetup")
            .args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"])
            .output();
        let list = String::from_utf8(list.unwrap().stdout).unwrap();
        let ours = self.dir.path().to_str().unwrap();
        let lines = list.lines().filter(|line| line.contains(ours));
        lines
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    }

    /// Nothing of any disk is left.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.loop_devices(), [""; 0]);
        for dir in [
            "ext-volumes",
            "file-storage",
            "shared-file-storage",
            "instance-disks",
        ] {
            let dir = self.state().join(dir);
            let entries = fs::read_dir(&dir)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name());
            let entries: Vec<_> = entries
                .filter(|name| !name.to_str().unwrap().starts_with('.'))
                .collect();
            assert!(entries.is_empty(), "{}: {entries:?}", dir.display());
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for device in self.loop_devices() {
            let _ = Command::new("losetup").args(["--detach", &device]).status();
        }
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The value of `key` in an object that has it.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {object}"))
}
