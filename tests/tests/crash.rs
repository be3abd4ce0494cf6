//! Processes that are killed with SIGKILL at every point of every operation, on real files and real loop devices, and what the next
//! process makes of what they left.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gnt_bdev::Host;
use gnt_cmdlib::kind::Kind;
use gnt_cmdlib::ops::activate::{activate, deactivate};
use gnt_cmdlib::ops::add::{AddRequest, add};
use gnt_cmdlib::ops::convert::{ConvertRequest, convert};
use gnt_cmdlib::ops::grow::{Growth, grow};
use gnt_cmdlib::ops::image::{ImageRequest, image};
use gnt_cmdlib::ops::modify::{DiskChange, modify};
use gnt_cmdlib::ops::remove::remove;
use gnt_cmdlib::ops::rename::rename;
use gnt_cmdlib::ops::snapshot::{SnapshotRequest, remove_snapshot, restore, snapshot};
use gnt_cmdlib::ops::wipe::wipe;
use gnt_cmdlib::step::Pace;
use gnt_cmdlib::verify::{FindingKind, verify};
use gnt_cmdlib::{Engine, Error, Event, OneNode, Report, Result};
use gnt_config::{AccessMode, Disk, DiskTemplate, FileDriver, LogicalId, Mebibytes, Object};
use gnt_process::System;
use gnt_store::{Filter, OperationRecord, Store, StoreError};
use gnt_tests::oracle::normalized;
use gnt_tests::place::{copy_providers, private_dir};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

mod place {
    use super::*;

    /// A state directory with its node.
    pub(super) struct Place {
        pub(super) store: Store,
        pub(super) nodes: OneNode,
        pub(super) state: PathBuf,
    }

    impl Place {
        pub(super) fn open(state: &Path) -> Self {
            let store = Store::open(state).unwrap();
            if !store.is_initialised().unwrap() {
                gnt_cmdlib::init::init(&store, state, "cluster", "node1").unwrap();
            }
            let mut settings = store.settings().unwrap();
            settings.es_search_path = vec![state.join("providers")];
            let host = Host::new("node1", &settings, state, Arc::new(System));
            let all = store.nodes().unwrap();
            let nodes = OneNode::new(&all[0].uuid, host, &all);
            let state = state.to_owned();
            Self { store, nodes, state }
        }

