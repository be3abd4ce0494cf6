//! Adding, removing, detaching, attaching and changing an instance's disks.

use std::collections::{BTreeMap, BTreeSet};

use gnt_bdev::Target;
use gnt_config::template::NEEDS_SECONDARY;
use gnt_config::{AccessMode, Disk, DiskTemplate, FileDriver, LogicalId, Object};
use gnt_store::{Change, Filter, Store, StoreError};

use crate::compute::disk_name;
use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::activate::{Secondary, assemble};
use crate::ops::label::detached;
use crate::ops::layout::Layout;
use crate::ops::remove::{removal, storage_dirs};
use crate::ops::{MAX_DISKS, Subject, ids, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Place, Step};

/// One change of an instance's disks. Disks are named by index, name or UUID.
#[derive(Debug, Clone)]
pub enum DiskChange {
    /// Make a disk, at this index or after the last.
    Add {
        /// Index of the new disk.
        at: Option<usize>,
        /// The wish, as `--disk` gives it; `dev_type` names a template other than the instance's.
        wish: Object,
    },
    /// Remove a disk and its data.
    Remove {
        /// The disk.
        disk: String,
    },
    /// Take a disk away from the instance and keep its data.
    Detach {
        /// The disk.
        disk: String,
    },
    /// Give the instance a detached disk.
    Attach {
        /// Index that it is to have; after the last by default.
        at: Option<usize>,
        /// Name or UUID of the detached disk.
        disk: String,
    },
    /// Change what the configuration says of a disk.
    Set {
        /// The disk.
        disk: String,
        /// A new name; an inner none takes the name away.
        name: Option<Option<String>>,
        /// Whether the instance may write.
        mode: Option<AccessMode>,
    },
}

/// Makes the changes in their order (`gnt-instance modify --disk`). Disks to be removed are detached in their turn, and their data is
/// removed at the end, when nothing else can fail any more.
pub async fn modify<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    changes: &[DiskChange],
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    let loose = detached_in(engine.store, instance, changes)?;
    let locked: Vec<&str> = [instance.as_str()]
        .into_iter()
        .chain(loose.iter().map(String::as_str))
        .collect();
    engine
        .run(Kind::Modify, &locked, async |begun| {
            let store = engine.store;
            let subject = Subject::load(store, instance)?;
            subject.ensure_in_reach(begun.nodes, &subject.disks)?;
            let mut attachable = store.detached_disks()?;
            attachable.retain(|disk| loose.contains(&disk.uuid));
            let mut ids = ids(store, begun.id);
            let mut plan = Plan {
                loose: attachable,
                subject,
                made: Vec::new(),
                steps: Vec::new(),
                removals: Vec::new(),
            };
            for change in changes {
                match change {
                    DiskChange::Add { at, wish } => plan.add(*at, wish, store, begun.nodes, &mut ids).await?,
                    DiskChange::Remove { disk } => plan.remove(disk)?,
                    DiskChange::Detach { disk } => plan.detach(disk)?,
                    DiskChange::Attach { at, disk } => plan.attach(*at, disk, store, begun.nodes)?,
                    DiskChange::Set { disk, name, mode } => plan.set(disk, name.as_ref(), *mode)?,
                }
            }
            plan.forget_labels_of_missing(begun.nodes).await?;
            plan.steps.append(&mut plan.removals);
            Ok(plan.steps)
        })
        .await
}

/// UUIDs of the disks that are detached before or after the changes. Each is locked by itself, as no instance is that has it.
fn detached_in(store: &Store, instance: &str, changes: &[DiskChange]) -> Result<BTreeSet<String>> {
    let mut uuids = BTreeSet::new();
    for change in changes {
        match change {
            DiskChange::Attach { disk, .. } => match uuid_of_detached(store, disk) {
                Ok(uuid) => drop(uuids.insert(uuid)),
                // An earlier change may detach it.
                Err(Error::NoDetachedDisk { .. }) => {}
                Err(error) => return Err(error),
            },
            DiskChange::Detach { .. } => {
                let own = store.instance(instance)?;
                uuids.extend(own.into_iter().flat_map(|instance| instance.disks));
            }
            DiskChange::Add { .. } | DiskChange::Remove { .. } | DiskChange::Set { .. } => {}
        }
    }
    Ok(uuids)
}

