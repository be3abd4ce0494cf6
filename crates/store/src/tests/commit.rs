//! Commits and what they refuse.

use serde_json::json;

use crate::tests::objects::{cluster, drbd, ext, group, instance, node, store};
use crate::{Change, Store, StoreError};

fn refused(store: &Store, changes: &[Change]) -> StoreError {
    let before = store.revision().unwrap();
    let error = store.commit(changes).unwrap_err();
    assert_eq!(
        store.revision().unwrap(),
        before,
        "a refused commit changes nothing"
    );
    error
}

/// Two instances: `inst1` with the disks `d0` and `d1`, `inst2` with `d2`; `d3` is attached to none.
fn two_instances() -> Store {
    let store = store();
    let disks = ["d0", "d1", "d2", "d3"].map(|uuid| Change::Disk(ext(uuid, &format!("volume-{uuid}"))));
    store.commit(&disks).unwrap();
    let instances = [instance("inst1", &["d1", "d0"]), instance("inst2", &["d2"])];
    store.commit(&instances.map(Change::Instance)).unwrap();
    store
}

fn uuids(disks: Vec<gnt_config::Disk>) -> Vec<String> {
    disks.into_iter().map(|disk| disk.uuid).collect()
}

#[test]
fn what_was_put_is_read_back() {
    let store = two_instances();
    assert!(store.is_initialised().unwrap());
    assert_eq!(store.cluster().unwrap().cluster_name, "c");
    assert_eq!(store.settings().unwrap().es_timeout, 900);
    let found = store.instance("inst1").unwrap().unwrap();
    assert_eq!(found.uuid, "instance-inst1");
    assert_eq!(store.instance("instance-inst1").unwrap().unwrap(), found);
    assert!(store.instance("inst3").unwrap().is_none());
    assert_eq!(uuids(store.disks_of(&found).unwrap()), ["d1", "d0"]);
    assert_eq!(uuids(store.detached_disks().unwrap()), ["d3"]);
    assert_eq!(uuids(store.disks().unwrap()), ["d0", "d1", "d2", "d3"]);
    assert_eq!(store.owner_of_disk("d0").unwrap().unwrap(), "instance-inst1");
    assert_eq!(store.owner_of_disk("d3").unwrap(), None);
    assert_eq!(store.owner_of_volume("ext:ext/volume-d1").unwrap().unwrap(), "d1");
    assert_eq!(store.owner_of_volume("ext:ext/other").unwrap(), None);
    let names: Vec<_> = store
        .instances()
        .unwrap()
        .into_iter()
        .map(|instance| instance.name)
        .collect();
    assert_eq!(names, ["inst1", "inst2"]);
    assert_eq!(store.nodes().unwrap().len(), 3);
    assert_eq!(store.groups().unwrap()[0].name, "default");
    assert_eq!(store.group("group-default").unwrap().unwrap().name, "default");
}

#[test]
fn an_object_is_found_by_its_uuid_before_another_by_its_name() {
    let store = store();
    for (uuid, name) in [("x", "y"), ("y", "x")] {
        let mut named = instance(name, &[]);
        named.uuid = uuid.into();
        store.commit(&[Change::Instance(named)]).unwrap();
    }
    for uuid in ["x", "y"] {
        assert_eq!(store.instance(uuid).unwrap().unwrap().uuid, uuid);
    }
}

#[test]
fn what_is_on_a_node_is_found() {
    let store = two_instances();
    let mirrored = [
        Change::Disk(drbd("m", 11000, [0, 0])),
        Change::Instance(instance("inst3", &["m"])),
    ];
    store.commit(&mirrored).unwrap();
    let names = |instances: Vec<gnt_config::Instance>| -> Vec<_> {
        instances.into_iter().map(|instance| instance.name).collect()
    };
    assert_eq!(
        names(store.primary_instances("node-a").unwrap()),
        ["inst1", "inst2", "inst3"]
    );
    assert_eq!(names(store.secondary_instances("node-b").unwrap()), ["inst3"]);
    assert!(store.secondary_instances("node-a").unwrap().is_empty());
    assert_eq!(uuids(store.disks_on("node-b").unwrap()), ["m"]);
    assert!(store.disks_on("node-c").unwrap().is_empty());
}

