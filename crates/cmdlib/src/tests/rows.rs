//! The operations, on what and with what.

use std::collections::BTreeSet;
use std::sync::Mutex;

use gnt_config::template::{
    COPYABLE, GROWABLE, HAVE_PROVIDER, HAVE_SNAPSHOTS, LVM, MAY_ADOPT, MIRRORED, MUST_ADOPT, NEEDS_SECONDARY,
    NOT_CONVERTIBLE_TO,
};
use gnt_config::{AccessMode, DiskTemplate, FileDriver, Mebibytes, Object};
use gnt_store::Store;
use serde_json::json;
use strum::{IntoEnumIterator, VariantNames};

use crate::error::Result;
use crate::kind::Kind;
use crate::ops::activate::{activate, deactivate};
use crate::ops::add::{AddRequest, add};
use crate::ops::convert::{ConvertRequest, convert};
use crate::ops::failover::{FailoverRequest, failover};
use crate::ops::grow::{Growth, grow};
use crate::ops::image::{ImageRequest, image};
use crate::ops::migrate::{abort, cleanup, finish, prepare};
use crate::ops::modify::{DiskChange, modify};
use crate::ops::node::{self, NodeChanges};
use crate::ops::recreate_disks::{RecreateRequest, recreate_disks};
use crate::ops::relocate::relocate;
use crate::ops::remove::remove;
use crate::ops::rename::rename;
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::ops::snapshot::{SnapshotRequest, remove_snapshot, restore, snapshot};
use crate::ops::wipe::wipe;
use crate::ops::{Subject, find_node};
use crate::recover::{import, propose};
use crate::saga::{Engine, Event, Report};
use crate::sim::SimCluster;
use crate::step::{Pace, Step};
use crate::tests::bench::{Bench, NODES};
use crate::verify::{Repair, RepairKind, mend, repair, verify};

/// The instance that is worked on.
pub(super) const INSTANCE: &str = "inst1";
/// Another one, which must not notice anything.
pub(super) const BYSTANDER: &str = "inst2";
/// Name of a detached disk.
pub(super) const LOOSE: &str = "loose";
/// Name of a snapshot.
pub(super) const SNAPSHOT: &str = "before";
/// Path of an image.
pub(super) const IMAGE: &str = "/images/one";
/// Index of the disk that something is wrong with.
pub(super) const MENDED: usize = 1;
/// Index of a disk that the instance does not have.
pub(super) const STRAY: u32 = 9;
/// Size of every disk.
pub(super) const SIZE: Mebibytes = Mebibytes(64);

/// One operation and what it is done to.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) template: DiskTemplate,
    /// Whether the disks are in use.
    pub(super) active: bool,
    pub(super) deed: Deed,
    /// What is wrong before.
    pub(super) troubles: &'static [Trouble],
}

/// Something that is wrong with a node, which is named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// It has no power.
    Dead(&'static str),
    /// It is said to be offline.
    Offline(&'static str),
}

#[derive(Debug, Clone)]
pub(super) enum Deed {
    Add,
    /// Add with volumes that are there already.
    Adopt,
    Remove,
    Activate,
    Deactivate,
    Grow(Growth),
    /// Changes of the disks, made one after the other.
    Modify(Vec<Edit>),
    Snapshot,
    Restore,
    RemoveSnapshot,
    Rename,
    /// Make lost disks anew, on these nodes if there are any.
    Recreate(&'static [&'static str]),
    /// Replace volumes or a node; whether what is replaced is released early.
    Replace(Replacement, bool),
    /// To the second node.
    Prepare,
    /// What the first of these has begun.
    Finish,
    Abort,
    Cleanup,
    /// To the second node.
    Failover,
    /// To a template, and to another node if one is named.
    Convert(DiskTemplate, Option<&'static str>),
    /// To the second node.
    Move,
    Wipe,
    Image,
    /// Recover what the configuration has lost.
    Recover,
    /// Look for what is wrong, and remove a link that is left over.
    Repair,
    /// Mend one thing that is wrong with the second disk.
    Mend(RepairKind),
    NodeModify,
    NodeRemove,
}

/// What [`DiskChange`]s are made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit {
    Add(Option<usize>),
    Remove(usize),
    Detach(usize),
    Attach(Option<usize>),
    Set(usize),
}

