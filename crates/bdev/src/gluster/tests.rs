//! The driver with a volume that is mounted in another way than Gluster's; the real thing is in the tests of whole nodes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use gnt_config::{Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes, Object, Settings};
use gnt_process::{Command, Output, RunError, Runner, Status, System};
use gnt_tests::place::private_dir;
use serde_json::json;
use tempfile::TempDir;

use super::log::{MountFailure, reason};
use super::{GlusterDriver, commands, index_in};
use crate::tests::told;
use crate::{Change, Driver, ErrorKind, Host, Target};

const SIZE: Mebibytes = Mebibytes(8);

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/gluster")
        .join(name);
    fs::read_to_string(path).unwrap()
}

#[test]
fn logs_tell_why_a_mount_failed() {
    for (name, failure, lines) in [
        (
            "no-volume",
            MountFailure::NoVolume,
            &[
                "failed to get the 'volume file' from server",
                "failed to fetch volume file (key:/nosuch)",
            ][..],
        ),
        (
            "not-started",
            MountFailure::NotStarted,
            &[
                "failed to get the port number for remote subvolume. Please run gluster volume status on server to see if brick \
                 process is running []",
                "first lookup on root failed (Transport endpoint is not connected)",
            ],
        ),
        (
            "no-server",
            MountFailure::NoServer,
            &["disconnected from remote-host: 192.168.77.1"],
        ),
        (
            "no-route",
            MountFailure::NoServer,
            &[
                "connection attempt on  failed, (Network is unreachable)",
                "disconnected from remote-host: 10.99.99.99",
            ],
        ),
        (
            "no-name",
            MountFailure::NoName,
            &[
                "error in getaddrinfo [{family=2}, {ret=Temporary failure in name resolution}]",
                "DNS resolution failed on host nosuch.example",
                "disconnected from remote-host: nosuch.example",
            ],
        ),
        (
            "no-fuse",
            MountFailure::NoFuse,
            &[
                "cannot open /dev/fuse (No such file or directory)",
                "Initialization of volume failed. review your volfile again. [{name=fuse}]",
            ],
        ),
        ("good", MountFailure::Unknown, &[]),
    ] {
        let (told, errors) = reason(&fixture(&format!("{name}.log")));
        assert_eq!(
            (told, &errors[..]),
            (
                failure,
                &lines.iter().map(ToString::to_string).collect::<Vec<_>>()[..]
            ),
            "{name}"
        );
    }
    assert_eq!(reason(""), (MountFailure::Unknown, Vec::new()));
    assert_eq!(reason("[x\nE\n[a] E\n[] E b").1, ["b"]);
}

#[test]
fn a_hypervisor_gets_the_address_of_the_file() {
    let uri = |params: serde_json::Value, path: &str| {
        use gnt_config::params::{GlusterParams, Parameters};
        commands::uri(&GlusterParams::from_object(&object(params)).unwrap(), path)
    };
    assert_eq!(
        uri(json!({}), "ganeti/u.0"),
        "gluster://127.0.0.1:24007/gv0/ganeti/u.0"
    );
    assert_eq!(
        uri(json!({"host": "fe80::1", "port": 1, "volume": "v"}), "/u.0"),
        "gluster://[fe80::1]:1/v/u.0"
    );
    let node = Node::new();
    let disk = disk(0);
    let uri = |hypervisor| GlusterDriver.userspace_uri(&node.host, &target(&disk), hypervisor);
    assert_eq!(
        uri("kvm").unwrap(),
        format!("gluster://server:24007/gv0/ganeti/{}", name(0))
    );
    assert_eq!(
        told(&uri("xen-pvm").unwrap_err()).rsplit(": ").next().unwrap(),
        "xen-pvm cannot reach gluster disks without the kernel"
    );
    assert_eq!(node.server.mounts(), 0);
}

#[test]
fn names_of_disks() {
    assert_eq!(index_in(&name(3)), Some(3));
    for other in ["", "x.3", &name(3).replace('a', "A"), &format!("{}x", name(3))] {
        assert_eq!(index_in(other), None, "{other}");
    }
}

