//! Drbd disks, from their volumes on the nodes and from what runs there.

use std::collections::{BTreeMap, BTreeSet};

use gnt_config::device::DRBD_META_SIZE;
use gnt_config::params::check_device;
use gnt_config::{AccessMode, Disk, LogicalDevice, LogicalId, Mebibytes, Mirror, Part};

use super::candidate::{Candidate, Claim, described, size};
use super::known::Known;
use super::running::{Numbers, Running};
use super::{Refused, Remark, RemarkKind};
use crate::ids::new_secret;
use crate::survey::Survey;

/// Takes the volumes that are parts of drbd disks out of `claims`, and builds the disks.
pub(super) fn mirrors(
    claims: &mut Vec<Claim>,
    survey: &Survey,
    known: &Known,
    remarks: &mut Vec<Remark>,
    refused: &mut Refused,
) -> Vec<Candidate> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let names = names_of_disks(claims);
    claims.retain(|claim| {
        let Some((part, key)) = claim.part().zip(group_key(claim, &names)) else {
            return true;
        };
        groups.entry(key).or_default().push(part, claim.clone());
        false
    });
    let running = Running::of(survey, known);
    let mut builder = Builder {
        numbers: Numbers::of(&running, known),
        running,
        known,
        remarks,
    };
    // What runs keeps its numbers, so it comes first.
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| !group.runs(&builder.running));
    let built = groups.iter().filter_map(|group| match builder.disk(group) {
        Ok(candidate) => Some(candidate),
        Err(why) => {
            builder.remarks.push(group.not_recovered(&why));
            refused.extend(group.place());
            None
        }
    });
    built.collect()
}

/// The UUIDs of drbd disks, by the names that their volumes have in common: a volume that does not know it may have a brother who does.
fn names_of_disks(claims: &[Claim]) -> BTreeMap<String, String> {
    let named = claims.iter().filter_map(|claim| {
        let disk = &claim.volume.owner.kept.mirror.as_ref()?.disk;
        Some((claim.name.as_ref()?.base.clone(), disk.clone()))
    });
    named.collect()
}

fn group_key(claim: &Claim, names: &BTreeMap<String, String>) -> Option<String> {
    let mirror = claim.volume.owner.kept.mirror.as_ref();
    let by_name = || {
        let base = &claim.name.as_ref()?.base;
        Some(names.get(base).unwrap_or(base).clone())
    };
    mirror.map(|mirror| mirror.disk.clone()).or_else(by_name)
}

/// The volumes of one disk, by node.
#[derive(Debug, Default)]
struct Group {
    data: BTreeMap<String, Vec<Claim>>,
    meta: BTreeMap<String, Vec<Claim>>,
}

impl Group {
    fn push(&mut self, part: Part, claim: Claim) {
        let of_part = match part {
            Part::Data => &mut self.data,
            Part::Meta => &mut self.meta,
        };
        of_part.entry(claim.node.clone()).or_default().push(claim);
    }

    fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.data.values().chain(self.meta.values()).flatten()
    }

    /// The volume with one part of it on a node. Of several the one that is in use.
    fn on(&self, part: Part, node: &str, running: &Running<'_>) -> Result<Option<&Claim>, String> {
        let of_part = match part {
            Part::Data => &self.data,
            Part::Meta => &self.meta,
        };
        let claims = of_part.get(node).map(Vec::as_slice).unwrap_or_default();
        match claims {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            several => match several
                .iter()
                .find(|claim| running.on(claim).is_some())
                .or_else(|| self.rightly_named(part, several))
            {
                Some(right) => Ok(Some(right)),
                None => Err(format!(
                    "{} and {} both claim to be its {part} on one node",
                    several[0].volume.logical_id, several[1].volume.logical_id
                )),
            },
        }
    }

    /// Of several volumes with one part, the one that is called as it was made, and not as what was replaced; or that the other node has.
    fn rightly_named<'c>(&self, part: Part, several: &'c [Claim]) -> Option<&'c Claim> {
        let only = |is_it: &dyn Fn(&Claim) -> bool| {
            let mut right = several.iter().filter(|claim| is_it(claim));
            right.next().filter(|_| right.next().is_none())
        };
        let rest = format!("_{part}");
        let of_part = match part {
            Part::Data => &self.data,
            Part::Meta => &self.meta,
        };
        let elsewhere = |claim: &Claim| {
            let others = of_part.values().flatten();
            others
                .filter(|other| other.node != claim.node)
                .any(|other| other.volume.logical_id == claim.volume.logical_id)
        };
        only(&|claim| claim.name.as_ref().is_some_and(|name| name.rest == rest)).or_else(|| only(&elsewhere))
    }

    /// UUIDs of the nodes where it is primary. With two, the instance is being migrated.
    fn primaries(&self, running: &Running<'_>) -> BTreeSet<String> {
        let data = self.data.values().flatten();
        let primary = data.filter(|claim| running.on(claim).is_some_and(|minor| minor.primary));
        primary.map(|claim| claim.node.clone()).collect()
    }

    /// Whose disk it is, and which.
    fn place(&self) -> Option<(String, u32)> {
        self.claims().find_map(|claim| {
            let owner = &claim.volume.owner;
            let named = || claim.name.as_ref().map(|name| name.index);
            Some((owner.instance.clone()?, owner.index.or_else(named)?))
        })
    }

    fn runs(&self, running: &Running<'_>) -> bool {
        self.data
            .values()
            .flatten()
            .any(|claim| running.on(claim).is_some())
    }

    /// UUIDs of its two nodes, or why they cannot be told.
    fn pair(&self, running: &Running<'_>, known: &Known) -> Result<[String; 2], String> {
        let (mut runs, mut labels, mut told) = (BTreeSet::new(), Vec::new(), Vec::new());
        for claim in self.data.values().flatten() {
            if let Some(peer) = running.on(claim).and_then(|minor| running.peer(minor)) {
                runs.insert(BTreeSet::from([claim.node.clone(), peer.to_owned()]));
            }
            let mirror = claim.volume.owner.kept.mirror.as_ref();
            if let Some(names) = mirror.and_then(|mirror| mirror.nodes.as_ref()) {
                let uuid = |name: &String| known.node_called(name).map(|node| node.uuid.clone());
                match names.each_ref().map(uuid) {
                    [Some(first), Some(second)] => {
                        labels.push([first.clone(), second.clone()]);
                        told.push((&claim.node, BTreeSet::from([first, second])));
                    }
                    _ => return Err(format!("its nodes are {} and {}", names[0], names[1])),
                }
            }
        }
        let here: Vec<&String> = self.data.keys().collect();
        let same = |pair: &[String; 2]| BTreeSet::from(pair.clone());
        // Its volumes are on both of its nodes, and no volume on one of them names another pair.
        let is_here = |pair: &&[String; 2]| {
            let mut on_them = told.iter().filter(|(node, _)| pair.contains(*node));
            pair.iter().all(|node| here.contains(&node)) && on_them.all(|(_, other)| *other == same(pair))
        };
        if runs.len() > 1 {
            return Err("it runs on more than two nodes".to_owned());
        }
        if let Some(pair) = runs.pop_first() {
            let label = labels.into_iter().find(|label| same(label) == pair);
            let primaries = self.primaries(running);
            let mut nodes: Vec<String> = pair.into_iter().collect();
            nodes.sort_by_key(|node| !primaries.contains(node));
            return match (label, <[String; 2]>::try_from(nodes)) {
                (Some(label), _) => Ok(label),
                (None, Ok(nodes)) => Ok(nodes),
                (None, Err(_)) => Err("it is connected to itself".to_owned()),
            };
        }
        let distinct: BTreeSet<_> = labels.iter().map(same).collect();
        match (distinct.len(), labels.iter().find(is_here)) {
            (1, _) => Ok(labels.swap_remove(0)),
            // One of several is where its volumes are.
            (2.., Some(pair))
                if labels
                    .iter()
                    .filter(is_here)
                    .all(|other| same(other) == same(pair)) =>
            {
                Ok(pair.clone())
            }
            (2.., _) => Err("its volumes name different pairs of nodes".to_owned()),
            (0, _) => match here[..] {
                [first, second] => Ok([first.clone(), second.clone()]),
                [_] => Err("nothing tells where its other half is".to_owned()),
                [] => Err("only its metadata was found".to_owned()),
                _ => Err(format!("{} nodes have such volumes", here.len())),
            },
        }
    }

    fn not_recovered(&self, why: &str) -> Remark {
        let volume = self.claims().next().map(|claim| &claim.volume);
        let name = volume
            .map(|volume| volume.logical_id.to_string())
            .unwrap_or_default();
        let message = format!("the drbd disk on {name} cannot be rebuilt: {why}");
        Remark::new(RemarkKind::Conflict, message)
            .of(volume.and_then(|volume| volume.owner.instance.as_deref()))
    }
}

