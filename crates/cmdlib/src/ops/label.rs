//! What volumes are told of the disk that they are, so that the configuration can be rebuilt from them.

use gnt_bdev::{Operation, Owner, Target, driver};
use gnt_config::template::HAVE_PROVIDER;
use gnt_config::{Disk, Instance, Kept, LogicalDevice, Node};
use gnt_store::Store;

use crate::error::Result;
use crate::ops::add::new_instance;
use crate::ops::{Subject, info_text};
use crate::step::{Label, Place, Step};
use crate::survey::is_shared;

impl Subject {
    /// The steps that tell the volumes of `disk`, on each node that has some, whose they are. `before` is what they know until then: the
    /// name of the instance, and the disk.
    pub(crate) fn relabel(&self, disk: &Disk, before: Option<(&str, &Disk)>) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for node in self.nodes_of(disk) {
            let before = before.map(|(instance, disk)| self.label(node, instance, disk));
            steps.push(Step::SetInfo {
                label: self.label(node, &self.instance.name, disk)?,
                before: before.transpose()?.map(Box::new),
            });
        }
        Ok(steps)
    }

    /// The steps that tell the volumes of its disks that it is on `node` now. A node that is marked offline is told by nobody.
    pub(crate) fn relabel_on(&self, node: &Node) -> Result<Vec<Step>> {
        let moved = Self {
            node: node.clone(),
            ..self.clone()
        };
        let name = &self.instance.name;
        let mut steps = Vec::new();
        for disk in &self.disks {
            for node in moved.nodes_of(disk) {
                if self.offline.contains_key(node) {
                    continue;
                }
                let tell = Step::SetInfo {
                    label: moved.label(node, name, disk)?,
                    before: Some(Box::new(self.label(node, name, disk)?)),
                };
                steps.push(tell.or_warn(format!("{disk} of {name} does not know its new node")));
            }
        }
        Ok(steps)
    }

    /// What a disk that no instance has depends on; `last` is the name of the one that had it.
    pub(crate) fn of_nobody(
        store: &Store,
        last: Option<&str>,
        last_uuid: Option<&str>,
        disk: &Disk,
    ) -> Result<Self> {
        let node = match disk.nodes.first() {
            Some(node) => node.clone(),
            None => store.cluster()?.master_node,
        };
        let instance = Instance {
            uuid: last_uuid.unwrap_or_default().to_owned(),
            ..new_instance(last.unwrap_or_default(), &node)?
        };
        Self::new(store, instance, vec![disk.clone()])
    }

    fn label(&self, node: &str, instance: &str, disk: &Disk) -> Result<Label> {
        let at = Place {
            instance: instance.to_owned(),
            ..self.place_on(node, disk)?
        };
        let info = info_text(instance);
        Ok(Label { at, info })
    }

    /// UUIDs of the nodes that have volumes of `disk`.
    fn nodes_of<'a>(&'a self, disk: &'a Disk) -> Vec<&'a str> {
        let nodes: Vec<&str> = disk.all_nodes().into_iter().collect();
        match nodes.is_empty() {
            true => vec![&self.node.uuid],
            false => nodes,
        }
    }
}

impl Label {
    /// What each of its volumes keeps then, by the volume's key.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = (LogicalDevice, String, Owner)> {
        let Place { node, instance, disk } = &self.at;
        let keeps = |disk: &&Disk| {
            let driver = driver(disk.dev_type);
            driver.is_ok_and(|driver| driver.capabilities().contains(Operation::SetInfo))
        };
        disk.walk().filter(keeps).map(move |disk| {
            let here = Disk {
                nodes: vec![node.clone()],
                ..disk.clone()
            };
            let owner = Owner::of(&Target::new(disk, instance), Some(&self.info));
            (disk.dev_type, here.volume_keys().concat(), owner)
        })
    }
}

/// Whether a volume of type `device` has to be told anew whose it is. What it says of its size does not count, as it shows that itself. Of
/// a detached disk nobody asks which instance had it.
pub(crate) fn is_stale(device: LogicalDevice, told: &Owner, wanted: &Owner) -> bool {
    let mut told = told.clone();
    let (kept, right) = (&mut told.kept, &wanted.kept);
    // A provider that does not know what this is keeps nothing of it, and not every one says all the rest.
    if HAVE_PROVIDER.contains(device.template()) && *kept == Kept::default() {
        kept.clone_from(right);
        told.uuid = told.uuid.or_else(|| wanted.uuid.clone());
        told.instance = told.instance.or_else(|| wanted.instance.clone());
        told.index = told.index.or(wanted.index);
        told.name = told.name.or_else(|| wanted.name.clone());
    }
    kept.size = right.size;
    if right.detached {
        told.instance.clone_from(&wanted.instance);
        kept.instance_uuid.clone_from(&right.instance_uuid);
    }
    // Where there is one copy of the data only, that is where its instance runs.
    if right.detached || (!is_shared(device) && right.mirror.is_none()) {
        kept.primary.clone_from(&right.primary);
    }
    told.info.clone_from(&wanted.info);
    told != *wanted
}

/// A disk as its volumes are to know it while no instance has it.
pub(crate) fn detached(disk: &Disk) -> Disk {
    Disk {
        iv_name: None,
        ..disk.clone()
    }
}
