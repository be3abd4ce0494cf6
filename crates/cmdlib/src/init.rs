//! A new cluster of one node.

pub(crate) mod ganeti;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use gnt_config::params::DiskParams;
use gnt_config::{DiskTemplate, Settings, template};
use gnt_store::{Change, Store};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// What a new cluster stores disks as unless told otherwise: it needs no set-up, the provider is shipped.
const DEFAULT_TEMPLATE: DiskTemplate = DiskTemplate::Ext;

/// Records a cluster `name` whose only node is `node`; everything that it writes lies under `state`. Templates that have a driver are
/// enabled, `ext` being the default (`gnt-cluster init`). There is all that Ganeti wants in its `config.data`.
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
    let known = json!({
        "uuid": cluster_uuid, "cluster_name": name, "master_node": node_uuid, "volume_group_name": "xenvg",
        "file_storage_dir": dir("file-storage"), "shared_file_storage_dir": dir("shared-file-storage"),
        "gluster_storage_dir": dir("gluster"), "enabled_disk_templates": enabled, "diskparams": params,
    });
    let mut cluster = ganeti::cluster();
    if let Value::Object(known) = known {
        cluster.extend(known);
    }
    let address = Ipv4Addr::LOCALHOST.into();
    let mut node = ganeti::node(&node_uuid, node, address, address, &group_uuid);
    node.insert("master_candidate".to_owned(), true.into());
    let changes = [
        Change::Settings(Settings::under(state)),
        Change::Cluster(serde_json::from_value(cluster.into()).map_err(|e| read("cluster", e))?),
        Change::Group(
            serde_json::from_value(ganeti::group(&group_uuid, "default").into())
                .map_err(|e| read("group", e))?,
        ),
        Change::Node(serde_json::from_value(node.into()).map_err(|e| read("node", e))?),
    ];
    store.commit(&changes)?;
    Ok(store.set_this_node(&node_uuid)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `optionalField` in `src/Ganeti/Objects.hs`.
    const OPTIONAL: [&str; 1] = ["drbd_usermode_helper"];

    #[test]
    fn a_new_cluster_has_all_that_ganetis_own_has() {
        let recorded = std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config/config.data"),
        );
        let recorded: Value = serde_json::from_str(&recorded.unwrap()).unwrap();
        let store = Store::in_memory().unwrap();
        init(&store, Path::new("/var/lib/gnt-disk"), "cluster", "node").unwrap();
        let ours = json!(store.export().unwrap());
        let keys =
            |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
        let missing = |of: &str, ours: &Value, theirs: &Value| {
            let missing: Vec<_> = keys(theirs).difference(&keys(ours)).cloned().collect();
            let wanted: Vec<_> = missing
                .iter()
                .filter(|key| !OPTIONAL.contains(&key.as_str()))
                .collect();
            assert!(wanted.is_empty(), "{of}: {wanted:?}");
        };
        let first =
            |config: &Value, kind: &str| config[kind].as_object().unwrap().values().next().unwrap().clone();
        missing("top", &ours, &recorded);
        missing("cluster", &ours["cluster"], &recorded["cluster"]);
        for kind in ["nodes", "nodegroups"] {
            missing(kind, &first(&ours, kind), &first(&recorded, kind));
        }
        for part in ["ndparams", "ipolicy", "beparams", "nicparams"] {
            missing(part, &ours["cluster"][part], &recorded["cluster"][part]);
        }
    }
}
