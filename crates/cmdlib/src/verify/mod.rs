//! The configuration held against what the nodes really have.

mod disks;
mod links;
mod mappings;
mod mends;
mod repair;
#[cfg(test)]
mod tests;
mod under_way;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use gnt_bdev::{DrbdMinor, Link};
use gnt_config::{self as config, LogicalDevice, LogicalId};
use gnt_process::Command;
use gnt_store::{Filter, OperationRecord, Store};
use serde::Serialize;
use strum::Display;

use crate::error::{Result, chain};
use crate::node::{Node, NodeError, NodeResult};
use crate::ops::{Subject, find_node};
use crate::saga::Nodes;
use crate::step::Places;
use crate::survey::{Whereabouts, first_that_has, for_all, is_absent, is_shared, whereabouts};
use disks::{Checked, Half, cause_of};
pub use disks::{link_of, not_in_use};
pub(crate) use repair::Repair;
pub use repair::repair;
#[cfg(test)]
pub(crate) use repair::{RepairKind, mend};
use under_way::UnderWay;
use volumes::{Expected, Listed};

/// What kind of difference it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, Serialize)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum FindingKind {
    /// The configuration has a disk that is not there.
    Missing,
    /// The disk is there, but a part of its mirror is not.
    Degraded,
    /// It is smaller than the configuration says.
    WrongSize,
    /// A volume of the disk is on a node where it should not be.
    WrongNode,
    /// A disk that should be in use is not attached, or has no link to its device, or one to something else.
    NotActive,
    /// There is a link for a disk that is not in use.
    StaleLink,
    /// A disk has a device on a node where its instance does not run, or is not active.
    LeftOverMapping,
    /// A volume does not say, or not rightly, which disk of the configuration it is.
    StaleMetadata,
    /// A volume that no disk of the configuration is.
    Orphan,
    /// Volumes are of another cluster, which uses the same storage: nothing is wrong with that.
    OtherCluster,
    /// The kernel calls another program for drbd's events than the cluster wants.
    WrongHelper,
    /// An operation was interrupted or could not be undone.
    Interrupted,
    /// An instance is being migrated, and nobody is at it.
    HalfMigrated,
    /// A node or a disk could not be asked.
    Unknown,
    /// A node is set offline, and was not asked.
    Offline,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What kind it is.
    pub kind: FindingKind,
    /// Name of the node where it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The instance that it concerns; for an orphan the one that the volume says it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The disk or volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// What was found.
    pub message: String,
    /// What mends it: as a rule a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// How [`repair`] mends it.
    #[serde(skip)]
    pub(crate) repair: Option<Repair>,
}

/// What mends a failure that has no hint.
const ASK_AGAIN: &str = "gnt-disk verify asks again, once that works";

/// A node to be looked at.
struct Look<'n, N> {
    node: config::Node,
    at: &'n N,
    /// Disks of instances, with whether they should be in use.
    disks: Vec<(bool, Places)>,
    /// Where volumes of its own can be.
    own: Vec<Whereabouts>,
    /// Where volumes can be that all nodes see.
    shared: Vec<Whereabouts>,
    /// The program that the cluster wants called for drbd's events.
    helper: Option<String>,
}

/// What one node answers.
struct Answers {
    node: config::Node,
    links: NodeResult<Vec<Link>>,
    findings: Vec<Finding>,
    halves: Vec<Half>,
    /// Why disks could not be looked at: told already.
    causes: BTreeSet<String>,
    volumes: Vec<Listed>,
    attached: Vec<(LogicalDevice, NodeResult<Vec<LogicalId>>)>,
    minors: NodeResult<Vec<DrbdMinor>>,
}