/// Builds one disk after the other.
struct Builder<'a> {
    running: Running<'a>,
    numbers: Numbers,
    known: &'a Known,
    remarks: &'a mut Vec<Remark>,
}

impl Builder<'_> {
    fn disk(&mut self, group: &Group) -> Result<Candidate, String> {
        let nodes = group.pair(&self.running, self.known)?;
        let of_part = |part| -> Result<[Option<&Claim>; 2], String> {
            let [first, second] = &nodes;
            Ok([
                group.on(part, first, &self.running)?,
                group.on(part, second, &self.running)?,
            ])
        };
        let (data, meta) = (of_part(Part::Data)?, of_part(Part::Meta)?);
        let data_id = one_name(data)?.ok_or("its data was not found")?;
        let meta_id = one_name(meta)?.ok_or("its metadata was not found")?;
        let in_use_on = group.primaries(&self.running);
        let in_use = data
            .into_iter()
            .flatten()
            .find(|claim| in_use_on.len() == 1 && in_use_on.contains(&claim.node));
        let main = in_use.or(data[0]).or(data[1]).ok_or("its data was not found")?;
        let owner = &main.volume.owner;
        let mirror = data.into_iter().flatten().find_map(mirror_of).or(mirror_of(main));

        let size = self.size(main, data);
        let params = owner.kept.params.clone();
        let mode = owner.kept.mode;
        let volume = |claims: [Option<&Claim>; 2], id: &LogicalId, size: Mebibytes| {
            let uuids = claims
                .into_iter()
                .flatten()
                .filter_map(|claim| claim.volume.owner.uuid.clone());
            Disk {
                uuid: uuids.min().unwrap_or_default(),
                nodes: nodes.to_vec(),
                ..Disk::new(LogicalDevice::Plain, id.clone(), size)
            }
        };
        let mut children = vec![
            volume(data, &data_id, size),
            volume(meta, &meta_id, DRBD_META_SIZE),
        ];
        // Ganeti writes it there when it is set.
        children[0].mode = mode;
        let logical_id = self.logical_id(&nodes, data, mirror)?;
        let mut disk = Disk {
            children,
            nodes: nodes.to_vec(),
            ..described(LogicalDevice::Drbd, logical_id, &main.volume, &mut Vec::new())
        };
        disk.size = size;
        disk.uuid = group
            .claims()
            .find_map(mirror_of)
            .map(|mirror| mirror.disk.clone())
            .unwrap_or_default();
        disk.mode = Some(mode.unwrap_or(AccessMode::Rw));
        if check_device(LogicalDevice::Drbd, &params).is_ok() {
            disk.params = params;
        }
        self.tell_of_missing(&disk, owner.instance.as_deref(), &nodes, [data, meta]);
        let named = main.name.as_ref().map(|name| name.index);
        let index = owner.index.or(named);
        let mut candidate = Candidate {
            in_use_on,
            ..Candidate::new(disk, owner, index, self.known)
        };
        for half in data.into_iter().flatten() {
            let primary = half.volume.owner.kept.primary.as_ref();
            let node = primary.and_then(|name| self.known.node_called(name));
            candidate.hints.extend(node.map(|node| node.uuid.clone()));
        }
        Ok(candidate)
    }

    /// Both halves must have room for it.
    fn size(&mut self, main: &Claim, data: [Option<&Claim>; 2]) -> Mebibytes {
        let size = size(&main.volume, self.remarks);
        let real = |claim: &Claim| Some(Mebibytes::from_bytes(claim.volume.bytes?));
        let least = data.into_iter().flatten().filter_map(real).min();
        match least {
            Some(least) if least < size => {
                let node = self.known.name_of(&main.node);
                let message = format!(
                    "{} has {size} on node {node}, and only {least} on the other",
                    main.volume.logical_id
                );
                self.remarks.push(
                    Remark::new(RemarkKind::WrongSize, message).of(main.volume.owner.instance.as_deref()),
                );
                least
            }
            _ => size,
        }
    }

    /// Ports, minors and secret as they run, else as the volumes say, else new ones.
    fn logical_id(
        &mut self,
        nodes: &[String; 2],
        data: [Option<&Claim>; 2],
        mirror: Option<&Mirror>,
    ) -> Result<LogicalId, String> {
        let minors = self.running.of_pair(data, nodes);
        let mut runs = minors.into_iter().flatten();
        let port = runs.clone().find_map(|minor| Some(minor.local?.port()));
        let port = self.numbers.port(port, mirror.and_then(|mirror| mirror.port));
        let told = |node: usize| {
            let mirror = mirror?;
            let names = mirror.nodes.as_ref()?;
            let place = names
                .iter()
                .position(|name| name == self.known.name_of(&nodes[node]))?;
            Some(mirror.minors?[place])
        };
        let told = [told(0), told(1)];
        let mut minor = |place: usize| {
            let running = minors[place].map(|minor| minor.minor);
            self.numbers.minor(&nodes[place], running, told[place])
        };
        let numbers = [minor(0)?, minor(1)?];
        let secret = runs.clone().find_map(|minor| minor.secret.clone());
        if secret.is_none() && runs.next().is_some() {
            let message = format!(
                "drbd{} runs on node {} with a secret that cannot be read, and gets a new one: its halves do not connect until it was \
                 deactivated and activated",
                numbers[0],
                self.known.name_of(&nodes[0])
            );
            self.remarks.push(Remark::new(RemarkKind::Chosen, message));
        }
        Ok(LogicalId::Drbd8 {
            nodes: nodes.clone(),
            port: Some(port),
            minors: numbers,
            secret: secret.unwrap_or_else(new_secret),
        })
    }

    fn tell_of_missing(
        &mut self,
        disk: &Disk,
        instance: Option<&str>,
        nodes: &[String; 2],
        parts: [[Option<&Claim>; 2]; 2],
    ) {
        for (place, node) in nodes.iter().enumerate() {
            let lacks: Vec<String> = [Part::Data, Part::Meta]
                .into_iter()
                .zip(parts)
                .filter(|(_, claims)| claims[place].is_none())
                .map(|(part, _)| part.to_string())
                .collect();
            if !lacks.is_empty() {
                let message = format!("{disk} has no {} there", lacks.join(" and "));
                let mend = "gnt-disk replace-disks, when it is recovered";
                self.remarks.push(Remark {
                    node: Some(self.known.name_of(node).to_owned()),
                    ..Remark::new(RemarkKind::HalfMirror, message)
                        .of(instance)
                        .mended_by(mend)
                });
            }
        }
    }
}

fn mirror_of(claim: &Claim) -> Option<&Mirror> {
    claim.volume.owner.kept.mirror.as_ref()
}

/// The name that a volume has on both nodes.
fn one_name(claims: [Option<&Claim>; 2]) -> Result<Option<LogicalId>, String> {
    let mut ids = claims.into_iter().flatten().map(|claim| &claim.volume.logical_id);
    match (ids.next(), ids.next()) {
        (Some(first), Some(second)) if first != second => Err(format!(
            "its volumes are {first} and {second}, and should have one name"
        )),
        (first, _) => Ok(first.cloned()),
    }
}
