//! What each phase asks of which node, and what is true when something went wrong in it, for every template that can migrate.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use gnt_bdev::transfer::{Content, Piece};
use gnt_config::template::{EXT_MIRROR, MUST_ADOPT, NEEDS_SECONDARY, UNMAP_AFTER_MIGRATION};
use gnt_config::{DiskTemplate, FileDriver, Mebibytes};
use gnt_store::{Change, Filter, Store};
use serde_json::json;

use super::*;
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::{AddRequest, add};
use crate::ops::failover::{FailoverRequest, failover};
use crate::ops::grow::{Growth, grow};
use crate::saga::Event;
use crate::sim::{Extent, Fault, SimCluster, Then, device_path};
use crate::tests::{Case, bury, catch_crash, now};
use crate::verify::{FindingKind, half_migrated};

pub(in crate::ops) const WEB: &str = "web";
/// The node that the instance runs on.
pub(in crate::ops) const SOURCE: &str = "node1";
/// Where it goes.
pub(in crate::ops) const TARGET: &str = "node2";
const SIZE: Mebibytes = Mebibytes(64);

/// Those that can migrate and have disks.
pub(in crate::ops) const TEMPLATES: [DiskTemplate; 6] = [
    DiskTemplate::Drbd,
    DiskTemplate::SharedFile,
    DiskTemplate::Blockdev,
    DiskTemplate::Rbd,
    DiskTemplate::Gluster,
    DiskTemplate::Ext,
];

/// One of each kind that makes a difference to who ends a migration: two halves; a provider that keeps who has a volume open; a mapping;
/// nothing at all.
const KINDS: [DiskTemplate; 4] = [
    DiskTemplate::Drbd,
    DiskTemplate::Ext,
    DiskTemplate::Rbd,
    DiskTemplate::SharedFile,
];

#[test]
fn every_template_that_is_mirrored_is_in_the_tables() {
    let all = gnt_config::template::MIRRORED - DiskTemplate::Diskless;
    assert_eq!(TEMPLATES.into_iter().collect::<gnt_config::TemplateSet>(), all);
}

/// A cluster of three nodes, and an instance that runs on the first. Mirrored by drbd, its other halves are on the second.
pub(in crate::ops) struct Scene {
    pub(in crate::ops) store: Store,
    pub(in crate::ops) cluster: SimCluster,
    template: DiskTemplate,
}

impl Scene {
    pub(in crate::ops) fn new(template: DiskTemplate) -> Self {
        let store = Store::in_memory().unwrap();
        crate::init::init(&store, Path::new("/state"), "cluster", SOURCE).unwrap();
        let first = store.node(SOURCE).unwrap().unwrap();
        for number in 2..=3 {
            let mut node = first.clone();
            node.uuid = format!("{}-{number}", first.uuid);
            node.name = format!("node{number}");
            node.secondary_ip = format!("192.0.2.{number}");
            store.commit(&[Change::Node(node)]).unwrap();
        }
        let cluster = SimCluster::of(&store).unwrap();
        let scene = Self {
            store,
            cluster,
            template,
        };
        scene.cluster.with_world(|world| {
            world.add_device("/dev/sim/0", SIZE);
            world.add_device("/dev/sim/1", SIZE);
        });
        let wish = |number: usize| match MUST_ADOPT.contains(template) {
            true => json!({"adopt": format!("/dev/sim/{number}")}),
            false => json!({"size": SIZE.0}),
        };
        let wishes = [wish(0), wish(1)].map(|wish| wish.as_object().cloned().unwrap());
        let engine = scene.engine(&quiet);
        let request = AddRequest {
            instance: WEB.to_owned(),
            template,
            disks: wishes.to_vec(),
            primary: Some(SOURCE.to_owned()),
            secondary: Some(TARGET.to_owned()).filter(|_| NEEDS_SECONDARY.contains(template)),
            file_driver: FileDriver::Loop,
            file_storage_dir: None,
        };
        now(add(&engine, &request)).unwrap();
        scene.create_halves();
        now(deactivate(&engine, WEB)).unwrap();
        now(activate(&engine, WEB)).unwrap();
        scene.write(SOURCE, BEFORE).unwrap();
        scene.cluster.inject(None);
        scene
    }

    /// The halves of mirrored disks on the second node; nothing if they are there.
    fn create_halves(&self) {
        if NEEDS_SECONDARY.contains(self.template) {
            let at = self
                .subject()
                .places_on(&self.uuid(TARGET), Role::Secondary)
                .unwrap();
            for disk in &at.disks {
                now(self.cluster.node(&at.node).unwrap().create(disk, WEB, "")).unwrap();
            }
        }
    }

