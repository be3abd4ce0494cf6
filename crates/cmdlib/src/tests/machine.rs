//! Random operations, with calls that fail, processes that die, nodes that lose their power and links that are cut, one after the
//! other and at once. After each step nothing may have happened that must never happen; when all is mended, everything must be in order.
//!
//! `SEED=N cargo test -p gnt-cmdlib --lib machine` does again what a failure told; `SEED=N..M` tries others.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use gnt_config::template::NEEDS_SECONDARY;
use gnt_config::{Disk, DiskTemplate, FileDriver, Instance, LogicalId, Node, Object};
use gnt_store::{Change, FIRST_DRBD_PORT, Filter, Owner, State};
use serde_json::json;
use strum::IntoEnumIterator;

use super::bench::{Bench, IMAGED, NODES, catch_crash, is_adopted_device, now, quiet};
use super::rows::{IMAGE, SIZE};
use crate::error::{Error, Result, chain};
use crate::kind::Kind;
use crate::node::Node as _;
use crate::node::Role;
use crate::ops::Subject;
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::{AddRequest, add};
use crate::ops::convert::{ConvertRequest, convert};
use crate::ops::evacuate::{EvacuateRequest, evacuate};
use crate::ops::failover::{FailoverRequest, failover};
use crate::ops::grow::{Growth, grow};
use crate::ops::image::{ImageRequest, image};
use crate::ops::migrate::{Handover, Transfer, Transferred, cleanup, migrate};
use crate::ops::modify::{DiskChange, modify};
use crate::ops::node::{self, NodeChanges};
use crate::ops::recreate_disks::{RecreateRequest, recreate_disks};
use crate::ops::relocate::relocate;
use crate::ops::remove::remove;
use crate::ops::rename::rename;
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::ops::snapshot::{SnapshotRequest, remove_snapshot, restore, snapshot};
use crate::ops::wipe::wipe;
use crate::recover::{RemarkKind, import, propose};
use crate::saga::{Engine, Event, Healing, Nodes, Report};
use crate::sim::{Bytes, Random, SimCluster, Storm, Then, Volume, World};
use crate::step::{Pace, Step};
use crate::verify::{repair, verify};

/// How many clusters are tried, and how many steps each is put through.
const CLUSTERS: u64 = 200;
const STEPS: usize = 120;
/// Seeds from here on are of clusters that are put through all kinds of operations, and how many of them are tried.
const WIDE: u64 = 1_000_000;
const WIDE_CLUSTERS: u64 = 40;
/// At most one of so many times that all is mended, something is to be swept away by hand.
const MOST_SWEPT: usize = 6;

const NAMES: [&str; 4] = ["web", "mail", "news", "db"];
const TEMPLATES: [DiskTemplate; 7] = [
    DiskTemplate::Plain,
    DiskTemplate::Drbd,
    DiskTemplate::File,
    DiskTemplate::SharedFile,
    DiskTemplate::Rbd,
    DiskTemplate::Gluster,
    DiskTemplate::Ext,
];
/// Where an instance writes on its disks.
const OFFSET: u64 = 4096;

