//! Random commits, reservations and ends of operations, against a simple model of what the store should do.

use std::collections::{BTreeMap, BTreeSet};

use gnt_config::{Disk, Instance, Node};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::tests::objects::{cluster, drbd, ext, group, instance, node};
use crate::{Change, FIRST_DRBD_PORT, Outcome, Owner, Store};

/// What is done to the store; there are few names of each kind, so that they meet.
#[derive(Debug, Clone)]
enum Action {
    Commit(Vec<Change>),
    /// Operation, disk.
    Reserve(usize, usize),
    /// Operation.
    Finish(usize),
}

const OPERATIONS: usize = 2;
const DISKS: usize = 5;
const NODES: [&str; 2] = ["node-a", "node-b"];

fn disk_uuid() -> impl Strategy<Value = String> {
    (0..DISKS).prop_map(|n| format!("d{n}"))
}

fn put_disk() -> impl Strategy<Value = Disk> {
    let plain = (disk_uuid(), 0..4).prop_map(|(uuid, volume)| ext(&uuid, &format!("v{volume}")));
    let mirrored = (disk_uuid(), 0u16..4, 0u32..3, 0u32..3)
        .prop_map(|(uuid, port, a, b)| drbd(&uuid, FIRST_DRBD_PORT + port, [a, b]));
    prop_oneof![plain, mirrored]
}

fn put_instance() -> impl Strategy<Value = Instance> {
    let port = prop::option::of(0u16..4);
    let disks = prop::collection::btree_set(disk_uuid(), 0..3);
    (0..3, 0..3, disks, select(vec!["a", "b", "c"]), port).prop_map(|(uuid, name, disks, node, port)| {
        let disks: Vec<_> = disks.iter().map(String::as_str).collect();
        let mut instance = instance(&format!("inst{name}"), &disks);
        instance.uuid = format!("i{uuid}");
        instance.primary_node = Some(format!("node-{node}"));
        if let Some(port) = port {
            instance.origin.set("network_port", json!(FIRST_DRBD_PORT + port));
        }
        instance
    })
}