        pub(super) fn engine<'a>(&'a self, observer: &'a (dyn Fn(Event<'_>) + Sync)) -> Engine<'a, OneNode> {
            Engine {
                store: &self.store,
                nodes: &self.nodes,
                dry_run: false,
                observer,
            }
        }

        pub(super) fn unfinished(&self) -> Vec<OperationRecord> {
            self.store.operations(Filter::Unfinished).unwrap()
        }

        /// The file that a disk's data is in.
        fn file_of(&self, disk: &Disk) -> PathBuf {
            match &disk.logical_id {
                LogicalId::Ext { volume, .. } => self.state.join("ext-volumes").join(volume).join("data"),
                LogicalId::BlockDev { path } => fs::canonicalize(path).unwrap(),
                id => PathBuf::from(&*id.volume()),
            }
        }

        /// Writes something to every disk that only it has.
        pub(super) fn write_all(&self) {
            for disk in self.store.disks().unwrap() {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .open(self.file_of(&disk))
                    .unwrap();
                for block in 0..SIZE.0 {
                    let text = format!("{} block {block}", disk.uuid);
                    file.write_all_at(text.as_bytes(), block << 20).unwrap();
                }
                file.sync_all().unwrap();
            }
        }

        /// The disk whose data a disk has, if it has any.
        pub(super) fn source_of(&self, disk: &Disk) -> Option<String> {
            let file = fs::File::open(self.file_of(disk)).unwrap();
            let mut uuids = BTreeSet::new();
            for block in 0..SIZE.0 {
                let mut bytes = [0; 36];
                file.read_exact_at(&mut bytes, block << 20).unwrap();
                uuids.insert((bytes != [0; 36]).then(|| String::from_utf8(bytes.to_vec()).unwrap()));
            }
            assert_eq!(uuids.len(), 1, "the data of {disk} is mixed: {uuids:?}");
            uuids.pop_first().flatten()
        }

        pub(super) fn picture(&self) -> Value {
            normalized(json!({
                "instances": self.store.instances().unwrap(), "disks": self.store.disks().unwrap(),
            }))
        }

        /// Nothing is lost and nothing left over; `before` are the disks that had data, of which that with index `overwritten` may have
        /// another's.
        pub(super) fn check(&self, before: &Value, overwritten: Option<u32>) {
            assert_eq!(self.unfinished(), []);
            let mut findings = now(verify(&self.store, &self.nodes)).unwrap();
            // A disk that was being removed is left detached, and its volume may not know that yet.
            findings
                .retain(|finding| finding.kind != FindingKind::StaleMetadata || finding.instance.is_some());
            assert_eq!(findings, []);
            let known = before["disks"].as_array().unwrap();
            let text = |disk: &Value, key: &str| disk[key].as_str().map(str::to_owned);
            let had_data: BTreeSet<_> = known.iter().filter_map(|disk| text(disk, "uuid")).collect();
            let types: BTreeSet<_> = known.iter().filter_map(|disk| text(disk, "dev_type")).collect();
            let mut files = BTreeSet::new();
            for disk in self.store.disks().unwrap() {
                let file = self.file_of(&disk);
                if !matches!(disk.logical_id, LogicalId::BlockDev { .. }) {
                    files.insert(file);
                }
                if overwritten.is_some_and(|index| disk.index() == Some(index)) {
                    continue;
                }
                if !types.is_empty() && !types.contains(&disk.dev_type.to_string()) {
                    let source = self.source_of(&disk);
                    let same = known.iter().find(|other| text(other, "iv_name") == disk.iv_name);
                    assert_eq!(source, same.and_then(|other| text(other, "uuid")), "converted");
                } else if had_data.contains(&disk.uuid) {
                    assert_eq!(self.source_of(&disk), Some(disk.uuid.clone()));
                } else if disk.iv_name.is_none() {
                    // A snapshot.
                    assert!(self.source_of(&disk).is_some_and(|uuid| had_data.contains(&uuid)));
                }
            }
            assert_eq!(data_files(&self.state), files);
            let (mut links, mut attached) = (BTreeSet::new(), BTreeSet::new());
            for instance in self.store.instances().unwrap().iter().filter(|i| i.disks_active) {
                for (index, disk) in self.store.disks_of(instance).unwrap().iter().enumerate() {
                    links.insert(format!("{}:{index}", instance.name));
                    if let LogicalId::Ext { .. } = disk.logical_id {
                        attached.insert(self.file_of(disk));
                    }
                }
            }
            assert_eq!(names(&self.state.join("instance-disks")), links);
            let loops: BTreeSet<_> = loops(&self.state.join("ext-volumes")).into_values().collect();
            assert_eq!(loops, attached);
        }
    }

    /// Every regular file that could be a disk's data, whole or half made.
    fn data_files(state: &Path) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut pending: Vec<_> = ["file-storage", "shared-file-storage", "ext-volumes"]
            .map(|name| state.join(name))
            .into();
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                let is_note = path
                    .file_name()
                    .is_some_and(|name| name == "meta" || name.to_string_lossy().starts_with("open."));
                if path.is_dir() {
                    pending.push(path);
                } else if !is_note {
                    found.insert(path);
                }
            }
        }
        found
    }

    fn names(dir: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

use place::Place;

/// Size of every disk.
const SIZE: Mebibytes = Mebibytes(4);
const INSTANCE: &str = "inst1";
/// Name of a snapshot, and of an image in the state directory.
const SNAPSHOT: &str = "before";
/// What an image has in each block: as long as a UUID.
const IMAGE: &str = "this is what an image has in a block";

/// A directory that takes its loop devices with it when it goes.
struct Sandbox(TempDir);

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self(private_dir().unwrap());
        fs::create_dir(sandbox.state()).unwrap();
        let providers = sandbox.state().join("providers");
        copy_providers("providers", &providers).unwrap();
        sandbox
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// A block device to adopt, the same one for the same number.
    fn device(&self, number: usize) -> String {
        let file = self.0.path().join(format!("device{number}"));
        let known = loops(&file).into_keys().next();
        known.unwrap_or_else(|| {
            let made = fs::File::create(&file).unwrap();
            made.set_len(SIZE.bytes()).unwrap();
            let output = Command::new("losetup")
                .args(["--find", "--show"])
                .arg(&file)
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for device in loops(self.0.path()).into_keys() {
            let _ = Command::new("losetup").args(["--detach", &device]).status();
        }
    }
}

/// Loop devices by name, with their files, as far as these are below `dir`.
fn loops(dir: &Path) -> BTreeMap<String, PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backed = devices.filter_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        let file = PathBuf::from(file.trim_end().trim_end_matches(" (deleted)"));
        let name = device.file_name().into_string().ok()?;
        file.starts_with(dir).then(|| (format!("/dev/{name}"), file))
    });
    backed.collect()
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let mut runtime = runtime;
    runtime.enable_all().build().unwrap().block_on(future)
}

