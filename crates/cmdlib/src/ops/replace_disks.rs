//! Replacing the volumes below mirrored disks, or the node that they are mirrored to.

use gnt_bdev::{LocalDiskStatus, Operation, Target};
use gnt_config::template::INT_MIRROR;
use gnt_config::{Disk, LogicalId};
use gnt_store::{Change, Store};

use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::kind::Kind;
use crate::node::{Node, Role};
use crate::ops::activate::{Secondary, assemble, shut_down};
use crate::ops::room::{check_free, check_room};
use crate::ops::{Subject, drained, find_node, ids, info_text, name_of};
use crate::saga::{Begun, Engine, Nodes, Report};
use crate::step::{Place, Places, Step};

/// What is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// The volumes on the primary node.
    OnPrimary,
    /// The volumes on the secondary node.
    OnSecondary,
    /// The secondary node, by this one: its name or UUID.
    NewSecondary(String),
    /// The volumes of disks that are faulty, on the node on which they are.
    Automatic,
}

/// A wish for volumes or a node to be replaced.
#[derive(Debug, Clone)]
pub struct ReplaceRequest {
    /// What.
    pub what: Replacement,
    /// Disks by index, name or UUID; none stands for all. Only where volumes are replaced on the node that they are on.
    pub disks: Vec<String>,
    /// Remove the old volumes before the new ones are in sync.
    pub early_release: bool,
}

/// Replaces volumes of mirrored disks by new ones on the same node, or the node that disks are mirrored to (`gnt-instance replace-disks`). The
/// data comes from the other node, which must have it; what is replaced is removed when the new is in sync. Disks that are not in use are
/// put into use for that time.
///
/// Until then everything can be undone. The configuration names the old secondary node until the new one is in sync, so that whatever
/// happens meanwhile, it names nodes whose data is good.
pub async fn replace_disks<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    request: &ReplaceRequest,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    let mut warnings = Vec::new();
    let mut report = engine
        .run(Kind::ReplaceDisks, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            subject.reach(begun.nodes, &subject.node.uuid)?;
            let secondary = subject.secondary()?.ok_or_else(|| not_mirrored(&subject))?;
            let plan = Plan {
                store: engine.store,
                begun,
                secondary: secondary.to_owned(),
                early_release: request.early_release,
                subject: &subject,
            };
            let chosen = plan.chosen(&request.disks)?;
            match &request.what {
                Replacement::OnPrimary => plan.volumes(&chosen, &subject.node.uuid).await,
                Replacement::OnSecondary => plan.volumes(&chosen, secondary).await,
                Replacement::NewSecondary(node) => {
                    refuse_choice(request)?;
                    plan.secondary(node, &mut warnings).await
                }
                Replacement::Automatic => {
                    refuse_choice(request)?;
                    match plan.faulty().await? {
                        Some((disks, node)) => plan.volumes(&disks, &node).await,
                        None => Ok(Vec::new()),
                    }
                }
            }
        })
        .await?;
    report.warnings.append(&mut warnings);
    Ok(report)
}

fn not_mirrored(subject: &Subject) -> Error {
    Error::Unfit {
        what: format!("no disk of {} is mirrored to another node", subject.instance.name),
        hint: "only drbd disks have something that can be replaced; 'gnt-disk recreate' makes lost disks anew, without their data",
    }
}

fn refuse_choice(request: &ReplaceRequest) -> Result<()> {
    match request.disks.is_empty() {
        true => Ok(()),
        false => Err(Error::Unfit {
            what: "disks can be chosen only where volumes are replaced on one node".to_owned(),
            hint: "leave out --disks, or use -p or -s",
        }),
    }
}

struct Plan<'a, N> {
    store: &'a Store,
    begun: Begun<'a, N>,
    subject: &'a Subject,
    /// UUID of the node that the disks are mirrored to.
    secondary: String,
    early_release: bool,
}

/// A volume below a disk: as it is, and what replaces it.
struct Volume {
    old: Place,
    /// Whether it is there at all.
    is_there: bool,
    /// Whether its data is of use.
    is_good: bool,
    new: Place,
}

