//! What runs on the nodes, and which numbers are taken.

use std::collections::BTreeSet;
use std::path::Path;

use gnt_bdev::DrbdMinor;
use gnt_config::{Disk, LogicalId};
use gnt_store::{FIRST_DRBD_PORT, LAST_DRBD_PORT};

use super::candidate::Claim;
use super::known::Known;
use crate::survey::Survey;

/// The drbd minors of all nodes.
pub(super) struct Running<'a> {
    known: &'a Known,
    /// With the UUID of the node.
    minors: Vec<(&'a str, &'a DrbdMinor)>,
}

impl<'a> Running<'a> {
    pub(super) fn of(survey: &'a Survey, known: &'a Known) -> Self {
        let minors = survey.seen.iter().flat_map(|seen| {
            let minors = seen.minors.as_ref().ok().into_iter().flatten();
            minors.map(|minor| (seen.node.uuid.as_str(), minor))
        });
        Self {
            known,
            minors: minors.collect(),
        }
    }

    /// What runs on a volume that has a disk's data.
    pub(super) fn on(&self, claim: &Claim) -> Option<&'a DrbdMinor> {
        let LogicalId::Lv { vg, lv } = &claim.volume.logical_id else {
            return None;
        };
        let path = format!("/dev/{vg}/{lv}");
        self.find(&claim.node, |minor| {
            let volumes = [&minor.data, &minor.meta];
            volumes
                .into_iter()
                .flatten()
                .any(|volume| volume == Path::new(&path))
        })
    }

    /// What runs of a disk on its two nodes; on one of them it may be without data.
    pub(super) fn of_pair(
        &self,
        data: [Option<&Claim>; 2],
        nodes: &[String; 2],
    ) -> [Option<&'a DrbdMinor>; 2] {
        let on_data = data.map(|claim| claim.and_then(|claim| self.on(claim)));
        let connected_to = |other: Option<&DrbdMinor>, node: &str| {
            let other = other?;
            self.find(node, |minor| {
                minor.local.is_some() && minor.local == other.remote && minor.remote == other.local
            })
        };
        [
            on_data[0].or_else(|| connected_to(on_data[1], &nodes[0])),
            on_data[1].or_else(|| connected_to(on_data[0], &nodes[1])),
        ]
    }

    fn find(&self, node: &str, is_it: impl Fn(&DrbdMinor) -> bool) -> Option<&'a DrbdMinor> {
        let mut here = self.minors.iter().filter(|(at, minor)| *at == node && minor.ours);
        here.find(|(_, minor)| is_it(minor)).map(|(_, minor)| *minor)
    }

    /// UUID of the node that a minor is connected, or tries to connect, to.
    pub(super) fn peer(&self, minor: &DrbdMinor) -> Option<&'a str> {
        let ip = minor.remote?.ip();
        let mut nodes = self.known.nodes.values();
        let node = nodes.find(|node| node.secondary_ip.parse() == Ok(ip))?;
        Some(&node.uuid)
    }
}

/// The ports and minors that are not free.
pub(super) struct Numbers {
    /// Node (UUID) and minor of disks.
    taken: BTreeSet<(String, u32)>,
    /// Of what runs, whoever has it.
    running: BTreeSet<(String, u32)>,
    ports: BTreeSet<u16>,
    /// Of what runs, whoever has it.
    running_ports: BTreeSet<u16>,
}

impl Numbers {
    pub(super) fn of(running: &Running<'_>, known: &Known) -> Self {
        let taken = known.disks.values().flat_map(Disk::drbd_minors);
        let consoles = known.instances.iter().filter_map(|instance| {
            let port = instance.origin.get("network_port")?.as_u64()?;
            u16::try_from(port).ok()
        });
        let running = running.minors.iter();
        let local = running.clone().filter_map(|(_, minor)| minor.local);
        Self {
            running_ports: local.map(|address| address.port()).collect(),
            taken: taken.map(|(node, minor)| (node.to_owned(), minor)).collect(),
            running: running
                .map(|(node, minor)| ((*node).to_owned(), minor.minor))
                .collect(),
            ports: known
                .disks
                .values()
                .flat_map(Disk::drbd_ports)
                .chain(consoles)
                .collect(),
        }
    }

    /// The minor of a disk on a node: the one that it runs as, or the one that its volume tells if that is free, or else the lowest that is.
    pub(super) fn minor(
        &mut self,
        node: &str,
        running: Option<u32>,
        told: Option<u32>,
    ) -> Result<u32, String> {
        let place = |minor| (node.to_owned(), minor);
        let is_free = |minor: &u32| {
            let place = place(*minor);
            !self.taken.contains(&place) && !self.running.contains(&place)
        };
        let minor = match running {
            Some(minor) if self.taken.contains(&place(minor)) => {
                return Err(format!("it runs as drbd{minor}, which is another disk's number"));
            }
            Some(minor) => minor,
            None => told
                .filter(is_free)
                .or_else(|| (0..).find(is_free))
                .unwrap_or_default(),
        };
        self.taken.insert(place(minor));
        Ok(minor)
    }

    /// The port of a disk: the one that it runs with, or the one that its volume tells if that is free, or else the lowest that is.
    pub(super) fn port(&mut self, running: Option<u16>, told: Option<u16>) -> u16 {
        let is_free = |port: &u16| !self.ports.contains(port) && !self.running_ports.contains(port);
        let port = running
            .filter(|port| !self.ports.contains(port))
            .or_else(|| told.filter(is_free))
            .or_else(|| (FIRST_DRBD_PORT..=LAST_DRBD_PORT).find(is_free));
        let port = port.unwrap_or(FIRST_DRBD_PORT);
        self.ports.insert(port);
        port
    }
}