impl Deed {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Add | Self::Adopt => Kind::Add,
            Self::Remove => Kind::Remove,
            Self::Activate => Kind::Activate,
            Self::Deactivate => Kind::Deactivate,
            Self::Grow(_) => Kind::Grow,
            Self::Modify(_) => Kind::Modify,
            Self::Snapshot => Kind::Snapshot,
            Self::Restore => Kind::RestoreSnapshot,
            Self::RemoveSnapshot => Kind::RemoveSnapshot,
            Self::Rename => Kind::Rename,
            Self::Replace(..) => Kind::ReplaceDisks,
            Self::Recreate(_) => Kind::RecreateDisks,
            Self::Prepare => Kind::MigratePrepare,
            Self::Finish => Kind::MigrateFinish,
            Self::Abort => Kind::MigrateAbort,
            Self::Cleanup => Kind::MigrateCleanup,
            Self::Failover => Kind::Failover,
            Self::Convert(..) => Kind::Convert,
            Self::Move => Kind::Move,
            Self::Wipe => Kind::Wipe,
            Self::Image => Kind::Image,
            Self::Recover => Kind::Recover,
            Self::Repair | Self::Mend(_) => Kind::Repair,
            Self::NodeModify => Kind::NodeModify,
            Self::NodeRemove => Kind::NodeRemove,
        }
    }

    /// Indexes of the disks that have other data afterwards.
    pub(super) fn overwritten(&self) -> &'static [usize] {
        match self {
            Self::Wipe => &[0, 2],
            Self::Image | Self::Restore => &[1],
            _ => &[],
        }
    }
}

/// Every operation on every template that has it, with disks in use and not.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for driver in gnt_bdev::DEV_MAP {
        let template = driver.device().template();
        let mut deeds = vec![
            (false, Deed::Add),
            (false, Deed::Activate),
            (false, Deed::Rename),
            (true, Deed::Activate),
        ];
        deeds.extend([(false, Deed::Wipe), (false, Deed::Image)]);
        let convertible = conversions().into_iter().filter(|row| row.template == template);
        deeds.extend(convertible.take(1).map(|row| (false, row.deed)));
        let other = match template == DiskTemplate::File {
            true => DiskTemplate::Ext,
            false => DiskTemplate::File,
        };
        deeds.push((false, Deed::Convert(other, Some(NODES[1]))));
        if COPYABLE.contains(template) {
            deeds.push((false, Deed::Move));
        }
        for active in [false, true] {
            deeds.extend([(active, Deed::Remove), (active, Deed::Deactivate)]);
            deeds.extend(edits().into_iter().map(|edits| (active, Deed::Modify(edits))));
            if GROWABLE.contains(template) {
                deeds.push((active, Deed::Grow(Growth::By(SIZE))));
                deeds.push((active, Deed::Grow(Growth::To(SIZE))));
            }
            if MAY_ADOPT.difference(MUST_ADOPT).contains(template) && !active {
                deeds.push((active, Deed::Adopt));
            }
            if !MUST_ADOPT.contains(template) && !active {
                deeds.push((active, Deed::Recreate(&[])));
            }
            if LVM.contains(template) && !active {
                let nodes = match NEEDS_SECONDARY.contains(template) {
                    true => &[NODES[2], NODES[0]][..],
                    false => &NODES[2..],
                };
                deeds.push((active, Deed::Recreate(nodes)));
            }
            if LVM.contains(template) && !active {
                let other = match NEEDS_SECONDARY.contains(template) {
                    true => DiskTemplate::Plain,
                    false => DiskTemplate::Drbd,
                };
                deeds.push((active, Deed::Convert(other, None)));
            }
            if NEEDS_SECONDARY.contains(template) {
                deeds.extend(replacements().map(|what| (active, Deed::Replace(what, false))));
                let what = Replacement::NewSecondary(NODES[2].to_owned());
                deeds.push((active, Deed::Replace(what, true)));
            }
            if HAVE_SNAPSHOTS.contains(template) {
                deeds.push((active, Deed::Snapshot));
                deeds.push((active, Deed::RemoveSnapshot));
                if !active {
                    deeds.push((active, Deed::Restore));
                }
            }
            if MIRRORED.contains(template) {
                deeds.push((active, Deed::Failover));
            }
            if MIRRORED.contains(template) && active {
                let phases = [Deed::Prepare, Deed::Finish, Deed::Abort, Deed::Cleanup];
                deeds.extend(phases.map(|phase| (active, phase)));
            }
            // Devices that are there without us say nothing of their owners.
            if !MUST_ADOPT.contains(template) && !active {
                deeds.push((active, Deed::Recover));
            }
            // Links are the same for all.
            if template == DiskTemplate::Ext && !active {
                deeds.push((active, Deed::Repair));
            }
            deeds.extend(mends(template, active).map(|kind| (active, Deed::Mend(kind))));
        }
        rows.extend(deeds.into_iter().map(|(active, deed)| Row {
            template,
            active,
            deed,
            troubles: &[],
        }));
    }
    // What is done to a node is the same whatever is elsewhere.
    rows.extend([Deed::NodeModify, Deed::NodeRemove].map(|deed| Row {
        template: DiskTemplate::Ext,
        active: true,
        deed,
        troubles: &[],
    }));
    // Nodes that have nothing to do with it.
    rows.push(Row {
        template: DiskTemplate::Ext,
        active: true,
        deed: Deed::Deactivate,
        troubles: &[Trouble::Dead(NODES[1]), Trouble::Offline(NODES[2])],
    });
    rows.push(Row {
        template: DiskTemplate::Ext,
        active: false,
        deed: Deed::Convert(DiskTemplate::Drbd, None),
        troubles: &[],
    });
    // The node that the instance was on is given up.
    let gone = [DiskTemplate::Drbd, DiskTemplate::Ext].map(|template| {
        [Deed::Failover, Deed::Cleanup].map(|deed| Row {
            template,
            active: true,
            deed,
            troubles: &[Trouble::Dead(NODES[0]), Trouble::Offline(NODES[0])],
        })
    });
    rows.extend(gone.into_iter().flatten());
    rows
}

