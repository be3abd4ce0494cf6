//! The configuration held against what the nodes really have.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;

use gnt_bdev::{FoundVolume, Link, Operation, Status, Target, driver};
use gnt_config::params::DiskParams;
use gnt_config::template::GROWABLE;
use gnt_config::{self as config, Disk, LogicalDevice, LogicalId, Mebibytes, Object, TemplateSet};
use gnt_store::{Filter, Store};
use serde::Serialize;
use strum::Display;

use crate::error::{Result, chain};
use crate::node::{Node, NodeError, Role};
use crate::ops::Subject;
use crate::saga::Nodes;
use crate::step::{Places, Step};

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
    /// A disk that should be in use is not attached, or has no link to its device, or one to something else.
    NotActive,
    /// There is a link for a disk that is not in use.
    StaleLink,
    /// A volume that no disk of the configuration is.
    Orphan,
    /// An operation was interrupted or could not be undone.
    Interrupted,
    /// A node or a disk could not be asked.
    Unknown,
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
}

/// Holds every instance and volume against each other (`gnt-cluster verify-disks`). Nothing is changed.
pub async fn verify<N: Nodes>(store: &Store, nodes: &N) -> Result<Vec<Finding>> {
    let mut findings = interrupted(store)?;
    let mut looks: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for instance in store.instances()? {
        let subject = Subject::load(store, &instance.name)?;
        if let Err(error) = nodes.node(&subject.node.uuid) {
            findings.push(Finding::unknown(&error, error.hint()).of(&subject));
        }
        for places in subject.places()? {
            let of_node = looks.entry(places.node.clone()).or_default();
            of_node.push((subject.instance.disks_active, places));
        }
    }
    for node in store.nodes()? {
        let Ok(asked) = nodes.node(&node.uuid) else {
            continue;
        };
        let links = match asked.links().await {
            Ok(links) => {
                findings.extend(left_over_links(store, &node, &links)?);
                Some(links)
            }
            Err(error) => {
                findings.push(Finding::unknown(&error, error.hint()).on(&node));
                None
            }
        };
        let disks = looks.remove(&node.uuid).unwrap_or_default();
        let (found, causes) = check_disks(&node, asked, &disks, links.as_deref()).await;
        findings.extend(found);
        findings.extend(orphans(store, &node, asked, &disks, &causes).await?);
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
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
            Finding {
                instance: Some(record.instance),
                mend: Some(format!(
                    "gnt-disk operation resume {0}, or gnt-disk operation abort {0}",
                    record.id
                )),
                ..Finding::new(FindingKind::Interrupted, what)
            }
        })
        .collect())
}

/// Looks at the disks of several instances on one node, all at once. With each there is whether they should be in use; `links` are
/// those on the node, if they are known. Returns also what kept disks from being looked at.
async fn check_disks(
    node: &config::Node,
    asked: &impl Node,
    instances: &[(bool, Places)],
    links: Option<&[Link]>,
) -> (Vec<Finding>, BTreeSet<String>) {
    let disks = instances
        .iter()
        .flat_map(|(active, places)| places.disks.iter().map(move |disk| (*active, places, disk)));
    let disks: Vec<_> = disks.collect();
    let targets = disks
        .iter()
        .map(|(_, places, disk)| Target::new(disk, &places.instance));
    let results = match asked.find_all(&targets.collect::<Vec<_>>()).await {
        Ok(results) => results,
        Err(error) => {
            let finding = Finding::unknown(&error, error.hint()).on(node);
            return (vec![finding], BTreeSet::new());
        }
    };
    let mut findings = Vec::new();
    let mut failed: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
    let mut no_group = BTreeMap::new();
    for ((active, places, disk), found) in disks.into_iter().zip(results) {
        let of_disk = |finding: Finding| Finding {
            instance: Some(places.instance.clone()),
            disk: Some(disk.to_string()),
            ..finding.on(node)
        };
        match found {
            Ok(Some(status)) => {
                let links = links.filter(|_| active);
                findings.extend(check_disk(places, disk, &status, active, links).map(of_disk));
            }
            Ok(None) => match why_missing(asked, places, disk, &mut no_group).await {
                None => findings.push(of_disk(missing(places, disk))),
                Some((cause, mend)) => {
                    let finding = Finding {
                        mend,
                        ..Finding::new(FindingKind::Missing, format!("{disk} is not there: {cause}"))
                    };
                    failed.entry(cause).or_default().push(of_disk(finding));
                }
            },
            Err(error) => {
                let finding = of_disk(Finding::unknown(&error, error.hint()));
                failed.entry(cause_of(&error)).or_default().push(finding);
            }
        }
    }
    let causes = failed.keys().cloned().collect();
    findings.extend(
        failed
            .into_iter()
            .map(|(cause, failed)| told_once(&cause, failed)),
    );
    (findings, causes)
}

