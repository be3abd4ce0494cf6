//! What can reach what.

use std::collections::BTreeSet;

use crate::sim::World;

/// The links that are cut.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Network {
    /// UUIDs of the nodes that the manager cannot reach.
    unreachable: BTreeSet<String>,
    /// Pairs of nodes that cannot reach each other to replicate, the lesser UUID first.
    apart: BTreeSet<(String, String)>,
}

fn pair(one: &str, other: &str) -> (String, String) {
    (one.min(other).to_owned(), one.max(other).to_owned())
}

impl World {
    /// Whether the manager can ask a node.
    pub fn is_reachable(&self, node: &str) -> bool {
        self.machines.get(node).is_some_and(|machine| !machine.is_dead)
            && !self.network.unreachable.contains(node)
    }

    /// Whether two nodes can replicate.
    pub fn are_connected(&self, one: &str, other: &str) -> bool {
        let is_up = |node| self.machines.get(node).is_some_and(|machine| !machine.is_dead);
        is_up(one) && is_up(other) && !self.network.apart.contains(&pair(one, other))
    }

    /// Takes a node from the manager, or gives it back.
    pub fn set_reachable(&mut self, node: &str, reachable: bool) {
        match reachable {
            true => self.network.unreachable.remove(node),
            false => self.network.unreachable.insert(node.to_owned()),
        };
    }

    /// Cuts the link between two nodes. What was connected over it waits for its peer from then on.
    pub fn cut(&mut self, one: &str, other: &str) {
        self.network.apart.insert(pair(one, other));
        self.part_all(one, other);
    }

    /// Mends the link.
    pub fn mend(&mut self, one: &str, other: &str) {
        self.network.apart.remove(&pair(one, other));
        self.meet_all(one);
    }
}
