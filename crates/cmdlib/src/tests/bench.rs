//! A small cluster with an instance to work on, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gnt_bdev::{Owner, Target};
use gnt_config::kept::Part;
use gnt_config::template::{BLOCK, INSTANCE_DEPENDENT_PATH, MUST_ADOPT, NEEDS_SECONDARY};
use gnt_config::{Disk, LogicalId, Node};
use gnt_store::{Change, Filter, OperationRecord, Outcome, Store};
use gnt_tests::oracle::normalized;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::{Node as _, Role};
use crate::ops::Subject;
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::add;
use crate::ops::migrate::{cleanup, prepare};
use crate::ops::modify::{DiskChange, modify};
use crate::ops::remove::storage_dirs;
use crate::ops::snapshot::{SnapshotRequest, snapshot};
use crate::saga::{Engine, Event, Nodes as _, Report, node_lock};
use crate::sim::{Bytes, Crash, Metadata, SimCluster, Volume, World, crash, device_path, key};
use crate::step::Places;
use crate::tests::rows::{
    BYSTANDER, Deed, Edit, IMAGE, INSTANCE, LOOSE, MENDED, Row, SIZE, SNAPSHOT, STRAY, Trouble, device,
    volume,
};
use crate::verify::{Finding, FindingKind, RepairKind, repair, verify};

/// Names of the nodes. The instance has what only its primary node has on the first, and mirrors on the second.
pub(super) const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// Where a volume's number stands a second time: in what is copied after the first piece.
pub(super) const BEHIND: u64 = 33 << 20;
/// The number of an image.
pub(super) const IMAGED: u64 = 1000;

/// A cluster of three nodes.
pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) cluster: SimCluster,
    deed: Deed,
    /// The numbers on the instance's disks.
    written: Vec<u64>,
    /// Keys of the volumes whose data the operation overwrites.
    overwritten: BTreeSet<String>,
}

/// Everything as it was at one time, but for serial numbers and times.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Picture {
    pub(super) world: World,
    pub(super) configuration: Value,
}

impl Bench {
    /// With nothing on it.
    pub(super) fn empty() -> Self {
        Self::of(&NODES.map(str::to_owned))
    }

    /// Nodes of these names, with nothing on them.
    pub(super) fn of(nodes: &[String]) -> Self {
        let store = Store::in_memory().unwrap();
        crate::init::init(&store, Path::new("/state"), "cluster", &nodes[0]).unwrap();
        add_nodes(&store, nodes);
        let cluster = SimCluster::of(&store).unwrap();
        Self {
            store,
            cluster,
            deed: Deed::Add,
            written: Vec::new(),
            overwritten: BTreeSet::new(),
        }
    }