/// What an error is due to, without the disk that it is about.
fn cause_of(error: &NodeError) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}

/// Why a volume group does not have a disk, if it is the group that is missing, and what mends that. `known` are the answers for groups
/// that were asked about before.
async fn why_missing(
    node: &impl Node,
    places: &Places,
    disk: &Disk,
    known: &mut BTreeMap<String, Option<(String, Option<String>)>>,
) -> Option<(String, Option<String>)> {
    let LogicalId::Lv { vg, .. } = &disk.logical_id else {
        return None;
    };
    if !known.contains_key(vg) {
        let could_be_made = node.check(disk, &places.instance, Operation::Create).await;
        let why = could_be_made.err().filter(NodeError::is_not_found);
        known.insert(vg.clone(), why.map(|error| (cause_of(&error), error.hint())));
    }
    known.get(vg).cloned().flatten()
}

fn missing(places: &Places, disk: &Disk) -> Finding {
    let (name, index) = (&places.instance, disk.index().unwrap_or_default());
    let forget =
        format!("gnt-disk modify {name} --disk {index}:remove, if its volume cannot be brought back");
    Finding::new(FindingKind::Missing, format!("{disk} is not there")).mended_by(forget)
}

/// What is wrong with a disk that is there. Where there are no `links`, nobody knows them.
fn check_disk(
    places: &Places,
    disk: &Disk,
    status: &Status,
    active: bool,
    links: Option<&[Link]>,
) -> impl Iterator<Item = Finding> {
    let (name, index) = (&places.instance, disk.index().unwrap_or_default());
    // A mirror that is not assembled has nothing to be in sync with.
    let mirrors = active || disk.all_nodes().is_empty();
    let degraded = (mirrors && status.sync.is_degraded).then(|| {
        let found = Finding::new(
            FindingKind::Degraded,
            format!("{disk} is degraded: {}", status.sync),
        );
        match (status.sync.sync_percent, disk.all_nodes().is_empty()) {
            (None, false) => found.mended_by(format!("gnt-disk activate {name}, on each of its nodes")),
            _ => found,
        }
    });
    let real = status.device.bytes.map(Mebibytes::from_bytes);
    let wrong_size = real.filter(|real| *real < disk.size).map(|real| {
        let message = format!("{disk} has {real}, the configuration says {}", disk.size);
        let too_small = Finding::new(FindingKind::WrongSize, message);
        match GROWABLE.contains(disk.dev_type.template()) {
            true => too_small.mended_by(format!("gnt-disk grow {name} {index} {} --absolute", disk.size.0)),
            false => too_small,
        }
    });
    let why = links.and_then(|links| match places.role {
        Role::Primary | Role::Shared => not_in_use(disk, status, link_of(links, name, disk)),
        Role::Secondary => status.device.path.is_none().then(|| "is not attached".to_owned()),
    });
    let not_active = why.map(|why| {
        let message = format!("{disk} should be active, and {why}");
        Finding::new(FindingKind::NotActive, message).mended_by(format!("gnt-disk activate {name}"))
    });
    [degraded, wrong_size, not_active].into_iter().flatten()
}

/// What keeps several disks from being looked at is one finding.
fn told_once(cause: &str, mut disks: Vec<Finding>) -> Finding {
    const NAMED: usize = 3;
    if disks.len() == 1 {
        return disks.swap_remove(0);
    }
    let named = disks.iter().take(NAMED).map(|finding| {
        let (disk, instance) = (finding.disk.as_deref(), finding.instance.as_deref());
        format!("{} of {}", disk.unwrap_or_default(), instance.unwrap_or_default())
    });
    let mut named: Vec<_> = named.collect();
    if disks.len() > NAMED {
        named.push(format!("{} more", disks.len() - NAMED));
    }
    let count = disks.len();
    let first = disks.swap_remove(0);
    let what = match first.kind {
        FindingKind::Missing => "are not there",
        _ => "cannot be looked at",
    };
    let message = format!("{count} disks {what}: {cause}: {}", named.join(", "));

    Finding {
        instance: None,
        disk: None,
        message,
        ..first
    }
}

/// The link to a disk of `instance`.
pub fn link_of<'a>(links: &'a [Link], instance: &str, disk: &Disk) -> Option<&'a Link> {
    let index = disk.index();
    links
        .iter()
        .find(|link| link.instance == instance && Some(link.index) == index)
}

