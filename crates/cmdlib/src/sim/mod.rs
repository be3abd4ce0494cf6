//! A simulated cluster behind the same traits as a real one: nodes with volumes, devices, links and directories, all in
//! memory, and faults injected by the number of the call.

mod content;
mod drbd;
mod fault;
mod network;
mod node;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gnt_config as config;
use gnt_store::Store;

use crate::error::{Error, Result};
use crate::saga::Nodes;

pub(crate) use content::Bytes;
pub(crate) use fault::{Crash, Extent, Fault, Then, crash};
pub(crate) use node::SimNode;
pub(crate) use world::{Machine, Volume, World, device_path, key};

/// The simulated nodes of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct SimCluster {
    nodes: BTreeMap<String, SimNode>,
    shared: Shared,
}

/// What all nodes, and all clones of the cluster, work on.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    world: World,
    fault: Option<Fault>,
    calls: Vec<String>,
}

impl Shared {
    /// A panic elsewhere is a crash that was asked for: what it left is what is to be looked at.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimCluster {
    /// The nodes that the configuration has, with nothing on them.
    pub(crate) fn new(nodes: &[config::Node]) -> Self {
        let shared = Shared::default();
        let mut simulated = BTreeMap::new();
        for config::Node { uuid, name, .. } in nodes {
            shared
                .lock()
                .world
                .machines
                .insert(uuid.clone(), Machine::default());
            simulated.insert(uuid.clone(), SimNode::new(uuid, name, shared.clone()));
        }
        Self {
            nodes: simulated,
            shared,
        }
    }

    /// The nodes that the store has, and the directory that it says all of them see.
    pub(crate) fn of(store: &Store) -> Result<Self> {
        let cluster = Self::new(&store.nodes()?);
        let root = store.cluster()?.shared_file_storage_dir;
        cluster.with_world(|world| world.shared_root = Some(root).filter(|root| !root.is_empty()));
        Ok(cluster)
    }

    /// Everything as it is now.
    pub(crate) fn world(&self) -> World {
        self.shared.lock().world.clone()
    }

    /// Changes something behind the operations' back.
    pub(crate) fn with_world(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.lock().world);
    }

    /// From now on calls are counted anew, and `fault` happens. None mends everything.
    pub(crate) fn inject(&self, fault: Option<Fault>) {
        let mut state = self.shared.lock();
        state.fault = fault;
        state.calls.clear();
    }

    /// The calls since the last injection.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.lock().calls.clone()
    }
}

impl Nodes for SimCluster {
    type Node = SimNode;

    fn node(&self, uuid: &str) -> Result<&SimNode> {
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
