//! What volumes are told of the disk that they are, so that the configuration can be rebuilt from them.

use gnt_config::Disk;

use crate::error::Result;
use crate::ops::{Subject, info_text};
use crate::step::{Label, Place, Step};

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

/// A disk as its volumes are to know it while no instance has it.
pub(crate) fn detached(disk: &Disk) -> Disk {
    Disk {
        iv_name: None,
        ..disk.clone()
    }
}