    /// With what the row needs: an instance with three disks, a detached disk, a bystander, and something written to every volume.
    pub(super) fn new(row: &Row) -> Self {
        let mut bench = Self {
            deed: row.deed.clone(),
            ..Self::empty()
        };
        bench
            .cluster
            .with_world(|world| (0..9).for_each(|number| world.add_device(&device(number), SIZE)));
        let engine = bench.engine(&quiet);
        let add_with = |instance, numbers: &[usize]| {
            let wishes = numbers.iter().map(|number| row.wish(*number)).collect();
            now(add(&engine, &row.request(instance, wishes))).unwrap();
            // What is mirrored is synchronised when it is used for the first time.
            now(activate(&engine, instance)).unwrap();
            now(deactivate(&engine, instance)).unwrap();
        };
        add_with(BYSTANDER, &[8]);
        now(activate(&engine, BYSTANDER)).unwrap();
        if let Deed::Adopt = row.deed {
            bench.add_foreign_volumes(row);
        } else if !matches!(row.deed, Deed::Add) {
            add_with(INSTANCE, &[5, 6, 7]);
            if row.needs_loose() {
                bench.add_loose(row, &engine);
            }
        }
        if matches!(row.deed, Deed::Restore | Deed::RemoveSnapshot) {
            let request = SnapshotRequest {
                disk: "1".to_owned(),
                name: Some(SNAPSHOT.to_owned()),
                size: None,
            };
            now(snapshot(&engine, INSTANCE, &[request])).unwrap();
        }
        if row.active {
            now(activate(&engine, INSTANCE)).unwrap();
        }
        if let Deed::Finish | Deed::Abort | Deed::Cleanup = row.deed {
            now(prepare(&engine, INSTANCE, Some(NODES[1]))).unwrap();
        }
        match row.deed {
            Deed::Recover => bench.lose_configuration(),
            Deed::Repair => bench.spoil(RepairKind::RemoveLink),
            Deed::Mend(kind) => bench.spoil(kind),
            _ => {}
        }
        bench.cluster.with_world(|world| {
            let labels: BTreeSet<_> = world.volumes.values().map(label).collect();
            let marks: BTreeMap<_, _> = labels.into_iter().zip(1u64..).collect();
            for volume in world.volumes.values_mut() {
                let mark = marks[&label(volume)];
                volume.data = Bytes::marked(mark);
                volume.data.write(BEHIND, &mark.to_le_bytes());
            }
            for machine in world.machines.values_mut() {
                let mut image = Bytes::marked(IMAGED);
                image.write(BEHIND, &IMAGED.to_le_bytes());
                machine.images.insert(IMAGE.to_owned(), (image, BEHIND + 8));
            }
        });
        if let Deed::Recreate(_) = row.deed {
            bench.lose_volumes();
        }
        row.troubles.iter().for_each(|trouble| bench.make(*trouble));
        bench.cluster.learn_offline(&bench.store.nodes().unwrap());
        bench.cluster.inject(None);
        bench.written = bench.numbers(0);
        if let Some(instance) = bench.store.instance(INSTANCE).unwrap() {
            let disks = bench.store.disks_of(&instance).unwrap();
            let keys = row
                .deed
                .overwritten()
                .iter()
                .flat_map(|index| disks[*index].volume_keys());
            bench.overwritten = keys.collect();
        }
        bench
    }

    /// The numbers at an offset of the instance's disks.
    fn numbers(&self, offset: u64) -> Vec<u64> {
        let Some(instance) = self.store.instance(INSTANCE).unwrap() else {
            return Vec::new();
        };
        let world = self.cluster.world();
        let number = |disk: Disk| {
            let volume = world.volumes.get(&disk.volume_keys()[0])?;
            Some(volume.data.number(offset))
        };
        let disks = self.store.disks_of(&instance).unwrap().into_iter();
        disks.map(|disk| number(disk).unwrap_or_default()).collect()
    }

    /// What is on the instance's disks is what the operation was to put there.
    pub(super) fn assert_written(&self) {
        let mut expected = self.written.clone();
        let snapshot = self.store.detached_disks().unwrap();
        for index in self.deed.overwritten() {
            expected[*index] = match self.deed {
                Deed::Image => IMAGED,
                Deed::Restore => self.cluster.world().volumes[&snapshot[0].volume_keys()[0]]
                    .data
                    .mark(),
                _ => 0,
            };
        }
        if matches!(
            self.deed,
            Deed::Convert(..) | Deed::Move | Deed::Wipe | Deed::Image | Deed::Restore
        ) {
            assert_eq!(self.numbers(0), expected);
            assert_eq!(self.numbers(BEHIND), expected);
        }
    }

    /// UUID of a node.
    pub(super) fn uuid(&self, name: &str) -> String {
        self.store.node(name).unwrap().unwrap().uuid
    }

    fn make(&self, trouble: Trouble) {
        match trouble {
            Trouble::Dead(name) => self.cluster.with_world(|world| world.kill(&self.uuid(name))),
            Trouble::Offline(name) => {
                let mut node = self.store.node(name).unwrap().unwrap();
                node.offline = true;
                self.store.commit(&[Change::Node(node)]).unwrap();
            }
        }
    }

