//! What is asked of the tool `rbd` (rbd(8)).

use std::path::Path;
use std::time::Duration;

use gnt_config::Mebibytes;
use gnt_config::params::RbdParams;
use gnt_process::Command;

/// The key of an image's metadata under which its owner is kept.
pub(super) const OWNER_KEY: &str = "gnt-disk";
/// Seconds that a tool looks for a monitor before it says that there is none; Ceph's own default is 300.
const MONITOR_PATIENCE: &str = "--client_mount_timeout=20";
/// What needs one answer, or a few, of the cluster.
const SHORT: Duration = Duration::from_secs(120);
/// What goes through an image, which may have millions of objects.
const LONG: Duration = Duration::from_secs(12 * 3600);
/// What lists a pool: room for some ten thousand images.
const LISTING: usize = 64 << 20;

/// A pool, and the user that works on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool<'a> {
    pub(super) name: &'a str,
    pub(super) user: Option<&'a str>,
}

/// An image of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image<'a> {
    pub(super) pool: Pool<'a>,
    pub(super) name: &'a str,
}

impl<'a> Pool<'a> {
    pub(super) fn of(params: &'a RbdParams) -> Self {
        Self {
            name: params.pool.as_str(),
            user: params.user_id.as_ref().map(|user| user.as_str()),
        }
    }

    /// All images and snapshots, with their sizes.
    pub(super) fn list(self) -> Command {
        let command = self.rbd(Command::query("rbd"));
        let command = command.args(["ls", "--long", "--format", "json", "--pool", self.name]);
        command.timeout(Duration::from_secs(900)).output_limit(LISTING)
    }

    /// How much room there is in each pool.
    pub(super) fn space(self) -> Command {
        self.rbd(Command::query("ceph")).args(["df", "--format", "json"])
    }

    /// Every command that talks to the cluster begins like this.
    fn rbd(self, command: Command) -> Command {
        let command = match self.user {
            None => command,
            Some(user) => command.args(["--id", user]),
        };
        command.arg(MONITOR_PATIENCE).timeout(SHORT)
    }
}

impl Image<'_> {
    pub(super) fn info(self) -> Command {
        self.query(&["info", "--format", "json"]).arg(self.spec())
    }

    pub(super) fn create(self, size: Mebibytes) -> Command {
        let size = size.0.to_string();
        self.change(&["create", "--size", &size]).arg(self.spec())
    }

    /// Prints the device. Without udev nobody tells that the device is there, and the tool would wait for that for ever.
    pub(super) fn map(self, udev: bool) -> Command {
        without_udev(self.change(&["map"]).arg(self.spec()), udev)
    }

    pub(super) fn resize(self, size: Mebibytes) -> Command {
        let size = size.0.to_string();
        let command = self.change(&["resize", "--no-progress", "--size", &size]);
        command.arg(self.spec())
    }

    pub(super) fn remove(self) -> Command {
        let command = self.change(&["rm", "--no-progress"]);
        command.arg(self.spec()).timeout(LONG)
    }

    /// Who has the image open.
    pub(super) fn status(self) -> Command {
        self.query(&["status", "--format", "json"]).arg(self.spec())
    }

    pub(super) fn snapshots(self) -> Command {
        self.query(&["snap", "ls", "--format", "json"]).arg(self.spec())
    }

    pub(super) fn create_snapshot(self, snapshot: &str) -> Command {
        let command = self.change(&["snap", "create", "--no-progress"]);
        command.arg(self.snapshot(snapshot))
    }

    pub(super) fn remove_snapshot(self, snapshot: &str) -> Command {
        let command = self.change(&["snap", "rm", "--no-progress"]);
        command.arg(self.snapshot(snapshot)).timeout(LONG)
    }

    /// Copies a snapshot to a new image, without what was never written.
    pub(super) fn copy_snapshot(self, snapshot: &str, to: Image<'_>) -> Command {
        let command = self.change(&["cp", "--no-progress"]);
        command.arg(self.snapshot(snapshot)).arg(to.spec()).timeout(LONG)
    }

    pub(super) fn metadata(self) -> Command {
        let command = self.query(&["image-meta", "list", "--format", "json"]);
        command.arg(self.spec())
    }

    pub(super) fn set_owner(self, owner: &str) -> Command {
        let command = self.change(&["image-meta", "set"]);
        command.args([&self.spec(), OWNER_KEY, owner])
    }

    pub(super) fn forget_owner(self) -> Command {
        let command = self.change(&["image-meta", "remove"]);
        command.args([&self.spec(), OWNER_KEY])
    }

    /// `POOL/IMAGE`.
    pub(super) fn spec(self) -> String {
        format!("{}/{}", self.pool.name, self.name)
    }

    fn snapshot(self, name: &str) -> String {
        format!("{}@{name}", self.spec())
    }

    fn query(self, args: &[&str]) -> Command {
        self.pool.rbd(Command::query("rbd")).args(args)
    }

    fn change(self, args: &[&str]) -> Command {
        self.pool.rbd(Command::change("rbd")).args(args)
    }
}

/// What is mapped on this node, of whatever pool. Asks the kernel only.
pub(super) fn mapped() -> Command {
    Command::query("rbd")
        .args(["showmapped", "--format", "json"])
        .timeout(SHORT)
        .output_limit(LISTING)
}

/// The same for tools that have no JSON (before Ceph 0.55 and some after it).
pub(super) fn mapped_plain() -> Command {
    Command::query("rbd")
        .arg("showmapped")
        .timeout(SHORT)
        .output_limit(LISTING)
}

pub(super) fn unmap(device: &Path, udev: bool) -> Command {
    without_udev(Command::change("rbd").arg("unmap").arg(device), udev).timeout(SHORT)
}

fn without_udev(command: Command, udev: bool) -> Command {
    if udev {
        command
    } else {
        command.args(["--options", "noudev"])
    }
}