#[test]
fn a_mount_is_shared_and_goes_with_the_last_disk() {
    let node = Node::new();
    let disks = [disk(0), disk(1)];
    for disk in &disks {
        let target = target(disk);
        assert_eq!(GlusterDriver.find(&node.host, &target).unwrap(), None);
        assert_eq!(GlusterDriver.create(&node.host, &target).unwrap(), Change::Made);
        assert_eq!(
            GlusterDriver.create(&node.host, &target).unwrap(),
            Change::AlreadyThere
        );
        let found = GlusterDriver.find(&node.host, &target).unwrap().unwrap();
        assert_eq!((found.path, found.bytes), (None, Some(SIZE.bytes())));
        assert_eq!(
            GlusterDriver.shutdown(&node.host, &target).unwrap(),
            Change::AlreadyThere
        );
    }
    assert!(!node.is_mounted());
    let before = node.server.mounts();
    let assemble = |disk| GlusterDriver.assemble(&node.host, &target(disk)).unwrap();
    let first = assemble(&disks[0]);
    assert_eq!(assemble(&disks[0]), first);
    assert_eq!(first.path, Some(node.mount_point().join("ganeti").join(name(0))));
    // Another disk is there, and not in use here.
    let other = GlusterDriver
        .find(&node.host, &target(&disks[1]))
        .unwrap()
        .unwrap();
    assert_eq!(other.path, None);
    let second = assemble(&disks[1]);
    let found = GlusterDriver
        .find(&node.host, &target(&disks[1]))
        .unwrap()
        .unwrap();
    assert_eq!(found.path, second.path);
    assert_eq!(node.server.mounts(), before + 1);
    let shutdown = |disk| GlusterDriver.shutdown(&node.host, &target(disk)).unwrap();
    assert_eq!(shutdown(&disks[0]), Change::Made);
    assert_eq!(shutdown(&disks[0]), Change::AlreadyThere);
    assert!(node.is_mounted() && second.path.unwrap().exists());
    // One that is in use is removed all the same, and is the last.
    let remove = |disk| GlusterDriver.remove(&node.host, &target(disk)).unwrap();
    assert_eq!(remove(&disks[1]), Change::Made);
    assert!(!node.is_mounted());
    assert_eq!(remove(&disks[1]), Change::AlreadyThere);
    assert_eq!(remove(&disks[0]), Change::Made);
    assert!(!node.directory().exists());
}

#[test]
fn disks_grow_and_keep_what_they_are_told() {
    let node = Node::new();
    let disk = disk(0);
    let target = target(&disk);
    GlusterDriver.create(&node.host, &target).unwrap();
    let grow = |to, dry_run| GlusterDriver.grow(&node.host, &target, Mebibytes(to), dry_run);
    assert!(told(&grow(4, false).unwrap_err()).ends_with("disks cannot shrink"));
    assert_eq!(grow(12, true).unwrap(), Change::Made);
    assert_eq!(
        GlusterDriver.actual_size(&node.host, &target).unwrap(),
        SIZE.bytes()
    );
    assert_eq!(grow(12, false).unwrap(), Change::Made);
    assert_eq!(grow(12, false).unwrap(), Change::AlreadyThere);
    GlusterDriver.set_info(&node.host, &target, "some+info").unwrap();
    let params = object(json!({"host": "server"}));
    let found = GlusterDriver.volumes(&node.host, &params).unwrap();
    let [volume] = &found[..] else { panic!("{found:?}") };
    assert_eq!(volume.logical_id, disk.logical_id);
    assert_eq!(volume.bytes, Some(12 << 20));
    assert_eq!(volume.owner.index, Some(0));
    assert!(!node.is_mounted());
    let space = GlusterDriver.space(&node.host, &params).unwrap();
    let [space] = &space[..] else { panic!("{space:?}") };
    assert_eq!(space.name, "gv0");
    assert!(
        Mebibytes(0) < space.free && space.free <= space.total,
        "{space:?}"
    );
    assert!(!node.is_mounted());
}