    /// Volumes that are nobody's, but for the second, which says that it is.
    fn add_foreign_volumes(&self, row: &Row) {
        let (node, vg) = (
            self.uuid(NODES[0]),
            self.store.cluster().unwrap().volume_group_name,
        );
        let device = row.template.device().unwrap();
        let instance = Some("lost".to_owned());
        for (number, owner) in [
            Owner::default(),
            Owner {
                instance,
                index: Some(3),
                ..Owner::default()
            },
        ]
        .into_iter()
        .enumerate()
        {
            let logical_id = LogicalId::Lv {
                vg: vg.clone().unwrap(),
                lv: volume(number),
            };
            let made = Volume {
                owner,
                ..Volume::new(&node, device, &logical_id, SIZE)
            };
            self.cluster
                .with_world(|world| drop(world.volumes.insert(key(&node, device, &logical_id), made)));
        }
    }

    /// Something goes wrong behind the operations' back that can be mended.
    fn spoil(&self, kind: RepairKind) {
        let subject = Subject::load(&self.store, INSTANCE).unwrap();
        let on = |node: &str| {
            let node = self.uuid(node);
            let place = subject.place_on(&node, &subject.disks[MENDED]).unwrap();
            (self.cluster.node(&node).unwrap(), *place.disk)
        };
        match kind {
            // The instance has no such disk.
            RepairKind::RemoveLink => self.cluster.with_world(|world| {
                let links = &mut world.machine(&self.uuid(NODES[0])).links;
                links.insert((INSTANCE.to_owned(), STRAY), "/dev/gone".into());
            }),
            RepairKind::Unmap => {
                let (node, disk) = on(NODES[1]);
                let role = match disk.children.is_empty() {
                    true => Role::Shared,
                    false => Role::Secondary,
                };
                now(node.assemble(&disk, INSTANCE, role)).unwrap();
            }
            RepairKind::Label => self.cluster.with_world(|world| {
                for key in subject.disks[MENDED].volume_keys() {
                    let volume = world.volumes.get_mut(&key).unwrap();
                    volume.owner.instance = Some("somebody".to_owned());
                }
            }),
            RepairKind::Activate => {
                let (node, disk) = on(NODES[0]);
                now(node.shutdown(&disk, INSTANCE)).unwrap();
            }
        }
    }

    /// What an operation that was undone leaves: everything as `before`. What was mended stays so, and what was not can be.
    pub(super) fn assert_undone(&self, row: &Row, before: &Picture) {
        if !matches!(row.deed, Deed::Mend(_)) {
            return self.assert_as(before);
        }
        self.cluster.inject(None);
        self.run(row, &quiet).unwrap().unwrap();
        self.assert_consistent();
        self.assert_data_kept(before);
    }

    /// All that the instance's disks consist of is lost.
    fn lose_volumes(&self) {
        let instance = self.store.instance(INSTANCE).unwrap().unwrap();
        let disks = self.store.disks_of(&instance).unwrap();
        self.cluster.with_world(|world| {
            for key in disks.iter().flat_map(Disk::volume_keys) {
                world.volumes.remove(&key);
            }
            for path in storage_dirs(&disks) {
                world.directories(&self.uuid(NODES[0]), &path).remove(&path);
            }
        });
    }

    fn add_loose(&self, row: &Row, engine: &Engine<'_, SimCluster>) {
        let mut wish = row.wish(4);
        wish.insert("name".to_owned(), LOOSE.into());
        let add = DiskChange::Add { at: None, wish };
        let disk = LOOSE.to_owned();
        // A mirrored one is synchronised, as all others are.
        now(activate(engine, INSTANCE)).unwrap();
        now(modify(engine, INSTANCE, &[add, DiskChange::Detach { disk }])).unwrap();
        now(deactivate(engine, INSTANCE)).unwrap();
    }

