//! drbd disks on two guests, from their creation to their end, and what can go wrong with them.
#![cfg(test)]

use std::thread;
use std::time::{Duration, Instant};

use gnt_bdev::{Activation, Change, ErrorKind, Layer, LocalDiskStatus, Operation};
use gnt_config::params::{DrbdDeviceParams, LvmParams, Parameters as _};
use gnt_config::{Disk, DynamicParams, LogicalDevice, LogicalId, Mebibytes, Secret};
use gnt_testbed::{Error, Guest, Net, Refused, Storage, Testbed};

type Done = Result<(), Error>;

const SIZE: Mebibytes = Mebibytes(64);
const SECRET: &str = "5ecre7";

/// Two nodes with a volume group each.
struct Pair {
    testbed: Testbed,
}

/// One node's end of a disk.
struct End<'a> {
    guest: &'a Guest,
    storage: Storage<'a>,
    disk: Disk,
}

impl Pair {
    fn start(name: &str) -> Result<Self, Error> {
        let plan = Testbed::plan(name).guests(2).memory(Mebibytes(256));
        let plan = plan
            .modules(["dm-mod", "dm-snapshot", "drbd"])
            .disk(Mebibytes(1024));
        let testbed = plan.start()?;
        for guest in testbed.guests() {
            guest.ok("pvcreate -qq /dev/ubda && vgcreate -qq xenvg /dev/ubda")?;
            guest.mark()?;
        }
        Ok(Self { testbed })
    }

    /// Both ends of a disk with these minors, `change` having its say on its parameters.
    fn ends(&self, minors: [u32; 2], change: impl Fn(&mut DrbdDeviceParams)) -> [End<'_>; 2] {
        [0, 1].map(|index| self.end(index, minors, &change))
    }

    fn end(&self, index: usize, minors: [u32; 2], change: impl Fn(&mut DrbdDeviceParams)) -> End<'_> {
        let guest = &self.testbed.guests()[index];
        let name = format!("01234567-89ab-cdef-0123-456789abcde{}.disk0", minors[0]);
        let volume = |kind: &str, size| Disk {
            params: LvmParams::default().to_object(),
            ..Disk::new(
                LogicalDevice::Plain,
                LogicalId::Lv {
                    vg: "xenvg".to_owned(),
                    lv: format!("{name}_{kind}"),
                },
                size,
            )
        };
        let mut params = DrbdDeviceParams {
            // The death of a peer shows in seconds.
            net_custom: "--timeout 10 --ping-int 2 --ping-timeout 10 --connect-int 2".to_owned(),
            resync_rate: 200 * 1024,
            disk_custom: "--c-plan-ahead 0".to_owned(),
            ..DrbdDeviceParams::default()
        };
        change(&mut params);
        let disk = Disk {
            uuid: "disk-uuid-0".to_owned(),
            iv_name: Some("disk/0".to_owned()),
            children: vec![volume("data", SIZE), volume("meta", Mebibytes(128))],
            params: params.to_object(),
            dynamic_params: Some(DynamicParams {
                local_ip: guest.secondary_ip(),
                remote_ip: self.testbed.guests()[1 - index].secondary_ip(),
                local_minor: minors[index],
                remote_minor: minors[1 - index],
            }),
            ..Disk::new(
                LogicalDevice::Drbd,
                LogicalId::Drbd8 {
                    nodes: ["n1".to_owned(), "n2".to_owned()],
                    port: Some(11000),
                    minors,
                    secret: Secret::new(SECRET),
                },
                SIZE,
            )
        };
        End {
            guest,
            storage: guest.storage(),
            disk,
        }
    }
}