impl Row {
    /// Whether the operation has very many steps: on two nodes, or with data to copy.
    pub(super) fn is_long(&self) -> bool {
        NEEDS_SECONDARY.contains(self.template) || matches!(self.deed, Deed::Convert(..) | Deed::Move)
    }
}

/// What can be wrong with a disk and mended. One that all nodes see and one that is mirrored stand for all.
fn mends(template: DiskTemplate, active: bool) -> impl Iterator<Item = RepairKind> {
    let (shared, mirrored) = (template == DiskTemplate::Ext, template == DiskTemplate::Drbd);
    RepairKind::iter().filter(move |kind| match kind {
        // Links are the same for all.
        RepairKind::RemoveLink => shared && !active,
        RepairKind::Unmap | RepairKind::Label => (shared || mirrored) && !active,
        RepairKind::Activate => (shared || mirrored) && active,
    })
}

/// Every conversion that copies on one node.
pub(super) fn conversions() -> Vec<Row> {
    let templates = || gnt_bdev::DEV_MAP.iter().map(|driver| driver.device().template());
    let fit = |from: &DiskTemplate, to: &DiskTemplate| {
        let known = !NEEDS_SECONDARY.contains(*from) && !NEEDS_SECONDARY.contains(*to);
        let other = from != to || HAVE_PROVIDER.contains(*to);
        known && other && !NOT_CONVERTIBLE_TO.contains(*to)
    };
    let pairs = templates().flat_map(|from| templates().map(move |to| (from, to)));
    let row = |(template, to)| Row {
        template,
        active: false,
        deed: Deed::Convert(to, None),
        troubles: &[],
    };
    pairs.filter(|(from, to)| fit(from, to)).map(row).collect()
}

/// Those that differ to the engine: there are disks with a directory, and disks that have a device only while they are in use.
pub(super) fn distinct_rows() -> impl Iterator<Item = Row> {
    rows().into_iter().filter(|row| match (row.template, &row.deed) {
        (DiskTemplate::File, _) => !row.active,
        (_, Deed::Adopt) => true,
        (DiskTemplate::Plain, Deed::Move | Deed::Convert(DiskTemplate::Drbd, _)) => true,
        // A directory goes, and one comes.
        (DiskTemplate::SharedFile, Deed::Convert(DiskTemplate::File, _)) => true,
        (DiskTemplate::Drbd, Deed::Remove | Deed::Modify(_)) => row.active,
        (DiskTemplate::Drbd, Deed::Grow(_)) => !row.active,
        (DiskTemplate::Drbd, Deed::Replace(what, early_release)) => {
            row.active == (*what == Replacement::OnPrimary) && !early_release
        }
        (DiskTemplate::Drbd, _) => true,
        (DiskTemplate::Ext, Deed::Remove | Deed::Deactivate | Deed::Modify(_)) => row.active,
        (template, _) => template == DiskTemplate::Ext,
    })
}

fn replacements() -> [Replacement; 3] {
    [
        Replacement::OnPrimary,
        Replacement::OnSecondary,
        Replacement::NewSecondary(NODES[2].to_owned()),
    ]
}

