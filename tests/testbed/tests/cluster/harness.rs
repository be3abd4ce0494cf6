//! A cluster of guests, and what an administrator does to it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use gnt_config::Mebibytes;
use gnt_testbed::machine::Machine;
use gnt_testbed::{Error, Guest, Net, Plan, Testbed};
use serde_json::Value;

pub(crate) type Done = Result<(), Error>;

/// Where each guest has what is not to be lost in a power cut.
pub(crate) const STATE: &str = "/var/lib/gnt-disk";

/// The ExtStorage provider for the disk `SAN` that all nodes see.
const SAN: &str = "/srv/ganeti/extstorage/san";

/// The death of a peer shows in seconds, and a synchronisation takes some.
const DRBD: &str = "net-custom=--timeout 10 --ping-int 2 --ping-timeout 10 --connect-int 2,\
                    disk-custom=--c-plan-ahead 0 --c-min-rate 0,resync-rate=204800";

/// How long something may take that nobody is told of.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a command may take on a machine with more to do.
const COMMAND: Duration = Duration::from_secs(300);

/// Guests, each with the volume group `xenvg` and a disk for the state directory. `n1` is the manager.
pub(crate) struct Cluster {
    pub(crate) testbed: Testbed,
}

/// One of its nodes.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    cluster: &'a Cluster,
    pub(crate) guest: &'a Guest,
}

/// An instance's virtual machine.
pub(crate) struct Running<'a> {
    cluster: &'a Cluster,
    instance: String,
    dir: PathBuf,
    pub(crate) machine: Machine,
}

/// Where cargo puts the program, beside the test.
fn built(program: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let mut places = own.ancestors().skip(1).map(|place| place.join(program));
    let built = places.find(|path| path.is_file());
    built.unwrap_or_else(|| panic!("{program} is not built: cargo build --workspace"))
}

impl Cluster {
    /// A cluster of so many guests, with what `plan` adds to them.
    pub(crate) fn start(
        name: &str,
        guests: usize,
        templates: &str,
        plan: impl FnOnce(Plan) -> Plan,
    ) -> Result<Self, Error> {
        let common = Testbed::plan(name)
            .guests(guests)
            .memory(Mebibytes(384))
            .modules(["dm-mod", "dm-snapshot", "ext4", "drbd"])
            .disk(Mebibytes(2048))
            .disk(Mebibytes(192));
        let testbed = plan(common).start()?;
        let cluster = Self { testbed };
        cluster.write_provider();
        cluster.on_all(|node| {
            node.guest
                .ok("vgcreate -q xenvg /dev/ubda && mkfs.ext4 -q /dev/ubdb")?;
            node.mount()
        })?;
        cluster.configure(templates)?;
        cluster.on_all(|node| node.guest.mark())?;
        Ok(cluster)
    }

    /// Does the same on all nodes at once.
    pub(crate) fn on_all(&self, work: impl Fn(Node<'_>) -> Done + Sync) -> Done {
        let work = &work;
        thread::scope(|scope| {
            let nodes = self.nodes().into_iter();
            let threads: Vec<_> = nodes.map(|node| scope.spawn(move || work(node))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap())
        })
    }

    /// Writes the ExtStorage provider `san` where the nodes can copy it from.
    fn write_provider(&self) {
        let shared = self.testbed.dir().join("shared");
        for dir in ["provider", "san"] {
            fs::create_dir_all(shared.join(dir)).unwrap();
        }
        let write = |name: &str, mode, text: &str| {
            let path = shared.join("provider").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        write("dir", 0o644, &self.shared("san"));
        write("parameters.list", 0o644, "");
        for action in [
            "create", "attach", "detach", "remove", "grow", "setinfo", "verify", "open", "close", "info",
            "list",
        ] {
            write(action, 0o755, include_str!("san.sh"));
        }
    }

    /// Makes the configuration, and gives every node its keys and settings.
    pub(crate) fn configure(&self, templates: &str) -> Done {
        let manager = self.manager();
        let addresses = |node: Node<'_>| {
            let (primary, secondary) = (node.guest.primary_ip(), node.guest.secondary_ip());
            format!("--primary-ip {primary} --secondary-ip {secondary}")
        };
        manager.disk(&format!(
            "cluster init --vg-name xenvg --enabled-disk-templates {templates} -D 'drbd:metavg=xenvg,{DRBD}'"
        ))?;
        manager.disk(&format!("node modify n1 {}", addresses(manager)))?;
        for node in self.nodes().into_iter().skip(1) {
            let bundle = self.shared(&format!("{}.bundle", node.name()));
            manager.disk(&format!(
                "node add {} {} --bundle {bundle}",
                node.name(),
                addresses(node)
            ))?;
            if node.is_serving()? {
                // It was in the cluster that is lost.
                node.kill_service()?;
                node.ok(&format!("rm {STATE}/node.json"))?;
            }
            node.disk(&format!("node join {bundle}"))?;
            node.ok(&format!("rm {bundle}"))?;
            node.serve()?;
        }
        Ok(())
    }

    /// What guests call a file in a directory that all of them see.
    pub(crate) fn shared(&self, name: &str) -> String {
        let path = self.testbed.dir().join("shared");
        fs::create_dir_all(&path).unwrap();
        self.testbed.inside(&path.join(name)).display().to_string()
    }

    pub(crate) fn node(&self, number: usize) -> Node<'_> {
        Node {
            cluster: self,
            guest: self.testbed.guest(number),
        }
    }

