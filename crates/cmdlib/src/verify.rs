//! The configuration held against what the nodes really have.

use std::collections::BTreeSet;

use gnt_bdev::{FoundVolume, Link, Operation};
use gnt_config::{self as config, Disk, LogicalDevice, Mebibytes, Object};
use gnt_store::{Filter, Store};
use serde::Serialize;
use strum::Display;

use crate::error::Result;
use crate::node::Node;
use crate::ops::Subject;
use crate::saga::Nodes;
use crate::step::Step;

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
    /// A disk that should be in use has no link to its device, or one to something else.
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
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// Holds every instance, detached disk and volume against each other (`gnt-cluster verify-disks`). Nothing is changed.
pub async fn verify<N: Nodes>(store: &Store, nodes: &N) -> Result<Vec<Finding>> {
    let mut findings = interrupted(store)?;
    for instance in store.instances()? {
        let subject = Subject::load(store, &instance.name)?;
        let node = match nodes.node(&subject.node.uuid) {
            Ok(node) => node,
            Err(error) => {
                findings.push(Finding::new(FindingKind::Unknown, crate::error::chain(&error)).of(&subject));
                continue;
            }
        };
        for disk in &subject.disks {
            findings.extend(check_disk(&subject, disk, node).await?);
        }
    }
    for node in store.nodes()? {
        if let Ok(asked) = nodes.node(&node.uuid) {
            findings.extend(orphans(store, &node, asked).await?);
            findings.extend(check_links(store, &node, &asked.links().await?)?);
        }
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

async fn check_disk(subject: &Subject, disk: &Disk, node: &impl Node) -> Result<Option<Finding>> {
    let place = subject.place(disk)?;
    let name = &subject.instance.name;
    let finding = |kind, message: String, mend: Option<String>| {
        Some(Finding {
            disk: Some(disk.to_string()),
            mend,
            ..Finding::new(kind, message).of(subject)
        })
    };
    let status = match node.find(&place.disk, name).await {
        Ok(Some(status)) => status,
        Ok(None) => {
            let index = disk.index().unwrap_or_default();
            let mend = format!(
                "gnt-disk modify {name} --disk {index}:remove, after its data was restored elsewhere"
            );
            return Ok(finding(
                FindingKind::Missing,
                format!("{disk} is not there"),
                Some(mend),
            ));
        }
        Err(error) => {
            return Ok(finding(
                FindingKind::Unknown,
                crate::error::chain(&error),
                error.hint(),
            ));
        }
    };
    if status.sync.is_degraded {
        return Ok(finding(
            FindingKind::Degraded,
            format!("{disk} is degraded"),
            None,
        ));
    }
    let real = status.device.bytes.map(Mebibytes::from_bytes);
    if let Some(real) = real.filter(|real| *real < disk.size) {
        let message = format!("{disk} has {real}, the configuration says {}", disk.size);
        let index = disk.index().unwrap_or_default();
        let mend = format!("gnt-disk grow {name} {index} {} --absolute", disk.size.0);
        return Ok(finding(FindingKind::WrongSize, message, Some(mend)));
    }
    Ok(None)
}

/// The links on a node against the disks that should be in use there.
fn check_links(store: &Store, node: &config::Node, links: &[Link]) -> Result<Vec<Finding>> {
    let linked: BTreeSet<(String, u32)> = links
        .iter()
        .map(|link| (link.instance.clone(), link.index))
        .collect();
    let mut wanted = BTreeSet::new();
    for instance in store
        .primary_instances(&node.uuid)?
        .into_iter()
        .filter(|instance| instance.disks_active)
    {
        wanted.extend(
            (0..)
                .zip(&instance.disks)
                .map(|(index, _)| (instance.name.clone(), index)),
        );
    }
    let finding = |kind, (instance, index): &(String, u32), message: String, mend| Finding {
        node: Some(node.name.clone()),
        instance: Some(instance.clone()),
        disk: Some(format!("disk/{index}")),
        mend: Some(mend),
        ..Finding::new(kind, message)
    };
    let mut findings = Vec::new();
    for link in linked.difference(&wanted) {
        let (instance, index) = link;
        let mend = match store.instance(instance)? {
            Some(_) => format!("gnt-disk deactivate {instance}"),
            None => format!("rm {instance}:{index} in the directory of device links"),
        };
        let message = format!("link {instance}:{index} is left over");
        findings.push(finding(FindingKind::StaleLink, link, message, mend));
    }
    for link in wanted.difference(&linked) {
        let (instance, index) = link;
        let message = format!("disk/{index} of {instance} should be active and has no link");
        findings.push(finding(
            FindingKind::NotActive,
            link,
            message,
            format!("gnt-disk activate {instance}"),
        ));
    }
    Ok(findings)
}

/// Volumes that no disk is, and that no operation is about to make.
async fn orphans(store: &Store, node: &config::Node, asked: &impl Node) -> Result<Vec<Finding>> {
    let in_making = in_making(store)?;
    let mut findings = Vec::new();
    for (device, params) in places(store)? {
        let volumes = match asked.volumes(device, &params).await {
            Ok(volumes) => volumes,
            Err(error) => {
                findings.push(Finding {
                    node: Some(node.name.clone()),
                    mend: error.hint(),
                    ..Finding::new(FindingKind::Unknown, crate::error::chain(&error))
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

/// Where volumes can be: what the parameters of the disks that there are, and of one made with the defaults, tell.
fn places(store: &Store) -> Result<Vec<(LogicalDevice, Object)>> {
    let cluster = store.cluster()?;
    let mut places = Vec::new();
    for driver in gnt_bdev::DEV_MAP
        .iter()
        .filter(|driver| driver.capabilities().contains(Operation::Volumes))
    {
        let device = driver.device();
        let default = cluster
            .diskparams
            .get(&device.template())
            .cloned()
            .unwrap_or_default();
        places.push((device, default));
    }
    for disk in store.disks()? {
        let place = (disk.dev_type, disk.params);
        if places.iter().any(|(device, _)| *device == place.0) && !places.contains(&place) {
            places.push(place);
        }
    }
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
    let whose = owner
        .instance
        .as_ref()
        .map_or(String::new(), |name| format!(", it says it belongs to {name}"));
    Finding {
        node: Some(node.to_owned()),
        instance: owner.instance,
        disk: Some(logical_id.to_string()),
        ..Finding::new(
            FindingKind::Orphan,
            format!("{device} volume {logical_id} is no disk's{whose}"),
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

    fn of(mut self, subject: &Subject) -> Self {
        self.node = Some(subject.node.name.clone());
        self.instance = Some(subject.instance.name.clone());
        self
    }
}