#[test]
fn what_somebody_has_open_stays_mounted_until_the_next_time() {
    let node = Node::new();
    let disk = disk(0);
    let target = target(&disk);
    GlusterDriver.create(&node.host, &target).unwrap();
    let path = GlusterDriver.assemble(&node.host, &target).unwrap().path.unwrap();
    let guest = File::open(path).unwrap();
    assert_eq!(GlusterDriver.shutdown(&node.host, &target).unwrap(), Change::Made);
    assert!(node.is_mounted());
    drop(guest);
    assert!(GlusterDriver.find(&node.host, &target).unwrap().is_some());
    assert!(!node.is_mounted());
}

#[test]
fn users_from_before_a_reboot_are_forgotten() {
    let node = Node::new();
    let disk = disk(0);
    let target = target(&disk);
    GlusterDriver.create(&node.host, &target).unwrap();
    GlusterDriver.assemble(&node.host, &target).unwrap();
    run(&["umount", node.mount_point().to_str().unwrap()]);
    let found = GlusterDriver.find(&node.host, &target).unwrap().unwrap();
    assert_eq!(found.path, None);
    assert!(!node.is_mounted());
    GlusterDriver.assemble(&node.host, &target).unwrap();
    assert!(node.is_mounted());
}

#[test]
fn what_is_not_mounted_is_never_written_to() {
    for (name, status, log, why) in [
        (
            "a tool that succeeds whatever happens",
            0,
            String::new(),
            "the client gave up",
        ),
        (
            "a volume that is not there",
            1,
            fixture("no-volume.log"),
            "the server has no such volume\n  failed to get the 'volume file' from server\n  failed to fetch volume file \
             (key:/nosuch)",
        ),
    ] {
        let node = Node::new();
        *node.server.failure.lock().unwrap() = Some((status, log));
        let disk = disk(0);
        let error = GlusterDriver.create(&node.host, &target(&disk)).unwrap_err();
        assert_eq!(
            told(&error),
            format!(
                "cannot create disk/0 (ganeti/{}) on node node1: cannot mount the Gluster volume gv0 of server:24007: {why}",
                self::name(0)
            ),
            "{name}"
        );
        assert!(!node.directory().exists());
        *node.server.failure.lock().unwrap() = None;
        assert_eq!(
            GlusterDriver.create(&node.host, &target(&disk)).unwrap(),
            Change::Made
        );
        assert!(!node.directory().exists());
    }
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let dir = private_dir().unwrap();
    struct Missing;
    impl Runner for Missing {
        fn run(&self, command: &Command) -> Result<Output, RunError> {
            let nowhere = command.clone().env("PATH", "/nonexistent");
            System.run(&nowhere)
        }
    }
    let host = Host::new(
        "node1",
        &Settings::under(dir.path()),
        dir.path(),
        Arc::new(Missing),
    );
    let error = GlusterDriver.find(&host, &target(&disk(0))).unwrap_err();
    assert!(
        told(&error).ends_with("the program mount.glusterfs was not found"),
        "{}",
        told(&error)
    );
    assert_eq!(error.hint().unwrap(), "install the package glusterfs-client");
}

#[test]
fn files_outside_the_volume_are_out_of_reach() {
    let node = Node::new();
    std::os::unix::fs::symlink("/", node.server.volume.join("out")).unwrap();
    let mut disk = disk(0);
    for path in ["../lock", "/var/tmp/x", "out/var/tmp/x", ".", ""] {
        disk.logical_id = LogicalId::Gluster {
            driver: FileDriver::Loop,
            path: path.to_owned(),
        };
        let error = GlusterDriver.create(&node.host, &target(&disk)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other, "{path}: {}", told(&error));
        assert!(
            told(&error).contains("is not allowed for file storage"),
            "{}",
            told(&error)
        );
    }
    assert!(!node.is_mounted());
}

#[test]
fn paths_that_the_tool_cannot_take_are_refused() {
    let dir = private_dir().unwrap();
    let state = dir.path().join("my state");
    let host = Host::new("node1", &Settings::under(&state), &state, Arc::new(System));
    let error = GlusterDriver.find(&host, &target(&disk(0))).unwrap_err();
    assert!(told(&error).ends_with("the path has a blank or a comma"));
    assert!(error.hint().unwrap().contains("gluster_mount_dir"));
}

