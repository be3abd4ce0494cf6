//! Files whose objects do not fit together.

use gnt_config::ganeti::{Problem, Unique};
use serde_json::{Value, json};

use crate::{
    DRBD, EXT, GROUP, NODE, NOWHERE, OTHER_DRBD, OTHER_NODE, PLAIN, REAL, WITH_DRBD, WITH_EXT, chain, read,
    with,
};

/// The only problem of `config`.
fn problem(config: &Value) -> Option<Problem> {
    let mut problems = read(config).ok()?.validate().err()?.problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.pop()
}

#[test]
fn what_is_named_but_not_there() {
    for (pointer, kind) in [
        ("cluster/master_node", "node"),
        (&format!("nodes/{NODE}/group"), "node group"),
        (&format!("instances/{WITH_EXT}/primary_node"), "node"),
        (&format!("instances/{WITH_EXT}/disks/1"), "disk"),
        (&format!("disks/{PLAIN}/nodes/0"), "node"),
        (&format!("disks/{DRBD}/children/1/nodes/0"), "node"),
        (&format!("disks/{DRBD}/logical_id/1"), "node"),
    ] {
        let config = with(&format!("/{pointer}"), json!(NOWHERE));
        let expected = Problem::Dangling {
            path: pointer.to_owned(),
            kind,
            uuid: NOWHERE.to_owned(),
        };
        assert_eq!(problem(&config), Some(expected));
    }
}

#[test]
fn an_object_under_the_wrong_key() {
    for pointer in [
        format!("nodes/{OTHER_NODE}"),
        format!("nodegroups/{GROUP}"),
        format!("instances/{WITH_EXT}"),
        format!("disks/{EXT}"),
    ] {
        let config = with(&format!("/{pointer}/uuid"), json!(NOWHERE));
        assert_eq!(
            problem(&config),
            Some(Problem::Index {
                path: pointer,
                uuid: NOWHERE.to_owned()
            })
        );
    }
}

#[test]
fn what_is_used_twice() {
    let drbd_volume = "5ab57b6b-d5dc-470f-8685-c9417d8cf30b.disk0_data";
    for (pointer, value, path, what, first) in [
        (
            format!("/nodes/{OTHER_NODE}/name"),
            json!("node1.rn"),
            format!("nodes/{OTHER_NODE}/name"),
            Unique::NodeName("node1.rn".to_owned()),
            format!("nodes/{NODE}/name"),
        ),
        (
            format!("/instances/{WITH_DRBD}/name"),
            json!("inst1.rn"),
            format!("instances/{WITH_DRBD}/name"),
            Unique::InstanceName("inst1.rn".to_owned()),
            format!("instances/{WITH_EXT}/name"),
        ),
        (
            format!("/instances/{WITH_DRBD}/disks/1"),
            json!(EXT),
            format!("instances/{WITH_DRBD}/disks/1"),
            Unique::AttachedDisk(EXT.to_owned()),
            format!("instances/{WITH_EXT}/disks/0"),
        ),
        (
            format!("/disks/{OTHER_DRBD}/logical_id/3"),
            json!(0),
            format!("disks/{OTHER_DRBD}/logical_id"),
            Unique::Minor {
                node: NODE.to_owned(),
                minor: 0,
            },
            format!("disks/{DRBD}/logical_id"),
        ),
        (
            format!("/disks/{OTHER_DRBD}/logical_id/2"),
            json!(11000),
            format!("disks/{OTHER_DRBD}/logical_id"),
            Unique::Port(11000),
            format!("disks/{DRBD}/logical_id"),
        ),
        (
            "/cluster/tcpudp_port_pool".to_owned(),
            json!([11005, 11001]),
            "cluster/tcpudp_port_pool/1".to_owned(),
            Unique::Port(11001),
            format!("disks/{OTHER_DRBD}/logical_id"),
        ),
        (
            format!("/disks/{PLAIN}/logical_id/1"),
            json!(drbd_volume),
            format!("disks/{PLAIN}"),
            Unique::Volume(format!("plain:{NODE}:xenvg/{drbd_volume}")),
            format!("disks/{DRBD}"),
        ),
        (
            format!("/disks/{DRBD}/children/0/uuid"),
            json!("8af8683a-d424-4a1e-8227-304cad7d2663"),
            format!("disks/{DRBD}/children/1/uuid"),
            Unique::Disk("8af8683a-d424-4a1e-8227-304cad7d2663".to_owned()),
            format!("disks/{DRBD}/children/0/uuid"),
        ),
    ] {
        assert_eq!(
            problem(&with(&pointer, value)),
            Some(Problem::Duplicate { path, what, first })
        );
    }

    let mut two_groups = REAL.clone();
    let mut group = REAL["nodegroups"][GROUP].clone();
    group["uuid"] = json!(NOWHERE);
    two_groups["nodegroups"][NOWHERE] = group;
    let Problem::Duplicate { what, .. } = problem(&two_groups).unwrap() else {
        panic!()
    };
    assert_eq!(what, Unique::GroupName("default".to_owned()));

    let mut console = REAL.clone();
    console["instances"][WITH_EXT]["network_port"] = json!(11000);
    let Problem::Duplicate { path, .. } = problem(&console).unwrap() else {
        panic!()
    };
    assert_eq!(path, format!("instances/{WITH_EXT}/network_port"));
}

