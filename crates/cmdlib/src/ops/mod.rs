//! What the cluster does with an instance's disks, one file per operation. Each checks the wish, plans steps and gives
//! them to the [`Engine`](crate::saga::Engine).

pub mod activate;
pub mod add;
pub mod cluster;
mod configuration;
pub mod convert;
pub mod evacuate;
pub mod failover;
pub mod group;
pub mod grow;
pub mod image;
pub(crate) mod label;
mod layout;
pub mod migrate;
pub mod modify;
pub mod node;
pub mod recreate_disks;
pub mod relocate;
pub mod remove;
pub mod rename;
pub mod replace_disks;
mod room;
mod route;
mod sizes;
pub mod snapshot;
pub mod sync;
pub mod wipe;

use std::collections::{BTreeMap, BTreeSet};

use gnt_config::kept::Holder;
use gnt_config::params::DiskParams;
use gnt_config::{Cluster, Disk, DiskTemplate, Instance, Node, NodeGroup};
use gnt_store::{Change, Store, StoreError};

use crate::error::{Error, Result};
use crate::ids::{DrbdNumbers, Ids, RandomIds};
use crate::node::Role;
use crate::saga::Nodes;
use crate::step::{Place, Places, Step};

/// Most disks that an instance can have (`constants.MAX_DISKS`).
pub const MAX_DISKS: usize = 16;

/// Metadata that a volume of `instance` carries (`GetInstanceInfoText`).
pub(crate) fn info_text(instance: &str) -> String {
    format!("originstname+{instance}")
}

/// The template that all of an instance's disks have, none when they differ (`GetInstanceDiskTemplate`).
pub fn common_template(disks: &[Disk]) -> Option<DiskTemplate> {
    let mut templates = disks.iter().map(|disk| disk.dev_type.template());
    let first = templates.next().unwrap_or(DiskTemplate::Diskless);
    templates.all(|other| other == first).then_some(first)
}

/// An instance, its disks in order, and what their parameters depend on.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The instance.
    pub instance: Instance,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// The cluster.
    pub cluster: Cluster,
    /// Its primary node.
    pub node: Node,
    params: DiskParams,
    /// Whether volumes on the primary node have disks for themselves.
    pub(crate) exclusive_storage: bool,
    /// Where the nodes that its disks name are reached for replication, by UUID.
    addresses: BTreeMap<String, String>,
    /// Names of those of them that are not to be asked, by UUID.
    offline: BTreeMap<String, String>,
    /// What those nodes are called.
    names: BTreeMap<String, String>,
}

impl Subject {
    /// Reads the instance of that name or UUID.
    pub fn load(store: &Store, name: &str) -> Result<Self> {
        let none = || Error::NoInstance {
            instance: name.to_owned(),
        };
        let instance = store.instance(name)?.ok_or_else(none)?;
        let disks = store.disks_of(&instance)?;
        Self::new(store, instance, disks)
    }

    /// `instance` with `disks`, stored or about to be.
    pub(crate) fn new(store: &Store, instance: Instance, disks: Vec<Disk>) -> Result<Self> {
        let cluster = store.cluster()?;
        let primary = instance.primary_node.as_deref().unwrap_or(&cluster.master_node);
        let node = find_node(store, primary)?;
        let group = find_group(store, &node.group)?;
        let params = DiskParams::of_group(&cluster, &group)?;
        let mut subject = Self {
            exclusive_storage: node.has_exclusive_storage(&group, &cluster),
            instance,
            disks: Vec::new(),
            cluster,
            node,
            params,
            addresses: BTreeMap::new(),
            offline: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let primary = subject.node.uuid.clone();
        let nodes = disks.iter().flat_map(Disk::all_nodes);
        subject.learn_addresses(store, nodes.chain([primary.as_str()]))?;
        subject.disks = disks;
        Ok(subject)
    }

    /// Learns what [`place`](Self::place) has to know of the nodes (UUIDs) of a disk that did not come with the instance.
    pub(crate) fn learn_addresses<'n>(
        &mut self,
        store: &Store,
        nodes: impl IntoIterator<Item = &'n str>,
    ) -> Result<()> {
        for uuid in nodes {
            if let (false, Some(node)) = (self.addresses.contains_key(uuid), store.node(uuid)?) {
                self.addresses.insert(uuid.to_owned(), node.secondary_ip);
                self.names.insert(uuid.to_owned(), node.name.clone());
                if node.offline {
                    self.offline.insert(uuid.to_owned(), node.name);
                }
            }
        }
        Ok(())
    }

