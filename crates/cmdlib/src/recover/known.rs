//! What the configuration has already.

use std::collections::{BTreeMap, BTreeSet};

use gnt_config::{Cluster, Disk, Instance, Node};
use gnt_store::Store;

use crate::error::Result;

/// The configuration, as far as a proposal may not contradict it.
pub(super) struct Known {
    pub(super) cluster: Cluster,
    /// By UUID.
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) instances: Vec<Instance>,
    /// By UUID.
    pub(super) disks: BTreeMap<String, Disk>,
    /// Keys of their volumes.
    volumes: BTreeSet<String>,
}

impl Known {
    pub(super) fn read(store: &Store) -> Result<Self> {
        let by_uuid = |disk: Disk| (disk.uuid.clone(), disk);
        let disks: BTreeMap<_, _> = store.disks()?.into_iter().map(by_uuid).collect();
        Ok(Self {
            cluster: store.cluster()?,
            nodes: store
                .nodes()?
                .into_iter()
                .map(|node| (node.uuid.clone(), node))
                .collect(),
            instances: store.instances()?,
            volumes: disks.values().flat_map(Disk::volume_keys).collect(),
            disks,
        })
    }

    /// Whether a disk has the volume.
    pub(super) fn has_volume(&self, key: &str) -> bool {
        self.volumes.contains(key)
    }

    /// The node with that name.
    pub(super) fn node_called(&self, name: &str) -> Option<&Node> {
        self.nodes.values().find(|node| node.name == name)
    }

    /// What a node is called.
    pub(super) fn name_of<'a>(&'a self, uuid: &'a str) -> &'a str {
        self.nodes.get(uuid).map_or(uuid, |node| &node.name)
    }

    pub(super) fn instance(&self, name: &str, uuid: &str) -> Option<&Instance> {
        self.instances
            .iter()
            .find(|instance| instance.name == name || instance.uuid == uuid)
    }
}