/// The steps so far, and the instance as it is after them.
struct Plan {
    subject: Subject,
    /// The disks that can be attached then.
    loose: Vec<Disk>,
    /// The disks that the steps make; some may have been taken away again, and are removed at the end.
    made: Vec<Disk>,
    steps: Vec<Step>,
    /// What cannot be undone.
    removals: Vec<Step>,
}

impl Plan {
    async fn add<N: Nodes>(
        &mut self,
        at: Option<usize>,
        wish: &Object,
        store: &Store,
        nodes: &N,
        ids: &mut impl Ids<Error = StoreError>,
    ) -> Result<()> {
        let at = self.position(at)?;
        let mut wish = wish.clone();
        let template = match wish.remove("dev_type") {
            Some(name) => parse_template(&name)?,
            None => self.default_template()?,
        };
        let secondary = match NEEDS_SECONDARY.contains(template) {
            true => self.subject.secondary()?.map(str::to_owned),
            false => None,
        };
        let layout = Layout {
            store,
            subject: &self.subject,
            template,
            secondary: secondary.as_deref(),
            others: &self.made,
            has_data: false,
            file_driver: self.file_driver(),
            file_storage_dir: None,
        };
        let node = self.subject.node.uuid.clone();
        for new in layout.disks(&[wish], nodes, ids).await? {
            self.check_name(new.disk.name.as_deref(), &new.disk.uuid)?;
            for path in storage_dirs(std::slice::from_ref(&new.disk)) {
                self.steps.push(Step::CreateStorageDir {
                    node: node.clone(),
                    path,
                });
            }
            self.steps.extend(new.steps(&self.subject)?);
            self.made.push(new.disk.clone());
            self.insert(at, new.disk, true)?;
        }
        Ok(())
    }

    fn remove(&mut self, disk: &str) -> Result<()> {
        let index = self.subject.index_of(disk)?;
        // It has no place among the instance's disks, nor a link, when it is removed.
        let disk = detached(&self.subject.disks[index]);
        self.take(index, Some(disk.clone()))?;
        let forget = vec![Change::RemoveDisk(disk.uuid.clone())];
        self.removals
            .extend(removal(self.subject.halves(&disk)?, Vec::new(), forget));
        for path in storage_dirs(&[disk]) {
            let node = self.subject.node.uuid.clone();
            self.removals.push(Step::RemoveStorageDir { node, path });
        }
        Ok(())
    }

    fn detach(&mut self, disk: &str) -> Result<()> {
        let index = self.subject.index_of(disk)?;
        let disk = self.subject.disks[index].clone();
        self.take(index, None)?;
        let before = (self.subject.instance.name.as_str(), &disk);
        self.steps
            .extend(self.subject.relabel(&detached(&disk), Some(before))?);
        self.loose.push(disk);
        Ok(())
    }

    fn attach<N: Nodes>(&mut self, at: Option<usize>, key: &str, store: &Store, nodes: &N) -> Result<()> {
        let at = self.position(at)?;
        let disk = self.loose.remove(index_of_detached(&self.loose, key)?);
        ensure_idle(store, &disk)?;
        let primary = &self.subject.node;
        if !disk.nodes.is_empty() && !disk.nodes.contains(&primary.uuid) {
            return Err(Error::Unfit {
                what: format!(
                    "{disk} is not on node {}, where {} runs",
                    primary.name, self.subject.instance.name
                ),
                hint: "attach it to an instance on the node that holds its data",
            });
        }
        self.subject.learn_addresses(store, disk.all_nodes())?;
        self.subject.ensure_in_reach(nodes, [&disk])?;
        let others = |disk: &Disk| -> BTreeSet<String> {
            let others = disk.all_nodes().into_iter();
            let others = others.filter(|node| *node != self.subject.node.uuid);
            others.map(str::to_owned).collect()
        };
        let mirrored_to = self.subject.disks.iter().flat_map(others);
        if let Some(secondary) = mirrored_to.into_iter().next()
            && others(&disk).iter().any(|node| *node != secondary)
        {
            return Err(Error::Unfit {
                what: format!(
                    "{disk} is mirrored to another node than the disks of {}",
                    self.subject.instance.name
                ),
                hint: "attach it to an instance with the same secondary node",
            });
        }
        self.insert(at, disk, false)
    }

