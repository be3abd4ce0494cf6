//! That the simulated drbd does what the kernel's does, as far as operations rely on it.

use std::time::Duration;

use gnt_bdev::transfer::{Content, Piece};
use gnt_bdev::{Change, DrbdError, Layer, LocalDiskStatus, Target, drbd::Verdict};
use gnt_config::disk::DynamicParams;
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Secret};

use super::{SimCluster, SimNode};
use crate::node::{Node, NodeError, NodeResult, Role};
use crate::saga::Nodes;
use crate::tests::now;

const INSTANCE: &str = "web";

/// A mirrored disk, on two nodes of three.
struct Pair {
    cluster: SimCluster,
    disks: [Disk; 3],
}

impl Pair {
    /// Two halves that nobody has assembled yet.
    fn new() -> Self {
        let names = ["a", "b", "c"];
        let nodes = names.map(|name| {
            serde_json::from_value(serde_json::json!({
                "uuid": name, "name": name, "primary_ip": "", "secondary_ip": "", "group": "",
            }))
            .unwrap()
        });
        let cluster = SimCluster::new(&nodes);
        let disks = [disk("a", "b"), disk("b", "a"), disk("c", "a")];
        let pair = Self { cluster, disks };
        for index in 0..2 {
            now(pair.node(index).create(&pair.disks[index], INSTANCE, "")).unwrap();
        }
        pair
    }

    /// Two halves that are assembled, the first being primary.
    fn active() -> Self {
        let pair = Self::new();
        pair.assemble(1, Role::Secondary);
        pair.assemble(0, Role::Primary);
        pair
    }

    fn node(&self, index: usize) -> &SimNode {
        self.cluster.node(["a", "b", "c"][index]).unwrap()
    }

    fn target(&self, index: usize) -> [Target<'_>; 1] {
        [Target::new(&self.disks[index], INSTANCE)]
    }

    fn assemble(&self, index: usize, role: Role) {
        now(self.node(index).assemble(&self.disks[index], INSTANCE, role)).unwrap();
    }

    fn open(&self, index: usize) -> NodeResult<()> {
        now(self.node(index).open(&self.target(index), true))
    }

    fn write(&self, index: usize, mark: u8) -> NodeResult<()> {
        let piece = Piece {
            offset: 0,
            content: Content::Data(vec![mark]),
        };
        now(self.node(index).write(&self.disks[index], INSTANCE, &[piece]))
    }

    fn read(&self, index: usize) -> NodeResult<u8> {
        let pieces = now(self.node(index).read(&self.disks[index], INSTANCE, 0, 1))?;
        match &pieces[0].content {
            Content::Data(data) => Ok(data[0]),
            Content::Zeros(_) => Ok(0),
        }
    }

    /// What is on the volume of a node, whoever may read it.
    fn stored(&self, index: usize) -> u64 {
        let data = &self.disks[index].children[0];
        let key = super::key(["a", "b", "c"][index], data.dev_type, &data.logical_id);
        self.cluster.world().volumes[&key].data.mark()
    }

    fn disconnect(&self, index: usize) {
        now(self.node(index).disconnect_net(&self.target(index))).unwrap();
    }

    /// Both are told at the same time.
    fn connect(&self, multimaster: bool) -> [NodeResult<()>; 2] {
        let (first, second) = (self.target(0), self.target(1));
        let both = async {
            futures_util::future::join(
                self.node(0).attach_net(&first, multimaster),
                self.node(1).attach_net(&second, multimaster),
            )
            .await
        };
        let (first, second) = now(both);
        [first.map(drop), second.map(drop)]
    }

    fn status(&self, index: usize) -> (LocalDiskStatus, bool) {
        let found = now(self.node(index).find(&self.disks[index], INSTANCE))
            .unwrap()
            .unwrap();
        (found.sync.ldisk_status, found.sync.is_degraded)
    }
}

/// The disk that two nodes have, as it is sent to `local`.
fn disk(local: &str, remote: &str) -> Disk {
    let mut names = [local.to_owned(), remote.to_owned()];
    names.sort();
    let volume = |name: &str, size| {
        let id = LogicalId::Lv {
            vg: "xenvg".to_owned(),
            lv: format!("id.{name}"),
        };
        Disk::new(LogicalDevice::Plain, id, Mebibytes(size))
    };
    let id = LogicalId::Drbd8 {
        nodes: names,
        port: Some(11000),
        minors: [0, 0],
        secret: Secret::new("secret"),
    };
    let mut disk = Disk::new(LogicalDevice::Drbd, id, Mebibytes(64));
    disk.children = vec![volume("data", 64), volume("meta", 128)];
    disk.iv_name = Some("disk/0".to_owned());
    disk.dynamic_params = Some(DynamicParams {
        local_ip: String::new(),
        remote_ip: String::new(),
        local_minor: 0,
        remote_minor: 0,
    });
    disk
}