/// Why a disk of an active instance is not in use, if that is so: it is not attached, or its `link` does not lead to it, which after
/// a restart of the node may lead to another disk. `disk` has its parameters filled in.
pub fn not_in_use(disk: &Disk, status: &Status, link: Option<&Link>) -> Option<String> {
    let bypasses_the_kernel = Target::new(disk, "").has_userspace_access();
    let path = match &status.device.path {
        Some(path) => path.display(),
        // It needs neither a path nor a link.
        None if bypasses_the_kernel || !status.device.uris.is_empty() => return None,
        None => return Some("is not attached".to_owned()),
    };
    match link {
        None => Some("has no link".to_owned()),
        Some(link) if !link.leads_to(&status.device) => Some(format!(
            "has a link that leads to {}, while it is {path}",
            link.device.display()
        )),
        Some(_) => None,
    }
}

/// The links on a node that are no active disk's.
fn left_over_links(store: &Store, node: &config::Node, links: &[Link]) -> Result<Vec<Finding>> {
    let dir = store.settings()?.disk_links_dir;
    let mut findings = Vec::new();
    for link in links {
        let Link { instance, index, .. } = link;
        let owner = store.instance(instance)?;
        let wanted = owner.as_ref().is_some_and(|owner| {
            let here = owner.primary_node.as_ref() == Some(&node.uuid);
            here && owner.disks_active && (*index as usize) < owner.disks.len()
        });
        if wanted {
            continue;
        }
        let name = format!("{instance}:{index}");
        let mend = match owner {
            Some(owner) if !owner.disks_active => format!("gnt-disk deactivate {instance}"),
            _ => format!("rm {}", dir.join(&name).display()),
        };
        findings.push(Finding {
            instance: Some(instance.clone()),
            disk: Some(format!("disk/{index}")),
            ..Finding::new(FindingKind::StaleLink, format!("link {name} is left over"))
                .mended_by(mend)
                .on(node)
        });
    }
    Ok(findings)
}

/// Volumes that no disk is, and that no operation is about to make. The `causes` of failures are told already.
async fn orphans(
    store: &Store,
    node: &config::Node,
    asked: &impl Node,
    instances: &[(bool, Places)],
    causes: &BTreeSet<String>,
) -> Result<Vec<Finding>> {
    let in_making = in_making(store)?;
    let in_use: TemplateSet = store
        .disks()?
        .iter()
        .flat_map(Disk::walk)
        .map(|disk| disk.dev_type.template())
        .collect();
    let mut findings = Vec::new();
    for (device, params) in places(store, node, instances)? {
        let volumes = match asked.volumes(device, &params).await {
            Ok(volumes) => volumes,
            // Storage that no disk uses need not be there.
            Err(_) if !in_use.contains(device.template()) => continue,
            Err(error) if causes.contains(&cause_of(&error)) => continue,
            Err(error) => {
                findings.push(Finding {
                    node: Some(node.name.clone()),
                    mend: error.hint(),
                    ..Finding::new(FindingKind::Unknown, chain(&error))
                });
                continue;
            }
        };
        for volume in volumes {
            let mut disk = Disk::new(volume.device, volume.logical_id.clone(), Mebibytes(0));
            disk.nodes = vec![node.uuid.clone()];
            let mut known = false;
            for key in disk.volume_keys() {
                known |= in_making.contains(&key) || store.owner_of_volume(&key)?.is_some();
            }
            if !known {
                findings.push(orphan(volume, &node.name));
            }
        }
    }
    Ok(findings)
}

/// Where volumes can be: where the node's disks are and the detached ones, and where one made with the defaults would be.
fn places(
    store: &Store,
    node: &config::Node,
    instances: &[(bool, Places)],
) -> Result<Vec<(LogicalDevice, Object)>> {
    let (cluster, group) = (store.cluster()?, store.group(&node.group)?);
    let layers = [
        Some(&cluster.diskparams),
        group.as_ref().map(|group| &group.diskparams),
    ];
    let params = DiskParams::layered(layers.into_iter().flatten())?;
    let mut places = Vec::new();
    let mut add = |place| {
        if !places.contains(&place) {
            places.push(place);
        }
    };
    for template in &cluster.enabled_disk_templates {
        if let Some(device) = template.device() {
            add((device, params.get(*template)));
        }
    }
    for disk in instances.iter().flat_map(|(_, places)| &places.disks) {
        add((disk.dev_type, disk.params.clone()));
    }
    for disk in store.detached_disks()? {
        add((disk.dev_type, params.annotate(&disk)?.params));
    }
    let has_volumes =
        |device| driver(device).is_ok_and(|driver| driver.capabilities().contains(Operation::Volumes));
    places.retain(|(device, _)| has_volumes(*device));
    Ok(places)
}