fn quiet(_: Event<'_>) {}

/// What is done to an instance with three disks, if not to one that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Deed {
    Add,
    Activate,
    Deactivate,
    Remove,
    Rename,
    Grow,
    Modify,
    Insert,
    Detach,
    Snapshot,
    Restore,
    RemoveSnapshot,
    Convert(DiskTemplate),
    Wipe,
    Image,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    template: DiskTemplate,
    active: bool,
    deed: Deed,
}

/// Every operation that disks of the template have.
fn rows(template: DiskTemplate) -> Vec<Row> {
    let mut deeds = vec![
        (false, Deed::Add),
        (false, Deed::Activate),
        (true, Deed::Deactivate),
        (true, Deed::Remove),
        (false, Deed::Rename),
        (true, Deed::Modify),
        (true, Deed::Insert),
        (true, Deed::Detach),
        (false, Deed::Wipe),
        (false, Deed::Image),
    ];
    let to = match template {
        DiskTemplate::File => DiskTemplate::Ext,
        DiskTemplate::Ext => DiskTemplate::SharedFile,
        _ => DiskTemplate::File,
    };
    deeds.push((false, Deed::Convert(to)));
    if gnt_config::template::GROWABLE.contains(template) {
        deeds.extend([(false, Deed::Grow), (true, Deed::Grow)]);
    }
    if gnt_bdev::driver(template.device().unwrap())
        .unwrap()
        .capabilities()
        .contains(gnt_bdev::Operation::Snapshot)
    {
        deeds.extend([
            (true, Deed::Snapshot),
            (false, Deed::Restore),
            (true, Deed::RemoveSnapshot),
        ]);
    }
    let row = |(active, deed)| Row {
        template,
        active,
        deed,
    };
    deeds.into_iter().map(row).collect()
}

impl Deed {
    fn kind(self) -> Kind {
        match self {
            Self::Add => Kind::Add,
            Self::Activate => Kind::Activate,
            Self::Deactivate => Kind::Deactivate,
            Self::Remove => Kind::Remove,
            Self::Rename => Kind::Rename,
            Self::Grow => Kind::Grow,
            Self::Modify | Self::Insert | Self::Detach => Kind::Modify,
            Self::Snapshot => Kind::Snapshot,
            Self::Restore => Kind::RestoreSnapshot,
            Self::RemoveSnapshot => Kind::RemoveSnapshot,
            Self::Convert(_) => Kind::Convert,
            Self::Wipe => Kind::Wipe,
            Self::Image => Kind::Image,
        }
    }
}

