//! The disks of the configuration, as their nodes see them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;

use gnt_bdev::{Link, LocalDiskStatus, Operation, Status, Target};
use gnt_config::{self as config, Disk, LogicalId, Mebibytes};

use super::{Finding, FindingKind, Repair, UnderWay, mends};
use crate::error::chain;
use crate::node::{Node, NodeError, NodeResult, Role};
use crate::step::Places;

/// What was seen of the disks on one node.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    /// Halves of mirrors that are not whole.
    pub(super) halves: Vec<Half>,
    /// What kept disks from being looked at.
    pub(super) causes: BTreeSet<String>,
}

/// What a node has of a mirrored disk, and not as it should be.
pub(super) struct Half {
    node: config::Node,
    role: Role,
    instance: String,
    disk: Disk,
    /// Whether the data is lost.
    is_lost: bool,
    why: String,
}

/// Looks at the disks of several instances on one node, all at once. With each there is whether they should be in use; `links` are
/// those on the node, if they are known.
pub(super) async fn check_disks(
    node: &config::Node,
    asked: &impl Node,
    instances: &[(bool, Places)],
    links: Option<&[Link]>,
) -> Checked {
    let disks = instances
        .iter()
        .flat_map(|(active, places)| places.disks.iter().map(move |disk| (*active, places, disk)));
    let disks: Vec<_> = disks.collect();
    let found = async {
        let targets = disks
            .iter()
            .map(|(_, places, disk)| Target::new(disk, &places.instance));
        let results = asked.find_all(&targets.collect::<Vec<_>>()).await?;
        let below = disks.iter().flat_map(|(_, places, disk)| {
            let volumes = disk.children.iter();
            volumes.map(|volume| Target::new(volume, &places.instance))
        });
        let below: Vec<_> = below.collect();
        let below = match below.is_empty() {
            true => Vec::new(),
            false => asked.find_all(&below).await?,
        };
        Ok((results, below))
    };
    let mut checked = Checked::default();
    let (results, below) = match found.await {
        Ok(found) => found,
        Err(error) => {
            let error: NodeError = error;
            let finding = Finding::unknown(&error, error.hint()).on(node);
            checked.findings.push(finding);
            return checked;
        }
    };
    let mut below = below.into_iter();
    let mut failed: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
    let mut no_group = BTreeMap::new();
    for ((active, places, disk), found) in disks.into_iter().zip(results) {
        let volumes: Vec<_> = below.by_ref().take(disk.children.len()).collect();
        let of_disk = |finding: Finding| Finding {
            instance: Some(places.instance.clone()),
            disk: Some(disk.to_string()),
            ..finding.on(node)
        };
        let half = |is_lost, why| Half {
            node: node.clone(),
            role: places.role,
            instance: places.instance.clone(),
            disk: disk.clone(),
            is_lost,
            why,
        };
        match found {
            Ok(Some(mut status)) => {
                if let Some((is_lost, why)) = broken(disk, &volumes) {
                    checked.halves.push(half(is_lost, why));
                    status.sync.is_degraded = false;
                }
                if let (None, Some(Ok(Some(data)))) = (status.device.bytes, volumes.first()) {
                    status.device.bytes = data.device.bytes;
                }
                let links = links.filter(|_| active);
                let findings = check_disk(node, places, disk, &status, active, links);
                checked.findings.extend(findings.map(of_disk));
            }
            Ok(None) => match why_missing(asked, places, disk, &mut no_group).await {
                None if !disk.children.is_empty() => {
                    checked.halves.push(half(true, "it is not there".to_owned()));
                }
                None => checked.findings.push(of_disk(missing(places, disk))),
                Some((cause, mend)) => {
                    let message = format!("{disk} is not there: {cause}");
                    let mend = mend.unwrap_or_else(|| mends::anew(&places.instance, disk));
                    let finding = Finding::new(FindingKind::Missing, message, mend);
                    failed.entry(cause).or_default().push(of_disk(finding));
                }
            },
            Err(error) => {
                let finding = of_disk(Finding::unknown(&error, error.hint()));
                failed.entry(cause_of(&error)).or_default().push(finding);
            }
        }
    }
    checked.causes.extend(failed.keys().cloned());
    let failed = failed
        .into_iter()
        .map(|(cause, failed)| told_once(&cause, failed));
    checked.findings.extend(failed);
    checked
}

