//! Guests with their disks and networks.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gnt_config::Mebibytes;

use crate::ceph::Ceph;
use crate::error::Error;
use crate::gluster::Gluster;
use crate::guest::Guest;
use crate::guest_dir::GuestDir;
use crate::keeper::Keeper;
use crate::people;
use crate::place::{self, Seats};
use crate::script;
use crate::wire::Output;

/// Set to anything, it leaves a testbed running whose test failed, or in which a call failed.
const KEEP_VARIABLE: &str = "GNT_TESTBED_KEEP";

/// Set to anything, it tells how long each step of a test took. That of one that panicked is always told.
const TIMES_VARIABLE: &str = "GNT_TESTBED_TIMES";

const INIT: &str = include_str!("init.sh");

/// Where the host is in the primary network, with the servers on it.
pub(crate) const HOST_IP: &str = "192.168.77.254";

/// How long a script on the host may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Programs that every testbed needs, and their Debian packages.
const PROGRAMS: [(&str, &str); 10] = [
    ("/usr/bin/linux", "user-mode-linux"),
    ("/lib/systemd/systemd-udevd", "udev"),
    ("/sbin/modprobe", "kmod"),
    ("/sbin/ip", "iproute2"),
    ("/bin/ping", "iputils-ping"),
    ("/usr/bin/pkill", "procps"),
    ("/sbin/lvm", "lvm2"),
    ("/lib/drbd/drbdsetup-84", "drbd-utils"),
    ("/usr/bin/unshare", "util-linux"),
    ("/usr/bin/nsenter", "util-linux"),
];

/// One of the two networks of a testbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Net {
    /// 192.168.77.0/24; the host is .254, the first guest .1.
    Primary,
    /// 192.168.78.0/24, over which disks are mirrored (`secondary_ip`).
    Secondary,
}

impl Net {
    const ALL: [Self; 2] = [Self::Primary, Self::Secondary];

    fn number(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Secondary => 1,
        }
    }
}

/// What a testbed is to have.
#[derive(Debug, Clone)]
pub struct Plan {
    name: String,
    guests: usize,
    memory: Mebibytes,
    modules: Vec<String>,
    disks: Vec<PlannedDisk>,
}

#[derive(Debug, Clone)]
struct PlannedDisk {
    size: Mebibytes,
    serial: String,
    shared: bool,
}

impl Plan {
    /// How many guests: 1 if not set.
    #[must_use]
    pub fn guests(mut self, number: usize) -> Self {
        self.guests = number;
        self
    }

    /// The most memory that each guest may use: 512 MiB if not set.
    #[must_use]
    pub fn memory(mut self, size: Mebibytes) -> Self {
        self.memory = size;
        self
    }

    /// Modules that each guest loads, as `dm-mod` and `drbd`.
    #[must_use]
    pub fn modules<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.modules.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// An empty disk for each guest, of its own: `/dev/ubda`, the next one `/dev/ubdb`, in the order in which they are planned. It takes
    /// only the space that is written to.
    #[must_use]
    pub fn disk(mut self, size: Mebibytes) -> Self {
        let serial = format!("disk{}", self.disks.len());
        let shared = false;
        self.disks.push(PlannedDisk { size, serial, shared });
        self
    }

    /// An empty disk that all guests see, `/dev/disk/by-id/ubd-SERIAL` in each.
    #[must_use]
    pub fn shared_disk(mut self, serial: &str, size: Mebibytes) -> Self {
        let serial = serial.to_owned();
        let shared = true;
        self.disks.push(PlannedDisk { size, serial, shared });
        self
    }

