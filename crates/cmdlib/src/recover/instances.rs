//! From disks to instances.

use std::collections::{BTreeMap, BTreeSet};

use gnt_bdev::Link;
use gnt_config::{Disk, Instance, LogicalId, names};
use uuid::Uuid;

use super::candidate::Candidate;
use super::known::Known;
use super::{Loose, Proposal, Recovered, Refused, Remark, RemarkKind};
use crate::error::Result;
use crate::ops::MAX_DISKS;
use crate::ops::add::new_instance;
use crate::survey::Survey;

/// Puts the disks together to instances; those that have no place in one become detached.
pub(super) fn assemble(
    candidates: Vec<Candidate>,
    survey: &Survey,
    known: &Known,
    named: &[String],
    refused: Refused,
    proposal: &mut Proposal,
) -> Result<()> {
    let mut assembly = Assembly {
        links: links(survey),
        refused,
        known,
        proposal,
    };
    let candidates = assembly.on_known_nodes(candidates, named);
    let candidates = assembly.one_of_each(candidates);
    let (owned, loose): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|candidate| candidate.index.is_some() && owner_of(candidate).is_some());
    loose.into_iter().for_each(|candidate| assembly.loosen(candidate));
    for group in assembly.groups(owned) {
        assembly.instance(group)?;
    }
    let Proposal {
        instances, detached, ..
    } = assembly.proposal;
    instances.sort_by(|a, b| a.instance.name.cmp(&b.instance.name));
    detached.sort_by(|a, b| a.disk.uuid.cmp(&b.disk.uuid));
    Ok(())
}

/// The links to disks of each instance, with the UUIDs of the nodes that have them.
fn links(survey: &Survey) -> BTreeMap<String, Vec<(String, Link)>> {
    let mut links: BTreeMap<String, Vec<(String, Link)>> = BTreeMap::new();
    for seen in &survey.seen {
        for link in seen.links.as_ref().ok().into_iter().flatten() {
            let of_instance = links.entry(link.instance.clone()).or_default();
            of_instance.push((seen.node.uuid.clone(), link.clone()));
        }
    }
    links
}

/// Whether a link is to a disk that is in use. Links outlive a reboot, and devices do not; a file has none.
fn is_alive(link: &Link, disks: &BTreeMap<u32, Candidate>) -> bool {
    let is_file = |candidate: &Candidate| {
        let id = &candidate.disk.logical_id;
        matches!(id, LogicalId::File { .. } | LogicalId::Gluster { .. })
    };
    link.numbers.is_some() || disks.get(&link.index).is_some_and(is_file)
}

fn owner_of(candidate: &Candidate) -> Option<&String> {
    candidate.instance.as_ref().or(candidate.instance_uuid.as_ref())
}

struct Assembly<'a> {
    links: BTreeMap<String, Vec<(String, Link)>>,
    refused: Refused,
    known: &'a Known,
    proposal: &'a mut Proposal,
}

/// Disks of one instance.
struct Group {
    name: String,
    uuid: Option<String>,
    disks: Vec<Candidate>,
}