impl End<'_> {
    fn create(&self) -> Result<Change, Error> {
        self.storage.check(&self.disk, Operation::Create)?;
        self.storage.create(&self.disk)
    }

    fn assemble(&self, activation: Activation<'_>) -> Done {
        let assembled = self.storage.assemble(&self.disk, activation)?;
        let path = assembled.device.and_then(|device| device.path);
        assert_eq!(path, Some(self.path().into()), "{}", self.guest.name());
        Ok(())
    }

    fn path(&self) -> String {
        let minor = self.disk.dynamic_params.as_ref().map(|params| params.local_minor);
        format!("/dev/drbd{}", minor.unwrap())
    }

    fn write(&self, count: u32, at: u32) -> Done {
        let path = self.path();
        let write = "dd if=/dev/urandom bs=1M oflag=direct conv=fsync";
        self.guest
            .ok(&format!("{write} of={path} count={count} seek={at}"))
            .map(drop)
    }

    /// The checksum of the device, which must be primary.
    fn read(&self) -> Result<String, Error> {
        let path = self.path();
        self.guest
            .ok(&format!("dd if={path} bs=1M iflag=direct | md5sum"))
    }

    /// The checksum of what is on the data volume.
    fn below(&self) -> Result<String, Error> {
        let LogicalId::Lv { vg, lv } = &self.disk.children[0].logical_id else {
            panic!()
        };
        let count = self.disk.size.0;
        self.guest.ok(&format!(
            "dd if=/dev/{vg}/{lv} bs=1M count={count} iflag=direct | md5sum"
        ))
    }

    fn proc(&self) -> Result<String, Error> {
        self.guest.ok("cat /proc/drbd")
    }

    fn synced(&self) -> Result<Vec<f64>, Error> {
        let mut percents = Vec::new();
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let progress = self.storage.wait_sync(&self.disk)?;
            if progress.done {
                return Ok(percents);
            }
            assert!(Instant::now() < end, "{}", self.proc()?);
            percents.push(progress.percent);
        }
    }

    /// Synchronises as fast as it can, whatever its parameters say.
    fn hurry(&self) -> Done {
        let path = self.path();
        let script = format!("drbdsetup disk-options {path} --resync-rate 200M --c-plan-ahead 0");
        self.guest.ok(&script).map(drop)
    }

    /// Waits for a state as `/proc/drbd` tells it.
    fn until(&self, what: &str) -> Done {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let proc = self.proc()?;
            if proc.contains(what) {
                return Ok(());
            }
            assert!(Instant::now() < end, "{what} is not to come in\n{proc}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn status(&self) -> Result<gnt_bdev::Status, Error> {
        Ok(self.storage.find(&self.disk)?.unwrap())
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Result<Refused, Error> {
    result.unwrap_err().refused()
}

fn create(ends: &[End<'_>; 2]) -> Done {
    for end in ends {
        assert_eq!(end.create()?, Change::Made);
        assert_eq!(end.create()?, Change::AlreadyThere);
    }
    Ok(())
}

/// As an instance is activated: on both nodes as secondary, then on the one where it runs.
fn activate(primary: &End<'_>, secondary: &End<'_>) -> Done {
    for end in [primary, secondary] {
        end.assemble(Activation::secondary())?;
    }
    primary.assemble(Activation::primary("kvm"))
}

/// One of them may lose the connection before it has seen why the other gave it up: then it waits, and they have to meet again.
fn both_know_of_split_brain(a: &End<'_>, b: &End<'_>) -> Done {
    let is = |end: &End<'_>, what: &str| Ok::<_, Error>(end.proc()?.contains(what));
    let end = Instant::now() + Duration::from_secs(60);
    while !(is(a, "StandAlone")? && is(b, "StandAlone")?) {
        assert!(Instant::now() < end, "only one of them ever knows, or none");
        for (one, other) in [(a, b), (b, a)] {
            if is(one, "StandAlone")? && is(other, "WFConnection")? {
                one.assemble(Activation::secondary())?;
            }
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn remove(ends: &[End<'_>; 2]) -> Done {
    for end in ends {
        assert_eq!(end.storage.remove(&end.disk)?, Change::Made);
        assert_eq!(end.storage.remove(&end.disk)?, Change::AlreadyThere);
    }
    ends.iter().try_for_each(|end| end.guest.assert_clean())
}

#[test]
fn a_disk_lives() -> Done {
    let pair = Pair::start("drbd-life")?;
    let mut ends = pair.ends([0, 3], |params| params.resync_rate = 16 * 1024);
    create(&ends)?;
    let [a, b] = &ends;
    assert_eq!(a.status()?.device.path, None);
    assert!(a.storage.needs_activation(&a.disk)?);
    activate(a, b)?;
    assert!(!a.storage.needs_activation(&a.disk)?);
    let percents = a.synced()?;
    assert!(!percents.is_empty() && percents.is_sorted(), "{percents:?}");
    // Again, as nothing is done twice.
    activate(a, b)?;
    assert_eq!([a.create()?, b.create()?], [Change::AlreadyThere; 2]);
    let status = a.status()?;
    assert_eq!((status.device.major, status.device.minor), (Some(147), Some(0)));
    assert_eq!(status.device.bytes, Some(SIZE.bytes()));
    assert_eq!(status.sync, gnt_bdev::SyncStatus::OKAY);

    a.write(64, 0)?;
    let sum = a.read()?;
    assert_eq!([a.below()?, b.below()?], [sum.clone(), sum.clone()]);

    // The instance moves to the other node.
    a.storage.close(&a.disk)?;
    a.storage.close(&a.disk)?;
    b.storage.open(&b.disk, true)?;
    b.storage.open(&b.disk, true)?;
    assert_eq!(b.read()?, sum);
    let error = refused(a.storage.open(&a.disk, true))?;
    assert!(error.message.contains("the other node is primary"), "{error:?}");
    b.storage.close(&b.disk)?;
    a.storage.open(&a.disk, true)?;

    migrate(a, b)?;

    // The volumes below grow first.
    let to = Mebibytes(96);
    let error = refused(a.storage.grow(&a.disk, to, false, Layer::Logical))?;
    assert!(
        error.message.contains("after it was told to have 96M"),
        "{error:?}"
    );
    let sum = a.read()?;
    for end in &ends {
        end.storage.grow(&end.disk, to, false, Layer::BackingStore)?;
    }
    let [a, b] = &ends;
    assert_eq!(a.storage.grow(&a.disk, to, true, Layer::Logical)?, Change::Made);
    assert_eq!(a.storage.actual_size(&a.disk)?, SIZE.bytes());
    assert_eq!(a.storage.grow(&a.disk, to, false, Layer::Logical)?, Change::Made);
    assert_eq!(
        a.storage.grow(&a.disk, to, false, Layer::Logical)?,
        Change::AlreadyThere
    );
    assert_eq!(b.storage.actual_size(&b.disk)?, to.bytes());
    let old = format!("dd if={} bs=1M count=64 iflag=direct | md5sum", a.path());
    assert_eq!(a.guest.ok(&old)?, sum);
    for end in &mut ends {
        end.disk.size = to;
        end.disk.children[0].size = to;
    }
    let [a, b] = &ends;
    a.synced()?;
    a.write(8, 80)?;
    assert_eq!(a.below()?, b.below()?);

    diskless(a, b)?;
    pause(a, b)?;

    // All again from the configuration.
    for end in &ends {
        assert_eq!(end.storage.shutdown(&end.disk)?, Change::Made);
        assert_eq!(end.storage.shutdown(&end.disk)?, Change::AlreadyThere);
        assert_eq!(end.status()?.sync.ldisk_status, LocalDiskStatus::Unknown);
    }
    activate(b, a)?;
    b.synced()?;
    remove(&ends)
}

/// Both nodes are primary while the instance moves from one to the other.
fn migrate(a: &End<'_>, b: &End<'_>) -> Done {
    let attach = |multimaster| -> Result<_, Error> {
        let attach = |end: &End<'_>| end.storage.attach_net(&end.disk, multimaster);
        let changes = thread::scope(|scope| {
            let other = scope.spawn(|| attach(b));
            [attach(a), other.join().unwrap()]
        });
        let [first, other] = changes;
        // One that was told first tells the other.
        assert!([first?, other?].contains(&Change::Made));
        attach(a)
    };
    let dance = |multimaster| -> Done {
        for end in [a, b] {
            assert_eq!(end.storage.disconnect_net(&end.disk)?, Change::Made);
            assert_eq!(end.storage.disconnect_net(&end.disk)?, Change::AlreadyThere);
        }
        assert_eq!(attach(multimaster)?, Change::AlreadyThere);
        Ok(())
    };
    let stay = |multimaster| -> Done {
        assert_eq!(attach(multimaster)?, Change::AlreadyThere);
        Ok(())
    };
    let move_there_and_back = |connect: &dyn Fn(bool) -> Done| -> Done {
        connect(true)?;
        b.storage.open(&b.disk, false)?;
        a.until("ro:Primary/Primary")?;
        let error = refused(a.storage.attach_net(&a.disk, false))?;
        assert!(error.message.contains("both nodes are primary"), "{error:?}");
        a.write(1, 10)?;
        b.write(1, 20)?;
        assert_eq!(a.read()?, b.read()?);
        a.storage.close(&a.disk)?;
        connect(false)?;
        b.storage.close(&b.disk)?;
        a.storage.open(&a.disk, true)
    };
    move_there_and_back(&dance)?;
    let partings = || a.guest.ok("dmesg | grep -c 'conn( Connected -> '");
    let before = partings()?;
    let writer = a.guest.ok(&format!(
        "setsid sh -c 'while :; do dd if=/dev/urandom of={} bs=4k count=1 seek=300 oflag=direct; done' \
         >/dev/null 2>&1 & echo $!",
        a.path()
    ))?;
    stay(true)?;
    b.storage.open(&b.disk, false)?;
    a.until("ro:Primary/Primary")?;
    a.guest.ok(&format!(
        "kill -- -{0}; while kill -0 -- -{0}; do :; done",
        writer.trim()
    ))?;
    a.storage.close(&a.disk)?;
    stay(false)?;
    b.storage.close(&b.disk)?;
    a.storage.open(&a.disk, true)?;
    move_there_and_back(&stay)?;
    assert_eq!(partings()?, before);
    assert_eq!(a.below()?, b.below()?);
    slower_protocols_come_back(a, b)
}

/// Whatever the protocol, two primaries have one that waits for both.
fn slower_protocols_come_back(a: &End<'_>, b: &End<'_>) -> Done {
    for (protocol, multimaster, now) in [
        ("A", true, "C"),
        ("A", false, "A"),
        ("C", true, "C"),
        ("C", false, "C"),
    ] {
        for end in [a, b] {
            let mut disk = end.disk.clone();
            disk.params.insert("protocol".to_owned(), protocol.into());
            end.storage.attach_net(&disk, multimaster)?;
            let shown = end
                .guest
                .ok(&format!("drbdsetup show --show-defaults {}", end.path()))?;
            let words: Vec<_> = shown.split_whitespace().collect();
            let found = words.windows(2).find(|words| words[0] == "protocol");
            let shown = found.map(|words| words[1].trim_end_matches(';'));
            assert_eq!(shown, Some(now), "{protocol} {multimaster}");
        }
    }
    Ok(())
}

/// The disk works without its volumes on this node, and gets them again.
fn diskless(a: &End<'_>, b: &End<'_>) -> Done {
    let sum = a.read()?;
    assert_eq!(a.storage.remove_children(&a.disk)?, Change::Made);
    assert_eq!(a.storage.remove_children(&a.disk)?, Change::AlreadyThere);
    assert_eq!(a.status()?.sync.ldisk_status, LocalDiskStatus::Faulty);
    assert!(a.storage.needs_activation(&a.disk)?);
    assert_eq!(a.read()?, sum);
    a.write(4, 30)?;
    let error = refused(a.storage.grow(&a.disk, Mebibytes(128), false, Layer::Logical))?;
    assert!(error.message.contains("has no data on this node"), "{error:?}");
    assert_eq!(a.storage.add_children(&a.disk)?, Change::Made);
    assert_eq!(a.storage.add_children(&a.disk)?, Change::AlreadyThere);
    a.synced()?;
    assert_eq!(
        [a.read()?, a.below()?, b.below()?],
        [b.below()?, b.below()?, b.below()?]
    );
    // An assembly attaches them too.
    a.storage.remove_children(&a.disk)?;
    a.assemble(Activation::primary("kvm"))?;
    a.synced()?;
    assert_eq!(a.status()?.sync, gnt_bdev::SyncStatus::OKAY);
    Ok(())
}

fn pause(a: &End<'_>, b: &End<'_>) -> Done {
    b.storage.disconnect_net(&b.disk)?;
    a.until("WFConnection")?;
    a.write(96, 0)?;
    a.guest.ok(&format!(
        "drbdsetup disk-options {} --resync-rate 1M --c-plan-ahead 0",
        a.path()
    ))?;
    b.guest.ok(&format!(
        "drbdsetup disk-options {} --resync-rate 1M --c-plan-ahead 0",
        b.path()
    ))?;
    b.storage.attach_net(&b.disk, false)?;
    b.until("SyncTarget")?;
    b.storage.pause_sync(&b.disk)?;
    b.storage.pause_sync(&b.disk)?;
    b.until("PausedSyncT")?;
    let sync = b.status()?.sync;
    assert_eq!(
        (sync.ldisk_status, sync.estimated_time),
        (LocalDiskStatus::Sync, None)
    );
    assert!(
        sync.is_degraded && sync.sync_percent.is_some_and(|percent| percent < 50.0),
        "{sync:?}"
    );
    let progress = b.storage.wait_sync(&b.disk)?;
    assert!(!progress.done);
    b.storage.resume_sync(&b.disk)?;
    b.storage.resume_sync(&b.disk)?;
    b.until("SyncTarget")?;
    let sync = b.status()?.sync;
    assert!(sync.estimated_time.is_some(), "{sync:?}");
    a.hurry()?;
    b.hurry()?;
    b.synced()?;
    assert_eq!(a.below()?, b.below()?);
    Ok(())
}

/// The two halves of a pair.
fn both<'a, 'b>(ends: &'a [End<'b>; 2]) -> (&'a End<'b>, &'a End<'b>) {
    (&ends[0], &ends[1])
}

/// A disk on both nodes, in sync, the first being primary.
fn made(ends: &[End<'_>; 2]) -> Done {
    let (a, b) = both(ends);
    for end in ends {
        end.create()?;
    }
    activate(a, b)?;
    a.synced().map(drop)
}

#[test]
fn nodes_lose_their_power() -> Done {
    let pair = Pair::start("drbd-power")?;
    let ends = pair.ends([0, 0], |params| params.resync_rate = 8 * 1024);
    let (a, b) = both(&ends);
    for end in &ends {
        end.create()?;
    }

    // The peer, while it is being synchronised.
    activate(a, b)?;
    let progress = a.storage.wait_sync(&a.disk)?;
    assert!(!progress.done, "{progress:?}");
    b.until("SyncTarget")?;
    b.guest.power_cut()?;
    a.until("WFConnection")?;
    let sync = a.status()?.sync;
    assert!(
        sync.is_degraded && sync.ldisk_status == LocalDiskStatus::Okay,
        "{sync:?}"
    );
    let error = refused(a.storage.wait_sync(&a.disk))?;
    assert!(
        error
            .message
            .contains("it is not connected to 192.168.78.2 (WFConnection"),
        "{error:?}"
    );
    a.write(8, 8)?;
    b.guest.boot()?;
    // Its data is of no use before it is in sync.
    let error = refused(b.storage.open(&b.disk, true))?;
    assert!(error.message.contains("not active"), "{error:?}");
    b.assemble(Activation::secondary())?;
    a.hurry()?;
    b.hurry()?;
    a.synced()?;
    assert_eq!(a.below()?, b.below()?);

    // The peer, while there are writes.
    let path = a.path();
    let writes =
        format!("for i in 1 2 3; do dd if=/dev/urandom of={path} bs=1M count=60 oflag=direct || exit; done");
    thread::scope(|scope| -> Done {
        let writing = scope.spawn(|| a.guest.ok(&writes));
        thread::sleep(Duration::from_millis(500));
        b.guest.power_cut()?;
        writing.join().unwrap().map(drop)
    })?;
    a.until("WFConnection")?;
    b.guest.boot()?;
    b.assemble(Activation::secondary())?;
    b.hurry()?;
    a.synced()?;
    assert_eq!(a.below()?, b.below()?);

    // The primary, while it writes: its metadata is unclean then.
    let cut = thread::scope(|scope| {
        let writing = scope.spawn(|| a.guest.ok(&writes));
        thread::sleep(Duration::from_millis(500));
        let cut = a.guest.power_cut();
        assert!(writing.join().unwrap().is_err());
        cut
    });
    cut?;
    b.until("WFConnection")?;
    b.storage.open(&b.disk, true)?;
    let sum = b.read()?;
    a.guest.boot()?;
    // What Ganeti found out: attach alone does not do.
    let [data, meta] = [0, 1].map(|index| format!("/dev/{}", a.disk.children[index].logical_id));
    let script = format!(
        "lvchange -ay {data} {meta}; drbdsetup new-resource resource0; drbdsetup new-minor resource0 0 0; \
         drbdsetup attach 0 {data} {meta} flexible; drbdsetup down resource0"
    );
    let attach = a.guest.sh(&script)?;
    assert!(
        attach.stderr.contains("(165) Unclean meta-data found"),
        "{attach}"
    );
    a.assemble(Activation::secondary())?;
    b.synced()?;
    assert_eq!(
        [b.read()?, a.below()?, b.below()?],
        [sum.clone(), sum.clone(), sum.clone()]
    );

    // Both at once; then all comes from the configuration.
    b.write(4, 40)?;
    let sum = b.read()?;
    for end in &ends {
        end.guest.power_cut()?;
    }
    for end in &ends {
        end.guest.boot()?;
    }
    activate(b, a)?;
    b.synced()?;
    assert_eq!([b.read()?, a.below()?], [sum.clone(), sum]);
    remove(&ends)
}

#[test]
fn the_network_is_cut() -> Done {
    let pair = Pair::start("drbd-network")?;
    let ends = pair.ends([7, 0], |_| {});
    let (a, b) = both(&ends);
    made(&ends)?;
    let net = Net::Secondary;

    pair.testbed.cut(b.guest, net)?;
    a.until("WFConnection")?;
    a.write(8, 0)?;
    pair.testbed.heal(b.guest, net)?;
    a.until("cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate")?;
    assert_eq!(a.below()?, b.below()?);

    // Both write, each thinking that it is alone.
    pair.testbed.cut(b.guest, net)?;
    b.until("WFConnection")?;
    b.storage.open(&b.disk, true)?;
    a.write(8, 8)?;
    b.write(3, 8)?;
    pair.testbed.heal(b.guest, net)?;
    both_know_of_split_brain(a, b)?;
    assert!(a.storage.needs_activation(&a.disk)?);
    assert_eq!(a.status()?.sync.ldisk_status, LocalDiskStatus::Faulty);
    let told = [
        refused(a.storage.wait_sync(&a.disk))?,
        refused(b.storage.wait_sync(&b.disk))?,
    ];
    let differ = "split brain: the copies on this node and on";
    assert!(
        told[0].message.contains(&format!("{differ} 192.168.78.2 differ")),
        "{told:?}"
    );
    assert!(told[0].message.contains("(8M here, 3M there)"), "{told:?}");
    assert!(told[1].message.contains("(3M here, 8M there)"), "{told:?}");
    let sums = [a.below()?, b.below()?];
    // Activation resolves nothing.
    b.storage.close(&b.disk)?;
    activate(a, b)?;
    thread::sleep(Duration::from_secs(2));
    assert_eq!([a.below()?, b.below()?], sums);
    // The hint says what to type, on the node that loses its changes.
    let error = refused(a.storage.wait_sync(&a.disk))?;
    assert!(
        error.message.contains(differ) && !error.message.contains(SECRET),
        "{error:?}"
    );
    let hint = error.hint.unwrap();
    let commands = hint
        .split("run there: `")
        .nth(1)
        .unwrap()
        .split('`')
        .next()
        .unwrap();
    let ends_of = "ipv4:192.168.78.2:11000 ipv4:192.168.78.1:11000";
    assert_eq!(
        commands,
        format!("drbdsetup disconnect {ends_of}; drbdsetup secondary 0 && drbdsetup invalidate 0")
    );
    b.guest.ok(commands)?;
    activate(a, b)?;
    a.until("cs:Sync")?;
    a.synced()?;
    assert_eq!([a.below()?, b.below()?], [sums[0].clone(), sums[0].clone()]);

    // A peer with another secret is told as such.
    b.storage.disconnect_net(&b.disk)?;
    a.storage.disconnect_net(&a.disk)?;
    let mut other = pair.end(1, [7, 0], |_| {});
    if let LogicalId::Drbd8 { secret, .. } = &mut other.disk.logical_id {
        *secret = Secret::new("an0ther");
    }
    let results = thread::scope(|scope| {
        let peer = scope.spawn(|| refused(other.storage.attach_net(&other.disk, false)));
        [
            refused(a.storage.attach_net(&a.disk, false)),
            peer.join().unwrap(),
        ]
    });
    let errors = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let is_told = |error: &Refused| error.message.contains("does not have the same shared secret");
    assert!(errors.iter().any(is_told), "{errors:?}");
    for error in errors {
        // The one that is sent away before it has compared the secrets only sees the connection end.
        assert!(
            is_told(&error) || error.message.contains("it is not connected to"),
            "{error:?}"
        );
        assert!(!error.message.contains(SECRET) && !error.message.contains("an0ther"));
    }
    remove(&ends)
}

#[test]
fn what_is_in_the_way_is_told() -> Done {
    let pair = Pair::start("drbd-faults")?;
    let ends = pair.ends([0, 0], |_| {});
    let (a, b) = both(&ends);

    // Somebody else's device has the minor.
    let foreign = "drbdsetup new-resource mine; drbdsetup new-minor mine 0 0; \
                   drbdsetup connect mine ipv4:192.168.78.1:7788 ipv4:192.168.78.2:7788";
    a.guest.ok(foreign)?;
    let before = a.proc()?;
    for error in [
        refused(a.create())?,
        refused(a.storage.create(&a.disk))?,
        refused(a.storage.assemble(&a.disk, Activation::primary("kvm")))?,
    ] {
        assert!(
            error
                .message
                .contains("minor 0 runs something else: the resource mine"),
            "{error:?}"
        );
        assert_eq!(error.kind, ErrorKind::Busy);
        assert!(error.hint.unwrap().contains("drbdsetup down mine"));
    }
    assert_eq!(a.storage.shutdown(&a.disk)?, Change::AlreadyThere);
    a.storage.remove(&a.disk)?;
    assert_eq!(a.proc()?, before);
    a.guest.ok("drbdsetup down mine")?;
    a.guest.assert_clean()?;

    // No drbd in the kernel, or no tools.
    a.guest.ok("rmmod drbd")?;
    let error = refused(a.create())?;
    assert!(
        error.message.contains("the kernel module drbd is not loaded"),
        "{error:?}"
    );
    assert!(error.hint.unwrap().contains("modprobe drbd"));
    a.guest
        .ok("modprobe drbd usermode_helper=/bin/true; mv /usr/sbin/drbdmeta /usr/sbin/drbdmeta.away")?;
    let error = refused(a.create())?;
    assert_eq!(
        error.hint.as_deref(),
        Some("install the package drbd-utils"),
        "{error:?}"
    );
    a.guest.ok("mv /usr/sbin/drbdmeta.away /usr/sbin/drbdmeta")?;
    a.guest.assert_clean()?;

    // A file system that was there before is not in the way of metadata, one that is in use is.
    made(&ends)?;
    a.write(64, 0)?;
    let [data, meta] = [0, 1].map(|index| format!("/dev/{}", a.disk.children[index].logical_id));

    // In use.
    let hold = format!("exec 3<>{}; sleep 600 & echo $!", a.path());
    let held = a
        .guest
        .ok(&format!("({hold}) 2>/dev/null </dev/null | head -1"))?;
    for error in [
        refused(a.storage.close(&a.disk))?,
        refused(a.storage.shutdown(&a.disk))?,
        refused(a.storage.remove(&a.disk))?,
    ] {
        assert!(
            error.message.contains("Device is held open by someone"),
            "{error:?}"
        );
    }
    assert_eq!(refused(a.storage.close(&a.disk))?.kind, ErrorKind::Busy);
    a.until("cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate")?;
    a.guest.ok(&format!("kill {}", held.trim()))?;

    // A minor that has our volumes under another number is not ours, and theirs are not free.
    let elsewhere = pair.end(0, [5, 0], |_| {});
    let elsewhere = Disk {
        children: a.disk.children.clone(),
        ..elsewhere.disk
    };
    let error = refused(a.storage.create(&elsewhere))?;
    assert_eq!(error.kind, ErrorKind::Busy, "{error:?}");
    let error = refused(a.storage.assemble(&elsewhere, Activation::secondary()))?;
    assert!(error.message.contains("drbdmeta"), "{error:?}");
    assert!(!a.proc()?.contains(" 5: cs:"));

    // The peer's address is another one now: our volumes, so it connects there.
    let mut moved = pair.end(0, [0, 0], |_| {});
    if let Some(params) = &mut moved.disk.dynamic_params {
        params.remote_ip = "192.168.78.3".to_owned();
    }
    moved.assemble(Activation::primary("kvm"))?;
    let shown = a.guest.ok("drbdsetup show 0")?;
    assert!(shown.contains("ipv4 192.168.78.3:11000"), "{shown}");
    a.assemble(Activation::primary("kvm"))?;
    a.until("cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate")?;

    // A volume is lost while the disk is down: the other node's data is used, and a new disk on the old metadata is refused.
    let sum = a.read()?;
    a.storage.shutdown(&a.disk)?;
    a.guest
        .ok(&format!("lvchange -ay {data}; lvremove -qqf {data}"))?;
    let assembled = a.storage.assemble(&a.disk, Activation::secondary())?;
    assert_eq!(assembled.warnings.len(), 1, "{assembled:?}");
    a.until("ds:Diskless/UpToDate")?;
    a.storage.open(&a.disk, true)?;
    assert_eq!(a.read()?, sum);
    assert!(a.storage.needs_activation(&a.disk)?);
    a.storage.shutdown(&a.disk)?;
    let error = refused(a.storage.create(&a.disk))?;
    assert!(error.message.contains("that has been in use"), "{error:?}");
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    assert!(
        a.guest.sh(&format!("lvs {data}"))?.code != Some(0),
        "the new data volume is gone again"
    );
    a.guest.ok(&format!(
        "lvchange -ay {meta}; dd if=/dev/zero of={meta} bs=1M count=1 oflag=direct; mkfs.ext4 -q {meta}"
    ))?;
    assert_eq!(a.storage.create(&a.disk)?, Change::Made);
    a.assemble(Activation::secondary())?;
    a.synced()?;
    assert_eq!(a.below()?, b.below()?);

    // Neither node has good data alone.
    b.storage.shutdown(&b.disk)?;
    remove(&ends)
}

#[test]
fn nodes_are_connected_by_ipv6() -> Done {
    let pair = Pair::start("drbd-ipv6")?;
    let mut ends = pair.ends([300, 2], |params| {
        params.dynamic_resync = true;
        params.c_max_rate = 200 * 1024;
        params.disk_custom = String::new();
        params.disabled_barriers = "bf".parse().unwrap();
        params.disable_meta_flush = true;
    });
    for end in &mut ends {
        let index = end.guest.index();
        end.guest.ok(&format!(
            "modprobe ipv6; ip address add fd00::{index}/64 dev vec1 nodad"
        ))?;
        if let Some(params) = &mut end.disk.dynamic_params {
            params.local_ip = format!("fd00::{index}");
            params.remote_ip = format!("fd00::{}", 3 - index);
        }
    }
    made(&ends)?;
    let (a, b) = both(&ends);
    activate(a, b)?;
    a.write(16, 0)?;
    assert_eq!(a.below()?, b.below()?);
    let shown = a.guest.ok("drbdsetup show --show-defaults 300")?;
    for option in [
        "c-max-rate      \t204800k",
        "disk-flushes    \tno",
        "md-flushes      \tno",
        "disk-barrier    \tno",
    ] {
        assert!(shown.contains(option), "{option}: {shown}");
    }
    remove(&ends)
}
