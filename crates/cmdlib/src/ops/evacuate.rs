//! Taking instances away from a node.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream;
use gnt_config::template::INT_MIRROR;
use gnt_config::{Disk, LogicalDevice, Mebibytes, Node as NodeConfig};

use crate::error::{Error, Result};
use crate::node::Node;
use crate::ops::failover::{FailoverRequest, failover};
use crate::ops::migrate::{Transfer, migrate};
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::ops::room::in_group;
use crate::ops::route::Route;
use crate::ops::{Subject, common_template, find_node};
use crate::saga::{Engine, Nodes, Report};

/// How many nodes are asked at once how much room they have.
const ASKED_AT_ONCE: usize = 16;

/// A wish for a node to be rid of instances.
#[derive(Debug, Clone)]
pub struct EvacuateRequest {
    /// Name or UUID of the node.
    pub node: String,
    /// Those that run there.
    pub primary: bool,
    /// Those that are mirrored there.
    pub secondary: bool,
    /// Name or UUID of the node that they go to; by default each goes where there is most room.
    pub target: Option<String>,
    /// How many instances are moved at the same time.
    pub parallel: usize,
    /// As [`ReplaceRequest::early_release`].
    pub early_release: bool,
    /// As [`FailoverRequest::ignore_consistency`].
    pub ignore_consistency: bool,
}

/// How an instance leaves a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It does not run, or the node is dead: [`failover`] to this node, if it is not the secondary one.
    Failover(Option<String>),
    /// It runs: [`migrate`] to this node, if it is not the secondary one.
    Migrate(Option<String>),
    /// It is mirrored there: [`replace_disks`] with this node as the new secondary one.
    NewSecondary(String),
}

/// What became of one instance.
#[derive(Debug)]
pub struct Moved {
    /// Name of the instance.
    pub instance: String,
    /// How it was to leave the node; none if there is no way.
    pub way: Option<Way>,
    /// Whether it did.
    pub result: Result<Report>,
}

/// Takes instances away from a node (`gnt-node evacuate`, `gnt-node migrate`, `gnt-node failover`): those that run there are migrated, for which
/// `transfer` gives what moves an instance of this name, or failed over if they do not run; those that are mirrored there get a new
/// secondary node. One that cannot be moved does not keep the others from it; to try again is to do this again. `told` hears of each.
///
/// Where nobody says where to, a new secondary node is that with the most room left in its volume groups, among those of the group that
/// are neither offline nor drained; what other instances of this evacuation take there counts. Instances that reach their disks from every node
/// go to all those in turn.
pub async fn evacuate<N: Nodes, T: Transfer>(
    engine: &Engine<'_, N>,
    request: &EvacuateRequest,
    transfer: impl Fn(&str) -> Option<T>,
    told: impl Fn(&Moved),
) -> Result<Vec<Moved>> {
    let node = find_node(engine.store, &request.node)?;
    let mut moved = Vec::new();
    let mut targets = Targets::of(engine, &node, request.target.as_deref())?;
    if request.primary {
        let instances = engine.store.primary_instances(&node.uuid)?;
        let names: Vec<_> = instances.into_iter().map(|instance| instance.name).collect();
        let ways = names
            .into_iter()
            .map(|name| (targets.for_primary(engine, &node, &name), name));
        moved.extend(carry_out(engine, request, ways.collect(), &transfer, &told).await);
    }
    if request.secondary {
        let instances = engine.store.secondary_instances(&node.uuid)?;
        if !instances.is_empty() && request.target.is_none() {
            targets.learn_room(engine).await;
        }
        let mut ways = Vec::new();
        for instance in instances {
            ways.push((targets.for_secondary(engine, &instance.name), instance.name));
        }
        moved.extend(carry_out(engine, request, ways, &transfer, &told).await);
    }
    Ok(moved)
}

/// Moves some instances at a time.
async fn carry_out<N: Nodes, T: Transfer>(
    engine: &Engine<'_, N>,
    request: &EvacuateRequest,
    ways: Vec<(Result<Way>, String)>,
    transfer: &impl Fn(&str) -> Option<T>,
    told: &impl Fn(&Moved),
) -> Vec<Moved> {
    let moves = ways.into_iter().map(|(way, instance)| async move {
        let moved = match way {
            Err(error) => Moved {
                instance,
                way: None,
                result: Err(error),
            },
            Ok(way) => Moved {
                result: carry_out_one(engine, request, &instance, &way, transfer).await,
                instance,
                way: Some(way),
            },
        };
        told(&moved);
        moved
    });
    let moves = stream::iter(moves).buffer_unordered(request.parallel.max(1));
    moves.collect().await
}

async fn carry_out_one<N: Nodes, T: Transfer>(
    engine: &Engine<'_, N>,
    request: &EvacuateRequest,
    instance: &str,
    way: &Way,
    transfer: &impl Fn(&str) -> Option<T>,
) -> Result<Report> {
    match way {
        Way::Failover(target) => {
            let request = FailoverRequest {
                instance: instance.to_owned(),
                target: target.clone(),
                ignore_consistency: request.ignore_consistency,
            };
            failover(engine, &request).await
        }
        Way::Migrate(target) => match transfer(instance) {
            Some(transfer) => migrate(engine, instance, target.as_deref(), &transfer).await,
            None => Err(Error::Unfit {
                what: format!("instance {instance} runs, and nothing was given that moves it"),
                hint: "give a command with --transfer, or stop the instance and deactivate its disks first",
            }),
        },
        Way::NewSecondary(node) => {
            let request = ReplaceRequest {
                what: Replacement::NewSecondary(node.clone()),
                disks: Vec::new(),
                early_release: request.early_release,
            };
            replace_disks(engine, instance, &request).await
        }
    }
}