/// Holds every instance and volume against each other (`gnt-cluster verify-disks`), asking many nodes at once. Nothing is changed. What an
/// operation works on meanwhile is left to it.
pub async fn verify<N: Nodes>(store: &Store, nodes: &N) -> Result<Vec<Finding>> {
    let mut under_way = UnderWay::default();
    under_way.note(store, None)?;
    let mut findings = interrupted(store)?;
    let mut places: BTreeMap<String, Vec<(bool, Places)>> = BTreeMap::new();
    for instance in store.instances()? {
        findings.extend(half_migrated(store, &instance)?);
        let subject = Subject::load(store, &instance.name)?;
        for at in subject.places()? {
            let of_node = places.entry(at.node.clone()).or_default();
            of_node.push((subject.instance.disks_active, at));
        }
    }
    let helper = drbd_helper(store)?;
    let mut looks = Vec::new();
    for node in store.nodes()? {
        let disks = places.remove(&node.uuid).unwrap_or_default();
        let at = match nodes.node(&node.uuid) {
            Ok(at) if !node.offline => at,
            refused => {
                findings.extend(not_asked(&node, refused.err(), &disks));
                continue;
            }
        };
        let all = disks.iter().flat_map(|(_, places)| &places.disks);
        let (shared, own) = whereabouts(store, &node, all)?
            .into_iter()
            .partition(|(device, _)| is_shared(*device));
        looks.push(Look {
            node,
            at,
            disks,
            own,
            shared,
            helper: helper.clone(),
        });
    }
    let mut volumes = shared_volumes(&looks).await;
    let expected = Expected::read(store)?;
    let mut causes = BTreeSet::new();
    let mut halves = Vec::new();
    let all = for_all(looks, look).await;
    under_way.note(store, None)?;
    for answers in all {
        let Answers { node, links, .. } = answers;
        findings.extend(answers.findings);
        match links {
            Ok(links) => findings.extend(links::left_over_links(store, &node, &links)?),
            Err(error) => findings.push(Finding::unknown(&error, error.hint()).on(&node)),
        }
        for (device, attached) in answers.attached {
            match attached {
                Ok(attached) => {
                    findings.extend(mappings::left_over_mappings(store, &node, device, &attached)?);
                }
                // Storage that no disk uses need not be there.
                Err(_) if !expected.is_in_use(device) => {}
                Err(error) => findings.extend(untold(&node, &error, &answers.causes)),
            }
        }
        match answers.minors {
            Ok(minors) => {
                findings.extend(mappings::left_over_minors(store, &node, &minors, &under_way)?);
            }
            Err(error) => findings.extend(untold(&node, &error, &answers.causes)),
        }
        halves.extend(answers.halves);
        causes.extend(answers.causes);
        volumes.extend(answers.volumes);
    }
    findings.extend(disks::not_whole(halves, &under_way));
    findings.extend(volumes::check(store, &expected, volumes, &causes)?);
    findings.retain(|finding| !under_way.concerns(finding));
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// What the cluster wants called for drbd's events (`drbd_usermode_helper`); none if it does not care.
fn drbd_helper(store: &Store) -> Result<Option<String>> {
    let cluster = store.cluster()?;
    let helper = cluster
        .origin
        .get("drbd_usermode_helper")
        .and_then(|helper| helper.as_str());
    Ok(helper.filter(|helper| !helper.is_empty()).map(str::to_owned))
}

/// What is said of a node that is not asked.
fn not_asked(node: &config::Node, error: Option<crate::Error>, disks: &[(bool, Places)]) -> Option<Finding> {
    if node.offline {
        let message = format!(
            "the node is offline: the disks of {} instances are not looked at",
            disks.len()
        );
        let mend = format!("gnt-disk node modify {} --offline no, once it is back", node.name);
        return Some(Finding::new(FindingKind::Offline, message, mend).on(node));
    }
    // One that has nothing need not be reached.
    let error = error.filter(|_| !disks.is_empty())?;
    Some(Finding::unknown(&error, error.hint()).on(node))
}

async fn look<N: Node>(look: Look<'_, N>) -> Answers {
    let Look {
        node,
        at,
        disks,
        own,
        shared,
        helper,
    } = look;
    let links = at.links().await;
    let known = links.as_ref().ok().map(Vec::as_slice);
    let Checked {
        mut findings,
        halves,
        causes,
    } = disks::check_disks(&node, at, &disks, known).await;
    let has_drbd = disks
        .iter()
        .any(|(_, places)| places.disks.iter().any(|disk| !disk.children.is_empty()));
    let has_lvm = own.iter().any(|(device, _)| *device == LogicalDevice::Plain);
    let mut volumes = Vec::new();
    for (device, params) in own {
        volumes.push(Listed {
            node: node.clone(),
            device,
            volumes: at.volumes(device, &params).await,
            params,
        });
    }
    let mut attached = Vec::new();
    for (device, params) in shared {
        attached.push((device, at.attached(device, &params).await));
    }
    let minors = match has_lvm {
        true => at.drbd_minors().await,
        false => Ok(Vec::new()),
    };
    // Where no disk needs it, drbd need not be there.
    let minors = match minors {
        Err(_) if !has_drbd => Ok(Vec::new()),
        minors => minors,
    };
    if let Some(wanted) = helper.filter(|_| has_drbd) {
        findings.extend(wrong_helper(&node, &wanted, at.drbd_helper().await));
    }
    Answers {
        node,
        links,
        findings,
        halves,
        causes,
        volumes,
        attached,
        minors,
    }
}

/// What is said of a question that a node does not answer, unless the cause is told already.
fn untold(node: &config::Node, error: &NodeError, causes: &BTreeSet<String>) -> Option<Finding> {
    let is_told = is_absent(error) || causes.contains(&cause_of(error));
    (!is_told).then(|| Finding::unknown(error, error.hint()).on(node))
}

fn wrong_helper(node: &config::Node, wanted: &str, found: NodeResult<String>) -> Option<Finding> {
    match found {
        Ok(found) if found == wanted => None,
        Ok(found) => {
            let message = format!("the kernel calls {found} for the events of drbd, not {wanted}");
            let echo = Command::change("echo").arg(wanted);
            let mend = format!("{echo} >/sys/module/drbd/parameters/usermode_helper");
            Some(Finding::new(FindingKind::WrongHelper, message, mend).on(node))
        }
        Err(error) if is_absent(&error) => None,
        Err(error) => Some(Finding::unknown(&error, error.hint()).on(node)),
    }
}

/// The volumes that all nodes see, each kind from one that shows some.
async fn shared_volumes<N: Node>(looks: &[Look<'_, N>]) -> Vec<Listed> {
    let mut kinds: Vec<&Whereabouts> = Vec::new();
    for kind in looks.iter().flat_map(|look| &look.shared) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let at: Vec<&N> = looks.iter().map(|look| look.at).collect();
    let ask = |(device, params): &'_ Whereabouts| {
        let (device, params, at) = (*device, params.clone(), &at);
        async move {
            let (first, volumes) = first_that_has(at, device, &params).await;
            Some(Listed {
                node: looks.get(first)?.node.clone(),
                device,
                volumes,
                params,
            })
        }
    };
    for_all(kinds, ask).await.into_iter().flatten().collect()
}

fn interrupted(store: &Store) -> Result<Vec<Finding>> {
    let records = store.operations(Filter::Unfinished)?;
    let stale = records.into_iter().filter(|record| record.interrupted);
    Ok(stale
        .map(|record| {
            let what = format!(
                "operation {} ({} {}) was interrupted",
                record.id, record.kind, record.instance
            );
            let mend = format!(
                "gnt-disk operation resume {0}, or gnt-disk operation abort {0}",
                record.id
            );
            Finding {
                instance: Some(record.instance),
                ..Finding::new(FindingKind::Interrupted, what, mend)
            }
        })
        .collect())
}

/// An instance whose migration nobody drives: no process is at it that began it, or is about to end it.
pub fn half_migrated(store: &Store, instance: &config::Instance) -> Result<Option<Finding>> {
    let Some(migration) = &instance.migration else {
        return Ok(None);
    };
    let began = migration.operation.as_deref().map(|id| store.operation(id));
    let mut at_it: Vec<_> = began.and_then(std::result::Result::ok).into_iter().collect();
    let unfinished = store.operations(Filter::Unfinished)?.into_iter();
    at_it.extend(unfinished.filter(|record| record.instance == instance.name));
    let is_alive = |record: &OperationRecord| !record.interrupted && record.owner.is_alive();
    if at_it.iter().any(is_alive) {
        return Ok(None);
    }
    let [source, target] = [&migration.source, &migration.target].map(|node| find_node(store, node));
    let message = format!(
        "the instance is being migrated from node {} to node {}, and no process is at it: its disks may be usable on both",
        source?.name, target?.name
    );
    let mend = format!(
        "gnt-disk migrate {} --cleanup --runs-on NODE, NODE being where the instance runs now",
        instance.name
    );
    Ok(Some(Finding {
        instance: Some(instance.name.clone()),
        ..Finding::new(FindingKind::HalfMigrated, message, mend)
    }))
}

impl Finding {
    /// Something that is wrong, with what mends it.
    fn new(kind: FindingKind, message: String, mend: impl Into<String>) -> Self {
        Self {
            mend: Some(mend.into()),
            ..Self::note(kind, message)
        }
    }

    /// Something that need not be mended.
    fn note(kind: FindingKind, message: String) -> Self {
        Self {
            kind,
            node: None,
            instance: None,
            disk: None,
            message,
            mend: None,
            repair: None,
        }
    }

    /// A node or a disk could not be asked.
    fn unknown(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        let mend = hint.unwrap_or_else(|| ASK_AGAIN.to_owned());
        Self::new(FindingKind::Unknown, chain(error), mend)
    }

    fn on(mut self, node: &config::Node) -> Self {
        self.node = Some(node.name.clone());
        self
    }

    /// It can be mended without losing anything.
    fn repaired_by(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }

    /// Whether [`repair`] mends it: nothing is lost by that.
    pub fn is_repairable(&self) -> bool {
        self.repair.is_some()
    }
}
