//! A new cluster of one node.

use std::collections::BTreeMap;
use std::path::Path;

use gnt_config::params::DiskParams;
use gnt_config::{DiskTemplate, Settings, template};
use gnt_store::{Change, Store};
use serde_json::json;

use crate::error::{Error, Result};

/// What a new cluster stores disks as unless told otherwise: it needs no set-up, the provider is shipped.
const DEFAULT_TEMPLATE: DiskTemplate = DiskTemplate::Ext;

/// Records a cluster `name` whose only node is `node`; everything that it writes lies under `state`. Templates that have a driver are
/// enabled, `ext` being the default (`gnt-cluster init`). The keys are those that Ganeti wants in its `config.data`.
pub fn init(store: &Store, state: &Path, name: &str, node: &str) -> Result<()> {
    let new_uuid = || uuid::Uuid::new_v4().to_string();
    let (cluster_uuid, node_uuid, group_uuid) = (new_uuid(), new_uuid(), new_uuid());
    let dir = |name: &str| state.join(name).to_string_lossy().into_owned();
    let others = gnt_bdev::DEV_MAP.iter().map(|driver| driver.device().template());
    let enabled: Vec<DiskTemplate> = [DEFAULT_TEMPLATE]
        .into_iter()
        .chain(others.filter(|template| *template != DEFAULT_TEMPLATE))
        .chain([DiskTemplate::Diskless])
        .collect();
    let read = |kind, value| Error::Unwritable {
        step: kind,
        source: value,
    };
    let defaults = DiskParams::default();
    let params: BTreeMap<_, _> = template::ALL
        .iter()
        .map(|template| (template, defaults.get(template)))
        .collect();
    let cluster = json!({
        "uuid": cluster_uuid, "cluster_name": name, "master_node": node_uuid, "volume_group_name": "xenvg",
        "file_storage_dir": dir("file-storage"), "shared_file_storage_dir": dir("shared-file-storage"),
        "gluster_storage_dir": dir("gluster"), "enabled_disk_templates": enabled,
        "diskparams": params, "enabled_hypervisors": ["fake"], "tcpudp_port_pool": [],
        "highest_used_port": 10999, "primary_ip_family": 2, "tags": [],
    });
    let node = json!({
        "uuid": node_uuid, "name": node, "primary_ip": "127.0.0.1", "secondary_ip": "127.0.0.1", "group": group_uuid,
        "master_candidate": true, "offline": false, "drained": false, "master_capable": true, "vm_capable": true,
        "powered": true, "ndparams": {}, "tags": [],
    });
    let group = json!({
        "uuid": group_uuid, "name": "default", "members": [], "diskparams": {}, "ndparams": {}, "ipolicy": {},
        "alloc_policy": "preferred", "networks": {}, "tags": [],
    });
    let changes = [
        Change::Settings(Settings::under(state)),
        Change::Cluster(serde_json::from_value(cluster).map_err(|e| read("cluster", e))?),
        Change::Group(serde_json::from_value(group).map_err(|e| read("group", e))?),
        Change::Node(serde_json::from_value(node).map_err(|e| read("node", e))?),
    ];
    Ok(store.commit(&changes)?)
}