#[test]
fn many_at_once_share_the_mount_and_leave_nothing() {
    let node = Node::new();
    thread::scope(|scope| {
        for index in 0..8 {
            let host = &node.host;
            scope.spawn(move || {
                let disk = disk(index);
                let target = target(&disk);
                for _ in 0..5 {
                    GlusterDriver.create(host, &target).unwrap();
                    let path = GlusterDriver.assemble(host, &target).unwrap().path.unwrap();
                    fs::write(&path, b"data").unwrap();
                    assert!(GlusterDriver.find(host, &target).unwrap().unwrap().path.is_some());
                    assert_eq!(GlusterDriver.shutdown(host, &target).unwrap(), Change::Made);
                    assert_eq!(GlusterDriver.remove(host, &target).unwrap(), Change::Made);
                }
            });
        }
    });
    // Whoever came last may have found it busy.
    GlusterDriver.find(&node.host, &target(&disk(0))).unwrap();
    assert!(!node.is_mounted() && !node.directory().exists());
}

/// A node with a server whose volume is on a file system of its own.
struct Node {
    dir: TempDir,
    host: Host,
    server: Arc<Server>,
}

impl Node {
    fn new() -> Self {
        let dir = private_dir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        run(&["mount", "-t", "tmpfs", "gnt-disk-test", volume.to_str().unwrap()]);
        let server = Arc::new(Server {
            volume,
            mounts: Mutex::default(),
            failure: Mutex::default(),
        });
        let state = dir.path().join("state");
        let runner = Arc::clone(&server) as Arc<dyn Runner>;
        Self {
            host: Host::new("node1", &Settings::under(&state), &state, runner),
            dir,
            server,
        }
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("state/gluster/gv0@server:24007")
    }

    fn mount_point(&self) -> PathBuf {
        self.directory().join("mount")
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.contains(&format!(" {} ", self.mount_point().display()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for mounted in [&self.mount_point(), &self.server.volume] {
            let _ = std::process::Command::new("umount")
                .args(["-q", "-l"])
                .arg(mounted)
                .status();
        }
    }
}

struct Server {
    volume: PathBuf,
    mounts: Mutex<usize>,
    /// The exit status of the tool that mounts, and what it writes into the log.
    failure: Mutex<Option<(i32, String)>>,
}

impl Server {
    fn mounts(&self) -> usize {
        *self.mounts.lock().unwrap()
    }
}

impl Runner for Server {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        if command.get_program() != "mount.glusterfs" {
            return System.run(command);
        }
        let args: Vec<_> = command.get_args().map(|arg| arg.to_str().unwrap()).collect();
        let [from, mount_point, "-o", options] = args[..] else {
            panic!("{args:?}")
        };
        assert_eq!(from, "server:/gv0");
        let log = options.strip_prefix("server-port=24007,log-file=").unwrap();
        if let Some((status, text)) = &*self.failure.lock().unwrap() {
            fs::write(log, text).unwrap();
            return Ok(Output::new(Status::Exited(*status)).with_stderr("Mounting glusterfs failed.\n"));
        }
        *self.mounts.lock().unwrap() += 1;
        fs::write(log, fixture("good.log")).unwrap();
        let bind = Command::change("mount").arg("--bind").arg(&self.volume);
        System.run(&bind.arg(Path::new(mount_point)))
    }
}

fn name(index: u32) -> String {
    format!("01234567-89ab-cdef-0123-456789abcdef.{index}")
}

fn disk(index: u32) -> Disk {
    let id = LogicalId::Gluster {
        driver: FileDriver::Loop,
        path: format!("ganeti/{}", name(index)),
    };
    Disk {
        iv_name: Some(format!("disk/{index}")),
        params: object(json!({"host": "server"})),
        ..Disk::new(LogicalDevice::Gluster, id, SIZE)
    }
}

fn target(disk: &Disk) -> Target<'_> {
    Target::new(disk, "web.example.org")
}

fn object(value: serde_json::Value) -> Object {
    serde_json::from_value(value).unwrap()
}

fn run(words: &[&str]) {
    let status = std::process::Command::new(words[0]).args(&words[1..]).status();
    assert!(status.unwrap().success(), "{words:?} (as root?)");
}
