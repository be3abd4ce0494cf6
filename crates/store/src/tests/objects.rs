//! Objects to store.

use gnt_config::{
    Cluster, Disk, Instance, LogicalDevice, LogicalId, Mebibytes, Node, NodeGroup, Secret, Settings,
};
use serde_json::json;

use crate::{Change, Store};

pub(super) fn cluster() -> Cluster {
    serde_json::from_value(json!({"uuid": "cluster", "cluster_name": "c", "master_node": "node-a"})).unwrap()
}

pub(super) fn group(name: &str) -> NodeGroup {
    serde_json::from_value(json!({"uuid": format!("group-{name}"), "name": name})).unwrap()
}

/// UUID `node-NAME`, in the group `default`.
pub(super) fn node(name: &str) -> Node {
    serde_json::from_value(json!({
        "uuid": format!("node-{name}"), "name": name, "group": "group-default",
        "primary_ip": "192.0.2.1", "secondary_ip": "192.0.2.1",
    }))
    .unwrap()
}

/// UUID `instance-NAME`, on node `a`.
pub(super) fn instance(name: &str, disks: &[&str]) -> Instance {
    serde_json::from_value(json!({
        "uuid": format!("instance-{name}"), "name": name, "primary_node": "node-a", "disks": disks,
    }))
    .unwrap()
}

pub(super) fn ext(uuid: &str, volume: &str) -> Disk {
    let id = LogicalId::Ext {
        provider: "ext".into(),
        volume: volume.into(),
    };
    Disk {
        uuid: uuid.into(),
        ..Disk::new(LogicalDevice::Ext, id, Mebibytes(1024))
    }
}

/// Between the nodes `a` and `b`.
pub(super) fn drbd(uuid: &str, port: u16, minors: [u32; 2]) -> Disk {
    let volume = |kind: &str| {
        let id = LogicalId::Lv {
            vg: "xenvg".into(),
            lv: format!("{uuid}.{kind}"),
        };
        Disk::new(LogicalDevice::Plain, id, Mebibytes(1024))
    };
    let id = LogicalId::Drbd8 {
        nodes: ["node-a".into(), "node-b".into()],
        port: Some(port),
        minors,
        secret: Secret::new("sesame"),
    };
    Disk {
        uuid: uuid.into(),
        children: vec![volume("data"), volume("meta")],
        nodes: vec!["node-a".into(), "node-b".into()],
        ..Disk::new(LogicalDevice::Drbd, id, Mebibytes(1024))
    }
}

/// The cluster, its group, and the nodes `a`, `b` and `c`.
pub(super) fn three_nodes() -> Vec<Change> {
    vec![
        Change::Cluster(cluster()),
        Change::Settings(Settings::under("/state".as_ref())),
        Change::Group(group("default")),
        Change::Node(node("a")),
        Change::Node(node("b")),
        Change::Node(node("c")),
    ]
}

pub(super) fn store() -> Store {
    let store = Store::in_memory().unwrap();
    store.commit(&three_nodes()).unwrap();
    store
}