    pub(in crate::ops) fn engine<'a>(
        &'a self,
        observer: &'a (dyn Fn(Event<'_>) + Sync),
    ) -> Engine<'a, SimCluster> {
        Engine {
            store: &self.store,
            nodes: &self.cluster,
            dry_run: false,
            observer,
        }
    }

    pub(in crate::ops) fn uuid(&self, name: &str) -> String {
        self.store.node(name).unwrap().unwrap().uuid
    }

    pub(in crate::ops) fn subject(&self) -> Subject {
        Subject::load(&self.store, WEB).unwrap()
    }

    fn migration(&self) -> Option<Migration> {
        self.subject().instance.migration
    }

    fn prepare(&self) -> Result<Prepared> {
        now(prepare(&self.engine(&quiet), WEB, Some(TARGET)))
    }

    /// Cuts the power of a node.
    pub(in crate::ops) fn kill(&self, name: &str) {
        self.cluster.with_world(|world| world.kill(&self.uuid(name)));
    }

    pub(in crate::ops) fn boot(&self, name: &str) {
        self.cluster.with_world(|world| world.boot(&self.uuid(name)));
    }

    /// Whether the manager reaches a node.
    pub(in crate::ops) fn set_answers(&self, name: &str, answers: bool) {
        let node = self.uuid(name);
        self.cluster
            .with_world(|world| world.set_reachable(&node, answers));
    }

    /// Whether the two nodes reach each other.
    pub(in crate::ops) fn set_linked(&self, are_linked: bool) {
        let [source, target] = [SOURCE, TARGET].map(|name| self.uuid(name));
        self.cluster.with_world(|world| match are_linked {
            true => world.mend(&source, &target),
            false => world.cut(&source, &target),
        });
    }

    pub(in crate::ops) fn set_offline(&self, name: &str, offline: bool) {
        let mut node = self.store.node(name).unwrap().unwrap();
        node.offline = offline;
        self.store.commit(&[Change::Node(node)]).unwrap();
    }

    /// What the instance writes to its disks on a node.
    pub(in crate::ops) fn write(&self, name: &str, mark: u8) -> Result<()> {
        let at = self.subject().places_on(&self.uuid(name), Role::Primary).unwrap();
        let piece = Piece {
            offset: 0,
            content: Content::Data(vec![mark]),
        };
        let node = self.cluster.node(&at.node).unwrap();
        for disk in &at.disks {
            now(node.write(disk, WEB, std::slice::from_ref(&piece)))?;
        }
        Ok(())
    }

    /// What it reads from each there.
    pub(in crate::ops) fn read(&self, name: &str) -> Vec<u8> {
        let at = self.subject().places_on(&self.uuid(name), Role::Primary).unwrap();
        let node = self.cluster.node(&at.node).unwrap();
        let first = |disk| match &now(node.read(disk, WEB, 0, 1)).unwrap()[0].content {
            Content::Data(data) => data[0],
            Content::Zeros(_) => 0,
        };
        at.disks.iter().map(first).collect()
    }

    /// The calls since they were last counted, `NODE: VERB`, of the first disk.
    fn asked(&self) -> Vec<String> {
        let calls = self.cluster.calls_by_node().into_iter();
        let first = calls.filter_map(|(node, call)| {
            let (verb, disk) = call.split_once(" disk/").unwrap_or((&call, "0"));
            disk.starts_with('0').then(|| format!("{node}: {verb}"))
        });
        first.collect()
    }

    /// The instance is on one node, and only there: nothing is under way, its disks are in use on that node alone, and have what was written
    /// last. Of a node that is dead nothing is known.
    pub(in crate::ops) fn assert_settled(&self, on: &str, data: u8) {
        let (subject, world) = (self.subject(), self.cluster.world());
        assert_eq!(self.store.operations(Filter::Unfinished).unwrap(), []);
        assert_eq!(subject.instance.migration, None);
        assert_eq!(subject.node.name, on);
        assert!(subject.instance.disks_active);
        assert_eq!(world.violations, [""; 0]);
        for (uuid, machine) in &world.machines {
            let at = subject.places_on(uuid, Role::Primary).unwrap();
            let is_here = *uuid == subject.node.uuid;
            for (index, disk) in (0..).zip(&at.disks) {
                let link = machine.links.get(&(WEB.to_owned(), index));
                let path = device_path(uuid, disk.dev_type, &disk.logical_id);
                assert_eq!(link, Some(&path).filter(|_| is_here), "link on {uuid}");
                let keys: BTreeSet<_> = disk.volume_keys().into_iter().collect();
                let open: Vec<_> = machine
                    .open
                    .iter()
                    .filter(|(key, _)| keys.contains(*key))
                    .collect();
                let minor = disk.dynamic_params.as_ref().map(|params| params.local_minor);
                match minor.and_then(|minor| machine.minors.get(&minor)) {
                    Some(minor) => {
                        assert_eq!(minor.is_primary, is_here, "role on {uuid}");
                        assert!(minor.net.as_ref().is_none_or(|net| !net.multimaster), "{uuid}");
                    }
                    None if EXT_MIRROR.contains(self.template) => {
                        let exclusive: Vec<_> = open.iter().map(|(_, exclusive)| **exclusive).collect();
                        assert_eq!(exclusive, vec![true; usize::from(is_here)], "open on {uuid}");
                    }
                    None => assert!(!is_here || machine.is_dead, "it is not there"),
                }
                // The simulator does not count mounts.
                if UNMAP_AFTER_MIGRATION.contains(self.template) {
                    let mapped = keys.iter().any(|key| machine.attached.contains(key));
                    assert_eq!(mapped, is_here, "mapped on {uuid}");
                }
            }
        }
        assert_eq!(self.read(on), [data; 2]);
    }

    /// Both halves are alike.
    pub(in crate::ops) fn assert_in_sync(&self) {
        let world = self.cluster.world();
        for disk in &self.subject().disks {
            for data in disk.children.iter().take(1) {
                let marks = data.volume_keys();
                let marks: BTreeSet<_> = marks.iter().map(|key| world.volumes[key].data.mark()).collect();
                assert_eq!(marks.len(), 1, "{disk}");
            }
        }
    }
}

/// Written by the instance before, while, and after it moves.
pub(in crate::ops) const BEFORE: u8 = 1;
pub(in crate::ops) const MEANWHILE: u8 = 2;
const AFTER: u8 = 3;