impl Assembly<'_> {
    fn remark(&mut self, kind: RemarkKind, instance: Option<&str>, message: String, mend: Option<String>) {
        self.proposal.remarks.push(Remark {
            mend,
            ..Remark::new(kind, message).of(instance)
        });
    }

    /// Leaves out what was on nodes that the configuration does not have, with all of its instance, unless that is named.
    fn on_known_nodes(&mut self, candidates: Vec<Candidate>, named: &[String]) -> Vec<Candidate> {
        let owner = |candidate: &Candidate| {
            let Candidate {
                instance,
                instance_uuid,
                ..
            } = candidate;
            instance_uuid.clone().or(instance.clone())
        };
        let is_named = |candidate: &Candidate| {
            let name = candidate.instance.as_ref();
            name.is_some_and(|name| named.contains(name))
        };
        let (mut owners, mut left_out) = (BTreeSet::new(), Vec::new());
        for candidate in candidates.iter().filter(|candidate| !is_named(candidate)) {
            let Some(node) = &candidate.unknown_node else {
                continue;
            };
            owners.extend(owner(candidate));
            let place = self.place_of(&candidate.disk);
            let message =
                format!("{place} is left out: it was on node {node}, which the configuration does not have");
            let mend = match &candidate.instance {
                Some(name) => {
                    format!("gnt-disk node add {node}, or gnt-disk recover {name} if it is this cluster's")
                }
                None => format!("gnt-disk node add {node}, if it is this cluster's"),
            };
            left_out.push((candidate.instance.clone(), message, mend));
        }
        for (instance, message, mend) in left_out {
            self.remark(RemarkKind::UnknownNode, instance.as_deref(), message, Some(mend));
        }
        let is_left_out = |candidate: &Candidate| {
            let of_such = owner(candidate).is_some_and(|owner| owners.contains(&owner));
            !is_named(candidate) && (of_such || candidate.unknown_node.is_some())
        };
        let kept = candidates.into_iter();
        kept.filter(|candidate| !is_left_out(candidate)).collect()
    }

    /// Leaves out what claims to be the same disk, in the configuration or twice here. What does not know its UUID gets one.
    fn one_of_each(&mut self, candidates: Vec<Candidate>) -> Vec<Candidate> {
        let mut by_uuid: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
        for mut candidate in candidates {
            for disk in std::iter::once(&mut candidate.disk.uuid)
                .chain(candidate.disk.children.iter_mut().map(|child| &mut child.uuid))
            {
                if disk.is_empty() {
                    *disk = Uuid::new_v4().to_string();
                }
            }
            by_uuid
                .entry(candidate.disk.uuid.clone())
                .or_default()
                .push(candidate);
        }
        let mut single = Vec::new();
        for (uuid, mut claimed) in by_uuid {
            let instance = claimed[0].instance.clone();
            let mut names: Vec<_> = claimed.iter().map(|claim| self.place_of(&claim.disk)).collect();
            names.sort();
            if claimed.len() > 1 || self.known.disks.contains_key(&uuid) {
                let places = claimed.iter();
                let places = places.filter_map(|claim| claim.instance.clone().zip(claim.index));
                self.refused.extend(places);
            }
            match self.known.disks.get(&uuid) {
                Some(disk) => self.remark(
                    RemarkKind::Conflict,
                    instance.as_deref(),
                    format!(
                        "{} says that it is the disk {uuid}, which is {} in the configuration",
                        names.join(", "),
                        disk.logical_id
                    ),
                    Some("look which of them has the data, and remove the other".to_owned()),
                ),
                None if claimed.len() > 1 => self.remark(
                    RemarkKind::Conflict,
                    instance.as_deref(),
                    format!("{} say that they are the same disk, {uuid}", names.join(" and ")),
                    Some("look which of them has the data, remove the others, and recover again".to_owned()),
                ),
                None => single.append(&mut claimed),
            }
        }
        single
    }

    fn place_of(&self, disk: &Disk) -> String {
        let nodes: Vec<_> = disk.nodes.iter().map(|uuid| self.known.name_of(uuid)).collect();
        match nodes.is_empty() {
            true => disk.logical_id.to_string(),
            false => format!("{} on {}", disk.logical_id, nodes.join(" and ")),
        }
    }

    fn loosen(&mut self, candidate: Candidate) {
        self.proposal.detached.push(Loose {
            last: candidate.instance,
            last_uuid: candidate.instance_uuid,
            disk: Disk {
                iv_name: None,
                ..candidate.disk
            },
        });
    }

    /// The disks of each instance, which is known by its UUID, or by its name where a volume tells nothing else.
    fn groups(&mut self, candidates: Vec<Candidate>) -> Vec<Group> {
        let mut uuids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for candidate in &candidates {
            if let (Some(name), Some(uuid)) = (&candidate.instance, &candidate.instance_uuid) {
                uuids.entry(name.clone()).or_default().insert(uuid.clone());
            }
        }
        let only_uuid = |name: &String| match uuids.get(name) {
            Some(uuids) if uuids.len() == 1 => uuids.first().cloned(),
            _ => None,
        };
        let mut by_owner: BTreeMap<(Option<String>, Option<String>), Vec<Candidate>> = BTreeMap::new();
        for candidate in candidates {
            let uuid = candidate.instance_uuid.clone();
            let uuid = uuid.or_else(|| only_uuid(candidate.instance.as_ref()?));
            let name = candidate.instance.clone().filter(|_| uuid.is_none());
            by_owner.entry((uuid, name)).or_default().push(candidate);
        }
        let mut groups = Vec::new();
        for ((uuid, _), disks) in by_owner {
            match self.name(&disks) {
                Some(name) => groups.push(Group { name, uuid, disks }),
                None => {
                    let owner = uuid.unwrap_or_default();
                    let message = format!(
                        "{} disks are of an instance with UUID {owner}, whose name none of them tells",
                        disks.len()
                    );
                    self.remark(RemarkKind::Unowned, None, message, None);
                    disks.into_iter().for_each(|disk| self.loosen(disk));
                }
            }
        }
        // Of several with one name the one that is in use, or has most disks, is it.
        groups.sort_by_key(|group| std::cmp::Reverse(group.disks.len()));
        let mut taken = BTreeSet::new();
        let (first, others): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|group| taken.insert(group.name.clone()));
        for group in others {
            let message = format!(
                "another instance had this name too: its {} disks stay detached",
                group.disks.len()
            );
            self.remark(RemarkKind::Conflict, Some(&group.name), message, None);
            group.disks.into_iter().for_each(|disk| self.loosen(disk));
        }
        first
    }

    /// What the instance of these disks is called: when a rename was broken off, as most of them say.
    fn name(&mut self, disks: &[Candidate]) -> Option<String> {
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        for name in disks.iter().filter_map(|disk| disk.instance.as_ref()) {
            *counts.entry(name).or_default() += 1;
        }
        let (name, _) = counts.iter().max_by_key(|(_, count)| **count)?;
        let name = (*name).clone();
        if counts.len() > 1 {
            let others: Vec<_> = counts.keys().filter(|other| ***other != name).collect();
            let message = format!("some of its disks say that it is called {others:?}");
            self.remark(RemarkKind::Conflict, Some(&name), message, None);
        }
        Some(name)
    }

    fn instance(&mut self, group: Group) -> Result<()> {
        let Group { name, uuid, disks } = group;
        let refusal = match self.known.instance(&name, uuid.as_deref().unwrap_or_default()) {
            Some(_) => Some((
                "the configuration has this instance without them".to_owned(),
                Some(format!("gnt-disk modify {name} --disk attach:UUID")),
            )),
            None => match names::instance(&name) {
                Err(error) => Some((error.to_string(), None)),
                Ok(()) => self.two_homes(&disks).map(|why| (why, None)),
            },
        };
        if let Some((why, mend)) = refusal {
            let message = format!("{} disks stay detached: {why}", disks.len());
            self.remark(RemarkKind::Conflict, Some(&name), message, mend);
            disks.into_iter().for_each(|disk| self.loosen(disk));
            return Ok(());
        }
        let placed = self.placed(&name, disks);
        if placed.is_empty() {
            return Ok(());
        }
        let linked = self.linked(&name, &placed);
        let primary = self.primary(&name, &linked, placed.values());
        let refused: BTreeSet<u32> = self
            .refused
            .iter()
            .filter(|(instance, index)| *instance == name && !placed.contains_key(index))
            .map(|(_, index)| *index)
            .collect();
        let last = placed.keys().next_back().copied().unwrap_or_default();
        let mut missing: Vec<u32> = (0..last)
            .filter(|index| !placed.contains_key(index) && !refused.contains(index))
            .collect();
        for index in &missing {
            let message = format!("no volume was found that says that it is disk/{index}");
            let mend = "gnt-disk recover --incomplete puts those behind it in its place".to_owned();
            self.remark(RemarkKind::Missing, Some(&name), message, Some(mend));
        }
        missing.extend(refused);
        missing.sort_unstable();
        let disks = (0..).zip(placed.into_values()).map(|(position, candidate)| Disk {
            iv_name: Some(format!("disk/{position}")),
            ..candidate.disk
        });
        let disks: Vec<Disk> = disks.collect();
        let mut instance = Instance {
            disks: disks.iter().map(|disk| disk.uuid.clone()).collect(),
            disks_active: linked.contains(&primary),
            ..new_instance(&name, &primary)?
        };
        if let Some(uuid) = uuid {
            instance.uuid = uuid;
        }
        self.proposal.instances.push(Recovered {
            instance,
            disks,
            missing,
        });
        Ok(())
    }

    /// Why disks cannot be one instance's: those that only one node has must be on the same.
    fn two_homes(&self, disks: &[Candidate]) -> Option<String> {
        let homes: BTreeSet<&str> = disks.iter().filter_map(|disk| disk.only_on.as_deref()).collect();
        let mut names: Vec<_> = homes.into_iter().map(|node| self.known.name_of(node)).collect();
        names.sort_unstable();
        (names.len() > 1).then(|| format!("they are on the nodes {}", names.join(" and ")))
    }

    /// The disks by index; of two with the same, neither has it.
    fn placed(&mut self, name: &str, disks: Vec<Candidate>) -> BTreeMap<u32, Candidate> {
        let mut by_index: BTreeMap<u32, Vec<Candidate>> = BTreeMap::new();
        for disk in disks {
            by_index
                .entry(disk.index.unwrap_or_default())
                .or_default()
                .push(disk);
        }
        let mut placed = BTreeMap::new();
        for (index, mut disks) in by_index {
            if disks.len() == 1 && (index as usize) < MAX_DISKS {
                placed.extend(disks.pop().map(|disk| (index, disk)));
                continue;
            }
            let mut names: Vec<_> = disks.iter().map(|disk| self.place_of(&disk.disk)).collect();
            names.sort();
            let message = format!(
                "disk/{index} cannot be {}: it stays detached",
                names.join(" and ")
            );
            let mend = format!("gnt-disk modify {name} --disk attach:UUID, with the right one");
            self.remark(RemarkKind::Conflict, Some(name), message, Some(mend));
            self.refused.insert((name.to_owned(), index));
            disks.into_iter().for_each(|disk| self.loosen(disk));
        }
        placed
    }

    /// UUIDs of the nodes that have links to disks in use.
    fn linked(&self, name: &str, disks: &BTreeMap<u32, Candidate>) -> BTreeSet<String> {
        let links = self.links.get(name).into_iter().flatten();
        let alive = links.filter(|(_, link)| is_alive(link, disks));
        alive.map(|(node, _)| node.clone()).collect()
    }

    /// The instance's primary node: where its disks are, or are in use; where they were when their volumes were told; else a guess. That
    /// these contradict each other is told.
    fn primary<'c>(
        &mut self,
        name: &str,
        linked: &BTreeSet<String>,
        disks: impl Iterator<Item = &'c Candidate> + Clone,
    ) -> String {
        let mirrored = disks
            .clone()
            .find(|candidate| !candidate.disk.children.is_empty());
        let pair = mirrored.map(|candidate| candidate.disk.nodes.as_slice());
        let possible = |node: &&String| pair.is_none_or(|pair| pair.contains(*node));
        let only = |nodes: &BTreeSet<&String>| match nodes.len() {
            1 => nodes.first().map(|node| (*node).clone()),
            _ => None,
        };
        let home = disks.clone().filter_map(|candidate| candidate.only_on.as_ref());
        let in_use = disks.clone().flat_map(|candidate| &candidate.in_use_on);
        let in_use: BTreeSet<&String> = in_use.filter(possible).collect();
        if let Some(node) = only(&home.collect()).or_else(|| only(&in_use)) {
            return node;
        }
        let linked: BTreeSet<&String> = linked.iter().filter(possible).collect();
        let hints: Vec<&String> = disks
            .flat_map(|candidate| &candidate.hints)
            .filter(possible)
            .collect();
        let all: BTreeSet<&String> = hints.iter().chain(&linked).chain(&in_use).copied().collect();
        // Of several that run it, or have links, the one that its volumes tell of.
        let used = if in_use.is_empty() { &linked } else { &in_use };
        let told = hints.iter().find(|node| used.is_empty() || used.contains(*node));
        let told = only(used)
            .or_else(|| told.map(|node| (*node).clone()))
            .or_else(|| all.first().map(|node| (*node).clone()));
        let (chosen, why, mend) = match told {
            Some(node) if all.len() == 1 => return node,
            Some(node) => {
                let mut names: Vec<_> = all.iter().map(|node| self.known.name_of(node)).collect();
                names.sort_unstable();
                let mend = "look where it runs, or where it ran last, before it is activated: data elsewhere may be old";
                let why = format!("it may have run on the nodes {}", names.join(" and "));
                (node, why, Some(mend.to_owned()))
            }
            None => {
                let first = pair.and_then(|pair| pair.first());
                let chosen = first.unwrap_or(&self.known.cluster.master_node).clone();
                (chosen, "nothing tells on which node it ran".to_owned(), None)
            }
        };
        let message = format!("{why}: {} was chosen", self.known.name_of(&chosen));
        self.remark(RemarkKind::Chosen, Some(name), message, mend);
        chosen
    }
}