    fn set(&mut self, disk: &str, name: Option<&Option<String>>, mode: Option<AccessMode>) -> Result<()> {
        let index = self.subject.index_of(disk)?;
        let before = self.subject.disks[index].clone();
        if let Some(name) = name {
            self.check_name(name.as_deref(), &before.uuid)?;
        }
        let disk = &mut self.subject.disks[index];
        if let Some(name) = name {
            disk.name.clone_from(name);
        }
        if let Some(mode) = mode {
            disk.set_mode(mode);
        }
        let (apply, revert) = (
            vec![Change::Disk(disk.clone())],
            vec![Change::Disk(before.clone())],
        );
        self.steps.push(Step::Configure { apply, revert });
        let instance = self.subject.instance.name.as_str();
        let told = self
            .subject
            .relabel(&self.subject.disks[index], Some((instance, &before)))?;
        self.steps.extend(told);
        Ok(())
    }

    /// Puts `disk` at `at`, moves those behind it, and puts it into use if the instance's disks are. A `new` one is not in the
    /// configuration yet.
    fn insert(&mut self, at: usize, mut disk: Disk, new: bool) -> Result<()> {
        let before = self.subject.clone();
        let mut known = before.disks.clone();
        let forget = match new {
            true => Change::RemoveDisk(disk.uuid.clone()),
            false => Change::Disk(disk.clone()),
        };
        known.push(match new {
            true => disk.clone(),
            false => detached(&disk),
        });
        disk.snapshot_of = None;
        let stored = self.renumber(at, |disks| disks.insert(at, disk));
        self.move_links((at..before.disks.len()).rev().map(|index| (index, index + 1)))?;
        self.configure(&before, stored, Some(forget));
        self.relabel(at, &known)?;
        if self.subject.instance.disks_active {
            let places = self.subject.places_of([&self.subject.disks[at]])?;
            self.steps.extend(assemble(places, true, Secondary::Required));
        }
        Ok(())
    }

    /// Takes the disk at `index` out of use and away, and moves those behind it. It is `stored` as it is then, if that differs.
    fn take(&mut self, index: usize, stored: Option<Disk>) -> Result<()> {
        let before = self.subject.clone();
        let places = before.places_of([&before.disks[index]])?;
        let was_active = before.instance.disks_active;
        let steps = places.into_iter().rev();
        self.steps
            .extend(steps.map(|at| Step::ShutdownDisks { at, was_active }));
        let mut apply = self.renumber(index, |disks| drop(disks.remove(index)));
        apply.extend(stored.map(Change::Disk));
        self.move_links((index + 1..before.disks.len()).map(|index| (index, index - 1)))?;
        self.configure(&before, apply, None);
        self.relabel(index, &before.disks)
    }

    /// Changes the list of disks; those from `from` on get the names that go with their places, and are returned to be stored.
    fn renumber(&mut self, from: usize, change: impl FnOnce(&mut Vec<Disk>)) -> Vec<Change> {
        let Subject { instance, disks, .. } = &mut self.subject;
        change(disks);
        instance.disks = disks.iter().map(|disk| disk.uuid.clone()).collect();
        for (index, disk) in disks.iter_mut().enumerate().skip(from) {
            disk.iv_name = Some(format!("disk/{index}"));
        }
        disks[from..].iter().cloned().map(Change::Disk).collect()
    }