/// Where instances can go.
struct Targets {
    candidates: Vec<Candidate>,
    /// Somebody said where.
    is_named: bool,
    /// How often a candidate was chosen by turns.
    turns: usize,
}

struct Candidate {
    node: NodeConfig,
    /// Room in its volume groups, less what was promised; empty where it is not known.
    room: BTreeMap<String, Mebibytes>,
}

impl Targets {
    fn of<N: Nodes>(engine: &Engine<'_, N>, from: &NodeConfig, target: Option<&str>) -> Result<Self> {
        let nodes = match target {
            Some(target) => vec![find_node(engine.store, target)?],
            None => engine.store.nodes()?,
        };
        let suits = |node: &NodeConfig| {
            target.is_some()
                || (node.uuid != from.uuid && node.group == from.group && !node.offline && !node.drained)
        };
        let candidates = nodes.into_iter().filter(suits).map(|node| Candidate {
            node,
            room: BTreeMap::new(),
        });
        Ok(Self {
            candidates: candidates.collect(),
            is_named: target.is_some(),
            turns: 0,
        })
    }

    /// Asks each node once how much room it has. One that does not tell gets nothing.
    async fn learn_room<N: Nodes>(&mut self, engine: &Engine<'_, N>) {
        let asked = self.candidates.iter_mut().map(|candidate| async {
            let Ok(node) = engine.nodes.node(&candidate.node.uuid) else {
                return;
            };
            let room = node.space(LogicalDevice::Plain, &Default::default()).await;
            let room = room.unwrap_or_default().into_iter();
            candidate.room = room.map(|space| (space.name, space.free)).collect();
        });
        let asked = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
        asked.collect::<Vec<()>>().await;
    }

    /// How an instance that has `from` as its primary node leaves it.
    fn for_primary<N: Nodes>(
        &mut self,
        engine: &Engine<'_, N>,
        from: &NodeConfig,
        instance: &str,
    ) -> Result<Way> {
        let subject = Subject::load(engine.store, instance)?;
        let goes_to_secondary =
            common_template(&subject.disks).is_some_and(|template| INT_MIRROR.contains(template));
        let target = match goes_to_secondary {
            true => None,
            false => Some(self.next(instance)?),
        };
        Route::plan(engine.store, &subject, target.as_deref(), "evacuated")?;
        Ok(match subject.instance.disks_active && !from.offline {
            true => Way::Migrate(target),
            false => Way::Failover(target),
        })
    }

    /// The candidates take turns.
    fn next(&mut self, instance: &str) -> Result<String> {
        let count = self.candidates.len();
        let candidate = self
            .candidates
            .get(self.turns.checked_rem(count).unwrap_or_default());
        self.turns += 1;
        candidate
            .map(|candidate| candidate.node.name.clone())
            .ok_or_else(|| no_target(instance, &[]))
    }

    /// The new secondary node of an instance, in which its volumes count from then on.
    fn for_secondary<N: Nodes>(&mut self, engine: &Engine<'_, N>, instance: &str) -> Result<Way> {
        let subject = Subject::load(engine.store, instance)?;
        if self.is_named {
            return Ok(Way::NewSecondary(self.next(instance)?));
        }
        let disks = subject
            .disks
            .iter()
            .filter(|disk| INT_MIRROR.contains(disk.dev_type.template()));
        let mut needed: BTreeMap<&str, Mebibytes> = BTreeMap::new();
        for (group, volume) in disks.flat_map(Disk::walk).filter_map(in_group) {
            let sum = needed.entry(group).or_default();
            *sum = Mebibytes(sum.0.saturating_add(volume.size.0));
        }
        // What is left where it gets tightest.
        let left = |candidate: &Candidate| -> Option<Mebibytes> {
            let left = needed
                .iter()
                .map(|(group, needed)| candidate.room.get(*group)?.checked_sub(*needed));
            left.collect::<Option<Vec<_>>>()?.into_iter().min()
        };
        let best = self
            .candidates
            .iter_mut()
            .filter(|candidate| candidate.node.uuid != subject.node.uuid)
            .filter_map(|candidate| Some((left(candidate)?, candidate)))
            .max_by_key(|(left, _)| *left);
        let Some((_, best)) = best else {
            let needed: Vec<_> = needed.into_iter().collect();
            return Err(no_target(instance, &needed));
        };
        for (group, needed) in needed {
            if let Some(room) = best.room.get_mut(group) {
                *room = room.checked_sub(needed).unwrap_or_default();
            }
        }
        Ok(Way::NewSecondary(best.node.name.clone()))
    }
}

fn no_target(instance: &str, needed: &[(&str, Mebibytes)]) -> Error {
    let needed: Vec<_> = needed
        .iter()
        .map(|(group, needed)| format!("{needed} in {group}"))
        .collect();
    let room = match needed.is_empty() {
        true => String::new(),
        false => format!(" with {}", needed.join(" and ")),
    };
    Error::Unfit {
        what: format!(
            "there is no other node for instance {instance}{room} that is neither offline nor drained"
        ),
        hint: "name a node with -n NODE; 'gnt-disk node list-storage' shows how much room nodes have",
    }
}