    /// The node, unless it is set offline or cannot be asked for another reason.
    pub(crate) fn reach<'n, N: Nodes>(&self, nodes: &'n N, node: &str) -> Result<&'n N::Node> {
        match self.offline.get(node) {
            Some(name) => Err(Error::NodeOffline { node: name.clone() }),
            None => nodes.node(node),
        }
    }

    /// UUID of the node that its disks are mirrored to; none if they are not.
    pub fn secondary(&self) -> Result<Option<&str>> {
        let mut nodes: BTreeSet<&str> = self.disks.iter().flat_map(Disk::all_nodes).collect();
        nodes.remove(self.node.uuid.as_str());
        match nodes.len() {
            0 | 1 => Ok(nodes.pop_first()),
            several => Err(Error::Unfit {
                what: format!(
                    "the disks of {} are mirrored to {several} nodes",
                    self.instance.name
                ),
                hint: "detach those that are mirrored elsewhere first",
            }),
        }
    }

    /// The disk on the instance's primary node, ready to be sent there.
    pub fn place(&self, disk: &Disk) -> Result<Place> {
        self.place_on(&self.node.uuid, disk)
    }

    /// The disk on a node, ready to be sent there (`AnnotateDiskParams`, `Disk.UpdateDynamicDiskParams`), with what its volumes are to keep.
    pub(crate) fn place_on(&self, node: &str, disk: &Disk) -> Result<Place> {
        let mut sent = self.params.annotate(disk)?;
        sent.set_dynamic_params(node, &self.addresses)?;
        let holder = Holder {
            cluster: &self.cluster.cluster_name,
            instance_uuid: &self.instance.uuid,
            primary: &self.node.name,
            names: &self.names,
        };
        sent.set_kept(disk, &holder);
        Ok(Place {
            node: node.to_owned(),
            instance: self.instance.name.clone(),
            disk: Box::new(sent),
        })
    }

    /// Its disks on one node, be it one of theirs or one that reaches them as well.
    pub(crate) fn places_on(&self, node: &str, role: Role) -> Result<Places> {
        let disks = self.disks.iter();
        let disks = disks.map(|disk| Ok(*self.place_on(node, disk)?.disk));
        Ok(Places {
            node: node.to_owned(),
            role,
            instance: self.instance.name.clone(),
            disks: disks.collect::<Result<_>>()?,
        })
    }

    /// The same instance with other disks.
    pub(crate) fn with_disks(&self, disks: Vec<Disk>) -> Self {
        Self {
            disks,
            ..self.clone()
        }
    }

    /// The same disks without their places in the instance: put into use, they are only looked at, and nothing links to them.
    pub(crate) fn unplaced(&self) -> Self {
        self.with_disks(self.disks.iter().map(label::detached).collect())
    }

    /// The same instance with one of its disks, [unplaced](Self::unplaced).
    pub(crate) fn alone(&self, index: usize) -> Self {
        let disks = self.disks.iter().skip(index).take(1);
        self.with_disks(disks.cloned().collect()).unplaced()
    }

    /// A detached disk on each node that has something of it.
    pub(crate) fn homes(&self, disk: &Disk) -> Result<Vec<Place>> {
        match disk.all_nodes().is_empty() && !disk.nodes.is_empty() {
            true => disk.nodes.iter().map(|node| self.place_on(node, disk)).collect(),
            false => self.halves(disk),
        }
    }

    /// The disk on each node that has something of it, the secondary node first.
    pub(crate) fn halves(&self, disk: &Disk) -> Result<Vec<Place>> {
        let mut nodes = disk.nodes_from(&self.node.uuid)?;
        nodes.sort_by_key(|node| *node == self.node.uuid);
        let halves = nodes.into_iter().map(|node| self.place_on(node, disk));
        halves.collect()
    }

    /// Its disks on each node that has something of them, secondary nodes first (`Disk.ComputeNodeTree`).
    pub fn places(&self) -> Result<Vec<Places>> {
        self.places_of(&self.disks)
    }

    /// The same for some disks.
    pub(crate) fn places_of<'d>(&self, disks: impl IntoIterator<Item = &'d Disk>) -> Result<Vec<Places>> {
        let mut by_node: BTreeMap<String, Vec<Disk>> = BTreeMap::new();
        for disk in disks {
            for half in self.halves(disk)? {
                by_node.entry(half.node).or_default().push(*half.disk);
            }
        }
        let primary = self.node.uuid.as_str();
        let on_primary = by_node.remove_entry(primary);
        let places = by_node.into_iter().chain(on_primary).map(|(node, disks)| Places {
            role: match node == primary {
                true => Role::Primary,
                false => Role::Secondary,
            },
            node,
            instance: self.instance.name.clone(),
            disks,
        });
        Ok(places.collect())
    }

    /// The [places](Self::places) on nodes that can be asked. An error if there is none.
    pub fn places_within_reach<N: Nodes>(&self, nodes: &N) -> Result<Vec<Places>> {
        let mut places = self.places()?;
        places.retain(|places| self.reach(nodes, &places.node).is_ok());
        if places.is_empty() {
            self.reach(nodes, &self.node.uuid)?;
        }
        Ok(places)
    }

    /// Fails unless every node that has something of `disks` can be asked.
    pub(crate) fn ensure_in_reach<'d, N: Nodes>(
        &self,
        nodes: &N,
        disks: impl IntoIterator<Item = &'d Disk>,
    ) -> Result<()> {
        self.reach(nodes, &self.node.uuid)?;
        let mut others = disks.into_iter().flat_map(Disk::all_nodes);
        others.try_for_each(|node| self.reach(nodes, node).map(drop))
    }

    /// The place of the disk that `key` names: its index, `-1` for the last, its name or its UUID.
    pub fn index_of(&self, key: &str) -> Result<usize> {
        let count = self.disks.len();
        let by_index = match key {
            "-1" => count.checked_sub(1),
            _ => key.strip_prefix("disk/").unwrap_or(key).parse().ok(),
        }
        .filter(|index| *index < count);
        let named = |disk: &Disk| disk.name.as_deref() == Some(key);
        let by_uuid = || self.disks.iter().position(|disk| disk.uuid == key);
        if let Some(index) = by_index.or_else(by_uuid) {
            return Ok(index);
        }
        let first = self.disks.iter().position(named);
        let last = self.disks.iter().rposition(named);
        match first {
            Some(index) if first == last => Ok(index),
            Some(_) => Err(Error::Unfit {
                what: format!("several disks of {} are called {key}", self.instance.name),
                hint: "name the disk by its index or UUID",
            }),
            None => Err(Error::NoDisk {
                instance: self.instance.name.clone(),
                disk: key.to_owned(),
                count: self.disks.len(),
            }),
        }
    }

    /// The template that all its disks have, none when they differ.
    pub fn template(&self) -> Option<DiskTemplate> {
        common_template(&self.disks)
    }

    /// Fails while the instance's disks are in use.
    pub(crate) fn ensure_inactive(&self) -> Result<()> {
        match self.instance.disks_active {
            true => Err(Error::Active {
                instance: self.instance.name.clone(),
            }),
            false => Ok(()),
        }
    }

    /// The step that records whether the instance's disks are in use.
    pub(crate) fn record_active(&self, active: bool) -> Step {
        let with = |disks_active| {
            Change::Instance(Instance {
                disks_active,
                ..self.instance.clone()
            })
        };
        Step::Configure {
            apply: vec![with(active)],
            revert: vec![with(self.instance.disks_active)],
        }
    }
}