pub(in crate::ops) fn quiet(_: Event<'_>) {}

/// Moves the instance.
struct Moves;

impl Transfer for Moves {
    async fn transfer(&self, handover: &Handover) -> Transferred {
        assert_eq!((&*handover.source.name, &*handover.target.name), (SOURCE, TARGET));
        assert_eq!(handover.disks.len(), 2);
        Transferred::Moved
    }
}

/// A manager that says what it is told to say.
struct Says {
    transferred: fn() -> Transferred,
    runs_on: Option<&'static str>,
}

impl Transfer for Says {
    async fn transfer(&self, _: &Handover) -> Transferred {
        (self.transferred)()
    }

    async fn locate(&self, _: &Handover) -> Option<String> {
        self.runs_on.map(str::to_owned)
    }
}

// --- what is asked of the nodes ----------------------------------------------------------------------------------------

/// What a phase asks, in this order.
struct Asked {
    template: DiskTemplate,
    prepare: &'static [&'static str],
    finish: &'static [&'static str],
    abort: &'static [&'static str],
}

/// A row for each way in which disks reach two nodes.
const ASKED: [Asked; 4] = [
    Asked {
        template: DiskTemplate::Drbd,
        prepare: &[
            "node1: find",
            "node2: find",
            "node2: close",
            "node1: connect as two primaries",
            "node2: connect as two primaries",
            "node2: share",
            "node2: assemble",
        ],
        finish: &[
            "node2: assemble as secondary",
            "node1: assemble as secondary",
            "node1: close",
            "node2: connect",
            "node1: connect",
            "node2: assemble",
            "node1: set info of",
            "node2: set info of",
        ],
        abort: &[
            "node1: assemble as secondary",
            "node2: assemble as secondary",
            "node2: close",
            "node1: connect",
            "node2: connect",
            "node1: assemble",
            "node1: set info of",
            "node2: set info of",
        ],
    },
    Asked {
        template: DiskTemplate::Ext,
        prepare: &[
            "node1: find",
            "node2: find",
            "node1: share",
            "node2: assemble shared",
        ],
        finish: &[
            "node1: close",
            "node1: shutdown",
            "node2: assemble",
            "node2: set info of",
        ],
        abort: &[
            "node2: close",
            "node2: shutdown",
            "node1: assemble",
            "node1: set info of",
        ],
    },
    Asked {
        template: DiskTemplate::Gluster,
        prepare: &[
            "node1: find",
            "node2: find",
            "node1: share",
            "node2: assemble shared",
        ],
        finish: &[
            "node1: close",
            "node1: shutdown",
            "node2: assemble",
            "node2: set info of",
        ],
        abort: &[
            "node2: close",
            "node2: shutdown",
            "node1: assemble",
            "node1: set info of",
        ],
    },
    Asked {
        template: DiskTemplate::SharedFile,
        prepare: &[
            "node1: find",
            "node2: find",
            "node1: share",
            "node2: assemble shared",
        ],
        finish: &["node1: close", "node2: assemble", "node2: set info of"],
        abort: &["node2: close", "node1: assemble", "node1: set info of"],
    },
];

#[test]
fn each_phase_asks_this_of_the_nodes() {
    for Asked {
        template,
        prepare,
        finish: finishing,
        abort: aborting,
    } in ASKED
    {
        for ends_at_target in [true, false] {
            let scene = Scene::new(template);
            scene.prepare().unwrap();
            assert_eq!(scene.asked(), prepare, "preparing {template}");
            scene.write(SOURCE, MEANWHILE).unwrap();
            scene.cluster.inject(None);
            let (node, asked) = match ends_at_target {
                true => {
                    now(finish(&scene.engine(&quiet), WEB)).unwrap();
                    (TARGET, finishing)
                }
                false => {
                    now(abort(&scene.engine(&quiet), WEB)).unwrap();
                    (SOURCE, aborting)
                }
            };
            assert_eq!(scene.asked(), asked, "ending {template} on {node}");
            scene.assert_settled(node, MEANWHILE);
            scene.write(node, AFTER).unwrap();
            scene.assert_settled(node, AFTER);
            scene.assert_in_sync();
        }
    }
}

// --- a migration in which nothing goes wrong ---------------------------------------------------------------------------

#[test]
fn every_mirrored_template_migrates_there_and_back() {
    for template in TEMPLATES {
        let scene = Scene::new(template);
        let report = now(migrate(&scene.engine(&quiet), WEB, Some(TARGET), &Moves)).unwrap();
        assert_eq!(report.warnings, [""; 0]);
        scene.assert_settled(TARGET, BEFORE);
        scene.write(TARGET, AFTER).unwrap();
        scene.assert_in_sync();
        // drbd needs no target: there is only one.
        let back = Some(SOURCE).filter(|_| EXT_MIRROR.contains(template));
        let says = Says {
            transferred: || Transferred::Moved,
            runs_on: None,
        };
        now(migrate(&scene.engine(&quiet), WEB, back, &says)).unwrap();
        scene.assert_settled(SOURCE, AFTER);
        scene.assert_in_sync();
    }
}