    /// Starts it, and returns when all guests are up. Waits for other tests' guests to end if there are too many.
    ///
    /// # Errors
    /// When anything is missing or does not start.
    pub fn start(self) -> Result<Testbed, Error> {
        for (program, package) in PROGRAMS {
            need(program, package)?;
        }
        let binary = binary()?;
        let seats = Seats::take(self.guests)?;
        let (dir, log) = place::new_dir(&self.name)?;
        let keeper = Arc::new(Keeper::start(&binary, &dir, &log)?);
        let init = dir.join("init");
        fs::write(&init, INIT)
            .and_then(|()| fs::set_permissions(&init, Permissions::from_mode(0o755)))
            .map_err(Error::file(&init))?;
        let guests = 1..=self.guests;
        let guests = guests.map(|index| self.guest(index, &dir, &binary, &keeper));
        let testbed = Testbed {
            guests: guests.collect::<Result<_, _>>()?,
            keeper,
            binary,
            dir,
            _seats: seats,
        };
        testbed.run(&self.network())?;
        testbed.keeper.timed("all guests", "boot", || {
            testbed.guests.iter().try_for_each(Guest::switch_on)?;
            testbed.guests.iter().try_for_each(Guest::wait_until_up)
        })?;
        Ok(testbed)
    }

    fn guest(&self, index: usize, dir: &Path, binary: &Path, keeper: &Arc<Keeper>) -> Result<Guest, Error> {
        let own = dir.join(format!("n{index}"));
        fs::create_dir_all(&own).map_err(Error::file(&own))?;
        let mut words = vec!["/usr/bin/linux".to_owned()];
        let mut word = |text: String| words.push(text);
        word(format!("mem={}M", self.memory.0));
        word("rootfstype=hostfs rootflags=/ ro".to_owned());
        for (number, disk) in self.disks.iter().enumerate() {
            let place = if disk.shared { dir } else { &own };
            let file = place.join(format!("{}.disk", disk.serial));
            sparse(&file, disk.size)?;
            // `c`: the kernel takes no lock on the file.
            let flag = if disk.shared { "c" } else { "" };
            word(format!("ubd{number}{flag}={},,{}", file.display(), disk.serial));
        }
        for net in Net::ALL {
            let net = net.number();
            // Without gro bulk TCP crawls; with addresses made at random a peer may look for the old one after a boot.
            word(format!(
                "vec{net}:transport=tap,mac=02:00:00:00:{net:02x}:{index:02x},ifname={},gro=1,depth=64",
                tap(index, net)
            ));
        }
        word(format!("init={}", dir.join("init").display()));
        word("con=null con0=null,fd:1 quiet".to_owned());
        // A second and more at every start, for what nothing here uses: old terminals, choosing the fastest RAID 6.
        word("pty.legacy_count=0 initcall_blacklist=raid6_select_algo,init_zswap,init_jfs_fs".to_owned());
        word(format!("umid=n{index} uml_dir={}", dir.join("uml").display()));
        word("drbd.usermode_helper=/bin/true".to_owned());
        word(format!(
            "NODE=n{index} PRIMARY=192.168.77.{index} SECONDARY=192.168.78.{index}"
        ));
        word(format!("MODULES={}", self.modules.join(",")));
        word(format!(
            "SPOOL={} AGENT={} ETC={}",
            own.join("spool").display(),
            binary.display(),
            dir.join("etc").display()
        ));
        let words = words.iter().flat_map(|word| word.split(' ')).map(str::to_owned);
        let dir = GuestDir::new(own);
        Ok(Guest::new(index, dir, words.collect(), Arc::clone(keeper)))
    }

    fn network(&self) -> String {
        let mut lines = vec!["link set lo up".to_owned()];
        for net in Net::ALL.map(Net::number) {
            lines.push(format!("link add br{net} type bridge"));
            lines.push(format!("addr add 192.168.{}.254/24 dev br{net}", 77 + net));
            lines.push(format!("link set br{net} up"));
            for guest in 1..=self.guests {
                let tap = tap(guest, net);
                lines.push(format!("tuntap add {tap} mode tap"));
                lines.push(format!("link set {tap} master br{net}"));
                lines.push(format!("link set {tap} up"));
            }
        }
        format!("ip -batch - <<'END'\n{}\nEND", lines.join("\n"))
    }
}

fn tap(guest: usize, net: usize) -> String {
    format!("n{guest}v{net}")
}

fn sparse(path: &Path, size: Mebibytes) -> Result<(), Error> {
    let file = File::options().create(true).append(true).open(path);
    file.and_then(|file| file.set_len(size.bytes()))
        .map_err(Error::file(path))
}

