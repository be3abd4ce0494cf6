//! From volumes to disks.

use std::collections::{BTreeMap, BTreeSet};

use gnt_bdev::{FoundVolume, Owner};
use gnt_config::{AccessMode, Disk, GeneratedName, LogicalDevice, LogicalId, Mebibytes, Part};

use super::known::Known;
use super::{Remark, RemarkKind};
use crate::compute::disk_name;
use crate::survey::{Survey, is_ours, is_shared};

/// By how much a volume may be larger than its disk: storage rounds sizes up.
const ROUNDING: Mebibytes = Mebibytes(128);

/// A volume that is no disk of the configuration and may be one.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// UUID of the node that has it; of a volume that all nodes see, one that does.
    pub(super) node: String,
    pub(super) volume: FoundVolume,
    /// What its name says.
    pub(super) name: Option<GeneratedName>,
}

/// A disk, and what there is to say about whose it is.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) disk: Disk,
    pub(super) instance: Option<String>,
    pub(super) instance_uuid: Option<String>,
    /// None for one that no instance has.
    pub(super) index: Option<u32>,
    /// UUID of the node that alone has its data.
    pub(super) only_on: Option<String>,
    /// UUIDs of the nodes that it is in use on.
    pub(super) in_use_on: BTreeSet<String>,
    /// UUIDs of the nodes that were primary when its volumes were told.
    pub(super) hints: Vec<String>,
    /// Name of that node, if the configuration does not have it and it counts.
    pub(super) unknown_node: Option<String>,
}

impl Candidate {
    /// What `owner` says of `disk`, which has everything else.
    pub(super) fn new(disk: Disk, owner: &Owner, index: Option<u32>, known: &Known) -> Self {
        let primary = owner.kept.primary.as_ref();
        let hint = primary.and_then(|name| known.node_called(name));
        let unknown = primary.filter(|_| hint.is_none());
        // Of what is surely ours, where it is may be known better.
        let has_home = disk.children.is_empty() && !disk.nodes.is_empty();
        let counts = owner.kept.cluster.is_none() || !(has_home || owner.kept.detached);
        Self {
            disk,
            instance: owner.instance.clone().filter(|name| !name.is_empty()),
            instance_uuid: owner.kept.instance_uuid.clone(),
            index: index.filter(|_| !owner.kept.detached),
            only_on: None,
            in_use_on: BTreeSet::new(),
            hints: hint.into_iter().map(|node| node.uuid.clone()).collect(),
            unknown_node: unknown.filter(|_| counts).cloned(),
        }
    }
}

impl Claim {
    /// Which part of a drbd disk it is.
    pub(super) fn part(&self) -> Option<Part> {
        let kept = self.volume.owner.kept.mirror.as_ref();
        let named = || match self.name.as_ref()?.rest.as_str() {
            "_data" => Some(Part::Data),
            "_meta" => Some(Part::Meta),
            _ => None,
        };
        // A volume that lost its mirror keeps its name, and says which disk it is by itself.
        let is_disk = self.volume.owner.uuid.is_some() || self.volume.device != LogicalDevice::Plain;
        kept.map(|mirror| mirror.part)
            .or_else(|| named().filter(|_| !is_disk))
    }

    /// Index of the disk: what the volume says, or its name if it says nothing.
    pub(super) fn index(&self) -> Option<u32> {
        let named = || self.name.as_ref().map(|name| name.index);
        let owner = &self.volume.owner;
        match owner.uuid {
            Some(_) => owner.index,
            None => owner.index.or_else(named),
        }
    }

    fn key(&self) -> String {
        key(&self.node, &self.volume)
    }
}

fn key(node: &str, volume: &FoundVolume) -> String {
    let mut disk = Disk::new(volume.device, volume.logical_id.clone(), Mebibytes(0));
    disk.nodes = vec![node.to_owned()];
    disk.volume_keys().concat()
}

