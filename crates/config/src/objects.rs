//! What a cluster consists of, as far as its disks are concerned (`objects.py`). Keys without a field here are kept in `origin`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::{Object, Origin, json_object, or_default};
use crate::template::DiskTemplate;

/// A virtual machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Instance {
    /// UUID.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// UUID of the node that it runs on.
    pub primary_node: Option<String>,
    /// Template with which its disks were made; absent in Ganeti 3's own files, where each disk has its type.
    #[serde(default, deserialize_with = "or_default")]
    pub disk_template: Option<DiskTemplate>,
    /// UUIDs of its disks, in order.
    #[serde(default, deserialize_with = "or_default")]
    pub disks: Vec<String>,
    /// Whether its disks should be assembled.
    #[serde(default, deserialize_with = "or_default")]
    pub disks_active: bool,
    /// Its migration, while one is under way. Only ours: no `config.data` has it.
    #[serde(rename = "gnt-disk:migration", default)]
    pub migration: Option<Migration>,
    /// What it was read from.
    #[serde(skip)]
    pub origin: Origin,
}

json_object!(Instance);

impl Instance {
    /// Whether its disks are to be in use on the node (UUID): where it runs, and while it is migrated on both sides.
    pub fn uses_disks_on(&self, node: &str) -> bool {
        let runs_there = self.disks_active && self.primary_node.as_deref() == Some(node);
        let moves_there = self.migration.as_ref().is_some_and(|migration| {
            [&migration.source, &migration.target]
                .into_iter()
                .any(|side| side == node)
        });
        runs_there || moves_there
    }
}

/// An instance on its way from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// UUID of the node that it ran on when it began.
    pub source: String,
    /// UUID of the node that it is to run on.
    pub target: String,
    /// Id of the operation that began it, which tells it from another one; older versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// A machine that instances run on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Node {
    /// UUID.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// Address for node calls.
    pub primary_ip: String,
    /// Address for replication.
    pub secondary_ip: String,
    /// UUID of its group.
    pub group: String,
    /// Not reachable and not to be asked.
    #[serde(default, deserialize_with = "or_default")]
    pub offline: bool,
    /// Gets no new instances.
    #[serde(default, deserialize_with = "or_default")]
    pub drained: bool,
    /// Node parameters that differ from the group's.
    #[serde(default, deserialize_with = "or_default")]
    pub ndparams: Object,
    /// What it was read from.
    #[serde(skip)]
    pub origin: Origin,
}

json_object!(Node);

/// Nodes that share settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct NodeGroup {
    /// UUID.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// Disk parameters that differ from the cluster's, by template.
    #[serde(default, deserialize_with = "or_default")]
    pub diskparams: BTreeMap<DiskTemplate, Object>,
    /// Node parameters that differ from the cluster's.
    #[serde(default, deserialize_with = "or_default")]
    pub ndparams: Object,
    /// What it was read from.
    #[serde(skip)]
    pub origin: Origin,
}

json_object!(NodeGroup);

/// Settings of the whole cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Cluster {
    /// UUID.
    pub uuid: String,
    /// Name.
    pub cluster_name: String,
    /// UUID of the master node.
    pub master_node: String,
    /// Default volume group; none where LVM is not used.
    #[serde(default, deserialize_with = "or_default")]
    pub volume_group_name: Option<String>,
    /// Where `file` disks are.
    #[serde(default, deserialize_with = "or_default")]
    pub file_storage_dir: String,
    /// Where `sharedfile` disks are.
    #[serde(default, deserialize_with = "or_default")]
    pub shared_file_storage_dir: String,
    /// Where Gluster volumes are mounted.
    #[serde(default, deserialize_with = "or_default")]
    pub gluster_storage_dir: String,
    /// Templates that new disks may have, the first being the default.
    #[serde(default, deserialize_with = "or_default")]
    pub enabled_disk_templates: Vec<DiskTemplate>,
    /// Disk parameters, by template.
    #[serde(default, deserialize_with = "or_default")]
    pub diskparams: BTreeMap<DiskTemplate, Object>,
    /// Highest TCP port given to a drbd disk.
    #[serde(default, deserialize_with = "or_default")]
    pub highest_used_port: Option<u16>,
    /// Ports that were given and are free again.
    #[serde(default, deserialize_with = "or_default")]
    pub tcpudp_port_pool: Vec<u16>,
    /// Node parameters.
    #[serde(default, deserialize_with = "or_default")]
    pub ndparams: Object,
    /// What it was read from.
    #[serde(skip)]
    pub origin: Origin,
}

json_object!(Cluster);

/// Node parameter: volumes have disks for themselves (`constants.ND_EXCLUSIVE_STORAGE`).
pub const EXCLUSIVE_STORAGE: &str = "exclusive_storage";

impl Node {
    /// Whether volumes on it have disks for themselves, as it, its group or the cluster says (`Cluster.FillND`).
    pub fn has_exclusive_storage(&self, group: &NodeGroup, cluster: &Cluster) -> bool {
        let layers = [&self.ndparams, &group.ndparams, &cluster.ndparams];
        let mut set = layers
            .into_iter()
            .filter_map(|params| params.get(EXCLUSIVE_STORAGE)?.as_bool());
        set.next().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn exclusive_storage_is_set_where_it_is_set_closest() {
        let exclusive = |node: Value, group: Value, cluster: Value| {
            let node = json!({
                "uuid": "n", "name": "n", "primary_ip": "", "secondary_ip": "", "group": "g", "ndparams": node,
            });
            let group = json!({"uuid": "g", "name": "g", "ndparams": group});
            let cluster = json!({"uuid": "c", "cluster_name": "c", "master_node": "n", "ndparams": cluster});
            let node: Node = serde_json::from_value(node).unwrap();
            node.has_exclusive_storage(
                &serde_json::from_value(group).unwrap(),
                &serde_json::from_value(cluster).unwrap(),
            )
        };
        let (yes, no) = (
            json!({"exclusive_storage": true}),
            json!({"exclusive_storage": false}),
        );
        assert!(!exclusive(json!({}), json!({}), json!({})));
        assert!(exclusive(json!({}), json!({}), yes.clone()));
        assert!(!exclusive(json!({}), no.clone(), yes.clone()));
        assert!(exclusive(yes, no, json!(null)));
    }

    #[test]
    fn the_mark_of_a_migration_leaves_nothing_when_it_is_taken_off() {
        let written = json!({"uuid": "u", "name": "n", "primary_node": "a"});
        let mut instance: Instance = serde_json::from_value(written.clone()).unwrap();
        instance.migration = Some(Migration {
            source: "a".to_owned(),
            target: "b".to_owned(),
            operation: None,
        });
        let marked = serde_json::to_value(&instance).unwrap();
        assert_eq!(
            marked["gnt-disk:migration"],
            json!({"source": "a", "target": "b"})
        );
        let mut again: Instance = serde_json::from_value(marked).unwrap();
        assert_eq!(again.migration, instance.migration);
        again.migration = None;
        assert_eq!(serde_json::to_value(&again).unwrap(), written);
    }
}