pub(crate) fn need(program: &'static str, package: &'static str) -> Result<(), Error> {
    match Path::new(program).exists() {
        true => Ok(()),
        false => Err(Error::Missing { program, package }),
    }
}

/// The binary of this crate, beside the test that runs: cargo builds it before the tests of this crate.
fn binary() -> Result<PathBuf, Error> {
    let own = env::current_exe().map_err(Error::file(Path::new("/proc/self/exe")))?;
    let mut places = own.ancestors().skip(1).map(|place| place.join("gnt-testbed"));
    places.find(|path| path.is_file()).ok_or_else(|| Error::NoAgent {
        path: own.with_file_name("gnt-testbed"),
    })
}

/// Guests with their disks and networks. All is gone when this is dropped, and when the process ends, however it ends.
pub struct Testbed {
    guests: Vec<Guest>,
    keeper: Arc<Keeper>,
    binary: PathBuf,
    dir: PathBuf,
    _seats: Seats,
}

impl Testbed {
    /// A plan for one; the name is part of that of its directory.
    pub fn plan(name: &str) -> Plan {
        Plan {
            name: name.to_owned(),
            guests: 1,
            memory: Mebibytes(512),
            modules: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// A guest by its number; the first is 1.
    ///
    /// # Panics
    /// If there is none.
    pub fn guest(&self, number: usize) -> &Guest {
        &self.guests[number - 1]
    }

    /// All guests.
    pub fn guests(&self) -> &[Guest] {
        &self.guests
    }

    /// A directory outside for files of a test; a guest sees it with [`inside`](Self::inside).
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a guest calls a path outside. All guests see the same file, at once.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let mut inside = PathBuf::from("/host");
        inside.extend(path.components().skip(1));
        inside
    }

    /// What is here is in `/etc` of each guest, after the next boot or [`install`](Self::install).
    pub(crate) fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }

    pub(crate) fn install(&self) -> Result<(), Error> {
        let script = format!("cp -rp {}/. /etc/", self.inside(&self.etc()).display());
        let mut running = self.guests.iter().filter(|guest| guest.is_on());
        running.try_for_each(|guest| guest.ok(&script).map(drop))
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Starts a Ceph cluster on the host. Guests that use it need the module `rbd`, or `nbd`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn ceph(&self) -> Result<Ceph<'_>, Error> {
        Ceph::start(self)
    }

    /// Starts a Gluster server on the host. Guests that mount its volumes need the module `fuse`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn gluster(&self) -> Result<Gluster<'_>, Error> {
        Gluster::start(self)
    }

    /// Cuts a guest off one of the networks.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn cut(&self, guest: &Guest, net: Net) -> Result<(), Error> {
        // To set the link down would break the guest's end for good.
        let tap = tap(guest.index(), net.number());
        self.run(&format!("ip link set {tap} nomaster")).map(drop)
    }

    /// Undoes [`cut`](Self::cut).
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn heal(&self, guest: &Guest, net: Net) -> Result<(), Error> {
        let net = net.number();
        let tap = tap(guest.index(), net);
        self.run(&format!("ip link set {tap} master br{net}")).map(drop)
    }

    /// Runs a script with bash on the host, in the networks of the testbed; it must succeed.
    ///
    /// # Errors
    /// When it does not, or not within a minute.
    pub fn run(&self, script: &str) -> Result<String, Error> {
        let run = || script::ok("the host", &self.keeper.enter(), script, TIMEOUT);
        let ran = self.keeper.timed("host", script, run);
        ran.inspect_err(|_| self.keeper.note_trouble())
    }

    /// Runs a script with bash on the host, in the networks of the testbed.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn sh(&self, script: &str) -> Result<Output, Error> {
        let run = || script::run(&self.keeper.enter(), script, TIMEOUT);
        Ok(self.keeper.timed("host", script, run)?)
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if thread::panicking() || env::var_os(TIMES_VARIABLE).is_some() {
            people::tell(&self.keeper.steps());
        }
        let failed = thread::panicking() || self.keeper.has_trouble();
        if failed && env::var_os(KEEP_VARIABLE).is_some() {
            self.keeper.keep();
            people::tell_kept(&self.dir, &self.binary);
        } else {
            self.keeper.end();
        }
    }
}