/// What is wrong with the volumes below a mirror, of which something is there, and whether the data is lost by it.
fn broken(disk: &Disk, volumes: &[NodeResult<Option<Status>>]) -> Option<(bool, String)> {
    let mut is_lost = false;
    let mut whys = Vec::new();
    for (number, (volume, found)) in disk.children.iter().zip(volumes).enumerate() {
        let why = match found {
            Ok(None) => "is not there",
            Ok(Some(status)) if status.sync.ldisk_status == LocalDiskStatus::Faulty => "is faulty",
            _ => continue,
        };
        is_lost |= number == 0;
        whys.push(format!("{} {why}", volume.logical_id));
    }
    (!whys.is_empty()).then(|| (is_lost, whys.join(", ")))
}

/// What is told of halves that are not whole, unless an operation is about to replace them. One is made anew from the other, unless that is
/// lost as well.
pub(super) fn not_whole(mut halves: Vec<Half>, under_way: &UnderWay) -> Vec<Finding> {
    halves.retain(|half| !under_way.has_instance(&half.instance));
    let lost = halves.iter().filter(|half| half.is_lost);
    let lost = lost.fold(BTreeMap::new(), |mut lost, half| {
        *lost.entry(half.disk.uuid.clone()).or_insert(0) += 1;
        lost
    });
    let tell = |half: Half| {
        let Half {
            node,
            role,
            instance,
            disk,
            why,
            ..
        } = half;
        let index = disk.index().unwrap_or_default();
        let is_gone = lost.get(&disk.uuid) == Some(&disk.all_nodes().len());
        let finding = match (is_gone, role) {
            (true, _) => Finding::new(
                FindingKind::Missing,
                format!("{disk} is lost on both nodes: {why}"),
                mends::anew(&instance, &disk),
            ),
            (false, role) => {
                let which = match role {
                    Role::Secondary => "-s",
                    Role::Primary | Role::Shared => "-p",
                };
                let message = format!("{disk} is degraded: of its half on this node {why}");
                let mend = format!("gnt-disk replace-disks {instance} {which} --disks {index}");
                Finding::new(FindingKind::Degraded, message, mend)
            }
        };
        Finding {
            instance: Some(instance),
            disk: Some(disk.to_string()),
            ..finding.on(&node)
        }
    };
    halves.into_iter().map(tell).collect()
}

/// What an error is due to, without the disk that it is about.
pub(super) fn cause_of(error: &NodeError) -> String {
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
    let volume = disk.data_device();
    let LogicalId::Lv { vg, .. } = &volume.logical_id else {
        return None;
    };
    if !known.contains_key(vg) {
        let could_be_made = node.check(volume, &places.instance, Operation::Create).await;
        let why = could_be_made.err().filter(NodeError::is_not_found);
        known.insert(vg.clone(), why.map(|error| (cause_of(&error), error.hint())));
    }
    known.get(vg).cloned().flatten()
}

fn missing(places: &Places, disk: &Disk) -> Finding {
    let mend = mends::anew(&places.instance, disk);
    Finding::new(FindingKind::Missing, format!("{disk} is not there"), mend)
}

/// What is wrong with a disk that is there. Where there are no `links`, nobody knows them.
fn check_disk(
    node: &config::Node,
    places: &Places,
    disk: &Disk,
    status: &Status,
    active: bool,
    links: Option<&[Link]>,
) -> impl Iterator<Item = Finding> {
    let name = &places.instance;
    // A mirror that is not assembled has nothing to be in sync with.
    let mirrors = active || disk.all_nodes().is_empty();
    let degraded = (mirrors && status.sync.is_degraded).then(|| {
        let message = format!("{disk} is degraded: {}", status.sync);
        let mend = mends::not_whole(name, disk, status, &node.name);
        Finding::new(FindingKind::Degraded, message, mend)
    });
    let real = status.device.bytes.map(Mebibytes::from_bytes);
    let wrong_size = real.filter(|real| *real < disk.size).map(|real| {
        let message = format!("{disk} has {real}, the configuration says {}", disk.size);
        Finding::new(FindingKind::WrongSize, message, mends::too_small(name, disk))
    });
    let why = links.and_then(|links| match places.role {
        Role::Primary | Role::Shared => not_in_use(disk, status, link_of(links, name, disk)),
        Role::Secondary => status.device.path.is_none().then(|| "is not attached".to_owned()),
    });
    let not_active = why.map(|why| {
        let message = format!("{disk} should be active, and {why}");
        let mend = format!("gnt-disk activate {name}");
        let finding = Finding::new(FindingKind::NotActive, message, mend);
        finding.repaired_by(Repair::Activate {
            instance: name.clone(),
        })
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