/// Keys of the volumes that operations are making, or have begun to; interrupted ones are told of by themselves.
fn in_making(store: &Store) -> Result<BTreeSet<String>> {
    let unfinished = store.operations(Filter::Unfinished)?.into_iter();
    let steps = unfinished
        .flat_map(|record| record.steps)
        .filter_map(|step| serde_json::from_value(step.data).ok());
    Ok(steps
        .flat_map(|step| match step {
            Step::CreateDisk { at, .. } => at.disk.volume_keys(),
            Step::RenameDisk { mut at, to } => {
                let renamed = LogicalId::from_json(at.disk.dev_type, &to);
                at.disk.logical_id = renamed.unwrap_or(at.disk.logical_id);
                at.disk.volume_keys()
            }
            _ => Vec::new(),
        })
        .collect())
}

fn orphan(volume: FoundVolume, node: &str) -> Finding {
    let FoundVolume {
        logical_id,
        device,
        owner,
        ..
    } = volume;
    let whose = match (&owner.instance, owner.index) {
        (Some(name), Some(index)) => format!(", which says that it is disk/{index} of {name}"),
        (Some(name), None) => format!(", which says that it is of {name}"),
        (None, _) => String::new(),
    };
    Finding {
        node: Some(node.to_owned()),
        instance: owner.instance,
        disk: Some(logical_id.to_string()),
        ..Finding::new(
            FindingKind::Orphan,
            format!("no disk has the {device} volume {logical_id}{whose}"),
        )
    }
}

impl Finding {
    fn new(kind: FindingKind, message: String) -> Self {
        Self {
            kind,
            node: None,
            instance: None,
            disk: None,
            message,
            mend: None,
        }
    }

    /// A node or a disk could not be asked.
    fn unknown(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self {
            mend: hint,
            ..Self::new(FindingKind::Unknown, chain(error))
        }
    }

    fn mended_by(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }

    fn on(mut self, node: &config::Node) -> Self {
        self.node = Some(node.name.clone());
        self
    }

    fn of(mut self, subject: &Subject) -> Self {
        self.node = Some(subject.node.name.clone());
        self.instance = Some(subject.instance.name.clone());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gnt_bdev::{LocalDiskStatus, SyncStatus};
    use gnt_config::{DiskTemplate, FileDriver};
    use serde_json::json;

    use super::*;
    use crate::ops::activate::activate;
    use crate::ops::add::{AddRequest, add};
    use crate::saga::Engine;
    use crate::sim::{Extent, Fault, SimCluster, Then};
    use crate::tests::now;

    /// A cluster of one node with an active instance of so many ext disks.
    fn cluster(disks: usize) -> (Store, SimCluster) {
        let store = Store::in_memory().unwrap();
        crate::init::init(&store, Path::new("/state"), "cluster", "node1").unwrap();
        let nodes = SimCluster::new(&store.nodes().unwrap());
        let engine = Engine {
            store: &store,
            nodes: &nodes,
            dry_run: false,
            observer: &|_| {},
        };
        let request = AddRequest {
            instance: "web".to_owned(),
            template: DiskTemplate::Ext,
            disks: vec![json!({"size": 64}).as_object().unwrap().clone(); disks],
            primary: None,
            secondary: None,
            file_driver: FileDriver::Loop,
            file_storage_dir: None,
        };
        now(add(&engine, &request)).unwrap();
        now(activate(&engine, "web")).unwrap();
        (store, nodes)
    }

    #[test]
    fn what_is_degraded_tells_how_far_it_is() {
        let (store, nodes) = cluster(1);
        let sync = SyncStatus {
            sync_percent: Some(45.25),
            estimated_time: Some(12),
            is_degraded: true,
            ldisk_status: LocalDiskStatus::Sync,
        };
        nodes.with_world(|world| world.sync = sync);
        let found = now(verify(&store, &nodes)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, FindingKind::Degraded);
        let message = &found[0].message;
        assert!(
            message.ends_with(" is degraded: 45.2% in sync, 12 s to go, data on this node syncing"),
            "{message}"
        );
    }

    #[test]
    fn what_keeps_many_disks_from_being_looked_at_is_one_finding() {
        for (disks, expected) in [(2, "2 disks "), (5, "5 disks ")] {
            let (store, nodes) = cluster(disks);
            let (extent, then) = (Extent::None, Then::FailOn);
            nodes.inject(Some(Fault {
                call: 0,
                extent,
                then,
            }));
            let found = now(verify(&store, &nodes)).unwrap();
            let messages: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
            // The links cannot be listed either; that the volumes cannot be has the same cause.
            assert_eq!(messages.len(), 2, "{messages:?}");
            let is_told = |message: &&str| message.starts_with(expected) && message.contains("looked at");
            assert!(messages.iter().any(is_told), "{messages:?}");
        }
    }
}