fn edits() -> [Vec<Edit>; 9] {
    use Edit::{Add, Attach, Detach, Remove, Set};
    [
        vec![Add(Some(1))],
        vec![Add(None)],
        vec![Remove(1)],
        vec![Detach(1)],
        vec![Attach(Some(1))],
        vec![Set(1)],
        vec![Add(Some(0)), Remove(0), Add(Some(1))],
        vec![Remove(0), Add(Some(1)), Remove(1)],
        vec![Set(0), Detach(2), Attach(Some(0)), Add(Some(2)), Remove(1)],
    ]
}

impl Row {
    /// A wish for a disk, as `--disk` gives it; `number` tells adopted devices apart.
    pub(super) fn wish(&self, number: usize) -> Object {
        let wish = match MUST_ADOPT.contains(self.template) {
            true => json!({"adopt": device(number)}),
            false => json!({"size": SIZE.0}),
        };
        wish.as_object().cloned().unwrap_or_default()
    }

    pub(super) fn request(&self, instance: &str, wishes: Vec<Object>) -> AddRequest {
        AddRequest {
            instance: instance.to_owned(),
            template: self.template,
            disks: wishes,
            primary: Some(NODES[0].to_owned()),
            secondary: Some(NODES[1].to_owned()).filter(|_| NEEDS_SECONDARY.contains(self.template)),
            file_driver: FileDriver::Loop,
            file_storage_dir: None,
        }
    }

    /// Runs the operation.
    pub(super) async fn run(&self, engine: &Engine<'_, SimCluster>) -> Result<Report> {
        match &self.deed {
            Deed::Add => {
                let wishes = vec![self.wish(0), self.wish(1)];
                add(engine, &self.request(INSTANCE, wishes)).await
            }
            Deed::Adopt => {
                let wish = |number| json!({"adopt": volume(number)});
                let wishes = [wish(0), wish(1)].into_iter();
                let wishes = wishes.filter_map(|wish| wish.as_object().cloned()).collect();
                add(engine, &self.request(INSTANCE, wishes)).await
            }
            Deed::Remove => remove(engine, INSTANCE).await,
            Deed::Activate => activate(engine, INSTANCE).await,
            Deed::Deactivate => deactivate(engine, INSTANCE).await,
            Deed::Grow(growth) => grow(engine, INSTANCE, "1", *growth).await,
            Deed::Modify(edits) => {
                let changes: Vec<_> = edits.iter().map(|edit| self.change(*edit)).collect();
                modify(engine, INSTANCE, &changes).await
            }
            Deed::Snapshot => {
                let wish = |disk: &str| SnapshotRequest {
                    disk: disk.to_owned(),
                    name: None,
                    size: None,
                };
                snapshot(engine, INSTANCE, &[wish("0"), wish("2")]).await
            }
            Deed::Restore => restore(engine, INSTANCE, "1", SNAPSHOT, Pace::default()).await,
            Deed::RemoveSnapshot => remove_snapshot(engine, INSTANCE, SNAPSHOT).await,
            Deed::Convert(to, node) => {
                let request = ConvertRequest {
                    primary: node.map(str::to_owned),
                    ..conversion(*to)
                };
                convert(engine, INSTANCE, &request).await
            }
            Deed::Move => relocate(engine, INSTANCE, NODES[1], Pace::default()).await,
            Deed::Wipe => {
                wipe(
                    engine,
                    INSTANCE,
                    &["0".to_owned(), "2".to_owned()],
                    Pace::default(),
                )
                .await
            }
            Deed::Image => {
                let request = ImageRequest {
                    disk: "1".to_owned(),
                    path: IMAGE.to_owned(),
                    node: None,
                    pace: Pace::default(),
                };
                image(engine, INSTANCE, &request).await
            }
            Deed::Rename => rename(engine, INSTANCE, "renamed").await,
            Deed::Recreate(nodes) => {
                let request = RecreateRequest {
                    nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
                    ..RecreateRequest::default()
                };
                recreate_disks(engine, INSTANCE, &request).await
            }
            Deed::Replace(what, early_release) => {
                let request = ReplaceRequest {
                    what: what.clone(),
                    disks: Vec::new(),
                    early_release: *early_release,
                };
                replace_disks(engine, INSTANCE, &request).await
            }
            Deed::Prepare => Ok(prepare(engine, INSTANCE, Some(NODES[1])).await?.report),
            Deed::Finish => finish(engine, INSTANCE).await,
            Deed::Abort => abort(engine, INSTANCE).await,
            Deed::Cleanup => cleanup(engine, INSTANCE, NODES[1]).await,
            Deed::Failover => {
                let request = FailoverRequest {
                    instance: INSTANCE.to_owned(),
                    target: Some(NODES[1].to_owned()),
                    ignore_consistency: false,
                };
                failover(engine, &request).await
            }
            Deed::Repair => {
                let found = verify(engine.store, engine.nodes).await?;
                repair(engine, &found).await
            }
            Deed::Mend(kind) => mend(engine, &repair_of(*kind, engine.store)?).await,
            Deed::Recover => {
                let proposal = propose(engine.store, engine.nodes, &[]).await?;
                import(engine, &proposal).await
            }
            Deed::NodeModify => {
                let drained = NodeChanges {
                    drained: Some(true),
                    ..NodeChanges::default()
                };
                node::modify(engine, NODES[2], &drained).await
            }
            Deed::NodeRemove => node::remove(engine, NODES[2]).await,
        }
    }

