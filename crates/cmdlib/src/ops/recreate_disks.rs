//! Making lost disks anew.

use std::collections::BTreeSet;

use gnt_bdev::Operation;
use gnt_config::template::{MUST_ADOPT, NEEDS_SECONDARY, NODE_LOCAL};
use gnt_config::{Disk, Instance, LogicalId, Node as NodeConfig};
use gnt_store::{Change, Store};

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::remove::storage_dirs;
use crate::ops::room::{check_free, check_room};
use crate::ops::{Subject, drained, find_node, info_text, name_of};
use crate::saga::{Begun, Engine, Nodes, Report};
use crate::step::{Place, Step};

/// A wish for disks to be made anew.
#[derive(Debug, Clone, Default)]
pub struct RecreateRequest {
    /// Disks by index, name or UUID; none stands for all.
    pub disks: Vec<String>,
    /// Names or UUIDs of the nodes that they are to be on, the primary one first; none if they stay where they are. Only all disks together
    /// can go to other nodes.
    pub nodes: Vec<String>,
    /// Remove what is still there.
    pub force: bool,
}

/// Makes disks that were lost anew, empty, under their old names (`gnt-instance recreate-disks`). One that is still there on any node is
/// refused, unless it is to be removed by `force`.
pub async fn recreate_disks<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    request: &RecreateRequest,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    let mut warnings = Vec::new();
    let mut report = engine
        .run(Kind::RecreateDisks, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            subject.ensure_inactive()?;
            let plan = Plan {
                store: engine.store,
                after: moved(engine.store, begun.id, &subject, request)?,
                begun,
                chosen: chosen(&subject, request)?,
                before: &subject,
            };
            plan.steps(request.force, &mut warnings).await
        })
        .await?;
    report.warnings.append(&mut warnings);
    Ok(report)
}

/// The indexes of the disks that are wished for, all by default.
fn chosen(subject: &Subject, request: &RecreateRequest) -> Result<Vec<usize>> {
    let mut indexes = Vec::new();
    for key in &request.disks {
        indexes.push(subject.index_of(key)?);
    }
    indexes.sort_unstable();
    indexes.dedup();
    let all: Vec<_> = (0..subject.disks.len()).collect();
    if indexes.is_empty() {
        indexes.clone_from(&all);
    }
    if !request.nodes.is_empty() && indexes != all {
        return Err(Error::Unfit {
            what: "only all disks of an instance together can be made on other nodes".to_owned(),
            hint: "leave out either the disks or the nodes",
        });
    }
    for index in &indexes {
        let disk = &subject.disks[*index];
        if MUST_ADOPT.contains(disk.dev_type.template()) {
            return Err(Error::Unfit {
                what: format!("{disk} was adopted, and cannot be made"),
                hint: "only what made the device can make it again",
            });
        }
    }
    Ok(indexes)
}

/// The instance as it is then: with its disks on the nodes that are wished for.
fn moved(store: &Store, operation: &str, subject: &Subject, request: &RecreateRequest) -> Result<Subject> {
    if request.nodes.is_empty() {
        return Ok(subject.clone());
    }
    let mut nodes = Vec::new();
    for name in &request.nodes {
        let node = find_node(store, name)?;
        match node.drained {
            true => return Err(drained(&node)),
            false => nodes.push(node),
        }
    }
    let is_mirrored = |disk: &Disk| NEEDS_SECONDARY.contains(disk.dev_type.template());
    let wanted = 1 + usize::from(subject.disks.iter().any(is_mirrored));
    if nodes.len() != wanted {
        return Err(Error::Unfit {
            what: format!("the disks of {} need {wanted} nodes", subject.instance.name),
            hint: "give -n PRIMARY:SECONDARY for mirrored disks, and -n PRIMARY for others",
        });
    }
    let mut disks = subject.disks.clone();
    for disk in &mut disks {
        relocate(store, operation, disk, &nodes)?;
    }
    let primary = nodes.first().map(|node| node.uuid.clone());
    let instance = Instance {
        primary_node: primary,
        ..subject.instance.clone()
    };
    Subject::new(store, instance, disks)
}