#[test]
fn while_it_migrates_both_nodes_can_write_and_no_other_operation_begins() {
    for template in TEMPLATES {
        let scene = Scene::new(template);
        scene.prepare().unwrap();
        scene.write(SOURCE, MEANWHILE).unwrap();
        assert_eq!(scene.read(TARGET), [MEANWHILE; 2]);
        scene.write(TARGET, AFTER).unwrap();
        assert_eq!(scene.read(SOURCE), [AFTER; 2]);
        let engine = scene.engine(&quiet);
        let refused = [
            now(activate(&engine, WEB)),
            now(deactivate(&engine, WEB)),
            now(grow(&engine, WEB, "0", Growth::By(SIZE))),
            now(prepare(&engine, WEB, Some(TARGET))).map(|prepared| prepared.report),
            now(failover(
                &engine,
                &FailoverRequest {
                    instance: WEB.to_owned(),
                    target: Some(TARGET.to_owned()),
                    ..FailoverRequest::default()
                },
            )),
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert_eq!(
                error.to_string(),
                "instance web is being migrated from node node1 to node node2"
            );
            assert!(error.hint().unwrap().contains("gnt-disk migrate --cleanup"));
        }
        assert_eq!(scene.cluster.world().violations, [""; 0]);
    }
}

/// What the manager says of the transfer, where it says the instance runs, and what comes of it.
#[test]
fn a_transfer_that_fails_ends_where_the_instance_runs() {
    let stayed: fn() -> Transferred = || Transferred::Stayed("no memory".into());
    let unknown: fn() -> Transferred = || Transferred::Unknown("connection lost".into());
    for (transferred, runs_on, ends_on, told) in [
        (
            stayed,
            None,
            Some(SOURCE),
            Some("instance web could not be moved, and stays on node node1: no memory"),
        ),
        (
            unknown,
            Some(SOURCE),
            Some(SOURCE),
            Some("instance web could not be moved, and stays on node node1: connection lost"),
        ),
        (unknown, Some(TARGET), Some(TARGET), None),
        (
            unknown,
            Some("node3"),
            None,
            Some("it is not known on which node instance web runs: connection lost"),
        ),
        (
            unknown,
            None,
            None,
            Some("it is not known on which node instance web runs: connection lost"),
        ),
    ] {
        for template in TEMPLATES {
            let scene = Scene::new(template);
            let says = Says { transferred, runs_on };
            let result = now(migrate(&scene.engine(&quiet), WEB, Some(TARGET), &says));
            assert_eq!(result.err().map(|error| chain(&error)).as_deref(), told);
            match ends_on {
                Some(node) => scene.assert_settled(node, BEFORE),
                None => {
                    assert!(scene.migration().is_some());
                    now(cleanup(&scene.engine(&quiet), WEB, SOURCE)).unwrap();
                    scene.assert_settled(SOURCE, BEFORE);
                }
            }
        }
    }
}

#[test]
fn phases_can_be_repeated() {
    for template in TEMPLATES {
        let scene = Scene::new(template);
        scene.prepare().unwrap();
        for _ in 0..2 {
            now(finish(&scene.engine(&quiet), WEB)).unwrap();
            scene.assert_settled(TARGET, BEFORE);
        }
        now(abort(&scene.engine(&quiet), WEB)).unwrap();
        now(cleanup(&scene.engine(&quiet), WEB, TARGET)).unwrap();
        let error = now(cleanup(&scene.engine(&quiet), WEB, SOURCE)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "instance web is not being migrated; it is on node node2"
        );
        scene.assert_settled(TARGET, BEFORE);
    }
}

/// While the instance moves, somebody ends its migration, and may begin another one.
struct Interferes<'a> {
    scene: &'a Scene,
    again: bool,
    transferred: fn() -> Transferred,
}

impl Transfer for Interferes<'_> {
    async fn transfer(&self, _: &Handover) -> Transferred {
        let engine = self.scene.engine(&quiet);
        cleanup(&engine, WEB, SOURCE).await.unwrap();
        if self.again {
            prepare(&engine, WEB, Some(TARGET)).await.unwrap();
        }
        (self.transferred)()
    }
}

#[test]
fn a_migration_that_somebody_else_ended_is_not_taken_for_done() {
    for template in KINDS {
        for again in [false, true] {
            for (transferred, runs_on) in [
                ((|| Transferred::Moved) as fn() -> Transferred, TARGET),
                (|| Transferred::Stayed("no route".into()), SOURCE),
            ] {
                let scene = Scene::new(template);
                let interferes = Interferes {
                    scene: &scene,
                    again,
                    transferred,
                };
                let result = now(migrate(&scene.engine(&quiet), WEB, Some(TARGET), &interferes));
                let error = result.unwrap_err();
                let told = format!(
                    "the migration of instance web was ended by somebody else meanwhile: its disks are on node node1, and the \
                     instance runs on node {runs_on}"
                );
                assert!(error.to_string().starts_with(&told), "{error}");
                assert_eq!(error.hint().is_some(), runs_on == TARGET);
                assert_eq!(scene.migration().is_some(), again);
                if again {
                    now(abort(&scene.engine(&quiet), WEB)).unwrap();
                }
                scene.assert_settled(SOURCE, BEFORE);
            }
        }
    }
}

#[test]
fn a_mark_that_nobody_is_at_is_found() {
    let scene = Scene::new(DiskTemplate::Ext);
    let found = || half_migrated(&scene.store, &scene.subject().instance).unwrap();
    assert_eq!(found(), None);
    scene.prepare().unwrap();
    // The process that prepared it lives: this one.
    assert_eq!(found(), None);
    let mut instance = scene.subject().instance;
    if let Some(migration) = &mut instance.migration {
        migration.operation = None;
    }
    scene.store.commit(&[Change::Instance(instance)]).unwrap();
    let finding = found().unwrap();
    assert!(
        finding
            .mend
            .unwrap()
            .starts_with("gnt-disk migrate web --cleanup --runs-on")
    );
    let all = now(crate::verify::verify(&scene.store, &scene.cluster)).unwrap();
    assert!(
        all.iter()
            .any(|finding| finding.kind == FindingKind::HalfMigrated),
        "{all:?}"
    );
    now(abort(&scene.engine(&quiet), WEB)).unwrap();
    assert_eq!(found(), None);
}