    fn change(&self, edit: Edit) -> DiskChange {
        match edit {
            Edit::Add(at) => DiskChange::Add {
                at,
                wish: self.wish(at.unwrap_or(0)),
            },
            Edit::Remove(disk) => DiskChange::Remove {
                disk: disk.to_string(),
            },
            Edit::Detach(disk) => DiskChange::Detach {
                disk: disk.to_string(),
            },
            Edit::Attach(at) => DiskChange::Attach {
                at,
                disk: LOOSE.to_owned(),
            },
            Edit::Set(disk) => DiskChange::Set {
                disk: disk.to_string(),
                name: Some(Some("data".to_owned())),
                mode: Some(AccessMode::Ro),
            },
        }
    }
}

/// A wish for disks of another template, or of another provider.
pub(super) fn conversion(to: DiskTemplate) -> ConvertRequest {
    let params = match HAVE_PROVIDER.contains(to) {
        true => json!({"provider": "other"}),
        false => json!({}),
    };
    ConvertRequest {
        template: to,
        primary: None,
        secondary: NEEDS_SECONDARY.contains(to).then(|| NODES[1].to_owned()),
        params: params.as_object().cloned().unwrap_or_default(),
        disks: Vec::new(),
        file_driver: FileDriver::Loop,
        file_storage_dir: None,
        pace: Pace {
            verify: true,
            ..Pace::default()
        },
    }
}

/// What mends the [trouble](Bench::spoil) of this kind.
fn repair_of(kind: RepairKind, store: &Store) -> Result<Repair> {
    let disk = || -> Result<String> { Ok(Subject::load(store, INSTANCE)?.disks[MENDED].uuid.clone()) };
    let node = |name| -> Result<String> { Ok(find_node(store, name)?.uuid) };
    let instance = INSTANCE.to_owned();
    Ok(match kind {
        RepairKind::RemoveLink => Repair::RemoveLink {
            node: node(NODES[0])?,
            instance,
            index: STRAY,
        },
        RepairKind::Unmap => Repair::Unmap {
            node: node(NODES[1])?,
            disk: disk()?,
        },
        RepairKind::Label => Repair::Label {
            disk: disk()?,
            last: None,
            last_uuid: None,
        },
        RepairKind::Activate => Repair::Activate { instance },
    })
}

/// The volumes that there are to adopt.
pub(super) fn volume(number: usize) -> String {
    format!("volume{number}")
}

/// The block devices that there are to adopt.
pub(super) fn device(number: usize) -> String {
    format!("/dev/sim/{number}")
}

#[test]
fn every_kind_of_operation_has_a_row() {
    for kind in Kind::iter() {
        let is_of = |row: Row| row.deed.kind() == kind;
        assert!(rows().into_iter().any(is_of), "{kind} is missing in rows()");
        assert!(distinct_rows().any(is_of), "{kind} is missing in distinct_rows()");
    }
}

/// What no row does is never failed, repeated or crashed.
#[test]
fn every_step_is_in_a_row() {
    let done = Mutex::new(BTreeSet::new());
    let note = |event: Event<'_>| {
        if let Event::Starting(step) = event {
            let mut done = done.lock().unwrap();
            done.extend([<&str>::from(step), step.name()]);
        }
    };
    for row in distinct_rows() {
        Bench::new(&row).run(&row, &note).unwrap().unwrap();
    }
    let all: BTreeSet<_> = Step::VARIANTS.iter().copied().collect();
    assert_eq!(*done.lock().unwrap(), all);
}

#[test]
fn everything_that_can_be_mended_has_a_row() {
    for kind in RepairKind::iter() {
        let mends = |row: Row| matches!(row.deed, Deed::Mend(of) if of == kind);
        assert!(rows().into_iter().any(mends), "{kind:?} is missing in rows()");
        assert!(
            distinct_rows().any(mends),
            "{kind:?} is missing in distinct_rows()"
        );
    }
}