/// One step.
#[derive(Debug, Clone)]
enum Action {
    Add {
        instance: String,
        template: DiskTemplate,
        primary: &'static str,
        secondary: &'static str,
    },
    Remove(String),
    Activate(String),
    Deactivate(String),
    Grow(String),
    Modify(String, Vec<DiskChange>),
    Snapshot(String),
    Rename(String, String),
    /// To the other of its nodes, or to this one.
    Failover(String, &'static str),
    Migrate(String, &'static str, Outcome),
    Convert {
        instance: String,
        template: DiskTemplate,
        /// The node that it is on then, if not where it is.
        primary: Option<&'static str>,
        secondary: &'static str,
    },
    Move(String, &'static str),
    Replace(String, Replacement),
    Evacuate(&'static str),
    Wipe(String),
    /// A disk of the instance gets what a snapshot (UUID) is.
    Restore(String, String),
    RemoveSnapshot(String, String),
    Image(String),
    /// All disks of the instance are made anew, empty.
    Recreate(String),
    /// All is in order, and then the instances and disks are not in the configuration any more.
    Recover,
    NodeModify(&'static str, bool),
    NodeRemove(&'static str),
    /// What verifying tells is mended.
    Repair,
    /// A node that is dead is marked offline.
    GiveUp(&'static str),
    /// The instance begins to use its disks, and ends to.
    Start(String),
    Stop(String),
    /// It writes to all of them.
    Write(String),
    Kill(&'static str),
    Boot(&'static str),
    Cut(&'static str, &'static str),
    Mend(&'static str, &'static str),
    Lose(&'static str),
    Find(&'static str),
    /// Operations that died are gone on with.
    HealAll,
    /// Everything works again, and is looked at.
    MendAll,
}

/// What comes of moving an instance.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Moved,
    Stayed,
    /// It moved, and the manager lost sight of it.
    Unknown,
}

/// A manager that moves instances of the simulated cluster.
struct Mover<'a> {
    bench: &'a Bench,
    outcome: Outcome,
}

impl Transfer for Mover<'_> {
    async fn transfer(&self, handover: &Handover) -> Transferred {
        if let Outcome::Stayed = self.outcome {
            return Transferred::Stayed("it did not fit".into());
        }
        let (name, target) = (&handover.instance, &handover.target.uuid);
        let mut moved = false;
        self.bench.cluster.with_world(|world| {
            moved = world.guest(name).is_some() && !world.machines[target].is_dead;
            if moved {
                world.start_guest(name, target);
            }
        });
        match self.outcome {
            Outcome::Moved if moved => Transferred::Moved,
            Outcome::Moved => Transferred::Stayed("it does not run".into()),
            _ => Transferred::Unknown("lost sight of it".into()),
        }
    }
}

/// A cluster that is put through all this.
struct Machine {
    bench: Bench,
    /// Those that there were in the beginning.
    nodes: Vec<Node>,
    random: Random,
    /// Whether it is put through all kinds of operations.
    is_wide: bool,
    /// What instances were told is on their disks, by the UUID of the disk.
    acknowledged: BTreeMap<String, u64>,
    written: u64,
    /// UUIDs of the disks of the instances that run, in order.
    running: BTreeMap<String, Vec<String>>,
    /// UUIDs of the nodes where they run.
    places: BTreeMap<String, Option<String>>,
    /// UUIDs of the disks that instances had before they were copied, by UUID of the instance.
    copied: BTreeMap<String, Vec<String>>,
    /// Names of the instances whose removal may have been broken off.
    removing: BTreeSet<String>,
    /// UUIDs of the instances whose disks are made anew, which may have been broken off.
    recreating: BTreeSet<String>,
    /// Kinds of the operations that were done.
    kinds: BTreeSet<String>,
    /// UUIDs of the disks whose halves may have parted, since an operation said so.
    parted: BTreeSet<String>,
    /// Ids of the operations that were over when all was last in order.
    ended: BTreeSet<String>,
    /// What operations said is left, or lost, since all was last in order.
    told: Vec<String>,
    /// How often all was mended, and how often something was told of that had to be swept away by hand.
    rounds: usize,
    swept: usize,
    trace: Vec<String>,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let bench = Bench::empty();
        bench.cluster.with_world(|world| {
            for machine in world.machines.values_mut() {
                let image = (Bytes::marked(IMAGED), 8);
                machine.images.insert(IMAGE.to_owned(), image);
            }
        });
        Self {
            nodes: bench.store.nodes().unwrap(),
            bench,
            is_wide: seed >= WIDE,
            random: Random::new(seed % WIDE),
            acknowledged: BTreeMap::new(),
            written: 0,
            running: BTreeMap::new(),
            places: BTreeMap::new(),
            copied: BTreeMap::new(),
            removing: BTreeSet::new(),
            recreating: BTreeSet::new(),
            kinds: BTreeSet::new(),
            ended: BTreeSet::new(),
            parted: BTreeSet::new(),
            told: Vec::new(),
            rounds: 0,
            swept: 0,
            trace: Vec::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let action = self.next();
            self.trace.push(format!("{action:?}"));
            self.act(action);
            self.check();
        }
        self.act(Action::MendAll);
    }

    fn instances(&self) -> Vec<Instance> {
        self.bench.store.instances().unwrap()
    }

    /// What is done next.
    fn next(&mut self) -> Action {
        let names: Vec<String> = self
            .instances()
            .into_iter()
            .map(|instance| instance.name)
            .collect();
        let free: Vec<_> = NAMES
            .into_iter()
            .filter(|name| names.iter().all(|other| other != name))
            .collect();
        let detached = self.bench.store.detached_disks().unwrap();
        let unused = self.unused_node();
        let random = &mut self.random;
        let snapshots: Vec<_> = detached
            .iter()
            .filter(|disk| disk.snapshot_of.is_some())
            .collect();
        let nodes = [random.below(3), random.below(2)];
        let (node, other) = (NODES[nodes[0]], NODES[(nodes[0] + 1 + nodes[1]) % 3]);
        let Some(name) = random.pick(&names).filter(|_| names.len() > 1).cloned() else {
            return Action::Add {
                instance: (*random.pick(&free).unwrap()).to_owned(),
                template: *random.pick(&TEMPLATES).unwrap(),
                primary: node,
                secondary: other,
            };
        };
        match random.below(if self.is_wide { 78 } else { 62 }) {
            0..=2 => match random.pick(&free) {
                Some(instance) => Action::Add {
                    instance: (*instance).to_owned(),
                    template: *random.pick(&TEMPLATES).unwrap(),
                    primary: node,
                    secondary: other,
                },
                None => Action::Remove(name),
            },
            3 => Action::Remove(name),
            4..=7 => Action::Activate(name),
            8..=9 => Action::Deactivate(name),
            10..=11 => Action::Grow(name),
            12..=15 | 62 => Action::Modify(name, changes(random, detached.as_slice(), self.is_wide)),
            16 | 63..=64 => Action::Snapshot(name),
            65..=68 => match random.pick(&snapshots) {
                Some(snapshot) if random.below(2) == 0 => Action::RemoveSnapshot(name, snapshot.uuid.clone()),
                Some(snapshot) => Action::Restore(name, snapshot.uuid.clone()),
                None => Action::Deactivate(name),
            },
            69..=70 => Action::Image(name),
            71 => Action::Recreate(name),
            72 => Action::Recover,
            73..=74 => Action::NodeModify(node, random.below(3) == 0),
            75..=76 => Action::NodeRemove(unused.unwrap_or(node)),
            77 => Action::Deactivate(name),
            17 => match random.pick(&free) {
                Some(to) => Action::Rename(name, (*to).to_owned()),
                None => Action::Stop(name),
            },
            18..=20 => Action::Start(name),
            21 => Action::Failover(name, other),
            40..=43 => Action::Failover(name, other),
            50..=51 => {
                let template = *random.pick(&TEMPLATES).unwrap();
                Action::Convert {
                    instance: name,
                    template,
                    primary: Some(node).filter(|node| random.below(3) == 0 && *node != other),
                    secondary: other,
                }
            }
            52 => Action::Move(name, other),
            53..=54 => {
                let what = [
                    Replacement::OnPrimary,
                    Replacement::OnSecondary,
                    Replacement::NewSecondary(other.to_owned()),
                    Replacement::Automatic,
                ];
                Action::Replace(name, random.pick(&what).unwrap().clone())
            }
            55..=56 => Action::Evacuate(node),
            57 => Action::Wipe(name),
            58..=59 => Action::Repair,
            60..=61 => Action::GiveUp(node),
            44..=49 => {
                let outcome =
                    random.pick(&[Outcome::Moved, Outcome::Moved, Outcome::Stayed, Outcome::Unknown]);
                Action::Migrate(name, other, *outcome.unwrap())
            }
            22 => Action::Stop(name),
            23..=28 => Action::Write(name),
            29 => Action::Kill(node),
            30..=31 => Action::Boot(node),
            32 => Action::Cut(node, other),
            33 => Action::Mend(node, other),
            34 => Action::Lose(node),
            35..=36 => Action::Find(node),
            37 => Action::HealAll,
            _ => Action::MendAll,
        }
    }

    fn act(&mut self, action: Action) {
        let uuid = |name: &str| self.bench.uuid(name);
        let cluster = self.bench.cluster.clone();
        match &action {
            Action::Start(name) => self.start(name),
            Action::Stop(name) => cluster.with_world(|world| world.stop_guest(name)),
            Action::Write(name) => self.write(name),
            Action::Kill(node) => cluster.with_world(|world| world.kill(&uuid(node))),
            Action::Boot(node) => cluster.with_world(|world| world.boot(&uuid(node))),
            Action::Cut(one, other) => cluster.with_world(|world| world.cut(&uuid(one), &uuid(other))),
            Action::Mend(one, other) => cluster.with_world(|world| world.mend(&uuid(one), &uuid(other))),
            Action::Lose(node) => cluster.with_world(|world| world.set_reachable(&uuid(node), false)),
            Action::Find(node) => cluster.with_world(|world| world.set_reachable(&uuid(node), true)),
            Action::MendAll => self.mend_all(),
            Action::GiveUp(node) => self.set_offline_if_dead(&uuid(node)),
            Action::Recover => self.lose_and_recover(),
            Action::Recreate(name) => self.recreate(&action, name),
            Action::Failover(name, _) => {
                self.give_up(name);
                self.operate(&action);
            }
            _ => self.operate(&action),
        }
        self.renumber();
        self.bring_back_nodes();
    }

    /// An instance that came to another node has its disks there by the indices that they have now.
    fn renumber(&mut self) {
        let world = self.bench.cluster.world();
        for (name, disks) in &mut self.running {
            let node = world.guest(name).map(str::to_owned);
            if self.places.insert(name.clone(), node.clone()) != Some(node)
                && let Some(instance) = self.bench.store.instance(name).unwrap()
            {
                *disks = instance.disks;
            }
        }
    }

    /// A node that was removed, maybe by an operation that was broken off, is a node again.
    fn bring_back_nodes(&self) {
        let store = &self.bench.store;
        for node in &self.nodes {
            if store.node(&node.uuid).unwrap().is_none() {
                store.commit(&[Change::Node(node.clone())]).unwrap();
            }
        }
    }

    /// Runs an operation in bad weather, or in good.
    fn operate(&mut self, action: &Action) {
        let seed = self.random.number();
        let storm = match self.random.below(4) {
            0 => None,
            1 => Some(Storm::new(seed, 8, &[Then::Fail])),
            2 => Some(Storm::new(seed, 12, &[Then::Crash])),
            _ => Some(Storm::new(seed, 12, &[Then::Fail, Then::Crash, Then::PowerCut])),
        };
        if let Action::Convert { instance, .. } | Action::Move(instance, _) = action {
            let found = self.bench.store.instance(instance).unwrap().unwrap();
            self.copied.insert(found.uuid, found.disks);
        }
        let evacuated: Vec<_> = match action {
            Action::Evacuate(node) => {
                let instances = self
                    .bench
                    .store
                    .primary_instances(&self.bench.uuid(node))
                    .unwrap();
                instances.into_iter().map(|instance| instance.name).collect()
            }
            _ => Vec::new(),
        };
        let bench = &self.bench;
        bench.cluster.brew(storm);
        let healed = Mutex::new(Vec::new());
        let hear = |event: Event<'_>| {
            if let Event::Healed(told) = event {
                healed.lock().unwrap().push(told.to_owned());
            }
        };
        let outcome = catch_crash(|| now(operation(bench, &bench.engine(&hear), action)));
        bench.cluster.brew(None);
        self.told.extend(healed.into_inner().unwrap());
        self.follow();
        let is_done = matches!(outcome, Some(Ok(_)));
        let is_lost = |warning: &String| warning.contains("is lost");
        match action {
            Action::Failover(name, _) => match &outcome {
                Some(Ok(report)) if !report.warnings.iter().any(is_lost) => {}
                Some(Err(_)) => {}
                // Nobody may have been left to say what it means.
                _ => self.forget(name),
            },
            Action::Remove(name) if !is_done => {
                self.forget(name);
                self.removing.insert(name.clone());
            }
            Action::Modify(name, changes) if !is_done && changes.iter().any(is_removal) => self.forget(name),
            Action::Wipe(name) | Action::Image(name) | Action::Restore(name, _) => self.forget(name),
            Action::Modify(name, _) => {
                let instance = self.bench.store.instance(name).unwrap();
                instance.map(|instance| self.copied.remove(&instance.uuid));
            }
            Action::Evacuate(_) => match &outcome {
                Some(Ok(report)) if !report.warnings.iter().any(is_lost) => {}
                _ => evacuated.iter().for_each(|name| self.forget(name)),
            },
            _ => {}
        }
        match outcome {
            None => {
                self.bench.bury();
                self.trace.push("  crashed".to_owned());
            }
            Some(outcome) => self.note(outcome),
        }
    }

    /// The node that can be removed.
    fn unused_node(&self) -> Option<&'static str> {
        let store = &self.bench.store;
        NODES[1..].iter().copied().find(|name| {
            let uuid = self.bench.uuid(name);
            store.disks_on(&uuid).unwrap().is_empty() && store.primary_instances(&uuid).unwrap().is_empty()
        })
    }

    /// Makes the disks of an instance that does not use them anew. If that is broken off they are made once more when all is mended.
    fn recreate(&mut self, action: &Action, name: &str) {
        let instance = self.bench.store.instance(name).unwrap().unwrap();
        let runs = self.bench.cluster.world().guest(name).is_some();
        if instance.disks_active || runs || !self.is_idle(name) {
            return;
        }
        self.forget(name);
        self.recreating.insert(instance.uuid);
        self.operate(action);
    }

    /// Loses the instances and their disks, and gets them back from what is on the nodes.
    fn lose_and_recover(&mut self) {
        self.mend_all();
        let store = &self.bench.store;
        let before = self.instances();
        let disks = store.disks().unwrap();
        let instances = before
            .iter()
            .map(|instance| Change::RemoveInstance(instance.uuid.clone()));
        let all = disks.iter().map(|disk| Change::RemoveDisk(disk.uuid.clone()));
        store.commit(&instances.chain(all).collect::<Vec<_>>()).unwrap();
        self.operate(&Action::Recover);
        self.power_and_connect();
        let healed = now(self.bench.engine(&quiet).heal_all());
        self.note(healed);
        let found = now(recovery(&self.bench.engine(&quiet))).unwrap();
        self.note(Ok(found));
        // One without disks leaves nothing. What is detached may be found under another UUID.
        let there = |instances: &[Instance]| -> BTreeMap<String, (String, Vec<String>)> {
            let instances = instances.iter().filter(|instance| !instance.disks.is_empty());
            let tell = |instance: &Instance| (instance.uuid.clone(), instance.disks.clone());
            instances
                .map(|instance| (instance.name.clone(), tell(instance)))
                .collect()
        };
        assert_eq!(there(&self.instances()), there(&before));
        for instance in before.iter().filter(|instance| instance.disks_active) {
            if self.bench.store.instance(&instance.name).unwrap().is_some() {
                let active = now(activate(&self.bench.engine(&quiet), &instance.name));
                self.note(Ok(active.unwrap()));
            }
        }
    }

    /// Remembers what an operation says is not as one would wish.
    fn note(&mut self, outcome: Result<Report>) {
        let told = match outcome {
            Ok(report) => report.warnings,
            Err(error @ (Error::Leftover { .. } | Error::Partial { .. } | Error::NotHealed { .. })) => {
                vec![chain(&error)]
            }
            Err(error) => {
                self.trace.push(format!("  {}", chain(&error)));
                return;
            }
        };
        if told.iter().any(|told| told.contains("damaged")) {
            self.acknowledged.clear();
        }
        self.trace.extend(told.iter().map(|told| format!("  {told}")));
        self.told.extend(told);
    }

    /// What was acknowledged of disks that were copied is acknowledged of their copies.
    fn follow(&mut self) {
        for instance in self.instances() {
            let Some(before) = self.copied.get(&instance.uuid) else {
                continue;
            };
            let are_copies = before.len() == instance.disks.len()
                && before.iter().all(|uuid| !instance.disks.contains(uuid));
            if are_copies {
                for (from, to) in before.iter().zip(&instance.disks) {
                    let number = self.acknowledged.get(from).copied();
                    self.acknowledged
                        .extend(number.map(|number| (to.clone(), number)));
                }
                self.copied.remove(&instance.uuid);
            }
        }
    }

    /// The instance does not run any more, and its node is said to be dead if it is.
    fn give_up(&mut self, name: &str) {
        let node = Subject::load(&self.bench.store, name).unwrap().node;
        self.bench.cluster.with_world(|world| world.stop_guest(name));
        self.set_offline_if_dead(&node.uuid);
    }

    fn set_offline_if_dead(&self, uuid: &str) {
        if self.bench.cluster.world().machines[uuid].is_dead {
            let (store, offline) = (&self.bench.store, true);
            let node = store.node(uuid).unwrap().unwrap();
            store.commit(&[Change::Node(Node { offline, ..node })]).unwrap();
        }
    }

    /// What was written to the instance's disks may be lost, and its two halves may have parted.
    fn forget(&mut self, name: &str) {
        for uuid in self
            .bench
            .store
            .instance(name)
            .unwrap()
            .into_iter()
            .flat_map(|instance| instance.disks)
        {
            self.acknowledged.remove(&uuid);
            self.parted.insert(uuid);
        }
    }

    fn start(&mut self, name: &str) {
        let subject = Subject::load(&self.bench.store, name).unwrap();
        if !subject.instance.disks_active || !self.is_idle(name) {
            return;
        }
        self.bench.cluster.with_world(|world| {
            let machine = &world.machines[&subject.node.uuid];
            let is_linked = |index| machine.links.contains_key(&(name.to_owned(), index));
            if !machine.is_dead && (0..subject.disks.len() as u32).all(is_linked) {
                world.start_guest(name, &subject.node.uuid);
                let uuids = subject.disks.iter().map(|disk| disk.uuid.clone());
                self.running.insert(name.to_owned(), uuids.collect());
            }
        });
    }

    /// No operation is under way on the instance: links and configuration are of the same time.
    fn is_idle(&self, name: &str) -> bool {
        let unfinished = self.bench.unfinished();
        unfinished.iter().all(|record| record.instance != name)
    }

    fn write(&mut self, name: &str) {
        for (index, uuid) in (0..).zip(self.running.get(name).into_iter().flatten()) {
            self.written += 1;
            let number = self.written;
            self.bench.cluster.with_world(|world| {
                if world.guest_write(name, index, OFFSET, number) {
                    self.acknowledged.insert(uuid.clone(), number);
                }
            });
        }
    }

    /// What must hold at any time.
    fn check(&self) {
        let world = self.bench.cluster.world();
        assert_eq!(world.violations, [""; 0]);
        let mut open: BTreeMap<&String, Vec<bool>> = BTreeMap::new();
        for machine in world.machines.values() {
            for (key, exclusive) in machine.open.iter().filter(|(key, _)| !key.starts_with("plain:")) {
                open.entry(key).or_default().push(*exclusive);
            }
        }
        for (key, nodes) in open.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
            assert!(
                !nodes.contains(&true),
                "{key} is open on {} nodes, for one alone",
                nodes.len()
            );
            let disk = self.bench.store.owner_of_volume(key).unwrap();
            assert!(
                disk.is_some_and(|disk| self.is_migrating(&disk)),
                "{key} is open on {} nodes, and nothing is migrated",
                nodes.len()
            );
        }
        for disk in self.bench.store.disks().unwrap() {
            let LogicalId::Drbd8 { nodes, minors, .. } = &disk.logical_id else {
                continue;
            };
            let is_primary = |(node, minor): &(&String, &u32)| {
                let minor = world.machines[*node].minors.get(minor);
                minor.is_some_and(|minor| minor.is_primary)
            };
            let primaries = nodes.iter().zip(minors).filter(is_primary).count();
            assert!(
                primaries < 2 || self.is_migrating(&disk.uuid),
                "{disk} is primary on both nodes"
            );
        }
        for (name, disks) in &self.running {
            for (index, uuid) in (0..).zip(disks) {
                let read = world.guest_read(name, index, OFFSET);
                if let (Some(read), Some(written)) = (read, self.acknowledged.get(uuid)) {
                    assert_eq!(read, *written, "disk {uuid} of {name}");
                }
            }
        }
    }

    /// Whether both nodes may use the disk.
    fn is_migrating(&self, uuid: &String) -> bool {
        let instances = self.instances().into_iter();
        let mut migrating = instances.filter(|instance| instance.migration.is_some());
        migrating.any(|instance| instance.disks.contains(uuid))
    }

    /// Everything has power, is connected, and may be used.
    fn power_and_connect(&self) {
        let bench = &self.bench;
        bench.cluster.with_world(|world| {
            let nodes: Vec<String> = world.machines.keys().cloned().collect();
            for (number, node) in nodes.iter().enumerate() {
                world.boot(node);
                world.set_reachable(node, true);
                nodes[..number].iter().for_each(|other| world.mend(node, other));
            }
        });
        for node in bench.store.nodes().unwrap() {
            let (offline, drained) = (false, false);
            bench
                .store
                .commit(&[Change::Node(Node {
                    offline,
                    drained,
                    ..node
                })])
                .unwrap();
        }
    }

    /// Everything has power and is connected; operations that were broken off are gone on with, and instances have their disks again.
    fn mend_all(&mut self) {
        self.power_and_connect();
        let healed = now(self.bench.engine(&quiet).heal_all());
        self.note(healed);
        for instance in self
            .instances()
            .iter()
            .filter(|instance| instance.migration.is_some())
        {
            let world = self.bench.cluster.world();
            let node = world.guest(&instance.name).or(instance.primary_node.as_deref());
            let report = now(cleanup(&self.bench.engine(&quiet), &instance.name, node.unwrap()));
            self.note(Ok(report.unwrap()));
        }
        for stuck in self.bench.unfinished() {
            let waits = Healing::of(&stuck).unwrap() == Healing::Ask;
            assert!(waits || stuck.state == State::Stuck, "{stuck:?}");
            let mended = now(self.bench.engine(&quiet).resume(&stuck));
            match &mended {
                Ok(_) | Err(Error::AbortedLate { .. }) => {}
                Err(error) => panic!("{}\n{stuck:#?}", chain(error)),
            }
            self.note(mended);
        }
        self.follow();
        assert_eq!(self.bench.unfinished(), []);
        // What was told by an operation that healed another, and failed itself, the journal tells.
        let ended = self.bench.store.operations(Filter::All).unwrap();
        let done = ended.iter().filter(|record| record.state == State::Done);
        self.kinds.extend(done.map(|record| record.kind.clone()));
        let told = ended
            .into_iter()
            .filter(|record| self.ended.insert(record.id.clone()));
        self.told.extend(told.filter_map(|record| record.message));
        self.forget_the_dead();
        for name in std::mem::take(&mut self.removing) {
            if self.bench.store.instance(&name).unwrap().is_some() {
                self.bench.cluster.with_world(|world| world.stop_guest(&name));
                let removed = now(remove(&self.bench.engine(&quiet), &name));
                self.note(Ok(removed.unwrap()));
            }
        }
        for uuid in std::mem::take(&mut self.recreating) {
            let Some(Instance { name, disks, .. }) = self.bench.store.instance(&uuid).unwrap() else {
                continue;
            };
            self.bench.cluster.with_world(|world| world.stop_guest(&name));
            self.note(Ok(now(deactivate(&self.bench.engine(&quiet), &name)).unwrap()));
            if !disks.is_empty() {
                self.note(now(recreation(&self.bench.engine(&quiet), &name)));
            }
            self.forget(&name);
        }
        for instance in self.instances() {
            let name = &instance.name;
            let engine = self.bench.engine(&quiet);
            self.join(name);
            let outcome = now(activate(&engine, name));
            let data = match outcome {
                Ok(_) => self.read(name),
                Err(error) => panic!("{name}: {}", chain(&error)),
            };
            if !instance.disks_active {
                now(deactivate(&self.bench.engine(&quiet), name)).unwrap();
            }
            for (uuid, read) in data {
                if let Some(written) = self.acknowledged.get(&uuid) {
                    assert_eq!(read, *written, "disk {uuid} of {name}");
                }
            }
        }
        let told = std::mem::take(&mut self.told);
        self.rounds += 1;
        self.swept += usize::from(self.sweep(&Told::of(&told)));
        self.bench.assert_consistent();
        self.assert_numbers_are_given_back();
    }

    /// What an administrator does when a provider keeps that a node has a volume open, which lost its power meanwhile.
    fn forget_the_dead(&self) {
        let nodes = self.bench.store.nodes().unwrap();
        self.bench.cluster.with_world(|world| {
            let World {
                volumes, machines, ..
            } = world;
            for (key, volume) in volumes {
                volume.open.retain(|name, _| {
                    let node = nodes.iter().find(|node| node.name == *name);
                    node.is_some_and(|node| machines[&node.uuid].open.contains_key(key))
                });
            }
        });
    }

    /// What an administrator does who was told that two halves have parted: that of the secondary node is lost.
    fn join(&self, name: &str) {
        let subject = Subject::load(&self.bench.store, name).unwrap();
        let secondary = subject
            .places()
            .unwrap()
            .into_iter()
            .find(|places| places.role == Role::Secondary);
        let Some(places) =
            secondary.filter(|places| places.disks.iter().any(|disk| self.parted.contains(&disk.uuid)))
        else {
            return;
        };
        let engine = self.bench.engine(&quiet);
        now(activate(&engine, name)).unwrap();
        self.bench.cluster.with_world(|world| {
            for disk in &places.disks {
                let minor = disk.dynamic_params.as_ref().unwrap().local_minor;
                let is_apart = world.machines[&places.node]
                    .minors
                    .get(&minor)
                    .is_some_and(|minor| minor.verdict.is_some());
                if is_apart {
                    world.invalidate(&places.node, minor);
                }
            }
        });
    }

    fn read(&self, name: &str) -> BTreeMap<String, u64> {
        let subject = Subject::load(&self.bench.store, name).unwrap();
        let node = self.bench.cluster.node(&subject.node.uuid).unwrap();
        let number = |disk: &Disk| {
            let at = subject.place(disk).unwrap();
            let pieces = now(node.read(&at.disk, name, OFFSET, 8)).unwrap();
            let mut bytes = Bytes::default();
            pieces.iter().for_each(|piece| bytes.put(piece));
            bytes.number(OFFSET)
        };
        subject
            .disks
            .iter()
            .map(|disk| (disk.uuid.clone(), number(disk)))
            .collect()
    }

    /// What an administrator does who was told of something, by its name, that it is left, is gone, or does not know whose it is; whether
    /// there was such a thing. What nobody told of stays as it is.
    fn sweep(&self, told: &Told<'_>) -> bool {
        let store = &self.bench.store;
        let before = self.bench.cluster.world();
        let detached = store.detached_disks().unwrap();
        let is_lost = |disk: &&Disk| {
            let mut keys = disk.volume_keys().into_iter();
            keys.any(|key| !before.volumes.contains_key(&key)) && told.names_disk(disk)
        };
        let lost: Vec<_> = detached.iter().filter(is_lost).collect();
        for disk in &lost {
            store.commit(&[Change::RemoveDisk(disk.uuid.clone())]).unwrap();
        }
        let disks = store.disks().unwrap();
        let known: BTreeSet<String> = disks.iter().flat_map(Disk::volume_keys).collect();
        let mut owners = Vec::new();
        let mut counts = BTreeMap::new();
        for instance in self.instances() {
            let subject = Subject::load(store, &instance.name).unwrap();
            let steps = subject.disks.iter().map(|disk| subject.relabel(disk, None));
            for step in steps.flat_map(|steps| steps.unwrap()) {
                if let Step::SetInfo { label, .. } = step {
                    owners.extend(label.volumes());
                }
            }
            counts.insert(instance.name, subject.disks.len() as u32);
        }
        self.bench.cluster.with_world(|world| {
            world.volumes.retain(|key, volume| {
                known.contains(key) || is_adopted_device(volume) || !told.names_volume(volume)
            });
            for (_, key, owner) in owners {
                if let Some(volume) = world.volumes.get_mut(&key)
                    && told.names_owner(volume, &owner)
                {
                    volume.owner = owner;
                }
            }
            let is_left = |directory: &String| {
                let mut paths = disks.iter().map(|disk| disk.logical_id.volume());
                !paths.any(|path| path.starts_with(directory)) && told.names(&[directory])
            };
            let is_left_link = |(name, index): &(String, u32)| {
                let has_disk = counts.get(name).is_some_and(|count| index < count);
                !has_disk && told.names_part(name, Some(*index))
            };
            world.shared_directories.retain(|directory| !is_left(directory));
            let is_there =
                |key: &String| world.volumes.contains_key(key) || !before.volumes.contains_key(key);
            for machine in world.machines.values_mut() {
                machine.links.retain(|link, _| !is_left_link(link));
                machine.directories.retain(|directory| !is_left(directory));
                machine.attached.retain(is_there);
                machine.open.retain(|key, _| is_there(key));
            }
        });
        !lost.is_empty() || self.bench.cluster.world() != before
    }

    /// What drbd disks have for themselves is what those that there are have: all other ports and minors are free again.
    fn assert_numbers_are_given_back(&self) {
        let store = &self.bench.store;
        let (mut ports, mut minors) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<u32>>::new());
        for disk in store.disks().unwrap() {
            if let LogicalId::Drbd8 {
                nodes,
                port,
                minors: numbers,
                ..
            } = &disk.logical_id
            {
                let port = port.unwrap();
                assert!(ports.insert(port), "two disks have port {port}");
                for (node, minor) in nodes.iter().zip(numbers) {
                    let is_new = minors.entry(node.clone()).or_default().insert(*minor);
                    assert!(is_new, "two disks have minor {minor} on {node}");
                }
            }
        }
        let cluster = store.cluster().unwrap();
        let highest = cluster.highest_used_port.unwrap_or(FIRST_DRBD_PORT - 1);
        let pool = cluster.tcpudp_port_pool;
        assert!(
            pool.iter().all(|port| *port <= highest && !ports.contains(port)),
            "{pool:?}"
        );
        // Who asks gets all that are in the pool, and the next.
        let lock = ["instance/probe".to_owned()];
        let probe = store.begin("probe", "probe", &lock, &Owner::current()).unwrap();
        let given = |number: usize| store.reserve_port(&probe, &number.to_string()).unwrap();
        let given: Vec<u16> = (0..=pool.len()).map(given).collect();
        assert_eq!(given, [pool, vec![highest + 1]].concat());
        for (node, mut taken) in minors {
            let highest = taken.last().copied().unwrap();
            for number in taken.len() as u32..highest + 2 {
                let given = store
                    .reserve_minors(&probe, &number.to_string(), &[&node])
                    .unwrap();
                assert!(taken.insert(given[0]), "minor {} is a disk's and free", given[0]);
            }
            assert_eq!(taken, (0..=highest + 1).collect(), "minors on {node}");
        }
        store.finish(&probe, &gnt_store::Outcome::Undone).unwrap();
    }
}

/// What operations said, one thing after the other.
struct Told<'t>(Vec<&'t str>);

impl<'t> Told<'t> {
    fn of(told: &'t [String]) -> Self {
        Self(told.iter().flat_map(|told| told.split("; ")).collect())
    }

    /// Whether all of this was said at once.
    fn names(&self, what: &[&str]) -> bool {
        self.0
            .iter()
            .any(|told| what.iter().all(|what| told.contains(what)))
    }

    /// A disk, or all disks, of an instance.
    fn names_part(&self, instance: &str, index: Option<u32>) -> bool {
        let of = format!(" of {instance}");
        let is_disk = index.is_some_and(|index| self.names(&[&format!("disk/{index} ("), &of]));
        is_disk || self.names(&[&format!("disks{of}")])
    }

    fn names_disk(&self, disk: &Disk) -> bool {
        self.names(&[&disk.logical_id.to_string()]) || self.names(&[&disk.logical_id.volume()])
    }

    /// A volume that is left, by its name or that of the mirror of which it is a half.
    fn names_volume(&self, volume: &Volume) -> bool {
        let name = volume.logical_id.volume();
        let name = name.split("_replaced-").next().unwrap_or_default();
        let mirrored = ["_data", "_meta"].iter().find_map(|part| name.strip_suffix(part));
        let index = mirrored.and_then(|name| name.rsplit_once(".disk")?.1.parse::<u32>().ok());
        // One that was not made entirely says nothing.
        let of = volume.owner.instance.as_ref().map(|name| format!(" of {name}"));
        let of = of.unwrap_or_default();
        let index = index.and(volume.owner.index).or(index);
        self.names(&[name])
            || index.is_some_and(|index| self.names(&[&format!("disk/{index} (drbd"), &of]))
            // One that was replaced has no index any more.
            || (index.is_some() && self.names(&["\"remove drbd", &of]))
            || (index.is_some() && self.names(&[&format!("half of the disks{of} is left there")]))
    }

    /// A volume that does not say that it is `owner`'s, which may have had another name or place.
    fn names_owner(&self, volume: &Volume, owner: &gnt_bdev::Owner) -> bool {
        let is_told = |owner: &gnt_bdev::Owner| {
            let instance = owner.instance.as_deref();
            instance.is_some_and(|instance| self.names_part(instance, owner.index))
        };
        self.names(&[&volume.logical_id.volume()]) || is_told(owner) || is_told(&volume.owner)
    }
}

fn is_removal(change: &DiskChange) -> bool {
    matches!(change, DiskChange::Remove { .. })
}

async fn operation(bench: &Bench, engine: &Engine<'_, SimCluster>, action: &Action) -> Result<Report> {
    match action {
        Action::Add {
            instance,
            template,
            primary,
            secondary,
        } => {
            let disk = json!({"size": SIZE.0}).as_object().cloned().unwrap_or_default();
            let request = AddRequest {
                instance: instance.clone(),
                template: *template,
                disks: vec![disk.clone(), disk],
                primary: Some((*primary).to_owned()),
                secondary: Some((*secondary).to_owned()).filter(|_| NEEDS_SECONDARY.contains(*template)),
                file_driver: FileDriver::Loop,
                file_storage_dir: None,
            };
            add(engine, &request).await
        }
        Action::Remove(name) => remove(engine, name).await,
        Action::Activate(name) => activate(engine, name).await,
        Action::Deactivate(name) => deactivate(engine, name).await,
        Action::Grow(name) => grow(engine, name, "0", Growth::By(SIZE)).await,
        Action::Modify(name, changes) => modify(engine, name, changes).await,
        Action::Snapshot(name) => {
            let request = SnapshotRequest {
                disk: "0".to_owned(),
                name: None,
                size: None,
            };
            snapshot(engine, name, &[request]).await
        }
        Action::Rename(name, to) => rename(engine, name, to).await,
        Action::Failover(name, target) => {
            let request = FailoverRequest {
                instance: name.clone(),
                target: target_of(bench, name, target),
                ignore_consistency: false,
            };
            failover(engine, &request).await
        }
        Action::Migrate(name, target, outcome) => {
            let mover = Mover {
                bench,
                outcome: *outcome,
            };
            migrate(engine, name, target_of(bench, name, target).as_deref(), &mover).await
        }
        Action::Convert {
            instance,
            template,
            primary,
            secondary,
        } => {
            let request = ConvertRequest {
                template: *template,
                primary: primary.map(str::to_owned),
                secondary: Some((*secondary).to_owned()).filter(|_| NEEDS_SECONDARY.contains(*template)),
                params: Object::new(),
                disks: Vec::new(),
                file_driver: FileDriver::Loop,
                file_storage_dir: None,
                pace: Pace::default(),
            };
            convert(engine, instance, &request).await
        }
        Action::Move(name, target) => relocate(engine, name, target, Pace::default()).await,
        Action::Replace(name, what) => {
            let request = ReplaceRequest {
                what: what.clone(),
                disks: Vec::new(),
                early_release: false,
            };
            replace_disks(engine, name, &request).await
        }
        Action::Evacuate(node) => {
            let request = EvacuateRequest {
                node: (*node).to_owned(),
                primary: true,
                secondary: true,
                target: None,
                parallel: 2,
                early_release: false,
                ignore_consistency: false,
            };
            let outcome = Outcome::Moved;
            let mover = |_: &str| Some(Mover { bench, outcome });
            let moved = evacuate(engine, &request, mover, |_| {}).await?;
            let warnings = moved.into_iter().flat_map(|moved| match moved.result {
                Ok(report) => report.warnings,
                Err(error) => vec![chain(&error)],
            });
            Ok(Report {
                warnings: warnings.collect(),
                ..Report::default()
            })
        }
        Action::Restore(name, snapshot) => restore(engine, name, "0", snapshot, Pace::default()).await,
        Action::RemoveSnapshot(name, snapshot) => remove_snapshot(engine, name, snapshot).await,
        Action::Image(name) => {
            let request = ImageRequest {
                disk: "0".to_owned(),
                path: IMAGE.to_owned(),
                node: None,
                pace: Pace::default(),
            };
            image(engine, name, &request).await
        }
        Action::Recreate(name) => recreation(engine, name).await,
        Action::Recover => recovery(engine).await,
        Action::NodeModify(name, drained) => {
            let changes = NodeChanges {
                drained: Some(*drained),
                ..NodeChanges::default()
            };
            node::modify(engine, name, &changes).await
        }
        Action::NodeRemove(name) => node::remove(engine, name).await,
        Action::Wipe(name) => wipe(engine, name, &[], Pace::default()).await,
        Action::Repair => {
            let findings = verify(engine.store, engine.nodes).await?;
            repair(engine, &findings).await
        }
        Action::HealAll => engine.heal_all().await,
        _ => Ok(Report::default()),
    }
}

async fn recreation(engine: &Engine<'_, SimCluster>, name: &str) -> Result<Report> {
    let request = RecreateRequest {
        force: true,
        ..RecreateRequest::default()
    };
    recreate_disks(engine, name, &request).await
}

/// What an administrator does who wants all that there was: nothing, as long as a node does not answer.
async fn recovery(engine: &Engine<'_, SimCluster>) -> Result<Report> {
    let proposal = propose(engine.store, engine.nodes, &[]).await?;
    let is_complete = proposal
        .remarks
        .iter()
        .all(|remark| remark.kind != RemarkKind::Unasked);
    match proposal.is_empty() || !is_complete {
        true => Ok(Report::default()),
        false => import(engine, &proposal).await,
    }
}

/// Mirrored disks can only go to one node.
fn target_of(bench: &Bench, name: &str, target: &str) -> Option<String> {
    let subject = Subject::load(&bench.store, name).unwrap();
    let is_mirrored = subject
        .template()
        .is_some_and(|template| NEEDS_SECONDARY.contains(template));
    (!is_mirrored).then(|| target.to_owned())
}

/// Changes of an instance's disks; it may get some of those that are detached.
fn changes(random: &mut Random, detached: &[Disk], is_wide: bool) -> Vec<DiskChange> {
    let change = |random: &mut Random| {
        let disk = random.below(3).to_string();
        match random.below(if is_wide { 6 } else { 4 }) {
            4 => DiskChange::Detach { disk },
            5 if !detached.is_empty() => DiskChange::Attach {
                at: None,
                disk: detached[random.below(detached.len())].uuid.clone(),
            },
            0 => DiskChange::Remove { disk },
            1 => DiskChange::Set {
                disk,
                name: Some(Some(format!("name{}", random.below(9)))),
                mode: None,
            },
            _ => DiskChange::Add {
                at: Some(random.below(2)),
                wish: json!({"size": SIZE.0}).as_object().cloned().unwrap_or_default(),
            },
        }
    };
    let count = 1 + random.below(3);
    (0..count).map(|_| change(random)).collect()
}

/// The seeds that are to be tried: `SEED=N`, `SEED=N..M`, or as many as there is time for.
fn seeds() -> Vec<u64> {
    let Ok(given) = std::env::var("SEED") else {
        return (0..CLUSTERS).chain(WIDE..WIDE + WIDE_CLUSTERS).collect();
    };
    let number = |text: &str| text.parse::<u64>().unwrap();
    match given.split_once("..") {
        Some((from, to)) => (number(from)..number(to)).collect(),
        None => vec![number(&given)],
    }
}

#[test]
fn random_operations_and_faults_leave_everything_in_order() {
    let seeds = seeds();
    let (mut rounds, mut swept, mut failed, mut kinds) = (0, 0, Vec::new(), BTreeSet::new());
    for seed in seeds.iter().copied() {
        let mut machine = Machine::new(seed);
        if catch_unwind(AssertUnwindSafe(|| machine.run())).is_err() {
            eprintln!("SEED={seed}\n{}", machine.trace.join("\n"));
            failed.push(seed);
        }
        rounds += machine.rounds;
        swept += machine.swept;
        kinds.append(&mut machine.kinds);
    }
    assert!(failed.is_empty(), "SEED={failed:?}");
    eprintln!("{rounds} times all was mended, {swept} times something was swept away by hand");
    if std::env::var_os("SEED").is_some() {
        return;
    }
    let missing: Vec<_> = Kind::iter()
        .filter(|kind| !kinds.contains(kind.as_str()))
        .collect();
    assert_eq!(missing, [], "operations that were never done");
    assert!(
        swept * MOST_SWEPT < rounds,
        "of {rounds} times that all was mended, {swept} needed more than what the program does"
    );
}