#[test]
fn every_put_counts() {
    let store = two_instances();
    let before = store.revision().unwrap();
    let serial = |store: &Store| {
        store
            .instance("inst1")
            .unwrap()
            .unwrap()
            .origin
            .get("serial_no")
            .cloned()
    };
    assert_eq!(serial(&store), Some(json!(1)));
    let mut changed = store.instance("inst1").unwrap().unwrap();
    changed.disks_active = true;
    let change = [Change::Instance(changed)];
    for _twice in 0..2 {
        store.commit(&change).unwrap();
        let stored = store.instance("inst1").unwrap().unwrap();
        assert!(stored.disks_active);
        let time = |key: &str| stored.origin.get(key).unwrap().as_f64().unwrap();
        assert!(time("mtime") > time("ctime"));
        assert_eq!(serial(&store), Some(json!(2)));
    }
    let after = store.revision().unwrap();
    assert_eq!(after.serial_no, before.serial_no + 2);
    assert!(after.mtime > before.mtime);
    store.commit(&[]).unwrap();
    assert_eq!(store.revision().unwrap(), after);
}

#[test]
fn of_several_changes_of_one_object_the_last_counts() {
    let store = two_instances();
    let disk = |volume: &str| Change::Disk(ext("d9", volume));
    store
        .commit(&[disk("x"), Change::RemoveDisk("d9".into()), disk("y"), disk("z")])
        .unwrap();
    assert_eq!(store.owner_of_volume("ext:ext/z").unwrap().unwrap(), "d9");
    assert_eq!(store.owner_of_volume("ext:ext/x").unwrap(), None);
    store
        .commit(&[disk("x"), Change::RemoveDisk("d9".into())])
        .unwrap();
    assert!(store.disk("d9").unwrap().is_none());
    // To remove what is not there is no error.
    store
        .commit(&[
            Change::RemoveDisk("d9".into()),
            Change::RemoveInstance("i9".into()),
        ])
        .unwrap();
}

#[test]
fn names_disks_and_volumes_can_be_exchanged_in_one_commit() {
    let store = two_instances();
    let mut first = store.instance("inst1").unwrap().unwrap();
    let mut second = store.instance("inst2").unwrap().unwrap();
    std::mem::swap(&mut first.name, &mut second.name);
    std::mem::swap(&mut first.disks, &mut second.disks);
    let disks = [
        Change::Disk(ext("d0", "volume-d2")),
        Change::Disk(ext("d2", "volume-d0")),
    ];
    store
        .commit(&[
            Change::Instance(first),
            Change::Instance(second),
            disks[0].clone(),
            disks[1].clone(),
        ])
        .unwrap();
    assert_eq!(store.instance("inst2").unwrap().unwrap().uuid, "instance-inst1");
    assert_eq!(store.owner_of_disk("d2").unwrap().unwrap(), "instance-inst1");
    assert_eq!(store.owner_of_volume("ext:ext/volume-d0").unwrap().unwrap(), "d2");
    // A node keeps what is on it while it is renamed.
    let mut renamed = store.node("a").unwrap().unwrap();
    renamed.name = "z".into();
    store.commit(&[Change::Node(renamed)]).unwrap();
    assert_eq!(store.primary_instances("node-a").unwrap().len(), 2);
    assert!(store.node("a").unwrap().is_none());
}

#[test]
fn what_is_taken_is_refused_with_who_has_it() {
    let store = two_instances();
    let mut named_twice = instance("inst1", &[]);
    named_twice.uuid = "other".into();
    let mut same_node = node("a");
    same_node.uuid = "other".into();
    let mut same_group = group("default");
    same_group.uuid = "other".into();
    for (change, message) in [
        (
            Change::Instance(named_twice),
            "the instance name inst1 is taken by instance-inst1",
        ),
        (Change::Node(same_node), "the node name a is taken by node-a"),
        (
            Change::Group(same_group),
            "the node group name default is taken by group-default",
        ),
        (
            Change::Instance(instance("inst3", &["d3", "d2"])),
            "disk d2 cannot be attached to instance inst3: it is attached to inst2",
        ),
        (
            Change::Disk(ext("d9", "volume-d0")),
            "volume ext:ext/volume-d0 is taken by disk d0 of instance inst1",
        ),
        (
            Change::Disk(ext("d9", "volume-d3")),
            "volume ext:ext/volume-d3 is taken by disk d3, which is attached to no instance",
        ),
        (
            Change::Disk(ext("", "v")),
            "a disk without a UUID cannot be stored",
        ),
    ] {
        assert_eq!(refused(&store, &[change]).to_string(), message);
    }
}