// --- what goes wrong ---------------------------------------------------------------------------------------------------

/// A phase, and where the instance runs meanwhile if nothing takes it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Prepare,
    Finish,
    Abort,
    /// Cleaning up on the node that the instance came from.
    CleanUpOnSource,
    /// Cleaning up on the node that it was to come to.
    CleanUpOnTarget,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Prepare,
        Self::Finish,
        Self::Abort,
        Self::CleanUpOnSource,
        Self::CleanUpOnTarget,
    ];

    fn runs_on(self) -> &'static str {
        match self {
            Self::Prepare | Self::Abort | Self::CleanUpOnSource => SOURCE,
            Self::Finish | Self::CleanUpOnTarget => TARGET,
        }
    }

    /// The scene at its beginning.
    fn scene(self, template: DiskTemplate) -> Scene {
        let scene = Scene::new(template);
        if self != Self::Prepare {
            scene.prepare().unwrap();
            scene.write(self.runs_on(), MEANWHILE).unwrap();
            scene.cluster.inject(None);
        }
        scene
    }

    fn data(self) -> u8 {
        match self {
            Self::Prepare => BEFORE,
            _ => MEANWHILE,
        }
    }

    fn run(self, scene: &Scene, observer: &(dyn Fn(Event<'_>) + Sync)) -> Result<()> {
        let engine = scene.engine(observer);
        match self {
            Self::Prepare => now(prepare(&engine, WEB, Some(TARGET))).map(drop),
            Self::Finish => now(finish(&engine, WEB)).map(drop),
            Self::Abort => now(abort(&engine, WEB)).map(drop),
            Self::CleanUpOnSource | Self::CleanUpOnTarget => {
                now(cleanup(&engine, WEB, self.runs_on())).map(drop)
            }
        }
    }
}

/// Each call fails once, having done nothing, half or all. Then the instance is cleaned up where it runs.
#[test]
fn a_call_that_fails() {
    for template in TEMPLATES {
        for phase in Phase::ALL {
            for extent in [Extent::None, Extent::Half, Extent::Whole] {
                for call in 0.. {
                    let scene = phase.scene(template);
                    let then = Then::Fail;
                    scene.cluster.inject(Some(Fault { call, extent, then }));
                    let result = phase.run(&scene, &quiet);
                    let asked = scene.cluster.calls_by_node();
                    let _case = Case(format!(
                        "{template} {phase:?}, {extent:?} of call {call} of {asked:#?}, {result:?}"
                    ));
                    if asked.len() <= call {
                        result.unwrap();
                        break;
                    }
                    scene.cluster.inject(None);
                    if scene.migration().is_some() {
                        // Nothing but going on with it is possible.
                        if let Err(error) = &result {
                            assert!(error.hint().unwrap().contains("migrate --cleanup"), "{error:?}");
                        }
                        let before = scene.cluster.world();
                        now(deactivate(&scene.engine(&quiet), WEB)).unwrap_err();
                        if scene.migration().is_some() {
                            assert_eq!(scene.cluster.world(), before);
                        }
                        now(cleanup(&scene.engine(&quiet), WEB, phase.runs_on())).unwrap();
                    }
                    scene.assert_settled(phase.runs_on(), phase.data());
                    scene.assert_in_sync();
                }
            }
        }
    }
}

/// The manager dies in each call, and the next one cleans up.
#[test]
fn a_manager_that_dies() {
    for template in TEMPLATES {
        for phase in Phase::ALL {
            for extent in [Extent::None, Extent::Half, Extent::Whole] {
                for call in 0.. {
                    let scene = phase.scene(template);
                    let then = Then::Crash;
                    scene.cluster.inject(Some(Fault { call, extent, then }));
                    let result = catch_crash(|| phase.run(&scene, &quiet));
                    let _case = Case(format!(
                        "{template} {phase:?}, {extent:?} of call {call} of {:#?}",
                        scene.cluster.calls_by_node()
                    ));
                    if let Some(result) = result {
                        result.unwrap();
                        break;
                    }
                    bury(&scene.store);
                    scene.cluster.inject(None);
                    now(cleanup(&scene.engine(&quiet), WEB, phase.runs_on())).unwrap();
                    now(scene.engine(&quiet).heal_all()).unwrap();
                    scene.assert_settled(phase.runs_on(), phase.data());
                    scene.assert_in_sync();
                }
            }
        }
    }
}

/// Which nodes lose their power, and whether they come back or are given up.
const CUTS: [(&[&str], Fate); 5] = [
    (&[SOURCE], Fate::ComesBack),
    (&[TARGET], Fate::ComesBack),
    (&[SOURCE, TARGET], Fate::ComesBack),
    (&[SOURCE], Fate::IsGivenUp),
    (&[TARGET], Fate::IsGivenUp),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has power again before the clean-up.
    ComesBack,
    /// It is marked offline, and has power again after the clean-up.
    IsGivenUp,
}

/// Nodes lose their power before each step, and before each undo. The instance runs where it ran, or, if that node is dead, is started where there
/// is one.
#[test]
fn a_power_cut() {
    for template in TEMPLATES {
        for phase in Phase::ALL {
            for (dead, fate) in CUTS {
                for event in 0.. {
                    let scene = phase.scene(template);
                    let counted = AtomicUsize::new(0);
                    let cut = |event_of: Event<'_>| {
                        let acts = matches!(event_of, Event::Starting(_) | Event::Undoing(_));
                        if acts && counted.fetch_add(1, Ordering::SeqCst) == event {
                            dead.iter().for_each(|name| scene.kill(name));
                        }
                    };
                    let result = phase.run(&scene, &cut);
                    let _case = Case(format!(
                        "{template} {phase:?}, {dead:?} cut at event {event}, {fate:?}, {result:?}, {:#?}",
                        scene.cluster.calls_by_node()
                    ));
                    if counted.load(Ordering::SeqCst) <= event {
                        break;
                    }
                    scene.assert_survives(phase.runs_on(), phase.data(), dead, fate);
                }
            }
        }
    }
}