    pub(crate) fn named(&self, name: &str) -> Node<'_> {
        let mut nodes = self.nodes().into_iter();
        nodes.find(|node| node.name() == name).unwrap()
    }

    pub(crate) fn nodes(&self) -> Vec<Node<'_>> {
        let numbers = 1..=self.testbed.guests().len();
        numbers.map(|number| self.node(number)).collect()
    }

    /// The manager.
    pub(crate) fn manager(&self) -> Node<'_> {
        self.node(1)
    }

    /// Runs the program on the manager, which must succeed without a warning.
    pub(crate) fn disk(&self, arguments: &str) -> Result<String, Error> {
        self.manager().disk(arguments)
    }

    pub(crate) fn json(&self, arguments: &str) -> Result<Value, Error> {
        let text = self.disk(&format!("--json {arguments}"))?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    /// What the program says on the manager when it ends with this status.
    pub(crate) fn ends(&self, status: i32, arguments: &str) -> Result<String, Error> {
        self.manager().ends(status, arguments)
    }

    /// Starts the virtual machine of an instance, which has a process on each of these nodes.
    pub(crate) fn machine(&self, instance: &str, nodes: &[Node<'_>]) -> Result<Running<'_>, Error> {
        let dir = self.testbed.dir().join(format!("machine-{instance}"));
        fs::create_dir_all(&dir).unwrap();
        let running = Running {
            cluster: self,
            instance: instance.to_owned(),
            machine: Machine::new(&dir),
            dir,
        };
        nodes.iter().try_for_each(|node| running.spawn(*node))?;
        Ok(running)
    }

    /// Nothing is wrong with the storage.
    pub(crate) fn is_as_configured(&self) -> Done {
        assert_eq!(self.disk("verify")?, "The storage is as configured.\n");
        Ok(())
    }

    /// Nothing is left on any node.
    pub(crate) fn is_clean(&self) -> Done {
        self.on_all(|node| node.guest.assert_clean())
    }

    /// Waits until both halves of an instance's mirrors are alike.
    pub(crate) fn synced(&self, instance: &str) -> Done {
        until(instance, || {
            let info = self.json_any(&format!("info {instance}"))?;
            Ok(info["disks"]
                .as_array()
                .unwrap()
                .iter()
                .all(|disk| disk["status"] == "ok"))
        })
    }

    /// Runs the program on the manager, which must succeed, if with a warning.
    pub(crate) fn ends_well(&self, arguments: &str) -> Result<String, Error> {
        let output = self.manager().run(arguments)?;
        assert!(matches!(output.code, Some(0 | 3)), "{arguments}: {output:?}");
        Ok(output.stdout + &output.stderr)
    }

    /// What the program answers on the manager, also when something needs attention.
    pub(crate) fn json_any(&self, arguments: &str) -> Result<Value, Error> {
        let output = self.manager().run(&format!("--json {arguments}"))?;
        let answered = matches!(output.code, Some(0 | 3));
        assert!(answered, "{arguments}: {output:?}");
        Ok(serde_json::from_str(&output.stdout).unwrap())
    }

    pub(crate) fn cut(&self, node: Node<'_>, net: Net) -> Done {
        self.testbed.cut(node.guest, net)
    }

    pub(crate) fn heal(&self, node: Node<'_>, net: Net) -> Done {
        self.testbed.heal(node.guest, net)
    }
}

/// Of a test that fails, what the services said is told.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !thread::panicking() && std::env::var_os("GNT_TESTBED_TIMES").is_none() {
            return;
        }
        for node in self.nodes() {
            let path = self
                .testbed
                .dir()
                .join("shared")
                .join(format!("{}.serve", node.name()));
            let log = fs::read_to_string(path).unwrap_or_default();
            eprintln!("{} served:\n{log}", node.name());
        }
        for entry in fs::read_dir(self.testbed.dir().join("machines"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            eprintln!("{}:\n{log}", entry.file_name().display());
        }
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is_so: impl Fn() -> Result<bool, Error>) -> Done {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl<'a> Node<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.guest.name()
    }

    fn mount(&self) -> Done {
        let program = self.cluster.testbed.inside(&built("gnt-disk"));
        let own = self.cluster.testbed.inside(&built("gnt-testbed"));
        self.ok(&format!(
            "mkdir -p -m 700 {STATE} && mount /dev/ubdb {STATE} && chmod 700 {STATE}
             ln -s {} {} /usr/local/sbin/",
            program.display(),
            own.display(),
        ))?;
        self.install_provider()
    }

    /// Installs the ExtStorage provider `san`.
    fn install_provider(&self) -> Done {
        self.ok(&format!(
            "mkdir -p {SAN} && cp -r {}/. {SAN} && chmod -R go-w {SAN}",
            self.cluster.shared("provider")
        ))?;
        Ok(())
    }

    /// Starts the program as a service, and waits until it can be called.
    pub(crate) fn serve(&self) -> Done {
        let log = self.cluster.shared(&format!("{}.serve", self.name()));
        self.ok(&format!(
            "setsid gnt-disk serve >>{log} 2>&1 </dev/null & echo $! >/run/serve.pid
             for i in $(seq 200); do (: </dev/tcp/{}/1811) 2>/dev/null && exit; sleep 0.1; done
             cat {log}; exit 1",
            self.guest.primary_ip()
        ))?;
        Ok(())
    }

    fn is_serving(&self) -> Result<bool, Error> {
        Ok(self.guest.sh("test -e /run/serve.pid")?.success())
    }

    /// Ends the service with SIGKILL.
    pub(crate) fn kill_service(&self) -> Done {
        self.ok("pkill -9 -f '[g]nt-disk serve'; while pgrep -f '[g]nt-disk serve'; do :; done")
            .map(drop)
    }

    pub(crate) fn power_cut(&self) -> Done {
        self.guest.power_cut()
    }

    /// Switches it on again, and starts what runs on a node. LVM activates nothing by itself.
    pub(crate) fn boot(&self) -> Done {
        self.guest.boot()?;
        self.mount()?;
        self.ok("vgchange -qq -an xenvg")?;
        if self.guest.index() != 1 {
            self.serve()?;
        }
        Ok(())
    }

    pub(crate) fn ok(&self, script: &str) -> Result<String, Error> {
        self.guest.ok_within(COMMAND, script)
    }

    /// Runs the program, which must succeed without a warning.
    pub(crate) fn disk(&self, arguments: &str) -> Result<String, Error> {
        self.ok(&format!("gnt-disk {arguments}"))
    }

    /// Runs the program, which may fail.
    pub(crate) fn run(&self, arguments: &str) -> Result<gnt_testbed::Output, Error> {
        self.guest.sh_within(COMMAND, &format!("gnt-disk {arguments}"))
    }

    /// What the program says when it ends with this status.
    pub(crate) fn ends(&self, status: i32, arguments: &str) -> Result<String, Error> {
        let output = self.run(arguments)?;
        assert_eq!(output.code, Some(status), "{arguments}: {output:?}");
        Ok(output.stdout + &output.stderr)
    }

    /// Whether the instance's link is there, and can be written to.
    pub(crate) fn has_link(&self, instance: &str) -> Result<bool, Error> {
        let output = self.guest.sh(&format!("test -L {}", link(instance, 0)))?;
        Ok(output.success())
    }

    pub(crate) fn checksum(&self, instance: &str, index: usize, mebibytes: u64) -> Result<String, Error> {
        let link = link(instance, index);
        self.ok(&format!("head -c {mebibytes}M {link} | sha256sum"))
    }

    pub(crate) fn fill(&self, instance: &str, index: usize, mebibytes: u64) -> Done {
        let link = link(instance, index);
        self.ok(&format!("head -c {mebibytes}M /dev/urandom 1<>{link} && sync"))?;
        Ok(())
    }
}