/// Ids for disks that `operation` makes.
pub(crate) fn ids<'a>(store: &'a Store, operation: &'a str) -> impl Ids<Error = StoreError> + 'a {
    RandomIds::new(move |disk: &str, nodes: [&str; 2]| {
        let reserved = store.reserve_drbd(operation, disk, nodes)?;
        Ok(DrbdNumbers {
            port: reserved.port,
            minors: reserved.minors,
        })
    })
}

/// The name of the instance that `key` names or is the UUID of: what is locked must have one name.
pub(crate) fn name_of(store: &Store, key: &str) -> Result<String> {
    let found = store.instance(key)?;
    Ok(found.map_or_else(|| key.to_owned(), |instance| instance.name))
}

/// The node group of that name or UUID.
pub(crate) fn find_group(store: &Store, key: &str) -> Result<NodeGroup> {
    store.group(key)?.ok_or_else(|| Error::NoGroup {
        group: key.to_owned(),
    })
}

/// Refuses a wish.
pub(crate) fn unfit<T>(what: impl Into<String>, hint: &'static str) -> Result<T> {
    Err(Error::Unfit {
        what: what.into(),
        hint,
    })
}

/// The error for something new on a node that is drained.
pub(crate) fn drained(node: &Node) -> Error {
    Error::Unfit {
        what: format!("node {} is drained: it gets nothing new", node.name),
        hint: "choose another node",
    }
}