impl Row {
    fn request(self, devices: &[String]) -> AddRequest {
        let wish = |device: &String| -> Object {
            let wish = match gnt_config::template::MUST_ADOPT.contains(self.template) {
                true => json!({"adopt": device}),
                false => json!({"size": SIZE.0}),
            };
            wish.as_object().unwrap().clone()
        };
        AddRequest {
            instance: INSTANCE.to_owned(),
            template: self.template,
            disks: devices.iter().map(wish).collect(),
            primary: None,
            secondary: None,
            file_driver: FileDriver::Loop,
            file_storage_dir: None,
        }
    }

    /// Whether something is lost that cannot be brought back.
    fn destroys(self) -> bool {
        let removes = matches!(
            self.deed,
            Deed::Remove | Deed::Modify | Deed::RemoveSnapshot | Deed::Convert(_)
        );
        removes || self.overwritten().is_some()
    }

    /// Index of the disk that has another's data afterwards.
    fn overwritten(self) -> Option<u32> {
        matches!(self.deed, Deed::Restore | Deed::Wipe | Deed::Image).then_some(1)
    }

    /// What was to be written is written.
    fn check_written(self, place: &Place) {
        let Some(index) = self.overwritten() else { return };
        let instance = place.store.instance(INSTANCE).unwrap().unwrap();
        let disk = place.store.disks_of(&instance).unwrap().remove(index as usize);
        let detached = place.store.detached_disks().unwrap().pop();
        let expected = match self.deed {
            Deed::Restore => detached.map(|disk| disk.uuid),
            Deed::Image => Some(IMAGE.to_owned()),
            _ => None,
        };
        assert_eq!(place.source_of(&disk), expected);
    }

    fn set_up(self, place: &Place, devices: &[String]) {
        let engine = place.engine(&quiet);
        if self.deed != Deed::Add {
            now(add(&engine, &self.request(&devices[..3]))).unwrap();
        }
        if matches!(self.deed, Deed::Restore | Deed::RemoveSnapshot) {
            let wish = SnapshotRequest {
                disk: "1".to_owned(),
                name: Some(SNAPSHOT.to_owned()),
                size: None,
            };
            now(snapshot(&engine, INSTANCE, &[wish])).unwrap();
        }
        if self.active {
            now(activate(&engine, INSTANCE)).unwrap();
        }
        place.write_all();
        let image = fs::File::create(place.state.join(SNAPSHOT)).unwrap();
        for block in 0..SIZE.0 {
            image.write_all_at(IMAGE.as_bytes(), block << 20).unwrap();
        }
        image.set_len(SIZE.bytes()).unwrap();
    }