    /// The instance and the detached disk are forgotten.
    fn lose_configuration(&self) {
        let instance = self.store.instance(INSTANCE).unwrap().unwrap();
        let disks = self.store.disks_of(&instance).unwrap();
        let loose = self.store.detached_disks().unwrap();
        let forgotten = disks
            .into_iter()
            .chain(loose)
            .map(|disk| Change::RemoveDisk(disk.uuid));
        let changes: Vec<_> = [Change::RemoveInstance(instance.uuid)]
            .into_iter()
            .chain(forgotten)
            .collect();
        self.store.commit(&changes).unwrap();
    }

    /// The engine of a process that begins now: it knows which nodes are offline by now.
    pub(super) fn engine<'a>(&'a self, observer: &'a Observer<'a>) -> Engine<'a, SimCluster> {
        self.cluster.learn_offline(&self.store.nodes().unwrap());
        Engine {
            store: &self.store,
            nodes: &self.cluster,
            dry_run: false,
            observer,
        }
    }

    /// Runs the row's operation; none if it crashed, at an event or in a call.
    pub(super) fn run(&self, row: &Row, observer: &Observer<'_>) -> Option<Result<Report>> {
        let outcome = catch_crash(|| now(row.run(&self.engine(observer))));
        if outcome.is_none() {
            self.bury();
        }
        outcome
    }

    pub(super) fn bury(&self) {
        bury(&self.store);
    }

    pub(super) fn unfinished(&self) -> Vec<OperationRecord> {
        self.store.operations(Filter::Unfinished).unwrap()
    }

    pub(super) fn picture(&self) -> Picture {
        let configuration = json!({
            "cluster": self.store.cluster().unwrap(),
            "nodes": self.store.nodes().unwrap(),
            "instances": self.store.instances().unwrap(),
            "disks": self.store.disks().unwrap(),
        });
        let mut world = self.cluster.world();
        for key in &self.overwritten {
            if let Some(volume) = world.volumes.get_mut(key) {
                volume.data = Bytes::default();
            }
        }
        Picture {
            world,
            configuration: normalized(configuration),
        }
    }

    /// Everything is as it was `before`. What a detached disk's volume says of its owner is not looked at: nobody relies on it. How often
    /// mirrors were opened and connected since neither, nor what a provider keeps of a node that is dead.
    pub(super) fn assert_as(&self, before: &Picture) {
        let (mut now, mut before) = (self.picture(), before.clone());
        for world in [&mut now.world, &mut before.world] {
            let volumes = world.volumes.values_mut();
            volumes.for_each(|volume| volume.meta = volume.meta.take().map(Metadata::without_generations));
            for node in self.store.nodes().unwrap() {
                if world.machines[&node.uuid].is_dead {
                    let volumes = world.volumes.values_mut();
                    volumes.for_each(|volume| volume.open.retain(|name, _| *name != node.name));
                }
            }
        }
        for disk in self.store.detached_disks().unwrap() {
            for world in [&mut now.world, &mut before.world] {
                for key in disk.volume_keys() {
                    if let Some(volume) = world.volumes.get_mut(&key) {
                        volume.owner = Owner::default();
                    }
                }
            }
        }
        // A port that was given back is given again.
        for picture in [&mut now, &mut before] {
            for key in ["highest_used_port", "tcpudp_port_pool"] {
                picture.configuration["cluster"][key].take();
            }
        }
        let lines = |picture: &Picture| -> Vec<String> {
            let text = format!("{:#?}\n{:#}", picture.world, picture.configuration);
            text.lines().map(str::to_owned).collect()
        };
        if now != before {
            let (now, before) = (lines(&now), lines(&before));
            let only = |here: &[String], there: &[String]| -> Vec<String> {
                here.iter()
                    .filter(|line| !there.contains(line))
                    .cloned()
                    .collect()
            };
            panic!(
                "not as before: now {:#?}\nbefore {:#?}",
                only(&now, &before),
                only(&before, &now)
            );
        }
    }

    /// No operation is under way, and nothing is locked.
    pub(super) fn assert_free(&self) {
        assert_eq!(self.unfinished(), []);
        let locks = [INSTANCE, "renamed", BYSTANDER].map(|name| format!("instance/{name}"));
        let owner = gnt_store::Owner::current();
        let probe = self.store.begin("probe", INSTANCE, &locks, &owner).unwrap();
        self.store.finish(&probe, &Outcome::Undone).unwrap();
    }

    /// What the configuration says is what there is: no volume, device, link, minor or directory is lost or left over, each volume
    /// says whose it is, and mirrors are complete. A migration that is under way is ended before.
    pub(super) fn assert_consistent(&self) {
        if self.is_migrating() {
            let mut nodes = NODES.into_iter();
            let is_asked = |name: &&str| !self.store.node(name).unwrap().unwrap().offline;
            now(cleanup(
                &self.engine(&quiet),
                INSTANCE,
                nodes.find(is_asked).unwrap(),
            ))
            .unwrap();
        }
        let world = self.cluster.world();
        let mut expected = Expected::default();
        for disk in self.store.detached_disks().unwrap() {
            let template = disk.dev_type.template();
            if NEEDS_SECONDARY.contains(template) {
                // Its removal on the other node may have failed.
                expected.may_be_there.extend(disk.volume_keys());
            } else if !MUST_ADOPT.contains(template) {
                expected.volumes.extend(disk.volume_keys());
            }
        }
        for instance in self.store.instances().unwrap() {
            let subject = Subject::load(&self.store, &instance.name).unwrap();
            for (index, disk) in (0..).zip(&subject.disks) {
                assert_eq!(disk.index(), Some(index), "{disk}");
            }
            for places in subject.places().unwrap() {
                for disk in &places.disks {
                    expected.note(&world, &places, disk, instance.disks_active);
                }
            }
        }
        let there = world
            .volumes
            .iter()
            .filter(|(_, volume)| !is_adopted_device(volume));
        let there = there.map(|(key, _)| key.clone());
        let there: BTreeSet<_> = there.filter(|key| !expected.may_be_there.contains(key)).collect();
        assert_eq!(there, expected.volumes);
        for (node, machine) in &world.machines {
            let mut expected = expected.machines.remove(node).unwrap_or_default();
            if machine.is_dead {
                expected.lose_power();
            }
            assert_eq!(machine.links, expected.links);
            assert_eq!(
                machine.minors.keys().copied().collect::<BTreeSet<_>>(),
                expected.minors
            );
            assert_eq!(expected.attached.difference(&machine.attached).next(), None);
            let left = machine
                .attached
                .difference(&expected.attached)
                .find(|key| !expected.may_be_attached.contains(*key));
            assert_eq!(left, None);
            self.assert_directories(&machine.directories, &expected.directories);
        }
        self.assert_directories(&world.shared_directories, &expected.shared_directories);
        assert_eq!(world.violations, [""; 0]);
        let mut findings = now(verify(&self.store, &self.cluster)).unwrap();
        // A disk that was being removed is left detached, and its volumes may not know that yet. They are told once.
        let is_untold =
            |finding: &Finding| finding.kind == FindingKind::StaleMetadata && finding.instance.is_none();
        if findings.iter().any(is_untold) {
            findings.retain(is_untold);
            let report = now(repair(&self.engine(&quiet), &findings)).unwrap();
            // Of a mirror some may be gone.
            let is_gone = |warning: &String| warning.ends_with("is not there");
            assert!(report.warnings.iter().all(is_gone), "{:?}", report.warnings);
            findings = now(verify(&self.store, &self.cluster)).unwrap();
            findings.retain(|finding| report.warnings.is_empty() || !is_untold(finding));
        }
        findings.retain(|finding| finding.kind != FindingKind::Offline);
        // A node that does not answer is in trouble that the row wants, and halves miss their like there.
        let is_anyone_dead = world.machines.values().any(|machine| machine.is_dead);
        findings.retain(|finding| {
            let node = finding.node.as_deref().map(|name| self.uuid(name));
            match finding.kind {
                FindingKind::Unknown => node.is_none_or(|node| world.is_reachable(&node)),
                FindingKind::Degraded => !is_anyone_dead,
                _ => true,
            }
        });
        assert_eq!(findings, []);
    }

    fn is_migrating(&self) -> bool {
        let found = self.store.instance(INSTANCE).unwrap();
        found.is_some_and(|instance| instance.migration.is_some())
    }

    fn assert_directories(&self, there: &BTreeSet<String>, expected: &BTreeSet<String>) {
        let detached = self.store.detached_disks().unwrap();
        for directory in there.difference(expected) {
            let name = directory.rsplit('/').next().unwrap();
            let mut kept = detached.iter().map(|disk| disk.logical_id.volume());
            assert!(
                self.store.instance(name).unwrap().is_some() || kept.any(|path| path.starts_with(directory)),
                "{directory} is left over"
            );
        }
        assert_eq!(expected.difference(there).next(), None);
    }

    /// What was written is still there, in every disk that there was `before` and is now.
    pub(super) fn assert_data_kept(&self, before: &Picture) {
        let data = |world: &World| -> BTreeMap<String, u64> {
            let volumes = world.volumes.iter().filter(|(_, volume)| volume.meta.is_none());
            // Of several with one name that counts which is a disk's.
            let is_a_disks = |key: &str| self.store.owner_of_volume(key).unwrap().is_some();
            let (disks, others): (Vec<_>, Vec<_>) = volumes.partition(|(key, _)| is_a_disks(key));
            let all = others.into_iter().chain(disks);
            all.map(|(_, volume)| (label(volume), volume.data.mark()))
                .collect()
        };
        let (written, now) = (data(&before.world), data(&self.picture().world));
        let is_copy =
            |data: u64| matches!(self.deed, Deed::Convert(..)) && written.values().any(|w| *w == data);
        let is_adopted = |data: u64| {
            let was = written.iter().find(|(_, written)| **written == data);
            was.is_some_and(|(volume, _)| !now.contains_key(volume))
        };
        let copies = matches!(self.deed, Deed::Convert(..) | Deed::Move);
        if copies {
            assert_eq!(self.numbers(0), self.written);
        }
        let detached = self.store.detached_disks().unwrap();
        let goes = |volume: &str| {
            let mut devices = detached.iter().flat_map(Disk::walk);
            copies && devices.any(|device| device.logical_id.volume().ends_with(volume))
        };
        for (volume, data) in &now {
            let source = volume.strip_suffix(".snap").unwrap_or(volume);
            // What is being removed may be damaged.
            if source.contains("_replaced-") || goes(volume) {
                continue;
            }
            match written.get(source) {
                Some(written) => assert_eq!(data, written, "{volume}"),
                None => assert!(
                    *data == 0 || is_adopted(*data) || is_copy(*data),
                    "{volume} has {data}"
                ),
            }
        }
    }

    /// An operation that does nothing but heal.
    pub(super) fn next_operation(&self) -> Result<Report> {
        let engine = self.engine(&quiet);
        let on_instance = match now(engine.run(Kind::Modify, &[INSTANCE], async |_| Ok(Vec::new()))) {
            // What was in its way is healed, and the migration it was a part of goes on.
            Err(Error::Migrating { .. }) => Report::default(),
            healed => healed?,
        };
        let [.., spare] = NODES;
        match self.store.node(spare)? {
            Some(node) => {
                let lock = [node_lock(&node.uuid)];
                now(engine.run_locked(Kind::NodeModify, spare, &lock, async |_| Ok(Vec::new())))
            }
            None => Ok(on_instance),
        }
    }
}

