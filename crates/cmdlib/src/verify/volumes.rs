//! The volumes that there are, held against the disks.

use std::collections::{BTreeMap, BTreeSet};

use gnt_bdev::{FoundVolume, Owner};
use gnt_config::{self as config, Disk, LogicalDevice, LogicalId, Mebibytes, Object, TemplateSet};
use gnt_store::{Filter, Store};

use super::disks::cause_of;
use super::{Finding, FindingKind, Repair, mends};
use crate::error::Result;
use crate::node::NodeResult;
use crate::ops::label::{detached, is_stale};
use crate::ops::{Subject, find_node};
use crate::step::Step;
use crate::survey::is_ours;

/// Volumes of one type that a node told.
pub(super) struct Listed {
    pub(super) node: config::Node,
    pub(super) device: LogicalDevice,
    /// What was asked for them.
    pub(super) params: Object,
    pub(super) volumes: NodeResult<Vec<FoundVolume>>,
}

/// What volumes should say, by their keys.
#[derive(Default)]
pub(super) struct Expected {
    volumes: BTreeMap<String, Wanted>,
    in_use: TemplateSet,
}

struct Wanted {
    disk: String,
    /// What its instance and its messages call it.
    instance: Option<String>,
    name: String,
    owner: Owner,
}

impl Expected {
    pub(super) fn read(store: &Store) -> Result<Self> {
        let mut expected = Self::default();
        for instance in store.instances()? {
            let subject = Subject::load(store, &instance.name)?;
            for disk in &subject.disks {
                expected.add(&subject, disk, Some(&instance.name))?;
            }
        }
        for disk in store.detached_disks()? {
            let subject = Subject::of_nobody(store, None, None, &disk)?;
            expected.add(&subject, &detached(&disk), None)?;
        }
        Ok(expected)
    }

    /// Whether a disk has volumes of this type.
    pub(super) fn is_in_use(&self, device: LogicalDevice) -> bool {
        self.in_use.contains(device.template())
    }

    fn add(&mut self, subject: &Subject, disk: &Disk, instance: Option<&str>) -> Result<()> {
        self.in_use
            .extend(disk.walk().map(|disk| disk.dev_type.template()));
        for step in subject.relabel(disk, None)? {
            let Step::SetInfo { label, .. } = step else {
                continue;
            };
            for (_, key, owner) in label.volumes() {
                self.volumes.insert(
                    key,
                    Wanted {
                        disk: disk.uuid.clone(),
                        instance: instance.map(str::to_owned),
                        name: disk.to_string(),
                        owner,
                    },
                );
            }
        }
        Ok(())
    }
}

/// Volumes that no disk is, and that no operation is about to make; volumes that do not say which disk they are. The `causes` of failures
/// are told already.
pub(super) fn check(
    store: &Store,
    expected: &Expected,
    listed: Vec<Listed>,
    causes: &BTreeSet<String>,
) -> Result<Vec<Finding>> {
    let in_making = in_making(store)?;
    let cluster = store.cluster()?.cluster_name;
    let last = last_owners(expected, &listed);
    let mut findings = Vec::new();
    for Listed {
        node,
        device,
        params,
        volumes,
    } in listed
    {
        let volumes = match volumes {
            Ok(volumes) => volumes,
            // Storage that no disk uses need not be there.
            Err(_) if !expected.is_in_use(device) => continue,
            Err(error) if causes.contains(&cause_of(&error)) => continue,
            Err(error) => {
                findings.push(Finding::unknown(&error, error.hint()).on(&node));
                continue;
            }
        };
        let mut of_others: BTreeMap<String, usize> = BTreeMap::new();
        for volume in volumes {
            let key = key(&volume, &node);
            match expected.volumes.get(&key) {
                Some(wanted) => findings.extend(stale(&volume, wanted, &node, &last)),
                None if in_making.contains(&key) || store.owner_of_volume(&key)?.is_some() => {}
                // What shares the storage with disks is nothing to us.
                None if !is_ours(&volume) => {}
                None => {
                    let known = disk_of(store, &volume.owner)?;
                    let other = volume.owner.kept.cluster.as_ref();
                    match other.filter(|name| known.is_none() && **name != cluster) {
                        Some(name) => *of_others.entry(name.clone()).or_default() += 1,
                        None => {
                            let removal = mends::removal(&volume.logical_id, &params, &node.name);
                            let homes = homes(store, known.as_ref())?;
                            findings.push(unknown_volume(known, &homes, volume, &node, &removal));
                        }
                    }
                }
            }
        }
        findings.extend(of_others.into_iter().map(|(name, count)| {
            let volumes = if count == 1 { "volume is" } else { "volumes are" };
            let message = format!("{count} {device} {volumes} of the cluster {name}");
            Finding::note(FindingKind::OtherCluster, message).on(&node)
        }));
    }
    Ok(findings)
}

fn key(volume: &FoundVolume, node: &config::Node) -> String {
    let mut disk = Disk::new(volume.device, volume.logical_id.clone(), Mebibytes(0));
    disk.nodes = vec![node.uuid.clone()];
    disk.volume_keys().concat()
}

