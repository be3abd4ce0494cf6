//! A Ceph cluster beside the guests.

use std::path::PathBuf;
use std::sync::Mutex;

use crate::error::Error;
use crate::guest::lock;
use crate::keeper::Group;
use crate::testbed::{HOST_IP, Testbed, need};
use crate::wire::Output;

const PROGRAMS: [(&str, &str); 3] = [
    ("/usr/bin/ceph-mon", "ceph-mon"),
    ("/usr/bin/ceph-osd", "ceph-osd"),
    ("/usr/bin/rbd", "ceph-common"),
];

/// A Ceph cluster with authentication (cephx), at 192.168.77.254: one monitor, one object store in memory, the pool `rbd`. The guests have
/// its configuration and the key of `client.admin`, also after a boot. Ends with the testbed.
pub struct Ceph<'a> {
    testbed: &'a Testbed,
    dir: PathBuf,
    monitor: Mutex<Group>,
}

impl<'a> Ceph<'a> {
    pub(crate) fn start(testbed: &'a Testbed) -> Result<Self, Error> {
        for (program, package) in PROGRAMS {
            need(program, package)?;
        }
        let dir = testbed.dir().join("ceph");
        testbed.run(&format!(
            "DIR={} IP={HOST_IP} ETC={}\n{}",
            dir.display(),
            testbed.etc().display(),
            include_str!("ceph.sh")
        ))?;
        let daemon = |name: &str, id: &str| {
            let words = [&format!("/usr/bin/ceph-{name}"), "-f", "-i", id, "-c"];
            let words = words.into_iter().map(str::to_owned);
            let configuration = dir.join("ceph.conf").display().to_string();
            let words: Vec<_> = words.chain([configuration]).collect();
            testbed.keeper().spawn(&words, &dir.join(format!("{name}.out")))
        };
        let monitor = Mutex::new(daemon("mon", "a")?);
        daemon("osd", "0")?;
        let ceph = Self {
            testbed,
            dir,
            monitor,
        };
        ceph.add_pool("rbd")?;
        testbed.install()?;
        Ok(ceph)
    }

    /// Runs a script on the host that uses `ceph` and `rbd`; it must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn run(&self, script: &str) -> Result<String, Error> {
        self.testbed.run(&self.with_configuration(script))
    }

    /// Runs a script on the host that uses `ceph` and `rbd`.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn sh(&self, script: &str) -> Result<Output, Error> {
        self.testbed.sh(&self.with_configuration(script))
    }

    /// Makes a pool for volumes.
    ///
    /// # Errors
    /// When Ceph does not.
    pub fn add_pool(&self, name: &str) -> Result<(), Error> {
        self.run(&format!("ceph osd pool create {name} 8 && rbd pool init {name}"))
            .map(drop)
    }

    /// Kills the monitor: connections to it are refused, until the testbed ends.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_monitor(&self) -> Result<(), Error> {
        lock(&self.monitor).kill()
    }

    /// Lets the monitor hang: connections to it are taken, and never answered.
    ///
    /// # Errors
    /// When it is not there.
    pub fn freeze_monitor(&self) -> Result<(), Error> {
        lock(&self.monitor).signal("STOP")
    }

    /// Undoes [`freeze_monitor`](Self::freeze_monitor).
    ///
    /// # Errors
    /// When it is not there.
    pub fn thaw_monitor(&self) -> Result<(), Error> {
        lock(&self.monitor).signal("CONT")
    }

    fn with_configuration(&self, script: &str) -> String {
        format!("export CEPH_CONF={}/ceph.conf\n{script}", self.dir.display())
    }
}