fn put_node() -> impl Strategy<Value = Node> {
    (select(vec!["a", "b", "c"]), select(vec!["a", "b", "c"]), 0..2).prop_map(|(uuid, name, group)| {
        let mut node = node(name);
        node.uuid = format!("node-{uuid}");
        node.group = format!("group-{group}");
        node
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => put_disk().prop_map(Change::Disk),
        6 => put_instance().prop_map(Change::Instance),
        2 => put_node().prop_map(Change::Node),
        1 => (0u8..2, 0u8..2).prop_map(|(uuid, name): (u8, u8)| {
            let mut group = group(&name.to_string());
            group.uuid = format!("group-{uuid}");
            Change::Group(group)
        }),
        1 => Just(Change::Cluster(cluster())),
        3 => disk_uuid().prop_map(Change::RemoveDisk),
        2 => (0..3).prop_map(|n| Change::RemoveInstance(format!("i{n}"))),
        1 => select(vec!["node-a", "node-b", "node-c"]).prop_map(|node| Change::RemoveNode(node.into())),
        1 => (0..2).prop_map(|n| Change::RemoveGroup(format!("group-{n}"))),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => prop::collection::vec(change(), 1..5).prop_map(Action::Commit),
        2 => (0..OPERATIONS, 0..DISKS).prop_map(|(operation, disk)| Action::Reserve(operation, disk)),
        1 => (0..OPERATIONS).prop_map(Action::Finish),
    ]
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    groups: BTreeMap<String, String>,
    nodes: BTreeMap<String, Node>,
    instances: BTreeMap<String, Instance>,
    disks: BTreeMap<String, Disk>,
    has_cluster: bool,
    highest: Option<u16>,
    pool: Vec<u16>,
    /// Operation and disk, with port and minors, as far as the disk has not taken them.
    reserved: BTreeMap<(usize, String), Reserved>,
}

/// Port and minors.
type Reserved = (Option<u16>, [Option<u32>; 2]);

/// `None` if there is something twice.
fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> Option<BTreeSet<T>> {
    let mut set = BTreeSet::new();
    items.into_iter().all(|item| set.insert(item)).then_some(set)
}

fn console(instance: &Instance) -> Option<u16> {
    Some(instance.origin.get("network_port")?.as_u64()? as u16)
}

impl Model {
    fn ports(&self, uuids: &BTreeSet<&str>) -> BTreeSet<u16> {
        let of_disks = self
            .disks
            .iter()
            .filter(|(uuid, _)| uuids.contains(uuid.as_str()));
        let of_instances = self
            .instances
            .iter()
            .filter(|(uuid, _)| uuids.contains(uuid.as_str()));
        of_disks
            .flat_map(|(_, disk)| disk.drbd_ports())
            .chain(of_instances.filter_map(|(_, instance)| console(instance)))
            .collect()
    }

    /// The model after the commit, or none if that is to be refused.
    fn commit(&self, changes: &[Change]) -> Option<Self> {
        let mut after = self.clone();
        let mut touched = BTreeSet::new();
        for change in changes {
            match change {
                Change::Cluster(_) => after.has_cluster = true,
                Change::Settings(_) => {}
                Change::Node(node) => drop(after.nodes.insert(node.uuid.clone(), node.clone())),
                Change::RemoveNode(uuid) => drop(after.nodes.remove(uuid)),
                Change::Group(group) => drop(after.groups.insert(group.uuid.clone(), group.name.clone())),
                Change::RemoveGroup(uuid) => drop(after.groups.remove(uuid)),
                Change::Instance(instance) => {
                    touched.insert(instance.uuid.as_str());
                    after.instances.insert(instance.uuid.clone(), instance.clone());
                }
                Change::RemoveInstance(uuid) => {
                    touched.insert(uuid);
                    after.instances.remove(uuid);
                }
                Change::Disk(disk) => {
                    touched.insert(&disk.uuid);
                    after.disks.insert(disk.uuid.clone(), disk.clone());
                }
                Change::RemoveDisk(uuid) => {
                    touched.insert(uuid);
                    after.disks.remove(uuid);
                }
            }
        }
        for disk in touched.iter().filter_map(|uuid| after.disks.get(*uuid)) {
            for ((_, reserved_for), (port, minors)) in &mut after.reserved {
                if *reserved_for == disk.uuid {
                    port.take_if(|port| disk.drbd_ports().contains(port));
                    for (node, minor) in NODES.iter().zip(minors) {
                        minor.take_if(|minor| disk.drbd_minors().contains(&(*node, *minor)));
                    }
                }
            }
        }
        after.is_sound()?;
        let master = cluster().master_node;
        let removes_master = changes
            .iter()
            .any(|change| matches!(change, Change::RemoveNode(uuid) if *uuid == master));
        if after.has_cluster && removes_master && !after.nodes.contains_key(&master) {
            return None;
        }
        if after.has_cluster {
            let (released, claimed) = (self.ports(&touched), after.ports(&touched));
            after.pool.retain(|port| !claimed.contains(port));
            let freed: Vec<_> = released.difference(&claimed).copied().collect();
            after.pool = [freed, after.pool].concat();
            after.highest = after.highest.max(claimed.last().copied());
        }
        Some(after)
    }

    fn is_sound(&self) -> Option<()> {
        distinct(self.groups.values())?;
        distinct(self.nodes.values().map(|node| &node.name))?;
        distinct(self.instances.values().map(|instance| &instance.name))?;
        let attached = distinct(self.instances.values().flat_map(|instance| &instance.disks))?;
        distinct(self.disks.values().flat_map(Disk::volume_keys))?;
        distinct(self.taken_minors())?;
        distinct(self.taken_ports())?;
        let has_node = |node: &String| self.nodes.contains_key(node);
        let sound = attached.into_iter().all(|disk| self.disks.contains_key(disk))
            && self
                .nodes
                .values()
                .all(|node| self.groups.contains_key(&node.group))
            && self.disks.values().flat_map(|disk| &disk.nodes).all(has_node)
            && self
                .instances
                .values()
                .flat_map(|instance| &instance.primary_node)
                .all(has_node);
        sound.then_some(())
    }

    fn taken_minors(&self) -> Vec<(&str, u32)> {
        let of_disks = self.disks.values().flat_map(Disk::drbd_minors);
        let reserved = self.reserved.values().flat_map(|(_, minors)| {
            NODES
                .into_iter()
                .zip(minors)
                .filter_map(|(node, minor)| Some((node, (*minor)?)))
        });
        of_disks.chain(reserved).collect()
    }

    fn taken_ports(&self) -> Vec<u16> {
        let of_disks = self.disks.values().flat_map(Disk::drbd_ports);
        let reserved = self.reserved.values().filter_map(|(port, _)| *port);
        of_disks
            .chain(self.instances.values().filter_map(console))
            .chain(reserved)
            .collect()
    }

    fn reserve(&mut self, operation: usize, disk: String) -> (u16, [u32; 2]) {
        let key = (operation, disk);
        let (port, minors) = self.reserved.get(&key).copied().unwrap_or_default();
        let ports = self.taken_ports();
        let next = self.highest.map_or(FIRST_DRBD_PORT, |highest| highest + 1);
        let port = port.unwrap_or_else(|| {
            let mut candidates = self.pool.iter().copied().chain(next..);
            candidates.find(|port| !ports.contains(port)).unwrap()
        });
        let taken = self.taken_minors();
        let minor = |side: usize| {
            minors[side].unwrap_or_else(|| {
                (0..)
                    .find(|minor| !taken.contains(&(NODES[side], *minor)))
                    .unwrap()
            })
        };
        let minors = [minor(0), minor(1)];
        self.reserved.insert(key, (Some(port), minors.map(Some)));
        (port, minors)
    }

    /// Whether the store holds just this.
    fn compare(&self, store: &Store) {
        let groups = store
            .groups()
            .unwrap()
            .into_iter()
            .map(|group| (group.uuid, group.name));
        assert_eq!(groups.collect::<BTreeMap<_, _>>(), self.groups);
        let nodes: BTreeMap<_, _> = store
            .nodes()
            .unwrap()
            .into_iter()
            .map(|n| (n.uuid, (n.name, n.group)))
            .collect();
        let expected = self.nodes.values().cloned().map(|n| (n.uuid, (n.name, n.group)));
        assert_eq!(nodes, expected.collect());
        let instances = store.instances().unwrap();
        assert!(instances.is_sorted_by_key(|instance| instance.name.clone()));
        assert_eq!(instances.len(), self.instances.len());
        let mut attached = BTreeSet::new();
        for found in instances {
            let expected = &self.instances[&found.uuid];
            assert_eq!(store.instance(&expected.name).unwrap().unwrap(), found);
            assert_eq!((&found.name, &found.disks), (&expected.name, &expected.disks));
            let disks: Vec<_> = store
                .disks_of(&found)
                .unwrap()
                .into_iter()
                .map(|disk| disk.uuid)
                .collect();
            assert_eq!(disks, expected.disks);
            for disk in disks {
                assert_eq!(store.owner_of_disk(&disk).unwrap().as_ref(), Some(&found.uuid));
                attached.insert(disk);
            }
        }
        let disks = store.disks().unwrap();
        assert_eq!(disks.len(), self.disks.len());
        for disk in &disks {
            assert_eq!(disk.logical_id, self.disks[&disk.uuid].logical_id);
            for key in disk.volume_keys() {
                assert_eq!(store.owner_of_volume(&key).unwrap().as_ref(), Some(&disk.uuid));
            }
        }
        let detached: Vec<_> = store
            .detached_disks()
            .unwrap()
            .into_iter()
            .map(|disk| disk.uuid)
            .collect();
        let expected = self.disks.keys().filter(|uuid| !attached.contains(*uuid));
        assert_eq!(detached, expected.cloned().collect::<Vec<_>>());
        for node in NODES {
            let on_node: Vec<_> = store
                .disks_on(node)
                .unwrap()
                .into_iter()
                .map(|disk| disk.uuid)
                .collect();
            let expected = self
                .disks
                .values()
                .filter(|disk| disk.nodes.iter().any(|n| n == node));
            assert_eq!(
                on_node,
                expected.map(|disk| disk.uuid.clone()).collect::<Vec<_>>()
            );
        }
        if self.has_cluster {
            let cluster = store.cluster().unwrap();
            assert_eq!(
                (cluster.highest_used_port, cluster.tcpudp_port_pool),
                (self.highest, self.pool.clone())
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_as_the_model_does(actions in prop::collection::vec(action(), 1..30)) {
        let store = Store::in_memory().unwrap();
        let begin = || store.begin("add", "x", &[], &Owner::current()).unwrap();
        let mut operations: [String; OPERATIONS] = std::array::from_fn(|_| begin());
        let mut model = Model::default();
        let start: Vec<_> = [Change::Group(group("0"))].into_iter()
            .chain(["a", "b"].map(|name| {
                let mut node = node(name);
                node.group = "group-0".into();
                Change::Node(node)
            }))
            .collect();
        for action in [Action::Commit(start)].into_iter().chain(actions) {
            match action {
                Action::Commit(changes) => {
                    let result = store.commit(&changes);
                    match model.commit(&changes) {
                        Some(after) => {
                            prop_assert!(result.is_ok(), "{:?} refused: {:?}", changes, result);
                            model = after;
                        }
                        None => prop_assert!(result.is_err(), "{:?} accepted", changes),
                    }
                }
                Action::Reserve(operation, disk) => {
                    let disk = format!("d{disk}");
                    let reserved = store.reserve_drbd(&operations[operation], &disk, NODES).unwrap();
                    prop_assert_eq!((reserved.port, reserved.minors), model.reserve(operation, disk));
                }
                Action::Finish(operation) => {
                    store.finish(&operations[operation], &Outcome::Undone).unwrap();
                    operations[operation] = begin();
                    model.reserved.retain(|(owner, _), _| *owner != operation);
                }
            }
            model.compare(&store);
        }
        store.check().unwrap();
    }
}