/// Name and UUID of an instance.
type Last = (Option<String>, Option<String>);

/// Which instances had the detached disks (UUIDs) last, as their volumes tell: the configuration does not know.
fn last_owners(expected: &Expected, listed: &[Listed]) -> BTreeMap<String, Last> {
    let mut owners: BTreeMap<String, Last> = BTreeMap::new();
    for Listed { node, volumes, .. } in listed {
        for volume in volumes.iter().flatten() {
            let wanted = expected.volumes.get(&key(volume, node));
            let Some(wanted) = wanted.filter(|wanted| wanted.instance.is_none()) else {
                continue;
            };
            let Owner { instance, kept, .. } = &volume.owner;
            let (name, uuid) = owners.entry(wanted.disk.clone()).or_default();
            // Not every volume of a disk has the UUID.
            if kept.instance_uuid.is_some() && uuid.is_none() {
                (*name, *uuid) = (instance.clone(), kept.instance_uuid.clone());
            } else if name.is_none() {
                name.clone_from(instance);
            }
        }
    }
    owners
}

fn stale(
    volume: &FoundVolume,
    wanted: &Wanted,
    node: &config::Node,
    last: &BTreeMap<String, Last>,
) -> Option<Finding> {
    if !is_stale(volume.device, &volume.owner, &wanted.owner) {
        return None;
    }
    let says = match (&volume.owner.instance, volume.owner.index) {
        (Some(name), Some(index)) => format!("says that it is disk/{index} of {name}"),
        (Some(name), None) => format!("says that it is of {name}"),
        (None, _) => "does not say whose it is".to_owned(),
    };
    let differs =
        (&volume.owner.instance, volume.owner.index) != (&wanted.owner.instance, wanted.owner.index);
    let says = match differs && !wanted.owner.kept.detached {
        true => says,
        false => "does not say all that the configuration could be rebuilt from".to_owned(),
    };
    let message = format!("the volume {} of {} {says}", volume.logical_id, wanted.name);
    let (last, last_uuid) = last.get(&wanted.disk).cloned().unwrap_or_default();
    Some(Finding {
        node: Some(node.name.clone()),
        instance: wanted.instance.clone(),
        disk: Some(wanted.name.clone()),
        ..Finding::new(FindingKind::StaleMetadata, message, "gnt-disk verify --repair").repaired_by(
            Repair::Label {
                disk: wanted.disk.clone(),
                last,
                last_uuid,
            },
        )
    })
}

/// The disk of the configuration that a volume says it is.
fn disk_of(store: &Store, owner: &Owner) -> Result<Option<Disk>> {
    let part_of = owner.kept.mirror.as_ref().map(|mirror| &mirror.disk);
    match part_of.or(owner.uuid.as_ref()) {
        Some(uuid) => Ok(store.disk(uuid)?),
        None => Ok(None),
    }
}

/// Names of the nodes that alone have the disk's data.
fn homes(store: &Store, disk: Option<&Disk>) -> Result<Vec<String>> {
    let Some(disk) = disk else {
        return Ok(Vec::new());
    };
    let mirrored = disk.all_nodes().into_iter();
    let uuids = mirrored.chain(disk.nodes.iter().map(String::as_str));
    let uuids: BTreeSet<&str> = uuids.collect();
    let names = uuids.into_iter().map(|uuid| Ok(find_node(store, uuid)?.name));
    let names: BTreeSet<String> = names.collect::<Result<_>>()?;
    Ok(names.into_iter().collect())
}

/// A volume that no disk is, or not there; `known` is the one that it says it is, and is at `homes`. `removal` is the command that removes it.
fn unknown_volume(
    known: Option<Disk>,
    homes: &[String],
    volume: FoundVolume,
    node: &config::Node,
    removal: &str,
) -> Finding {
    let FoundVolume {
        logical_id,
        device,
        owner,
        ..
    } = volume;
    let finding = match known {
        Some(disk) => {
            let message =
                format!("the {device} volume {logical_id} says that it is {disk}, which is elsewhere");
            let mend = mends::misplaced(&disk, homes, removal);
            Finding::new(FindingKind::WrongNode, message, mend)
        }
        None => orphan(&logical_id, device, &owner, removal),
    };
    Finding {
        node: Some(node.name.clone()),
        instance: owner.instance,
        disk: Some(logical_id.to_string()),
        ..finding
    }
}

fn orphan(id: &LogicalId, device: LogicalDevice, owner: &Owner, removal: &str) -> Finding {
    let whose = match (&owner.instance, owner.index) {
        _ if owner.kept.detached => ", which says that it is a detached disk".to_owned(),
        (Some(name), Some(index)) => format!(", which says that it is disk/{index} of {name}"),
        (Some(name), None) => format!(", which says that it is of {name}"),
        (None, _) => String::new(),
    };
    let message = format!("no disk has the {device} volume {id}{whose}");
    Finding::new(FindingKind::Orphan, message, mends::unwanted(owner, removal))
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