fn drbd_error(error: NodeError) -> DrbdError {
    match error {
        NodeError::Storage(gnt_bdev::Error::Failed { cause, .. }) => match *cause {
            gnt_bdev::Cause::Drbd(error) => *error,
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

fn pass(seconds: u64) {
    now(async { tokio::time::sleep(Duration::from_secs(seconds)).await });
}

const GOOD: (LocalDiskStatus, bool) = (LocalDiskStatus::Okay, false);
const ALONE: (LocalDiskStatus, bool) = (LocalDiskStatus::Okay, true);

#[test]
fn what_is_written_is_on_both_nodes() {
    let pair = Pair::active();
    assert_eq!([pair.status(0), pair.status(1)], [GOOD, GOOD]);
    pair.write(0, 7).unwrap();
    assert_eq!([pair.stored(0), pair.stored(1)], [7, 7]);
    // Only a primary is written to, and there is only one.
    pair.write(1, 8).unwrap_err();
    let error = drbd_error(pair.open(1).unwrap_err());
    assert!(matches!(error, DrbdError::PeerIsPrimary { .. }), "{error}");
}

#[test]
fn how_many_may_be_primary_changes_while_they_are_connected() {
    let pair = Pair::active();
    let attach =
        |index: usize, multimaster| now(pair.node(index).attach_net(&pair.target(index), multimaster));
    assert_eq!(attach(0, true).unwrap(), Change::Made);
    // The other was told by the first.
    assert_eq!(attach(1, true).unwrap(), Change::AlreadyThere);
    pair.open(1).unwrap();
    let error = drbd_error(attach(0, false).unwrap_err());
    assert!(matches!(error, DrbdError::BothPrimary { .. }), "{error}");
    pair.write(0, 7).unwrap();
    assert_eq!([pair.stored(0), pair.stored(1)], [7, 7]);
    now(pair.node(0).close(&pair.target(0))).unwrap();
    assert_eq!(attach(1, false).unwrap(), Change::Made);
    assert_eq!([pair.status(0), pair.status(1)], [GOOD, GOOD]);
}

#[test]
fn a_new_disk_is_not_opened_without_its_peer() {
    let pair = Pair::new();
    let node = pair.node(0);
    let opened = now(node.assemble(&pair.disks[0], INSTANCE, Role::Primary));
    let error = drbd_error(opened.unwrap_err());
    assert!(matches!(error, DrbdError::NoGoodData { .. }), "{error}");
}

#[test]
fn a_peer_that_was_away_gets_what_it_missed() {
    let pair = Pair::active();
    pair.write(0, 1).unwrap();
    pair.cluster.with_world(|world| world.cut("a", "b"));
    pair.write(0, 2).unwrap();
    assert_eq!([pair.status(0), pair.status(1)], [ALONE, ALONE]);
    assert_eq!([pair.stored(0), pair.stored(1)], [2, 1]);
    pair.cluster.with_world(|world| world.mend("a", "b"));
    assert_eq!([pair.status(0), pair.status(1)], [GOOD, GOOD]);
    assert_eq!(pair.stored(1), 2);
}

#[test]
fn a_node_that_lost_its_power_comes_back_behind_the_other() {
    let pair = Pair::active();
    pair.write(0, 1).unwrap();
    pair.cluster.with_world(|world| world.kill("a"));
    now(pair.node(0).find(&pair.disks[0], INSTANCE)).unwrap_err();
    pair.open(1).unwrap();
    pair.write(1, 2).unwrap();
    pair.cluster.with_world(|world| world.boot("a"));
    assert_eq!(pair.stored(0), 1);
    pair.assemble(0, Role::Secondary);
    assert_eq!([pair.status(0), pair.status(1)], [GOOD, GOOD]);
    assert_eq!(pair.stored(0), 2);
}

#[test]
fn both_written_apart_is_a_split_brain() {
    let pair = Pair::active();
    pair.disconnect(0);
    pair.disconnect(1);
    pair.write(0, 1).unwrap();
    pair.open(1).unwrap();
    pair.write(1, 2).unwrap();
    for result in pair.connect(false) {
        let error = drbd_error(result.unwrap_err());
        let verdict = match error {
            DrbdError::Apart { verdict, .. } => verdict,
            other => panic!("{other}"),
        };
        assert!(matches!(verdict, Verdict::SplitBrain { .. }));
    }
    assert_eq!([pair.stored(0), pair.stored(1)], [1, 2]);
}

#[test]
fn both_nodes_are_primary_during_a_migration() {
    let pair = Pair::active();
    pair.write(0, 1).unwrap();
    pair.disconnect(0);
    pair.disconnect(1);
    for connected in pair.connect(true) {
        connected.unwrap();
    }
    pair.open(1).unwrap();
    pair.write(1, 2).unwrap();
    assert_eq!([pair.stored(0), pair.stored(1)], [2, 2]);
    now(pair.node(0).close(&pair.target(0))).unwrap();
    pair.disconnect(0);
    pair.disconnect(1);
    for connected in pair.connect(false) {
        connected.unwrap();
    }
    assert_eq!([pair.status(0), pair.status(1)], [GOOD, GOOD]);
    pair.open(0).unwrap_err();
}

#[test]
fn one_that_is_told_to_connect_alone_waits_for_the_other_in_vain() {
    let pair = Pair::active();
    pair.disconnect(0);
    pair.disconnect(1);
    let error = now(pair.node(0).attach_net(&pair.target(0), false)).unwrap_err();
    let error = drbd_error(error);
    assert!(matches!(error, DrbdError::NotConnected { .. }), "{error}");
}

#[test]
fn what_is_diskless_reads_from_its_peer() {
    let pair = Pair::active();
    pair.write(0, 1).unwrap();
    now(pair.node(0).remove_children(&pair.disks[0], INSTANCE)).unwrap();
    assert_eq!(pair.read(0).unwrap(), 1);
    pair.write(0, 2).unwrap();
    assert_eq!([pair.stored(0), pair.stored(1)], [1, 2]);
    now(pair.node(0).add_children(&pair.disks[0], INSTANCE)).unwrap();
    assert_eq!(pair.status(0), GOOD);
    assert_eq!(pair.stored(0), 2);
}

#[test]
fn another_node_takes_the_place_of_the_secondary() {
    let mut pair = Pair::active();
    pair.write(0, 1).unwrap();
    now(pair.node(2).create(&pair.disks[2], INSTANCE, "")).unwrap();
    now(pair.node(2).assemble(&pair.disks[2], INSTANCE, Role::Secondary)).unwrap();
    pair.disconnect(0);
    pair.disks[0] = disk("a", "c");
    now(pair.node(0).attach_net(&pair.target(0), false)).unwrap();
    assert_eq!([pair.stored(0), pair.stored(1), pair.stored(2)], [1, 1, 1]);
    assert_eq!([pair.status(0), pair.status(2)], [GOOD, GOOD]);
    // The one before is left alone.
    assert_eq!(pair.status(1), ALONE);
}

#[test]
fn a_synchronisation_takes_its_time() {
    let pair = Pair::active();
    pair.cluster.with_world(|world| {
        world.drbd.rate = Some(1);
        world.cut("a", "b");
    });
    pair.write(0, 1).unwrap();
    pair.cluster.with_world(|world| world.mend("a", "b"));
    let progress = || now(pair.node(0).wait_sync(&pair.target(0))).unwrap();
    assert_eq!((progress().done, progress().percent), (false, 0.0));
    pass(32);
    assert_eq!((progress().done, progress().percent.round()), (false, 50.0));
    now(pair.node(0).pause_resume_sync(&pair.target(0), true)).unwrap();
    pass(60);
    assert_eq!(pair.status(1), (LocalDiskStatus::Sync, true));
    now(pair.node(0).pause_resume_sync(&pair.target(0), false)).unwrap();
    pass(32);
    assert!(progress().done);
    assert_eq!(pair.stored(1), 1);
}

#[test]
fn the_mirror_grows_when_both_halves_have() {
    let pair = Pair::active();
    let grow = |index: usize, layer| {
        let disk = &pair.disks[index];
        now(pair
            .node(index)
            .grow(disk, INSTANCE, Mebibytes(128), layer, false))
    };
    grow(0, Layer::BackingStore).unwrap();
    grow(0, Layer::Logical).unwrap_err();
    grow(1, Layer::BackingStore).unwrap();
    grow(0, Layer::Logical).unwrap();
    let found = now(pair.node(1).find(&pair.disks[1], INSTANCE)).unwrap().unwrap();
    assert_eq!(found.device.bytes, Some(Mebibytes(128).bytes()));
}

#[test]
fn what_is_removed_leaves_nothing() {
    let pair = Pair::active();
    for index in [0, 1] {
        now(pair.node(index).remove(&pair.disks[index], INSTANCE)).unwrap();
    }
    let world = pair.cluster.world();
    assert!(world.volumes.is_empty());
    assert!(
        world
            .machines
            .values()
            .all(|machine| machine.minors.is_empty() && machine.attached.is_empty())
    );
}

#[test]
fn volumes_that_do_not_fit_are_not_made() {
    let pair = Pair::new();
    pair.cluster
        .with_world(|world| world.machines.get_mut("c").unwrap().room = Some(Mebibytes(100)));
    let space = || {
        now(pair
            .node(2)
            .space(LogicalDevice::Drbd, &gnt_config::Object::new()))
        .unwrap()
    };
    assert_eq!(space()[0].free, Mebibytes(100));
    let error = now(pair.node(2).create(&pair.disks[2], INSTANCE, "")).unwrap_err();
    assert!(matches!(&error, NodeError::Storage(error) if error.kind() == gnt_bdev::ErrorKind::NoSpace));
    // The data volume had fitted.
    assert_eq!(space()[0].free, Mebibytes(100));
}

#[test]
fn a_node_that_the_manager_cannot_reach_does_not_answer() {
    let pair = Pair::active();
    pair.cluster.with_world(|world| world.set_reachable("b", false));
    now(pair.node(1).links()).unwrap_err();
    pair.write(0, 1).unwrap();
    pair.cluster.with_world(|world| world.set_reachable("b", true));
    now(pair.node(1).links()).unwrap();
    assert_eq!(pair.stored(1), 1);
}
