//! What instances do with their disks.

use std::collections::BTreeMap;
use std::path::Path;

use crate::sim::world::device_path;
use crate::sim::{Volume, World};

/// An instance that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Guest {
    node: String,
    /// By the indices that they had when it was started.
    devices: BTreeMap<u32, Device>,
}

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Device {
    Minor(u32),
    /// Its key.
    Volume(String),
}

impl World {
    /// The instance runs on a node, with the disks that it has links to there: they cannot be taken from it.
    pub fn start_guest(&mut self, instance: &str, node: &str) {
        let links = self
            .machines
            .get(node)
            .into_iter()
            .flat_map(|machine| &machine.links);
        let own = links.filter(|((owner, _), _)| owner == instance);
        let devices = own.filter_map(|((_, index), path)| Some((*index, self.device_at(node, path)?)));
        let guest = Guest {
            node: node.to_owned(),
            devices: devices.collect(),
        };
        self.guests.insert(instance.to_owned(), guest);
    }

    /// The instance does not run any more.
    pub fn stop_guest(&mut self, instance: &str) {
        self.guests.remove(instance);
    }

    /// The node where the instance runs.
    pub fn guest(&self, instance: &str) -> Option<&str> {
        self.guests.get(instance).map(|guest| guest.node.as_str())
    }

    /// Whether an instance uses a device on a node.
    pub(super) fn is_used(&self, node: &str, device: &Device) -> bool {
        let mut guests = self.guests.values().filter(|guest| guest.node == node);
        guests.any(|guest| guest.devices.values().any(|used| used == device))
    }

    /// The instance writes a number to one of its disks; whether it is told that this was done. What it may not do is noted in
    /// [`violations`](World::violations).
    pub fn guest_write(&mut self, instance: &str, index: u32, offset: u64, number: u64) -> bool {
        let Some((node, device)) = self.device_of(instance, index) else {
            return false;
        };
        let number = number.to_le_bytes();
        match device {
            Device::Minor(minor) => {
                let minors = &self.machine(&node).minors;
                let is_primary = minors.get(&minor).is_some_and(|minor| minor.is_primary);
                is_primary && self.drbd_write(&node, minor, |data| data.write(offset, &number))
            }
            Device::Volume(key) => {
                self.check_writer(instance, &node, &key);
                match self.volumes.get_mut(&key) {
                    Some(volume) => volume.data.write(offset, &number),
                    None => return false,
                }
                true
            }
        }
    }

    /// What the instance reads at an offset; none if it cannot.
    pub fn guest_read(&self, instance: &str, index: u32, offset: u64) -> Option<u64> {
        let (node, device) = self.device_of(instance, index)?;
        match device {
            Device::Minor(minor) => Some(self.drbd_data(&node, minor)?.number(offset)),
            Device::Volume(key) => Some(self.volumes.get(&key)?.data.number(offset)),
        }
    }

    /// Nobody else may have what is written to for itself, and the writer must have it.
    fn check_writer(&mut self, instance: &str, node: &str, key: &str) {
        let has_it_alone = |other: &str| self.machines[other].open.get(key) == Some(&true);
        let others = self.machines.keys().filter(|other| *other != node);
        let mut wrong: Vec<_> = others
            .filter(|other| has_it_alone(other))
            .map(|other| format!("{instance} wrote to {key} on {node}, and {other} has it for itself"))
            .collect();
        if !self.machines[node].open.contains_key(key) {
            wrong.push(format!(
                "{instance} wrote to {key} on {node}, which does not have it open"
            ));
        }
        self.violations.append(&mut wrong);
    }

    fn device_of(&self, instance: &str, index: u32) -> Option<(String, Device)> {
        let guest = self.guests.get(instance)?;
        Some((guest.node.clone(), guest.devices.get(&index)?.clone()))
    }

    fn device_at(&self, node: &str, path: &Path) -> Option<Device> {
        let number = path.to_str()?.strip_prefix("/dev/drbd");
        if let Some(minor) = number.and_then(|number| number.parse().ok()) {
            return Some(Device::Minor(minor));
        }
        let is_it = |volume: &Volume| {
            let is_here = volume.node.as_deref().is_none_or(|home| home == node);
            is_here && device_path(node, volume.device, &volume.logical_id) == path
        };
        let mut volumes = self.volumes.iter();
        let (key, _) = volumes.find(|(_, volume)| is_it(volume))?;
        Some(Device::Volume(key.clone()))
    }
}