/// What a manager says.
type Answer = fn() -> Transferred;

/// Moves the instance to a node while nodes lose their power, and says what it knows.
struct DiesMeanwhile<'a> {
    scene: &'a Scene,
    dead: &'static [&'static str],
    transferred: Answer,
}

impl Transfer for DiesMeanwhile<'_> {
    async fn transfer(&self, _: &Handover) -> Transferred {
        self.dead.iter().for_each(|name| self.scene.kill(name));
        (self.transferred)()
    }
}

/// The same while the instance moves; the manager may know where it is or not.
#[test]
fn a_power_cut_while_the_instance_moves() {
    let answers: [(Answer, &str); 3] = [
        (|| Transferred::Moved, TARGET),
        (|| Transferred::Stayed("no route".into()), SOURCE),
        (|| Transferred::Unknown("connection lost".into()), SOURCE),
    ];
    for template in TEMPLATES {
        for (dead, fate) in CUTS {
            for (transferred, runs_on) in answers {
                let scene = Scene::new(template);
                let dies = DiesMeanwhile {
                    scene: &scene,
                    dead,
                    transferred,
                };
                let result = now(migrate(&scene.engine(&quiet), WEB, Some(TARGET), &dies));
                let _case = Case(format!(
                    "{template}, {dead:?} cut, {fate:?}, on {runs_on}, {result:?}"
                ));
                // One of the two is missing, and nobody said that it may be.
                result.unwrap_err();
                assert!(scene.migration().is_some());
                scene.assert_survives(runs_on, BEFORE, dead, fate);
            }
        }
    }
}

impl Scene {
    /// After nodes lost their power while the instance ran on one: what is told of their fate is done, and the instance runs where it ran,
    /// or, if that node is given up, on the other one.
    fn assert_survives(&self, ran_on: &str, data: u8, dead: &[&str], fate: Fate) {
        for name in dead {
            match fate {
                Fate::ComesBack => self.boot(name),
                Fate::IsGivenUp => self.set_offline(name, true),
            }
        }
        let runs_on = match (fate, ran_on) {
            (Fate::IsGivenUp, SOURCE) if dead.contains(&ran_on) => TARGET,
            (Fate::IsGivenUp, _) if dead.contains(&ran_on) => SOURCE,
            _ => ran_on,
        };
        self.recover(runs_on, fate);
        self.assert_settled(runs_on, data);
        if fate == Fate::IsGivenUp {
            for name in dead {
                self.boot(name);
                self.set_offline(name, false);
            }
            now(activate(&self.engine(&quiet), WEB)).unwrap();
            self.assert_settled(runs_on, data);
        }
        self.assert_in_sync();
    }
}

/// A link that is cut while both nodes have power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Between the manager and a node.
    Manager(&'static str),
    /// Between the halves of mirrored disks.
    Mirror,
}

impl Link {
    const ALL: [Self; 3] = [Self::Manager(SOURCE), Self::Manager(TARGET), Self::Mirror];

    fn set(self, scene: &Scene, is_up: bool) {
        match self {
            Self::Manager(name) => scene.set_answers(name, is_up),
            Self::Mirror => scene.set_linked(is_up),
        }
    }

    /// Whether an instance with such disks notices.
    fn matters_to(self, template: DiskTemplate) -> bool {
        self != Self::Mirror || NEEDS_SECONDARY.contains(template)
    }
}

/// A link is cut before each step, and before each undo, while the instance goes on writing on its node. Nobody takes its disks from it, or
/// opens them elsewhere, also when somebody tries to clean up meanwhile. When the link is there again, all is as it should be.
#[test]
fn a_link_that_is_cut() {
    for template in TEMPLATES {
        for phase in Phase::ALL {
            for link in Link::ALL.into_iter().filter(|link| link.matters_to(template)) {
                for event in 0.. {
                    let scene = phase.scene(template);
                    let on = phase.runs_on();
                    scene.start_guest(on);
                    let counted = AtomicUsize::new(0);
                    let cut = |event_of: Event<'_>| {
                        let acts = matches!(event_of, Event::Starting(_) | Event::Undoing(_));
                        if acts && counted.fetch_add(1, Ordering::SeqCst) == event {
                            link.set(&scene, false);
                        }
                    };
                    let result = phase.run(&scene, &cut);
                    let _case = Case(format!(
                        "{template} {phase:?}, {link:?} cut at event {event}, {result:?}, {:#?}",
                        scene.cluster.calls_by_node()
                    ));
                    if counted.load(Ordering::SeqCst) <= event {
                        break;
                    }
                    scene.assert_guest_writes();
                    scene.assert_nobody_has_them_besides();
                    // Nobody knows better while the node is silent, and nobody says that it is off.
                    let meanwhile = now(cleanup(&scene.engine(&quiet), WEB, on));
                    let _case = Case(format!("cleaned up meanwhile: {meanwhile:?}"));
                    scene.assert_guest_writes();
                    scene.assert_nobody_has_them_besides();
                    link.set(&scene, true);
                    scene.recover(on, Fate::ComesBack);
                    scene.assert_guest_writes();
                    scene.stop_guest();
                    scene.assert_settled(on, AFTER);
                    scene.assert_in_sync();
                }
            }
        }
    }
}