    async fn run(self, engine: &Engine<'_, OneNode>, devices: &[String]) -> Result<Report> {
        let disk = "1".to_owned();
        match self.deed {
            Deed::Add => add(engine, &self.request(&devices[..2])).await,
            Deed::Activate => activate(engine, INSTANCE).await,
            Deed::Deactivate => deactivate(engine, INSTANCE).await,
            Deed::Remove => remove(engine, INSTANCE).await,
            Deed::Rename => rename(engine, INSTANCE, "renamed").await,
            Deed::Grow => grow(engine, INSTANCE, "1", Growth::By(SIZE)).await,
            Deed::Modify => {
                let set = DiskChange::Set {
                    disk: "0".to_owned(),
                    name: Some(Some("data".to_owned())),
                    mode: Some(AccessMode::Ro),
                };
                modify(engine, INSTANCE, &[set, DiskChange::Remove { disk }]).await
            }
            Deed::Insert => {
                let wish = self.request(&devices[3..4]).disks.remove(0);
                modify(engine, INSTANCE, &[DiskChange::Add { at: Some(1), wish }]).await
            }
            Deed::Detach => modify(engine, INSTANCE, &[DiskChange::Detach { disk }]).await,
            Deed::Snapshot => {
                let wish = SnapshotRequest {
                    disk,
                    name: None,
                    size: None,
                };
                snapshot(engine, INSTANCE, &[wish]).await
            }
            Deed::Restore => restore(engine, INSTANCE, "1", SNAPSHOT, Pace::default()).await,
            Deed::RemoveSnapshot => remove_snapshot(engine, INSTANCE, SNAPSHOT).await,
            Deed::Convert(template) => {
                let request = ConvertRequest {
                    template,
                    primary: None,
                    secondary: None,
                    params: Object::new(),
                    disks: Vec::new(),
                    file_driver: FileDriver::Loop,
                    file_storage_dir: None,
                    pace: Pace::default(),
                };
                convert(engine, INSTANCE, &request).await
            }
            Deed::Wipe => wipe(engine, INSTANCE, &[disk], Pace::default()).await,
            Deed::Image => {
                let path = engine.store.settings()?.disk_links_dir.with_file_name(SNAPSHOT);
                let request = ImageRequest {
                    disk,
                    path: path.to_str().unwrap_or_default().to_owned(),
                    node: None,
                    pace: Pace::default(),
                };
                image(engine, INSTANCE, &request).await
            }
        }
    }
}

/// What another process is to do, in its environment.
const ORDER: &str = "GNT_TEST_ORDER";

/// Starts this test program again, as a process of its own.
fn start(order: &Value) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--ignored"])
        .env(ORDER, order.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "is the process that other tests start and kill"]
fn the_process_that_is_killed() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Value = serde_json::from_str(&order).unwrap();
    let place = Place::open(Path::new(order["state"].as_str().unwrap()));
    if let Some(number) = order["crowd"].as_u64() {
        return crowd(&place, number);
    }
    let template: DiskTemplate = serde_json::from_value(order["template"].clone()).unwrap();
    let row = rows(template)[order["row"].as_u64().unwrap() as usize];
    let devices: Vec<String> = serde_json::from_value(order["devices"].clone()).unwrap();
    let at = order["at"].as_u64().unwrap() as usize;
    let events = AtomicUsize::new(0);
    let observer = |_: Event<'_>| {
        if events.fetch_add(1, Ordering::Relaxed) == at {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    };
    now(row.run(&place.engine(&observer), &devices)).unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Recovery {
    NextOperation,
    Resume,
    Abort,
}

impl Recovery {
    /// Whether a kill at this event is to be recovered from in this way. Operations that move data have many events, and take turns.
    fn is_due(self, row: Row, at: usize) -> bool {
        let moves_data = matches!(row.deed, Deed::Convert(_)) || row.overwritten().is_some();
        !moves_data || at % 3 == self as usize
    }

    fn run(self, place: &Place, record: &OperationRecord) -> Result<Report> {
        let engine = place.engine(&quiet);
        match self {
            Self::NextOperation => now(engine.run(Kind::Modify, &[INSTANCE], async |_| Ok(Vec::new()))),
            Self::Resume => now(engine.resume(record)),
            Self::Abort => now(engine.abort(record)),
        }
    }
}

