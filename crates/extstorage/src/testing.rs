//! Providers for the unit tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use enumset::EnumSet;
use gnt_tests::place::private_dir;
use tempfile::TempDir;

use crate::action::Action;
use crate::provider::SearchPath;

/// A directory of providers.
pub(crate) struct Providers(TempDir);

impl Providers {
    pub(crate) fn new() -> Providers {
        Providers(private_dir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn search_path(&self) -> SearchPath {
        SearchPath::new([self.path()])
    }

    /// Adds a provider that has the required scripts, which do nothing.
    pub(crate) fn add(&self, name: &str) -> PathBuf {
        self.add_with(name, EnumSet::empty())
    }

    /// The same with other scripts too.
    pub(crate) fn add_with(&self, name: &str, more: EnumSet<Action>) -> PathBuf {
        let dir = self.path().join(name);
        make_dir(&dir);
        for action in Action::REQUIRED | more {
            write(&dir.join(action.script()), "#!/bin/sh\n", 0o755);
        }
        write(&dir.join("parameters.list"), "dir Where\n", 0o644);
        dir
    }
}

/// A directory that nobody else may write to, whatever the umask is.
pub(crate) fn make_dir(path: &Path) {
    fs::create_dir(path).unwrap();
    chmod(path, 0o755);
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    chmod(path, mode);
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The tests about owners give files away, which only root can.
pub(crate) fn assert_root() {
    assert!(rustix::process::geteuid().is_root(), "this test must run as root");
}
