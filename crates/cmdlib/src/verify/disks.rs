//! The disks of the configuration, as their nodes see them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;

use gnt_bdev::{Link, Operation, Status, Target};
use gnt_config::template::GROWABLE;
use gnt_config::{self as config, Disk, LogicalId, Mebibytes};

use super::{Finding, FindingKind, Repair};
use crate::error::chain;
use crate::node::{Node, NodeError, Role};
use crate::step::Places;

/// Looks at the disks of several instances on one node, all at once. With each there is whether they should be in use; `links` are
/// those on the node, if they are known. Returns also what kept disks from being looked at.
pub(super) async fn check_disks(
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
        let finding = Finding::new(FindingKind::NotActive, message);
        let finding = finding.mended_by(format!("gnt-disk activate {name}"));
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