/// Kills at the first event, the second, and so on, until the operation comes to its end.
fn kill_everywhere(template: DiskTemplate) {
    for (number, row) in rows(template).into_iter().enumerate() {
        for recovery in [Recovery::Abort, Recovery::NextOperation, Recovery::Resume] {
            let mut spare: Option<(Sandbox, Value)> = None;
            for at in (0..).filter(|at| recovery.is_due(row, *at)) {
                let (sandbox, before) = spare.take().unwrap_or_else(|| {
                    let sandbox = Sandbox::new();
                    let place = Place::open(&sandbox.state());
                    let devices: Vec<_> = devices(&sandbox, template);
                    row.set_up(&place, &devices);
                    let before = place.picture();
                    (sandbox, before)
                });
                let order = json!({
                    "state": sandbox.state(), "template": template, "row": number, "at": at,
                    "devices": devices(&sandbox, template),
                });
                let status = start(&order).wait().unwrap();
                let place = Place::open(&sandbox.state());
                if status.success() {
                    place.check(&before, row.overwritten());
                    row.check_written(&place);
                    break;
                }
                assert_eq!(status.signal(), Some(9), "{row:?} before event {at}");
                eprintln!("{row:?}, killed at event {at}, {recovery:?}");
                // The last event comes when the operation is over.
                if let Some(record) = place.unfinished().pop() {
                    assert!(record.interrupted);
                    match recovery.run(&place, &record) {
                        // Nobody knows how far a removal came.
                        Ok(report) if recovery == Recovery::Abort && row.destroys() => {
                            let is_known = |warning: &String| {
                                warning.ends_with("its data may be damaged")
                                    || warning.ends_with("may be overwritten")
                            };
                            assert!(report.warnings.iter().all(is_known), "{:?}", report.warnings);
                        }
                        Ok(report) => assert_eq!(report.warnings, [""; 0]),
                        Err(Error::AbortedLate { .. }) if recovery == Recovery::Abort => {}
                        // It goes on when it is told to.
                        Err(Error::Overwriting { .. })
                            if recovery == Recovery::NextOperation && row.overwritten().is_some() =>
                        {
                            let report = Recovery::Resume.run(&place, &record).unwrap();
                            assert_eq!(report.warnings, [""; 0]);
                            row.check_written(&place);
                        }
                        Err(error) => panic!("{}", gnt_cmdlib::error::chain(&error)),
                    }
                    if recovery == Recovery::Resume {
                        let same = row.overwritten().is_some();
                        assert_eq!(place.picture() == before, same, "it is done");
                        row.check_written(&place);
                    }
                }
                place.check(&before, row.overwritten());
                if place.picture() == before && row.overwritten().is_none() {
                    spare = Some((sandbox, before));
                }
            }
        }
    }
}

fn devices(sandbox: &Sandbox, template: DiskTemplate) -> Vec<String> {
    let adopts = gnt_config::template::MUST_ADOPT.contains(template);
    (0..4)
        .map(|number| {
            if adopts {
                sandbox.device(number)
            } else {
                String::new()
            }
        })
        .collect()
}

#[test]
fn file_survives_kill_9_everywhere() {
    kill_everywhere(DiskTemplate::File);
}

#[test]
fn sharedfile_survives_kill_9_everywhere() {
    kill_everywhere(DiskTemplate::SharedFile);
}

#[test]
fn blockdev_survives_kill_9_everywhere() {
    kill_everywhere(DiskTemplate::Blockdev);
}

#[test]
fn ext_survives_kill_9_everywhere() {
    kill_everywhere(DiskTemplate::Ext);
}

#[test]
fn every_kind_of_operation_and_every_template_is_killed() {
    let kinds: BTreeSet<_> = rows(DiskTemplate::Ext)
        .iter()
        .map(|row| row.deed.kind().as_str())
        .collect();
    let all: BTreeSet<_> = <Kind as strum::IntoEnumIterator>::iter()
        .map(Kind::as_str)
        .collect();
    // What needs several nodes is killed in guests, and like what only makes or mends what was lost, over the simulated cluster.
    let elsewhere = [
        Kind::ReplaceDisks,
        Kind::RecreateDisks,
        Kind::MigratePrepare,
        Kind::MigrateFinish,
        Kind::MigrateAbort,
        Kind::MigrateCleanup,
        Kind::Failover,
        Kind::Move,
        Kind::Recover,
        Kind::Repair,
        Kind::NodeModify,
        Kind::NodeRemove,
    ];
    let elsewhere: BTreeSet<_> = elsewhere.map(Kind::as_str).into();
    assert_eq!(kinds, all.difference(&elsewhere).copied().collect());
    // Logical volumes are the whole machine's, and Ceph and Gluster have servers: they are in guests only, with `tests/testbed`.
    let in_guests = gnt_config::template::LVM | DiskTemplate::Rbd | DiskTemplate::Gluster;
    let templates: Vec<_> = gnt_bdev::DEV_MAP
        .iter()
        .map(|driver| driver.device().template())
        .filter(|template| !in_guests.contains(*template))
        .collect();
    assert_eq!(
        templates.len(),
        4,
        "a new template needs a test here: {templates:?}"
    );
}