/// The link to a disk in use.
pub(crate) fn link(instance: &str, index: usize) -> String {
    format!("{STATE}/instance-disks/{instance}:{index}")
}

impl Running<'_> {
    /// Gives it a process on a node, also after a boot.
    pub(crate) fn spawn(&self, node: Node<'_>) -> Done {
        let log = self.cluster.testbed.dir().join("machines");
        fs::create_dir_all(&log).unwrap();
        let log = log.join(format!("{}-{}", self.instance, node.name()));
        node.ok(&format!(
            "rm -f {dir}/ready.{node}
             setsid gnt-testbed machine {dir} {node} {} >>{} 2>&1 </dev/null &
             until [ -e {dir}/ready.{node} ]; do sleep 0.05; done",
            link(&self.instance, 0),
            self.cluster.testbed.inside(&log).display(),
            dir = self.inside(),
            node = node.name(),
        ))?;
        Ok(())
    }

    fn inside(&self) -> String {
        self.cluster.testbed.inside(&self.dir).display().to_string()
    }

    /// The command of a migration that moves it.
    pub(crate) fn transfer(&self) -> String {
        format!(
            "gnt-testbed hand-over {} $GNT_DISK_SOURCE $GNT_DISK_TARGET",
            self.inside()
        )
    }

    pub(crate) fn start(&self, node: Node<'_>) -> Done {
        self.machine.start(node.name())
    }

    pub(crate) fn stop(&self, node: Node<'_>) -> Done {
        self.machine.stop(node.name())
    }

    /// Ends its processes.
    pub(crate) fn give_up(&self) -> Done {
        let mut nodes = self.cluster.nodes().into_iter();
        nodes.try_for_each(|node| self.machine.give_up(node.name()))
    }

    /// The node has all that was ever acknowledged.
    pub(crate) fn is_whole_on(&self, node: Node<'_>) -> Result<u64, Error> {
        let blocks = node.ok(&format!(
            "gnt-testbed check {} {}",
            self.inside(),
            link(&self.instance, 0)
        ))?;
        Ok(blocks.trim().parse().unwrap())
    }
}