/// What should be on the nodes.
#[derive(Default)]
struct Expected {
    volumes: BTreeSet<String>,
    may_be_there: BTreeSet<String>,
    shared_directories: BTreeSet<String>,
    machines: BTreeMap<String, ExpectedMachine>,
}

/// What should be on one node.
#[derive(Default)]
struct ExpectedMachine {
    links: BTreeMap<(String, u32), PathBuf>,
    minors: BTreeSet<u32>,
    attached: BTreeSet<String>,
    may_be_attached: BTreeSet<String>,
    directories: BTreeSet<String>,
}

impl ExpectedMachine {
    /// What is on disks stays.
    fn lose_power(&mut self) {
        let directories = std::mem::take(&mut self.directories);
        *self = Self {
            directories,
            ..Self::default()
        };
    }
}

impl Expected {
    /// Everything that a disk has on a node.
    fn note(&mut self, world: &World, places: &Places, disk: &Disk, is_active: bool) {
        let (node, instance) = (&places.node, &places.instance);
        let machine = self.machines.entry(node.clone()).or_default();
        if let (true, Some(index), Role::Primary) = (is_active, disk.index(), places.role) {
            let path = device_path(node, disk.dev_type, &disk.logical_id);
            machine.links.insert((instance.clone(), index), path);
        }
        if let LogicalId::BlockDev { .. } = disk.logical_id {
            return;
        }
        if let (Some(dynamic), LogicalId::Drbd8 { nodes, .. }) = (&disk.dynamic_params, &disk.logical_id) {
            if is_active && !world.machines[node].is_dead {
                machine.minors.insert(dynamic.local_minor);
                let minor = &world.machines[node].minors[&dynamic.local_minor];
                let can_connect = world.are_connected(&nodes[0], &nodes[1]);
                assert_eq!(minor.is_connected, can_connect, "whether {disk} is connected");
                assert_eq!(minor.is_primary, places.role == Role::Primary, "{disk}");
            }
            return disk
                .children
                .iter()
                .for_each(|child| self.note(world, places, child, is_active));
        }
        let key = key(node, disk.dev_type, &disk.logical_id);
        let volume = world.volumes.get(&key);
        let volume = volume.unwrap_or_else(|| panic!("{key} was lost"));
        assert!(volume.size >= disk.size, "{key} has {}", volume.size);
        let info = format!("originstname+{instance}");
        let mut owner = Owner::of(&Target::new(disk, instance), Some(&info));
        // What its size was may be out of date: it shows its size itself.
        owner.kept.size = volume.owner.kept.size;
        let is_metadata = owner
            .kept
            .mirror
            .as_ref()
            .is_some_and(|mirror| mirror.part == Part::Meta);
        assert!(is_metadata || owner.kept.size.is_some_and(|size| size <= disk.size));
        // A node that is given up is not told who the primary node is.
        if world.machines[node].is_dead {
            owner.kept.primary.clone_from(&volume.owner.kept.primary);
        }
        assert_eq!(volume.owner, owner);
        if INSTANCE_DEPENDENT_PATH.contains(disk.dev_type.template()) {
            let path = Path::new(&*disk.logical_id.volume()).to_owned();
            let directory = path.parent().unwrap().to_str().unwrap().to_owned();
            match volume.node {
                Some(_) => machine.directories.insert(directory),
                None => self.shared_directories.insert(directory),
            };
        }
        if BLOCK.contains(disk.dev_type.template()) {
            match is_active {
                true => machine.attached.insert(key.clone()),
                false => machine.may_be_attached.insert(key.clone()),
            };
        }
        self.volumes.insert(key);
    }
}

