//! A Gluster server beside the guests.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::error::Error;
use crate::guest::lock;
use crate::keeper::Group;
use crate::testbed::{HOST_IP, Testbed, need};

const PROGRAMS: [(&str, &str); 3] = [
    ("/usr/sbin/glusterd", "glusterfs-server"),
    ("/usr/sbin/gluster", "glusterfs-cli"),
    ("/sbin/mount.glusterfs", "glusterfs-client"),
];

/// A Gluster server at 192.168.77.254 with the volume `gv0`, of one brick in a directory. Ends with the testbed.
pub struct Gluster<'a> {
    testbed: &'a Testbed,
    dir: PathBuf,
    server: Mutex<Group>,
}

impl<'a> Gluster<'a> {
    pub(crate) fn start(testbed: &'a Testbed) -> Result<Self, Error> {
        for (program, package) in PROGRAMS {
            need(program, package)?;
        }
        let dir = testbed.dir().join("gluster");
        fs::create_dir(&dir).map_err(Error::file(&dir))?;
        let file = dir.join("glusterd.vol");
        let options = [
            ("working-directory", dir.join("state").display().to_string()),
            ("transport-type", "socket".to_owned()),
            ("transport.socket.listen-port", "24007".to_owned()),
            ("transport.socket.bind-address", HOST_IP.to_owned()),
            ("ping-timeout", "0".to_owned()),
            ("max-port", "60999".to_owned()),
        ];
        let options = options.map(|(name, value)| format!("    option {name} {value}\n"));
        let text = format!(
            "volume management\n    type mgmt/glusterd\n{}end-volume\n",
            options.concat()
        );
        fs::write(&file, text).map_err(Error::file(&file))?;
        let words = [
            "/usr/sbin/glusterd".to_owned(),
            "-N".to_owned(),
            "-f".to_owned(),
            file.display().to_string(),
        ];
        let server = testbed.keeper().spawn(&words, &dir.join("glusterd.out"))?;
        let gluster = Self {
            testbed,
            dir,
            server: Mutex::new(server),
        };
        gluster.run("until gluster pool list; do sleep 0.02; done >/dev/null 2>&1")?;
        gluster.add_volume("gv0")?;
        Ok(gluster)
    }

    /// Runs a script on the host that uses `gluster --mode=script`; it must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn run(&self, script: &str) -> Result<String, Error> {
        self.testbed.run(script)
    }

    /// Makes and starts a volume. Its brick is the directory `brick/NAME`.
    ///
    /// # Errors
    /// When Gluster does not.
    pub fn add_volume(&self, name: &str) -> Result<(), Error> {
        let brick = self.brick(name);
        fs::create_dir_all(&brick).map_err(Error::file(&brick))?;
        let script = format!(
            "gluster --mode=script volume create {name} {HOST_IP}:{} force && gluster --mode=script volume start {name}",
            brick.display()
        );
        self.run(&script).map(drop)
    }

    /// Where a volume's files are on the host.
    pub fn brick(&self, volume: &str) -> PathBuf {
        self.dir.join("brick").join(volume)
    }

    /// Kills the server and its bricks, until the testbed ends.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&self) -> Result<(), Error> {
        lock(&self.server).kill()?;
        // Bricks are in sessions of their own; this is about processes of this testbed only, as no others are seen there.
        self.run("pkill -KILL glusterfsd; true").map(drop)
    }
}