#[test]
fn minors_and_ports_are_taken_once() {
    let store = two_instances();
    store
        .commit(&[
            Change::Disk(drbd("m", 11000, [0, 7])),
            Change::Instance(instance("inst3", &["m"])),
        ])
        .unwrap();
    let mut with_console = instance("inst4", &[]);
    with_console.origin.set("network_port", json!(11007));
    store.commit(&[Change::Instance(with_console)]).unwrap();
    for (disk, message) in [
        (
            drbd("n", 11001, [0, 0]),
            "drbd minor 0 on node node-a is taken by disk m of instance inst3",
        ),
        (
            drbd("n", 11001, [1, 7]),
            "drbd minor 7 on node node-b is taken by disk m of instance inst3",
        ),
        (
            drbd("n", 11000, [1, 1]),
            "TCP port 11000 is taken by disk m of instance inst3",
        ),
        (
            drbd("n", 11007, [1, 1]),
            "TCP port 11007 is taken by instance inst4",
        ),
    ] {
        let error = refused(&store, &[Change::Disk(disk)]);
        assert_eq!(error.to_string(), message);
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
    store.commit(&[Change::Disk(drbd("n", 11001, [7, 0]))]).unwrap();
}

#[test]
fn secrets_are_stored_and_not_shown() {
    let store = store();
    store.commit(&[Change::Disk(drbd("m", 11000, [0, 0]))]).unwrap();
    let disk = store.disk("m").unwrap().unwrap();
    assert_eq!(disk.logical_id.to_json()[5], "sesame");
    assert!(!format!("{:?}", Change::Disk(disk)).contains("sesame"));
}

#[test]
fn what_is_named_must_be_there() {
    let store = two_instances();
    let mut homeless = instance("inst3", &[]);
    homeless.primary_node = Some("node-x".into());
    let mut elsewhere = ext("d9", "v");
    elsewhere.nodes = vec!["node-a".into(), "node-y".into()];
    let mut groupless = node("d");
    groupless.group = "group-x".into();
    store.commit(&[Change::Disk(drbd("m", 11000, [0, 0]))]).unwrap();
    for (change, message) in [
        (
            Change::Instance(instance("inst3", &["d3", "d9"])),
            "instance inst3 names disk d9, which does not exist",
        ),
        (
            Change::Instance(homeless),
            "instance inst3 names node node-x, which does not exist",
        ),
        (
            Change::Node(groupless),
            "node d names node group group-x, which does not exist",
        ),
        (
            Change::RemoveDisk("d1".into()),
            "disk d1 cannot be removed: it is attached to instance inst1",
        ),
        (
            Change::RemoveNode("node-a".into()),
            "node node-a cannot be removed: it is the primary node of instance inst1",
        ),
        (
            Change::RemoveNode("node-b".into()),
            "node node-b cannot be removed: it holds data of disk m, which is attached to no instance",
        ),
        (
            Change::RemoveGroup("group-default".into()),
            "node group group-default cannot be removed: node a is in it",
        ),
    ] {
        assert_eq!(refused(&store, &[change]).to_string(), message);
    }
    let mut other_master = cluster();
    other_master.master_node = "node-c".into();
    store.commit(&[Change::Cluster(other_master)]).unwrap();
    let error = refused(&store, &[Change::RemoveNode("node-c".into())]);
    assert_eq!(
        error.to_string(),
        "node node-c cannot be removed: it is the master node"
    );
}

#[test]
fn in_one_commit_the_order_does_not_matter() {
    let store = store();
    let changes = [
        Change::Instance(instance("inst1", &["d0"])),
        Change::Disk(ext("d0", "v")),
        Change::Group(group("other")),
    ];
    store.commit(&changes).unwrap();
    let changes = [
        Change::RemoveDisk("d0".into()),
        Change::RemoveInstance("instance-inst1".into()),
    ];
    store.commit(&changes).unwrap();
    assert!(store.disks().unwrap().is_empty() && store.instances().unwrap().is_empty());
    assert_eq!(store.owner_of_volume("ext:ext/v").unwrap(), None);
}

#[test]
fn disks_of_a_removed_instance_are_detached() {
    let store = two_instances();
    store
        .commit(&[Change::RemoveInstance("instance-inst1".into())])
        .unwrap();
    assert_eq!(uuids(store.detached_disks().unwrap()), ["d0", "d1", "d3"]);
}

#[test]
fn changes_survive_as_json() {
    let store = two_instances();
    store.commit(&[Change::Disk(drbd("m", 11000, [0, 0]))]).unwrap();
    let changes = [
        Change::Cluster(store.cluster().unwrap()),
        Change::Settings(store.settings().unwrap()),
        Change::Disk(store.disk("m").unwrap().unwrap()),
        Change::Instance(store.instance("inst1").unwrap().unwrap()),
        Change::RemoveDisk("d3".into()),
    ];
    let json = serde_json::to_string(&changes).unwrap();
    let read: Vec<Change> = serde_json::from_str(&json).unwrap();
    assert_eq!(read, changes);
    assert!(json.contains(r#"{"remove_disk":"d3"}"#));
    store.commit(&read).unwrap();
}