/// What a volume is called, without the directory that it is in.
fn label(volume: &Volume) -> String {
    let name = volume.logical_id.volume();
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

pub(super) fn is_adopted_device(volume: &Volume) -> bool {
    MUST_ADOPT.contains(volume.device.template())
}

/// More nodes like the first, which is there and gets an address of its own.
fn add_nodes(store: &Store, names: &[String]) {
    let first = store.nodes().unwrap().remove(0);
    for (number, name) in (1..).zip(names) {
        let uuid = match number {
            1 => first.uuid.clone(),
            _ => uuid::Uuid::new_v4().to_string(),
        };
        let ip = format!("198.18.{}.{}", number / 256, number % 256);
        let node = Node {
            uuid,
            name: name.clone(),
            primary_ip: ip.clone(),
            secondary_ip: ip,
            ..first.clone()
        };
        store.commit(&[Change::Node(node)]).unwrap();
    }
}

impl Row {
    fn needs_loose(&self) -> bool {
        let attaches = |edits: &Vec<Edit>| edits.iter().any(|edit| matches!(edit, Edit::Attach(_)));
        match &self.deed {
            Deed::Modify(edits) => attaches(edits),
            Deed::Recover => true,
            _ => false,
        }
    }
}

/// The benches of one row, each used for as long as everything on it is as it was.
pub(super) struct Benches<'r> {
    row: &'r Row,
    spare: Option<(Bench, Picture)>,
}

