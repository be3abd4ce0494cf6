//! A simulated cluster behind the same traits as a real one, for the tests of whoever links this crate: nodes with volumes, devices, mirrors,
//! links and directories, all in memory. Calls fail by their number or at random from a seed, callers die, nodes lose their power or each
//! other. Waiting is tokio's: with its clock paused it takes no time. A call that nothing delays is over when it is first polled, unless it
//! waits for a peer.

mod content;
mod drbd;
mod fault;
mod guest;
mod network;
mod node;
mod random;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gnt_config as config;
use gnt_store::Store;

use crate::error::{Error, Result};
use crate::saga::Nodes;

pub use content::Bytes;
pub use drbd::{Backing, DiskState, Drbd, Metadata, Minor, Net};
pub use fault::{Crash, Extent, Fault, Storm, Then, crash};
pub use guest::Guest;
pub use network::Network;
pub use node::SimNode;
pub use random::Random;
pub use world::{Machine, Volume, World, device_path, key};

/// The simulated nodes of a cluster.
#[derive(Debug, Clone)]
pub struct SimCluster {
    nodes: BTreeMap<String, SimNode>,
    shared: Shared,
}

/// What all nodes, and all clones of the cluster, work on.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    world: World,
    /// Names of the nodes that the configuration said are offline when it was last read, by UUID.
    offline: BTreeMap<String, String>,
    fault: Option<Fault>,
    storm: Option<Storm>,
    latency: Option<Latency>,
    /// Each with the name of the node.
    calls: Vec<(String, String)>,
}

/// How long calls take.
#[derive(Debug)]
struct Latency {
    random: Random,
    most: Duration,
}

impl Shared {
    /// A panic elsewhere is a crash that was asked for: what it left is what is to be looked at.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the next call takes.
    fn delay(&self) -> Duration {
        match &mut self.lock().latency {
            Some(Latency { random, most }) => most.mul_f64(random.below(1000) as f64 / 1000.0),
            None => Duration::ZERO,
        }
    }
}

impl SimCluster {
    /// The nodes that the configuration has, with nothing on them.
    pub fn new(nodes: &[config::Node]) -> Self {
        let shared = Shared::default();
        let mut simulated = BTreeMap::new();
        for config::Node { uuid, name, .. } in nodes {
            let machine = Machine::default();
            shared.lock().world.machines.insert(uuid.clone(), machine);
            simulated.insert(uuid.clone(), SimNode::new(uuid, name, shared.clone()));
        }
        let cluster = Self {
            nodes: simulated,
            shared,
        };
        cluster.learn_offline(nodes);
        cluster
    }

    /// From now on those of these nodes that are offline are not asked: what a process learns when it begins.
    pub fn learn_offline(&self, nodes: &[config::Node]) {
        let offline = nodes.iter().filter(|node| node.offline);
        self.shared.lock().offline = offline
            .map(|node| (node.uuid.clone(), node.name.clone()))
            .collect();
    }

    /// The nodes that the store has, and the directory that it says all of them see.
    pub fn of(store: &Store) -> Result<Self> {
        let cluster = Self::new(&store.nodes()?);
        let root = store.cluster()?.shared_file_storage_dir;
        cluster.with_world(|world| world.shared_root = Some(root).filter(|root| !root.is_empty()));
        Ok(cluster)
    }

    /// Everything as it is now.
    pub fn world(&self) -> World {
        self.shared.lock().world.clone()
    }

    /// Changes something behind the operations' back.
    pub fn with_world(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.lock().world);
    }

    /// From now on calls are counted anew, and `fault` happens. None mends everything.
    pub fn inject(&self, fault: Option<Fault>) {
        let mut state = self.shared.lock();
        state.fault = fault;
        state.calls.clear();
    }

    /// Faults at random, besides; none ends them.
    pub fn brew(&self, storm: Option<Storm>) {
        self.shared.lock().storm = storm;
    }

    /// From now on each call takes up to this long, in tokio's time.
    pub fn set_latency(&self, seed: u64, most: Duration) {
        let random = Random::new(seed);
        self.shared.lock().latency = Some(Latency { random, most });
    }

    /// The calls since the last injection.
    pub fn calls(&self) -> Vec<String> {
        let calls = self.calls_by_node().into_iter();
        calls.map(|(_, call)| call).collect()
    }

    /// The same, each with the name of the node.
    pub fn calls_by_node(&self) -> Vec<(String, String)> {
        self.shared.lock().calls.clone()
    }
}

impl Nodes for SimCluster {
    type Node = SimNode;

    fn node(&self, uuid: &str) -> Result<&SimNode> {
        if let Some(name) = self.shared.lock().offline.get(uuid) {
            return Err(Error::NodeOffline { node: name.clone() });
        }
        self.nodes.get(uuid).ok_or_else(|| Error::NoNode {
            node: uuid.to_owned(),
        })
    }

    fn for_operation(&self, _operation: &str) -> Self {
        self.clone()
    }

    fn end_orphans_here(&self, _operation: &str) -> Result<()> {
        Ok(())
    }

    async fn end_orphans(&self, _operation: &str, _nodes: &[String]) -> Result<()> {
        Ok(())
    }
}