/// Puts a disk on other nodes; a mirrored one gets minors that are free there.
fn relocate(store: &Store, operation: &str, disk: &mut Disk, nodes: &[NodeConfig]) -> Result<()> {
    let uuids: Vec<&str> = nodes.iter().map(|node| node.uuid.as_str()).collect();
    let template = disk.dev_type.template();
    if let LogicalId::Drbd8 { nodes, minors, .. } = &mut disk.logical_id {
        let reserved = store.reserve_minors(operation, &disk.uuid, &uuids)?;
        if let ([first, second], [one, other]) = (uuids.as_slice(), reserved.as_slice()) {
            *nodes = [(*first).to_owned(), (*second).to_owned()];
            *minors = [*one, *other];
        }
    }
    if NODE_LOCAL.contains(template) {
        let own = match NEEDS_SECONDARY.contains(template) {
            true => uuids.as_slice(),
            false => &uuids[..1],
        };
        disk.nodes = own.iter().map(|node| (*node).to_owned()).collect();
        for child in &mut disk.children {
            child.nodes.clone_from(&disk.nodes);
        }
    }
    Ok(())
}

struct Plan<'a, N> {
    store: &'a Store,
    begun: Begun<'a, N>,
    before: &'a Subject,
    after: Subject,
    /// Indexes of the disks.
    chosen: Vec<usize>,
}

impl<N: Nodes> Plan<'_, N> {
    async fn steps(&self, force: bool, warnings: &mut Vec<String>) -> Result<Vec<Step>> {
        let nodes = self.begun.nodes;
        let (mut there, mut new) = (Vec::new(), Vec::new());
        let mut was_on = BTreeSet::new();
        for index in &self.chosen {
            let disk = &self.before.disks[*index];
            for half in self.before.halves(disk)? {
                was_on.insert(half.node.clone());
                match self.before.reach(nodes, &half.node) {
                    Ok(node) => {
                        let found = match node.find(&half.disk, &half.instance).await {
                            Err(error) if error.is_not_found() => None,
                            found => found?,
                        };
                        there.extend(found.map(|_| (node.name().to_owned(), half)));
                    }
                    Err(error) if !self.stays_on(&half.node) => {
                        warnings.push(format!("{error}: what it may have of {disk} stays there"));
                    }
                    Err(error) => return Err(error),
                }
            }
            new.extend(self.after.halves(&self.after.disks[*index])?);
        }
        if let Some((node, half)) = there.first().filter(|_| !force) {
            return Err(Error::StillThere {
                disk: half.disk.to_string(),
                instance: half.instance.clone(),
                node: node.clone(),
            });
        }
        for half in &new {
            self.after.reach(nodes, &half.node)?;
        }
        // Where it was, what is left of it is its own.
        let elsewhere: Vec<Place> = new
            .iter()
            .filter(|half| !was_on.contains(&half.node))
            .cloned()
            .collect();
        check_free(self.store, nodes, &elsewhere).await?;
        if there.is_empty() {
            check_room(nodes, &new).await?;
            for half in &new {
                let node = half.on(nodes)?;
                node.check(&half.disk, &half.instance, Operation::Create).await?;
            }
        }
        let there = there.into_iter().map(|(_, half)| half);
        Ok(self.plan(there.collect(), new))
    }

    /// Whether the disks are on this node then.
    fn stays_on(&self, node: &str) -> bool {
        let nodes_of = |disk: &Disk| {
            let nodes = disk.nodes_from(&self.after.node.uuid).unwrap_or_default();
            nodes.contains(&node)
        };
        self.after.disks.iter().any(nodes_of)
    }

    fn plan(&self, there: Vec<Place>, new: Vec<Place>) -> Vec<Step> {
        let mut steps: Vec<_> = there
            .into_iter()
            .map(|at| Step::RemoveDisk {
                at,
                record: Vec::new(),
            })
            .collect();
        let (before, after): (Vec<_>, Vec<_>) = self
            .chosen
            .iter()
            .map(|index| {
                (
                    self.before.disks[*index].clone(),
                    self.after.disks[*index].clone(),
                )
            })
            .unzip();
        for path in storage_dirs(&after) {
            let node = self.after.node.uuid.clone();
            steps.push(Step::CreateStorageDir { node, path });
        }
        let info = info_text(&self.after.instance.name);
        steps.extend(new.into_iter().map(|at| Step::CreateDisk {
            at,
            info: info.clone(),
        }));
        let changes = |disks: Vec<Disk>, instance: &Instance| -> Vec<Change> {
            let disks = disks.into_iter().map(Change::Disk);
            disks.chain([Change::Instance(instance.clone())]).collect()
        };
        steps.push(Step::Configure {
            apply: changes(after, &self.after.instance),
            revert: changes(before, &self.before.instance),
        });
        steps
    }
}