/// The node of that name or UUID.
pub(crate) fn find_node(store: &Store, key: &str) -> Result<Node> {
    store
        .node(key)?
        .ok_or_else(|| Error::NoNode { node: key.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use gnt_bdev::Host;
    use gnt_config::{DiskTemplate, FileDriver, Settings};
    use gnt_process::{DryRun, System};
    use gnt_store::{Outcome, Owner};
    use serde_json::json;

    use super::*;
    use crate::local::OneNode;
    use crate::ops::add::{AddRequest, add};
    use crate::saga::Engine;
    use crate::step::Pace;
    use crate::tests::now;

    /// A cluster of two nodes with a drbd instance, as Ganeti recorded it.
    fn recorded() -> Store {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config/config.data");
        let config: gnt_config::Object = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let store = Store::in_memory().unwrap();
        store
            .import(&gnt_config::ganeti::Config::from_object(config).unwrap(), false)
            .unwrap();
        store
    }

    /// The cluster as seen on one of its nodes, where nothing may change.
    fn on(store: &Store, name: &str) -> OneNode {
        let nodes = store.nodes().unwrap();
        let here = nodes.iter().find(|node| node.name == name).unwrap();
        let dry_run = Arc::new(DryRun::new(System));
        let state = Path::new("/nonexistent");
        let host = Host::dry_run(name, &Settings::under(state), state, dry_run);
        OneNode::new(&here.uuid, host, &nodes)
    }

    #[test]
    fn each_node_of_a_mirrored_disk_has_its_half() {
        let store = recorded();
        let subject = Subject::load(&store, "inst5.rn").unwrap();
        let name = |uuid: &str| store.node(uuid).unwrap().unwrap().name;
        let places = subject.places().unwrap();
        let halves: Vec<_> = places
            .iter()
            .map(|places| (name(&places.node), places.role, places.disks.len()))
            .collect();
        assert_eq!(
            halves,
            [
                ("node2.rn".to_owned(), Role::Secondary, 2),
                ("node1.rn".to_owned(), Role::Primary, 2)
            ]
        );
        let addresses: Vec<_> = places
            .iter()
            .map(|places| places.disks[1].dynamic_params.clone().unwrap())
            .map(|params| (params.local_ip, params.remote_ip, params.local_minor))
            .collect();
        let (first, second) = ("198.51.100.10".to_owned(), "198.51.100.11".to_owned());
        assert_eq!(
            addresses,
            [(second.clone(), first.clone(), 1), (first, second, 1)]
        );
    }

    #[test]
    fn a_node_works_on_its_half_alone() {
        let store = recorded();
        let subject = Subject::load(&store, "inst5.rn").unwrap();
        for (node, role) in [("node1.rn", Role::Primary), ("node2.rn", Role::Secondary)] {
            let places = subject.places_within_reach(&on(&store, node)).unwrap();
            let roles: Vec<_> = places.iter().map(|places| places.role).collect();
            assert_eq!(roles, [role]);
        }
        // What is on the other node alone is out of reach.
        let plain = Subject::load(&store, "inst4.rn").unwrap();
        let error = plain.places_within_reach(&on(&store, "node2.rn")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node node1.rn cannot be reached from this machine (node2.rn)"
        );
    }

    #[test]
    fn a_detached_disk_has_a_lock_of_its_own() {
        let store = recorded();
        let Subject { instance, .. } = Subject::load(&store, "inst4.rn").unwrap();
        let uuid = instance.disks[0].clone();
        let without = Instance {
            disks: Vec::new(),
            ..instance
        };
        store.commit(&[Change::Instance(without)]).unwrap();
        let nodes = on(&store, "node1.rn");
        let engine = Engine {
            store: &store,
            nodes: &nodes,
            dry_run: true,
            observer: &|_| {},
        };
        let disk = uuid.clone();
        let attach = [modify::DiskChange::Attach { at: None, disk }];
        let lock = format!("instance/{uuid}");
        let holder = store
            .begin("repair", "", std::slice::from_ref(&lock), &Owner::current())
            .unwrap();
        for refused in [
            now(modify::modify(&engine, "inst4.rn", &attach)),
            now(snapshot::remove_snapshot(&engine, "inst4.rn", &uuid)),
            now(snapshot::restore(
                &engine,
                "inst4.rn",
                "0",
                &uuid,
                Pace::default(),
            )),
        ] {
            let Err(Error::Store(StoreError::Locked { lock: held, .. })) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(held, lock);
        }
        store.finish(&holder, &Outcome::Undone).unwrap();
        now(modify::modify(&engine, "inst4.rn", &attach)).unwrap();
    }

    #[test]
    fn what_needs_both_nodes_names_the_one_that_cannot_be_reached() {
        let store = recorded();
        let nodes = on(&store, "node1.rn");
        let engine = Engine {
            store: &store,
            nodes: &nodes,
            dry_run: true,
            observer: &|_| {},
        };
        let request = AddRequest {
            instance: "new".to_owned(),
            template: DiskTemplate::Drbd,
            disks: vec![json!({"size": 64}).as_object().unwrap().clone()],
            primary: Some("node1.rn".to_owned()),
            secondary: Some("node2.rn".to_owned()),
            file_driver: FileDriver::Loop,
            file_storage_dir: None,
        };
        let growth = grow::Growth::By(gnt_config::Mebibytes(64));
        let refused = [
            now(add(&engine, &request)),
            now(remove::remove(&engine, "inst5.rn")),
            now(grow::grow(&engine, "inst5.rn", "0", growth)),
            now(modify::modify(
                &engine,
                "inst5.rn",
                &[modify::DiskChange::Detach { disk: "0".to_owned() }],
            )),
        ];
        for result in refused {
            assert_eq!(
                result.unwrap_err().to_string(),
                "node node2.rn cannot be reached from this machine (node1.rn)"
            );
        }
    }
}