/// Somebody says that the instance runs where it does not, while the node where it does cannot be reached and is not said to be off. The
/// other node does not get its disks for itself, whatever was begun before.
#[test]
fn a_node_that_is_only_silent_keeps_its_disks() {
    for template in TEMPLATES {
        for (on, other) in [(SOURCE, TARGET), (TARGET, SOURCE)] {
            let scene = Scene::new(template);
            scene.prepare().unwrap();
            scene.start_guest(on);
            scene.set_answers(on, false);
            let engine = scene.engine(&quiet);
            for _ in 0..2 {
                let error = now(cleanup(&engine, WEB, other)).unwrap_err();
                let _case = Case(format!("{template} on {on}: {error:?}"));
                assert!(matches!(error, Error::HalfMigrated { .. }));
                assert!(error.hint().unwrap().contains("--offline yes"));
                assert!(scene.migration().is_some());
                scene.assert_guest_writes();
                scene.assert_nobody_has_them_besides();
            }
            let _case = Case(format!("{template} on {on}"));
            scene.set_answers(on, true);
            // It runs, and its disks cannot be taken from it.
            let refused = now(cleanup(&engine, WEB, other)).unwrap_err();
            let _case = Case(format!("{refused:?}"));
            scene.assert_guest_writes();
            scene.assert_nobody_has_them_besides();
            now(cleanup(&engine, WEB, on)).unwrap();
            scene.assert_guest_writes();
            scene.stop_guest();
            scene.assert_settled(on, AFTER);
            scene.assert_in_sync();
        }
    }
}

impl Scene {
    /// The instance runs on a node, with its disks there.
    fn start_guest(&self, on: &str) {
        self.cluster
            .with_world(|world| world.start_guest(WEB, &self.uuid(on)));
    }

    fn stop_guest(&self) {
        self.cluster.with_world(|world| world.stop_guest(WEB));
    }

    /// The instance can write to both its disks, and nobody minds.
    fn assert_guest_writes(&self) {
        self.cluster.with_world(|world| {
            for index in 0..2 {
                assert!(world.guest_write(WEB, index, 0, AFTER.into()), "disk {index}");
            }
            assert_eq!(world.violations, [""; 0]);
        });
    }

    /// Keys of the volumes that both nodes reach.
    fn shared_keys(&self) -> BTreeSet<String> {
        let disks = self.subject().disks.into_iter();
        let shared = disks.filter(|disk| !NEEDS_SECONDARY.contains(disk.dev_type.template()));
        shared.flat_map(|disk| disk.volume_keys()).collect()
    }

    /// At most one node has the instance's disks open.
    pub(in crate::ops) fn assert_open_on_one_node(&self) {
        let (keys, world) = (self.shared_keys(), self.cluster.world());
        let has_open = |machine: &&crate::sim::Machine| {
            machine.open.keys().any(|key| keys.contains(key))
                || machine.minors.values().any(|minor| minor.is_primary)
        };
        assert!(world.machines.values().filter(has_open).count() <= 1);
        assert_eq!(world.violations, [""; 0]);
    }

    /// No node has the instance's disks for itself while another one has them open, too.
    fn assert_nobody_has_them_besides(&self) {
        let world = self.cluster.world();
        for key in self.shared_keys() {
            let machines = world.machines.values();
            let open: Vec<_> = machines.filter_map(|machine| machine.open.get(&key)).collect();
            assert!(
                !open.contains(&&true) || open.len() == 1,
                "{key} is open: {open:?}"
            );
        }
        let primaries = world
            .machines
            .values()
            .flat_map(|machine| machine.minors.values());
        let primaries = primaries.filter(|minor| minor.is_primary).count();
        assert!(
            primaries <= 2 || self.migration().is_some(),
            "{primaries} are primary"
        );
    }
}

impl Scene {
    /// What an administrator does after a power cut in a migration: the instance is cleaned up where it runs, or where it is to run. If there
    /// is no migration any more, its disks are activated where it is, or it is failed over.
    fn recover(&self, runs_on: &str, fate: Fate) {
        let engine = self.engine(&quiet);
        let (was_migrating, was_on) = (self.migration().is_some(), self.subject().node.name);
        match now(cleanup(&engine, WEB, runs_on)) {
            Err(Error::NotMigrating { node, .. }) => {
                assert!(!was_migrating);
                assert_eq!(node, was_on);
            }
            cleaned => drop(cleaned.unwrap()),
        }
        if self.subject().node.name != runs_on {
            let request = FailoverRequest {
                instance: WEB.to_owned(),
                target: Some(runs_on.to_owned()),
                ignore_consistency: false,
            };
            now(failover(&engine, &request)).unwrap();
        }
        if fate == Fate::ComesBack {
            now(activate(&engine, WEB)).unwrap();
        }
    }
}