/// A provider's script that is at work when its process is killed must not go on behind the back of whoever undoes the operation.
#[test]
fn a_script_does_not_outlive_the_undo_of_its_operation() {
    let sandbox = Sandbox::new();
    let state = sandbox.state();
    let script = state.join("providers/ext/create");
    fs::rename(&script, script.with_file_name("create.real")).unwrap();
    let marker = sandbox.0.path().join("marker");
    let slow = format!(
        "#!/bin/sh\ntouch {}\nsleep 3\nexec \"${{0%/*}}/create.real\"\n",
        marker.display()
    );
    fs::write(&script, slow).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();

    let row = rows(DiskTemplate::Ext)
        .iter()
        .position(|row| row.deed == Deed::Add);
    let order = json!({
        "state": state, "template": DiskTemplate::Ext, "row": row, "at": usize::MAX >> 1, "devices": ["", "", "", ""],
    });
    let place = Place::open(&state);
    let before = place.picture();
    let mut child = start(&order);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !marker.exists() {
        assert!(Instant::now() < deadline, "the script was never started");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    let record = place.unfinished().pop().unwrap();
    Recovery::NextOperation.run(&place, &record).unwrap();
    place.check(&before, None);
    // Had it been left alone, it would have made the volume by then.
    std::thread::sleep(Duration::from_millis(3500));
    place.check(&before, None);
}

const CROWD: u64 = 8;

/// One of many at work on two instances at once.
fn crowd(place: &Place, number: u64) {
    let engine = place.engine(&quiet);
    let row = Row {
        template: if number.is_multiple_of(2) {
            DiskTemplate::Ext
        } else {
            DiskTemplate::File
        },
        active: false,
        deed: Deed::Add,
    };
    for round in 0..3 {
        let instance = format!("inst{}", (number + round) % 2);
        let request = AddRequest {
            instance: instance.clone(),
            ..row.request(&[String::new()])
        };
        for result in [
            now(add(&engine, &request)),
            now(activate(&engine, &instance)),
            now(grow(&engine, &instance, "0", Growth::By(SIZE))),
            now(remove(&engine, &instance)),
        ] {
            match result {
                Ok(report) => assert_eq!(report.warnings, [""; 0]),
                Err(Error::InstanceExists { .. } | Error::NoInstance { .. }) => {}
                Err(Error::Store(StoreError::Locked { holder, .. })) => {
                    assert!(holder.instance.starts_with("inst"))
                }
                Err(error) => panic!("{}", gnt_cmdlib::error::chain(&error)),
            }
        }
    }
}

#[test]
fn many_processes_at_once_wait_their_turn_or_are_told_whose_it_is() {
    let sandbox = Sandbox::new();
    let place = Place::open(&sandbox.state());
    let before = place.picture();
    let order = |number| json!({"state": sandbox.state(), "crowd": number});
    let children: Vec<_> = (0..CROWD).map(|number| start(&order(number))).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    place.check(&before, None);
    for instance in place.store.instances().unwrap() {
        now(remove(&place.engine(&quiet), &instance.name)).unwrap();
    }
    place.check(&before, None);
    assert_eq!(place.picture(), before);
}