impl<N: Nodes> Plan<'_, N> {
    fn is_active(&self) -> bool {
        self.subject.instance.disks_active
    }

    /// The disks with these indexes, names or UUIDs; all that are mirrored by default.
    fn chosen(&self, keys: &[String]) -> Result<Vec<Disk>> {
        let is_mirrored = |disk: &Disk| INT_MIRROR.contains(disk.dev_type.template());
        let disks = &self.subject.disks;
        if keys.is_empty() {
            return Ok(disks.iter().filter(|disk| is_mirrored(disk)).cloned().collect());
        }
        let mut indexes = Vec::new();
        for key in keys {
            let index = self.subject.index_of(key)?;
            if !is_mirrored(&disks[index]) {
                return Err(not_mirrored(self.subject));
            }
            indexes.push(index);
        }
        indexes.sort_unstable();
        indexes.dedup();
        Ok(indexes.into_iter().map(|index| disks[index].clone()).collect())
    }

    /// The disks that are faulty, and the node on which they are (`_FindFaultyDisks`); none if all is well.
    async fn faulty(&self) -> Result<Option<(Vec<Disk>, String)>> {
        let name = &self.subject.instance.name;
        if !self.is_active() {
            return Err(Error::Unfit {
                what: format!("what is faulty can only be told while the disks of {name} are active"),
                hint: "activate them first, or say what is to be replaced with -p, -s or -n NODE",
            });
        }
        let disks = self.chosen(&[])?;
        let mut faulty = Vec::new();
        for at in self.subject.places_of(&disks)? {
            let node = self.subject.reach(self.begun.nodes, &at.node)?;
            let mut here = Vec::new();
            for (disk, found) in disks.iter().zip(node.find_all(&at.targets()).await?) {
                let is_faulty = match found? {
                    Some(status) => status.sync.ldisk_status == LocalDiskStatus::Faulty,
                    None => true,
                };
                here.extend(is_faulty.then(|| disk.clone()));
            }
            if !here.is_empty() {
                faulty.push((here, at.node));
            }
        }
        match faulty.len() {
            0 | 1 => Ok(faulty.pop()),
            _ => Err(Error::Unfit {
                what: format!("disks of {name} are faulty on both nodes"),
                hint: "choose with --disks, for each disk the node on which it is to be replaced: -p or -s",
            }),
        }
    }

    /// Volumes of `disks` on one node are replaced by new ones, which get their names.
    async fn volumes(&self, disks: &[Disk], node: &str) -> Result<Vec<Step>> {
        let nodes = self.begun.nodes;
        self.subject.ensure_in_reach(nodes, disks)?;
        let (mut here, there): (Vec<_>, Vec<_>) = self
            .subject
            .places_of(disks)?
            .into_iter()
            .partition(|at| at.node == node);
        let mut all = Vec::new();
        for disk in disks {
            all.push((
                self.subject.place_on(node, disk)?,
                self.volumes_of(disk, node).await?,
            ));
        }
        let new: Vec<_> = all
            .iter()
            .flat_map(|(_, volumes)| volumes.iter().map(|volume| volume.new.clone()))
            .collect();
        check_room(nodes, &new).await?;
        for at in &new {
            at.on(nodes)?
                .check(&at.disk, &at.instance, Operation::Create)
                .await?;
        }

        let mut steps = self.put_into_use(disks, Secondary::Required)?;
        steps.extend(there.iter().map(|at| Step::CheckData {
            at: at.clone(),
            mirrored: true,
        }));
        let info = info_text(&self.subject.instance.name);
        steps.extend(new.into_iter().map(|at| Step::CreateDisk {
            at,
            info: info.clone(),
        }));
        for (at, volumes) in &all {
            steps.push(Step::RemoveChildren {
                at: at.clone(),
                was_attached: volumes.iter().all(|volume| volume.is_good),
            });
            for volume in volumes.iter().filter(|volume| volume.is_there) {
                steps.push(self.step_aside(&volume.old));
            }
            for volume in volumes {
                steps.push(Step::RenameDisk {
                    at: volume.new.clone(),
                    to: volume.old.disk.logical_id.to_json(),
                });
            }
            steps.push(Step::AddChildren { at: at.clone() });
        }
        let old = all.iter().flat_map(|(_, volumes)| volumes);
        let old = old.filter(|volume| volume.is_there).map(|volume| Place {
            disk: Box::new(self.replaced(&volume.old.disk)),
            ..volume.old.clone()
        });
        let removals = old.map(|at| {
            let otherwise = format!("{} is left on its node, and is of no more use", at.disk);
            let record = Vec::new();
            Step::RemoveDisk { at, record }.or_warn(otherwise)
        });
        // What is removed from here on is not to be used again.
        let last = [Step::Commit { apply: Vec::new() }].into_iter().chain(removals);
        here.extend(there);
        self.end(&mut steps, here, last.collect());
        Ok(steps)
    }

    /// The volumes that a disk has on a node.
    async fn volumes_of(&self, disk: &Disk, node: &str) -> Result<Vec<Volume>> {
        let half = self.subject.place_on(node, disk)?;
        let children = &half.disk.children;
        let targets: Vec<_> = children
            .iter()
            .map(|child| Target::new(child, &half.instance))
            .collect();
        let found = self.begun.nodes.node(node)?.find_all(&targets).await?;
        let mut ids = ids(self.store, self.begun.id);
        let prefix = format!("{}.disk{}", ids.unique_id(), disk.index().unwrap_or_default());
        let mut volumes = Vec::new();
        for ((child, found), part) in children.iter().zip(found).zip(["data", "meta"]) {
            let at = |disk: &Disk| Place {
                disk: Box::new(disk.clone()),
                ..half.clone()
            };
            let mut new = child.clone();
            new.logical_id = child.logical_id.with_volume(format!("{prefix}_{part}"));
            volumes.push(Volume {
                old: at(child),
                // That it cannot be told, as of a volume on a lost disk, is not that it is not there.
                is_there: !matches!(found, Ok(None)),
                is_good: matches!(found, Ok(Some(status)) if status.sync.ldisk_status == LocalDiskStatus::Okay),
                new: at(&new),
            });
        }
        Ok(volumes)
    }

    /// An old volume's name, which the new one is to have, is made free.
    fn step_aside(&self, old: &Place) -> Step {
        Step::RenameDisk {
            at: old.clone(),
            to: self.replaced(&old.disk).logical_id.to_json(),
        }
    }

    /// An old volume as it is called when it was replaced.
    fn replaced(&self, old: &Disk) -> Disk {
        let operation = self.begun.id.split('-').next().unwrap_or_default();
        let name = format!("{}_replaced-{operation}", old.logical_id.volume());
        Disk {
            logical_id: old.logical_id.with_volume(name),
            ..old.clone()
        }
    }

    /// All mirrored disks get another secondary node.
    async fn secondary(&self, node: &str, warnings: &mut Vec<String>) -> Result<Vec<Step>> {
        let (nodes, primary) = (self.begun.nodes, &self.subject.node.uuid);
        let new_node = find_node(self.store, node)?;
        self.check_new_node(&new_node)?;
        let mut after = self.subject.clone();
        after.learn_addresses(self.store, [new_node.uuid.as_str()])?;
        let node = after.reach(nodes, &new_node.uuid)?;
        let disks = self.chosen(&[])?;
        let (mut mirrored, mut alone) = (Vec::new(), Vec::new());
        for disk in &disks {
            let minor = self
                .store
                .reserve_minors(self.begun.id, &disk.uuid, &[&new_node.uuid])?;
            let minor = minor.first().copied().unwrap_or_default();
            let (with_port, without) = with_secondary(disk, primary, &new_node.uuid, minor);
            let (at, alone_at) = (
                after.place_on(&new_node.uuid, &with_port)?,
                after.place_on(&new_node.uuid, &without)?,
            );
            mirrored.push((with_port, at));
            alone.push(*alone_at.disk);
        }
        let new: Vec<_> = mirrored.iter().map(|(_, at)| at.clone()).collect();
        check_room(nodes, &new).await?;
        check_free(self.store, nodes, &new).await?;
        for at in &new {
            node.check(&at.disk, &at.instance, Operation::Create).await?;
        }
        let new_disks: Vec<_> = mirrored.into_iter().map(|(disk, _)| disk).collect();
        let on = |places: Vec<Places>, node: &str| places.into_iter().find(|at| at.node == node);
        let before = self.subject.places_of(&disks)?;
        let now = after.places_of(&new_disks)?;
        let old = on(before.clone(), &self.secondary).filter(|at| self.reach_or_warn(at, warnings));
        let (Some(was), Some(is), Some(joins)) = (
            on(before, primary),
            on(now.clone(), primary),
            on(now.clone(), &new_node.uuid),
        ) else {
            return Err(not_mirrored(self.subject));
        };

        let mut steps = self.put_into_use(&disks, Secondary::MayFail)?;
        steps.push(Step::CheckData {
            at: was.clone(),
            mirrored: false,
        });
        let info = info_text(&self.subject.instance.name);
        steps.extend(new.into_iter().map(|at| Step::CreateDisk {
            at,
            info: info.clone(),
        }));
        steps.push(Step::AssembleDisks {
            at: Places {
                disks: alone,
                ..joins.clone()
            },
            fresh: true,
        });
        steps.push(Step::ChangePeer {
            at: Places {
                role: Role::Secondary,
                ..is
            },
            before: was.disks,
        });
        if let Some(at) = &old {
            let at = at.clone();
            let otherwise = "they may still be in use there";
            steps.push(Step::ShutdownDisks { at, was_active: true }.or_warn(otherwise));
        }
        steps.push(Step::AssembleDisks {
            at: joins,
            fresh: false,
        });
        let mut change = vec![Step::Commit {
            apply: new_disks.iter().cloned().map(Change::Disk).collect(),
        }];
        for disk in &new_disks {
            change.extend(after.relabel(disk, None)?);
        }
        if let Some(at) = old {
            let Places { node, instance, .. } = &at;
            change.extend(at.disks.iter().map(|disk| {
                let otherwise = format!("{disk} of {instance} is left on that node, and is of no more use");
                let at = Place {
                    node: node.clone(),
                    instance: instance.clone(),
                    disk: Box::new(disk.clone()),
                };
                let record = Vec::new();
                Step::RemoveDisk { at, record }.or_warn(otherwise)
            }));
        }
        self.end(&mut steps, now, change);
        Ok(steps)
    }

    fn check_new_node(&self, node: &gnt_config::Node) -> Result<()> {
        let name = &self.subject.instance.name;
        let taken = if node.uuid == self.subject.node.uuid {
            Some("primary")
        } else if node.uuid == self.secondary {
            Some("secondary")
        } else {
            None
        };
        match taken {
            Some(which) => Err(Error::Unfit {
                what: format!("node {} is the {which} node of {name} already", node.name),
                hint: "choose another node; -p and -s replace volumes on the nodes that the disks are on",
            }),
            None if node.drained => Err(drained(node)),
            None => Ok(()),
        }
    }

    /// Whether the old secondary node can be asked. If it cannot, what it has stays there, which is told.
    fn reach_or_warn(&self, at: &Places, warnings: &mut Vec<String>) -> bool {
        match self.subject.reach(self.begun.nodes, &at.node) {
            Ok(_) => true,
            Err(error) => {
                let disks: Vec<_> = at.disks.iter().map(Disk::to_string).collect();
                warnings.push(format!(
                    "{error}: what it has of {} stays there",
                    disks.join(", ")
                ));
                false
            }
        }
    }

    /// The steps with which disks that are not in use are put into use on the nodes that can be asked.
    fn put_into_use(&self, disks: &[Disk], secondary: Secondary) -> Result<Vec<Step>> {
        if self.is_active() {
            return Ok(Vec::new());
        }
        let mut places = self.subject.places_of(disks)?;
        places.retain(|at| self.subject.reach(self.begun.nodes, &at.node).is_ok());
        Ok(assemble(places, true, secondary))
    }

    /// Waits until the disks on `places`, of which the last has good data, are in sync, takes them out of use if they were not in it, and goes on
    /// with `last`, which takes away what they replace. If that is to be released early, it comes first.
    fn end(&self, steps: &mut Vec<Step>, places: Vec<Places>, last: Vec<Step>) {
        let halves = places.iter().cloned().map(|at| Places {
            role: Role::Secondary,
            ..at
        });
        let wait = Step::AwaitSync { at: halves.collect() };
        let mut used = places;
        used.sort_by_key(|at| at.role == Role::Primary);
        let out_of_use = match self.is_active() {
            true => Vec::new(),
            false => shut_down(used, true),
        };
        if self.early_release {
            steps.extend(last);
            steps.push(wait.or_warn("until they are in sync there is one copy of the data"));
            steps.extend(out_of_use.into_iter().map(|step| match step.is_optional() {
                true => step,
                false => step.or_warn("they may still be in use"),
            }));
        } else {
            steps.push(wait);
            steps.extend(out_of_use);
            steps.extend(last);
        }
    }
}

/// A mirrored disk with another secondary node, on which it has the minor `minor`: connected to the primary node, and not.
fn with_secondary(disk: &Disk, primary: &str, secondary: &str, minor: u32) -> (Disk, Disk) {
    let mut mirrored = disk.clone();
    let nodes = [primary.to_owned(), secondary.to_owned()];
    mirrored.nodes = nodes.to_vec();
    for child in &mut mirrored.children {
        child.nodes = nodes.to_vec();
    }
    let mut alone = mirrored.clone();
    if let LogicalId::Drbd8 {
        nodes: before,
        port,
        minors,
        secret,
    } = &disk.logical_id
    {
        let own = usize::from(before[0] != primary);
        let id = |port| LogicalId::Drbd8 {
            nodes: nodes.clone(),
            port,
            minors: [minors[own], minor],
            secret: secret.clone(),
        };
        (mirrored.logical_id, alone.logical_id) = (id(*port), id(None));
    }
    (mirrored, alone)
}