/// The volumes that are no disk's yet, each once, and have an owner or a name that one of ours has.
pub(super) fn claims(survey: &Survey, known: &Known) -> Vec<Claim> {
    let mut claims = BTreeMap::new();
    for seen in &survey.seen {
        for volume in seen
            .volumes
            .iter()
            .filter_map(|(_, found)| found.as_ref().ok())
            .flatten()
        {
            let is_ours = is_ours(volume);
            let name = GeneratedName::of(volume.device, &volume.logical_id.volume());
            let claim = Claim {
                node: seen.node.uuid.clone(),
                volume: volume.clone(),
                name,
            };
            let key = claim.key();
            if is_ours && !known.has_volume(&key) {
                claims.entry(key).or_insert(claim);
            }
        }
    }
    claims.into_values().collect()
}

/// What volumes say, by their keys.
pub(super) fn told(claims: &[Claim]) -> BTreeMap<String, Owner> {
    let told = claims
        .iter()
        .map(|claim| (claim.key(), claim.volume.owner.clone()));
    told.collect()
}

/// The disks that are one volume each.
pub(super) fn single(claims: Vec<Claim>, known: &Known, remarks: &mut Vec<Remark>) -> Vec<Candidate> {
    let disks = claims.into_iter().map(|claim| {
        let owner = &claim.volume.owner;
        let (device, id) = (claim.volume.device, claim.volume.logical_id.clone());
        let mut disk = described(device, id, &claim.volume, remarks);
        let shared = is_shared(device);
        if !shared {
            disk.nodes = vec![claim.node.clone()];
        }
        // A copy of a disk has its name and something more.
        let is_copy = owner.uuid.is_none() && claim.name.as_ref().is_none_or(|name| !name.is_whole());
        let index = claim.index().filter(|_| !is_copy);
        if owner.instance.is_none() && owner.kept.instance_uuid.is_none() {
            let message = format!("the {device} volume {} does not say whose it is", disk.logical_id);
            let mend = "gnt-disk modify INSTANCE --disk attach:UUID, with the UUID that the disk has then";
            remarks.push(Remark {
                node: Some(known.name_of(&claim.node).to_owned()).filter(|_| !shared),
                ..Remark::new(RemarkKind::Unowned, message).mended_by(mend)
            });
        }
        Candidate {
            only_on: (!shared).then(|| claim.node.clone()),
            ..Candidate::new(disk, owner, index, known)
        }
    });
    disks.collect()
}

/// The disk that a volume is, as the volume describes it.
pub(super) fn described(
    device: LogicalDevice,
    mut id: LogicalId,
    volume: &FoundVolume,
    remarks: &mut Vec<Remark>,
) -> Disk {
    let owner = &volume.owner;
    if let (LogicalId::File { driver, .. } | LogicalId::Gluster { driver, .. }, Some(kept)) =
        (&mut id, owner.kept.driver)
    {
        *driver = kept;
    }
    let mut disk = Disk::new(device, id, size(volume, remarks));
    disk.uuid = owner.uuid.clone().unwrap_or_default();
    disk.name = owner.name.clone().filter(|name| disk_name(name).is_ok());
    disk.mode = Some(owner.kept.mode.unwrap_or(AccessMode::Rw));
    disk.spindles = owner.kept.spindles;
    disk.snapshot_of.clone_from(&owner.kept.snapshot_of);
    let params = owner.kept.params.clone();
    if gnt_config::params::check_device(device, &params).is_ok() {
        disk.params = params;
    }
    disk
}

/// The size as it was configured, if the volume still has it, give or take what storage rounds up; else its own.
pub(super) fn size(volume: &FoundVolume, remarks: &mut Vec<Remark>) -> Mebibytes {
    let real = volume.bytes.map(Mebibytes::from_bytes);
    match (volume.owner.kept.size, real) {
        (Some(kept), Some(real)) if kept > real => {
            let message = format!(
                "{} has {real}, and says that it should have {kept}",
                volume.logical_id
            );
            remarks.push(Remark::new(RemarkKind::WrongSize, message).of(volume.owner.instance.as_deref()));
            real
        }
        (Some(kept), Some(real)) if real > kept + ROUNDING && real.0 > kept.0 + kept.0 / 16 => real,
        (Some(kept), _) => kept,
        (None, Some(real)) => real,
        (None, None) => Mebibytes(0),
    }
}