/// Hours after the manager died, and with the mirror cut meanwhile: no node gets what is out of date.
#[test]
fn a_phase_that_is_gone_on_with_looks_again() {
    for call in 0.. {
        let scene = Scene::new(DiskTemplate::Drbd);
        let (extent, then) = (Extent::None, Then::Crash);
        scene.cluster.inject(Some(Fault { call, extent, then }));
        let result = catch_crash(|| scene.prepare());
        let _case = Case(format!("call {call} of {:#?}", scene.cluster.calls_by_node()));
        if let Some(result) = result {
            result.unwrap();
            break;
        }
        bury(&scene.store);
        scene.cluster.inject(None);
        let nodes = [SOURCE, TARGET].map(|name| scene.uuid(name));
        scene.cluster.with_world(|world| world.cut(&nodes[0], &nodes[1]));
        scene.write(SOURCE, MEANWHILE).unwrap();
        let are_primary = || {
            let world = scene.cluster.world();
            let is_primary =
                |node: &String| world.machines[node].minors.values().any(|minor| minor.is_primary);
            [is_primary(&nodes[0]), is_primary(&nodes[1])]
        };
        // It may have been opened while it was good.
        let [_, was_primary] = are_primary();
        let _ = now(scene.engine(&quiet).heal_all());
        let [source, target] = are_primary();
        assert!(source && (was_primary || !target));
        scene.cluster.with_world(|world| world.mend(&nodes[0], &nodes[1]));
        now(cleanup(&scene.engine(&quiet), WEB, SOURCE)).unwrap();
        now(scene.engine(&quiet).heal_all()).unwrap();
        now(activate(&scene.engine(&quiet), WEB)).unwrap();
        scene.assert_settled(SOURCE, MEANWHILE);
        scene.assert_in_sync();
    }
}

// --- what is refused ---------------------------------------------------------------------------------------------------

#[test]
fn a_mirror_that_is_not_complete_is_not_migrated() {
    let scene = Scene::new(DiskTemplate::Drbd);
    scene.kill(TARGET);
    scene.boot(TARGET);
    let error = scene.prepare().unwrap_err();
    assert!(
        matches!(&error, Error::NotInSync { node, .. } if node == SOURCE),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("activate --wait-for-sync web"));
    assert_eq!(scene.migration(), None);
    now(activate(&scene.engine(&quiet), WEB)).unwrap();
    scene.prepare().unwrap();
}

#[test]
fn what_a_node_does_not_reach_is_not_migrated_there() {
    let scene = Scene::new(DiskTemplate::Drbd);
    for (target, told) in [
        (
            Some("node3"),
            "instance web can only be migrated to its secondary node, node2",
        ),
        (
            Some(SOURCE),
            "instance web can only be migrated to its secondary node, node2",
        ),
    ] {
        let error = now(prepare(&scene.engine(&quiet), WEB, target)).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
    let scene = Scene::new(DiskTemplate::Ext);
    scene.set_offline("node3", true);
    for (target, told) in [
        (
            None,
            "instance web can be migrated to any node, and none is named",
        ),
        (Some(SOURCE), "instance web is on node node1 already"),
        (Some("node3"), "node node3 is marked offline"),
        (Some("node4"), "there is no node node4"),
    ] {
        let error = now(prepare(&scene.engine(&quiet), WEB, target)).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
    now(deactivate(&scene.engine(&quiet), WEB)).unwrap();
    let error = scene.prepare().unwrap_err();
    assert!(error.to_string().contains("are not in use"), "{error}");
    assert_eq!(scene.migration(), None);
}

#[test]
fn a_cleanup_is_told_a_node_of_the_migration() {
    let scene = Scene::new(DiskTemplate::Ext);
    scene.prepare().unwrap();
    scene.set_offline(SOURCE, true);
    for (node, told) in [
        (
            "node3",
            "instance web is being migrated from node node1 to node node2, and has nothing on node node3",
        ),
        (SOURCE, "node node1 is marked offline: nothing can run there"),
    ] {
        let error = now(cleanup(&scene.engine(&quiet), WEB, node)).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
    assert!(scene.migration().is_some());
    scene.kill(SOURCE);
    let report = now(cleanup(&scene.engine(&quiet), WEB, TARGET)).unwrap();
    assert!(
        report.warnings[0]
            .starts_with("node node1 is marked offline, and was not asked to give up the disks of web")
    );
    scene.assert_settled(TARGET, BEFORE);
}

/// Whatever it is marked as: both could write.
#[test]
fn a_node_that_mirrors_are_connected_to_is_not_off() {
    let scene = Scene::new(DiskTemplate::Drbd);
    scene.prepare().unwrap();
    scene.set_offline(SOURCE, true);
    let before = scene.cluster.world();
    for ended in [
        now(cleanup(&scene.engine(&quiet), WEB, TARGET)),
        now(finish(&scene.engine(&quiet), WEB)),
    ] {
        let told = chain(&ended.unwrap_err());
        assert!(told.contains("is marked offline, but is not off"), "{told}");
    }
    assert_eq!(scene.cluster.world(), before);
    assert!(scene.migration().is_some());
    scene.kill(SOURCE);
    now(cleanup(&scene.engine(&quiet), WEB, TARGET)).unwrap();
    scene.assert_settled(TARGET, BEFORE);
}

#[test]
fn a_node_that_only_does_not_answer_is_not_given_up() {
    for template in TEMPLATES {
        let scene = Scene::new(template);
        scene.prepare().unwrap();
        scene.kill(SOURCE);
        let error = now(finish(&scene.engine(&quiet), WEB)).unwrap_err();
        assert!(matches!(error, Error::HalfMigrated { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("--offline yes"));
        assert!(scene.migration().is_some());
        scene.set_offline(SOURCE, true);
        now(finish(&scene.engine(&quiet), WEB)).unwrap();
        scene.assert_settled(TARGET, BEFORE);
    }
}