    /// Records the disks `stored` and the list of them; undoing that also makes the change `undo`.
    fn configure(&mut self, before: &Subject, stored: Vec<Change>, undo: Option<Change>) {
        let mut apply = stored;
        apply.push(Change::Instance(self.subject.instance.clone()));
        let mut revert: Vec<Change> = before.disks.iter().cloned().map(Change::Disk).collect();
        revert.push(Change::Instance(before.instance.clone()));
        revert.extend(undo);
        self.steps.push(Step::Configure { apply, revert });
    }

    fn move_links(&mut self, moves: impl Iterator<Item = (usize, usize)>) -> Result<()> {
        if !self.subject.instance.disks_active {
            return Ok(());
        }
        let Subject { node, instance, .. } = &self.subject;
        let link = |(from, to): (usize, usize)| Step::MoveLink {
            node: node.uuid.clone(),
            instance: instance.name.clone(),
            // At most MAX_DISKS.
            from: from as u32,
            to: to as u32,
        };
        self.steps.extend(moves.map(link));
        Ok(())
    }

    /// Tells the volumes from `from` on whose they are and which, unless they know: `known` are the disks as their volumes know them.
    fn relabel(&mut self, from: usize, known: &[Disk]) -> Result<()> {
        let knows = |known: &Disk, disk: &Disk| {
            (&known.name, known.index(), known.mode) == (&disk.name, disk.index(), disk.mode)
        };
        let instance = self.subject.instance.name.as_str();
        for disk in &self.subject.disks[from..] {
            let before = known.iter().find(|known| known.uuid == disk.uuid);
            if !before.is_some_and(|before| knows(before, disk)) {
                let before = before.map(|before| (instance, before));
                self.steps.extend(self.subject.relabel(disk, before)?);
            }
        }
        Ok(())
    }

    /// A volume that is not there has nobody to be told to; what was done to its instance's other disks goes on.
    async fn forget_labels_of_missing<N: Nodes>(&mut self, nodes: &N) -> Result<()> {
        let made = self.steps.iter().filter_map(|step| match step {
            Step::CreateDisk { at, .. } | Step::RenameDisk { at, .. } => Some(at.disk.uuid.clone()),
            _ => None,
        });
        let made: Vec<String> = made.collect();
        let told = self.steps.iter().filter_map(|step| match step {
            Step::SetInfo { label, .. } if !made.contains(&label.at.disk.uuid) => Some(&label.at),
            _ => None,
        });
        let mut told_on: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
        told.for_each(|at| told_on.entry(&at.node).or_default().push(at));
        let mut missing = BTreeSet::new();
        for (node, told) in told_on {
            let targets = told.iter().map(|at| Target::new(&at.disk, &at.instance));
            let found = nodes.node(node)?.find_all(&targets.collect::<Vec<_>>()).await?;
            let gone = told
                .iter()
                .zip(found)
                .filter(|(_, found)| matches!(found, Ok(None)));
            missing.extend(gone.map(|(at, _)| (node.to_owned(), at.disk.uuid.clone())));
        }
        let is_missing = |at: &Place| missing.contains(&(at.node.clone(), at.disk.uuid.clone()));
        self.steps
            .retain(|step| !matches!(step, Step::SetInfo { label, .. } if is_missing(&label.at)));
        Ok(())
    }

    /// Refuses what is no name, or another disk's of the instance.
    fn check_name(&self, name: Option<&str>, uuid: &str) -> Result<()> {
        let Some(name) = name else {
            return Ok(());
        };
        disk_name(name)?;
        let is_taken = |disk: &&Disk| disk.uuid != uuid && disk.name.as_deref() == Some(name);
        match self.subject.disks.iter().find(is_taken) {
            Some(other) => Err(Error::Unfit {
                what: format!("{other} is called {name} already"),
                hint: "choose another name",
            }),
            None => Ok(()),
        }
    }