impl<'r> Benches<'r> {
    pub(super) fn new(row: &'r Row) -> Self {
        Self { row, spare: None }
    }

    pub(super) fn take(&mut self) -> (Bench, Picture) {
        self.spare.take().unwrap_or_else(|| {
            let bench = Bench::new(self.row);
            let picture = bench.picture();
            (bench, picture)
        })
    }

    pub(super) fn give_back(&mut self, bench: Bench, before: Picture) {
        bench.cluster.inject(None);
        // What was overwritten is not in the picture.
        if bench.overwritten.is_empty() && bench.picture() == before {
            self.spare = Some((bench, before));
        }
    }
}

/// What an engine tells of its events.
pub(super) type Observer<'o> = dyn Fn(Event<'_>) + Sync + 'o;

pub(super) fn quiet(_: Event<'_>) {}

/// Crashes at the event with this number; `events` receives all up to there.
pub(super) fn crash_at(number: usize, events: &Mutex<Vec<String>>) -> impl Fn(Event<'_>) + Sync {
    move |event| {
        let mut events = events.lock().unwrap();
        events.push(describe(event));
        if events.len() == number + 1 {
            drop(events);
            crash();
        }
    }
}

fn describe(event: Event<'_>) -> String {
    match event {
        Event::Starting(step) => format!("start: {step}"),
        Event::Syncing(step, progress) => format!("{step}: {}%", progress.percent),
        Event::Acted(step) => format!("acted: {step}"),
        Event::Progress { step, done, .. } => format!("{done} bytes: {step}"),
        Event::Recorded(step) => format!("recorded: {step}"),
        Event::Failed(step, error) => format!("failed: {step}: {error}"),
        Event::Undoing(step) => format!("undo: {step}"),
        Event::Healing(record, _) => format!("heal: {}", record.kind),
        Event::Healed(told) => format!("healed: {told}"),
    }
}

thread_local! {
    /// One for each test: its clock goes on from one operation to the next, and jumps to where something happens.
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
}

/// Runs it over the simulated cluster, where waiting takes no time.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// None if it crashes.
pub(crate) fn catch_crash<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Crash>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// What the store finds out by itself when a process is really dead.
pub(crate) fn bury(store: &Store) {
    for record in store.operations(Filter::Unfinished).unwrap() {
        if !record.interrupted {
            store.abandon(&record.id).unwrap();
        }
    }
}

/// Tells which case a failed assertion is of.
pub(crate) struct Case(pub(crate) String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the case: {}", self.0);
        }
    }
}