#[test]
fn trees_that_cannot_be() {
    let volume = REAL["disks"][DRBD]["children"][0].clone();
    let mut child = REAL["disks"][PLAIN].clone();
    child["uuid"] = json!(NOWHERE);
    child["logical_id"][1] = json!("another");
    let ext = REAL["disks"][EXT].clone();
    for (disk, children, message) in [
        (
            DRBD,
            json!([volume]),
            "a drbd disk has two logical volumes, data and metadata below it; found 1 devices",
        ),
        (
            DRBD,
            json!([volume, ext]),
            "a drbd disk has two logical volumes, data and metadata below it; found 2 devices",
        ),
        (
            PLAIN,
            json!([child]),
            "a plain disk has nothing below it; found 1 devices",
        ),
    ] {
        let mut config = with(&format!("/disks/{disk}/children"), children);
        // One ext disk only, with its instance: above or below.
        config["disks"].as_object_mut().unwrap().remove(EXT);
        config["instances"].as_object_mut().unwrap().remove(WITH_EXT);
        assert_eq!(
            problem(&config).unwrap().to_string(),
            format!("disks/{disk}: {message}")
        );
    }
    let config = with(&format!("/disks/{DRBD}/logical_id/1"), json!(NODE));
    let problems = read(&config).unwrap().validate().unwrap_err().problems;
    let path = format!("disks/{DRBD}/logical_id");
    assert!(
        problems.contains(&Problem::SameNode {
            path,
            node: NODE.to_owned()
        }),
        "{problems:?}"
    );
}

#[test]
fn an_instance_away_from_its_drbd_disk() {
    let mut config = REAL.clone();
    let mut node = REAL["nodes"][NODE].clone();
    node["uuid"] = json!(NOWHERE);
    node["name"] = json!("node3.rn");
    config["nodes"][NOWHERE] = node;
    config["instances"][WITH_DRBD]["primary_node"] = json!(NOWHERE);
    let problems = read(&config).unwrap().validate().unwrap_err().problems;
    let not_there = |index: usize, disk: &str| Problem::NotOnPrimary {
        path: format!("instances/{WITH_DRBD}/disks/{index}"),
        disk: disk.to_owned(),
        node: NOWHERE.to_owned(),
    };
    assert_eq!(problems, [not_there(0, DRBD), not_there(1, OTHER_DRBD)]);
}

#[test]
fn names_and_parameters_that_cannot_be_used() {
    for (pointer, value, path, cause) in [
        (
            "/cluster/diskparams/drbd/protocol",
            json!("D"),
            "cluster/diskparams",
            "must be A, B or C",
        ),
        (
            &format!("/nodegroups/{GROUP}/diskparams"),
            json!({"plain": {"strips": 2}}),
            &format!("nodegroups/{GROUP}/diskparams"),
            "has no parameter \"strips\"",
        ),
        (
            &format!("/disks/{PLAIN}/params"),
            json!({"stripes": 0}),
            &format!("disks/{PLAIN}/params"),
            "1 or more",
        ),
        (
            &format!("/disks/{DRBD}/children/1/params"),
            json!({"stripes": "1"}),
            &format!("disks/{DRBD}/children/1/params"),
            "1 or more, not \"1\"",
        ),
        (
            &format!("/disks/{EXT}/params/provider"),
            json!("../x"),
            &format!("disks/{EXT}/params"),
            "a provider's name",
        ),
        (
            &format!("/disks/{EXT}/logical_id/0"),
            json!("../x"),
            &format!("disks/{EXT}/logical_id/0"),
            "provider name",
        ),
        (
            &format!("/disks/{PLAIN}/logical_id/0"),
            json!("-x"),
            &format!("disks/{PLAIN}/logical_id/0"),
            "volume group",
        ),
        (
            &format!("/instances/{WITH_EXT}/name"),
            json!("a/b"),
            &format!("instances/{WITH_EXT}/name"),
            "instance name",
        ),
    ] {
        let found = problem(&with(pointer, value)).unwrap();
        let shown = chain(&found);
        assert!(
            shown.starts_with(&format!("{path}: ")) && shown.contains(cause),
            "{shown}"
        );
    }
}

#[test]
fn all_problems_are_listed_with_their_causes() {
    let mut config = with("/cluster/master_node", json!(NOWHERE));
    config["cluster"]["diskparams"]["plain"]["stripes"] = json!(0);
    let shown = read(&config).unwrap().validate().unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(
        shown.contains("cluster/master_node: there is no node") && shown.contains("1 or more, not 0"),
        "{shown}"
    );
}

#[test]
fn a_detached_disk_is_no_problem() {
    let config = with(&format!("/instances/{WITH_EXT}/disks"), json!([]));
    assert_eq!(read(&config).unwrap().validate(), Ok(()));
}