    fn position(&self, at: Option<usize>) -> Result<usize> {
        let count = self.subject.disks.len();
        let unfit = |what, hint| Err(Error::Unfit { what, hint });
        match at {
            _ if count >= MAX_DISKS => unfit(
                format!("an instance has at most {MAX_DISKS} disks"),
                "detach or remove one first",
            ),
            Some(at) if at > count => unfit(
                format!(
                    "disk {at} would leave a gap: {} has {count} disks",
                    self.subject.instance.name
                ),
                "leave the index out to add after the last",
            ),
            at => Ok(at.unwrap_or(count)),
        }
    }

    fn default_template(&self) -> Result<DiskTemplate> {
        match self.subject.template() {
            Some(template) if template.device().is_some() => Ok(template),
            _ => Err(Error::Unfit {
                what: format!(
                    "{} has no disk that shows how a new one is to be stored",
                    self.subject.instance.name
                ),
                hint: "say which template with dev_type=TEMPLATE",
            }),
        }
    }

    fn file_driver(&self) -> FileDriver {
        match self.subject.disks.first().map(|disk| &disk.logical_id) {
            Some(LogicalId::File { driver, .. } | LogicalId::Gluster { driver, .. }) => *driver,
            _ => FileDriver::Loop,
        }
    }
}

/// The place of the disk with this name or UUID among those that are detached.
fn index_of_detached(loose: &[Disk], key: &str) -> Result<usize> {
    let named = |disk: &Disk| disk.name.as_deref() == Some(key);
    let by_uuid = loose.iter().position(|disk| disk.uuid == key);
    let found = by_uuid.or_else(|| loose.iter().position(named));
    let Some(index) = found else {
        return Err(Error::NoDetachedDisk { disk: key.to_owned() });
    };
    if by_uuid.is_none() && loose[index + 1..].iter().any(named) {
        return Err(Error::Unfit {
            what: format!("several detached disks are called {key}"),
            hint: "name the disk by its UUID: 'gnt-disk list --detached' shows it",
        });
    }
    Ok(index)
}

/// UUID of the detached disk with this name or UUID. It can become another operation's until it is locked.
pub(crate) fn uuid_of_detached(store: &Store, key: &str) -> Result<String> {
    let mut loose = store.detached_disks()?;
    let index = index_of_detached(&loose, key)?;
    Ok(loose.swap_remove(index).uuid)
}

/// The detached disk with this name or UUID, if no operation is at it.
pub(crate) fn find_detached(store: &Store, key: &str) -> Result<Disk> {
    let mut loose = store.detached_disks()?;
    let disk = loose.remove(index_of_detached(&loose, key)?);
    ensure_idle(store, &disk)?;
    Ok(disk)
}

/// Refuses a disk that an operation on another instance is about to remove, or has not finished making: it is listed as detached until
/// then. An operation is planned before it detaches anything, so one that is not seen here has not begun when the disk is attached.
fn ensure_idle(store: &Store, disk: &Disk) -> Result<()> {
    for record in store.operations(Filter::Unfinished)? {
        let mut steps = record.steps.iter();
        let works_on_it = steps.any(|step| match serde_json::from_value(step.data.clone()) {
            Ok(Step::RemoveDisk { at, .. }) => at.disk.uuid == disk.uuid,
            Ok(Step::SnapshotDisk { snapshot, .. }) => snapshot.uuid == disk.uuid,
            Ok(Step::CopyDisk { from, .. }) => from.disk.uuid == disk.uuid,
            _ => false,
        });
        if works_on_it {
            return Err(Error::DiskInOperation {
                disk: disk.to_string(),
                operation: record.id,
                kind: record.kind,
                instance: record.instance,
            });
        }
    }
    Ok(())
}

fn parse_template(name: &serde_json::Value) -> Result<DiskTemplate> {
    name.as_str()
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| Error::Unfit {
            what: format!("{name} is no disk template"),
            hint: "'gnt-disk cluster info' shows those enabled",
        })
}
