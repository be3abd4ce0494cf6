//! The cluster's nodes (`gnt-node`).

use std::net::IpAddr;
use std::path::Path;

use futures_util::future::join_all;
use gnt_bdev::{Operation, Space};
use gnt_config::params::DiskParams;
use gnt_config::params::node::{self as ndparams, Level};
use gnt_config::{Cluster, DiskTemplate, Instance, LogicalDevice, Node, NodeGroup, Object, names, template};
use gnt_store::{Change, Store};

use crate::error::{Error, Result};
use crate::init::ganeti;
use crate::kind::Kind;
use crate::node::Node as _;
use crate::ops::{find_group, find_node, unfit};
use crate::saga::{Engine, Nodes, Report, node_lock};
use crate::step::Step;

/// A node to be added.
#[derive(Debug, Clone)]
pub struct NodeRequest {
    /// Its name.
    pub name: String,
    /// Address for node calls.
    pub primary_ip: IpAddr,
    /// Address for replication; the other one if none is given.
    pub secondary_ip: Option<IpAddr>,
    /// Name or UUID of its group; may be left out where there is only one.
    pub group: Option<String>,
    /// Node parameters.
    pub ndparams: Object,
}

/// What is to be changed of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeChanges {
    /// Whether it is not to be asked for anything.
    pub offline: Option<bool>,
    /// Whether it gets nothing new.
    pub drained: Option<bool>,
    /// Address for node calls.
    pub primary_ip: Option<IpAddr>,
    /// Address for replication.
    pub secondary_ip: Option<IpAddr>,
    /// Name or UUID of its group.
    pub group: Option<String>,
    /// Node parameters that get new values.
    pub ndparams: Object,
}

impl NodeChanges {
    /// Only that it is not asked for anything any more.
    fn only_sets_offline(&self) -> bool {
        let Self {
            offline,
            drained,
            primary_ip,
            secondary_ip,
            group,
            ndparams,
        } = self;
        *offline == Some(true)
            && *drained != Some(true)
            && primary_ip.is_none()
            && secondary_ip.is_none()
            && group.is_none()
            && ndparams.is_empty()
    }
}

/// A node and what is on it, as far as the configuration says.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The node.
    pub node: Node,
    /// Its group.
    pub group: NodeGroup,
    /// Whether it is the master.
    pub is_master: bool,
    /// The instances that run on it, by name.
    pub primary: Vec<Instance>,
    /// The instances that have data on it and run elsewhere, by name.
    pub secondary: Vec<Instance>,
}

impl NodeInfo {
    /// The node of that name or UUID.
    pub fn load(store: &Store, key: &str) -> Result<Self> {
        Self::of(store, find_node(store, key)?)
    }

    /// What is on `node`.
    pub fn of(store: &Store, node: Node) -> Result<Self> {
        Ok(Self {
            group: find_group(store, &node.group)?,
            is_master: store.cluster()?.master_node == node.uuid,
            primary: store.primary_instances(&node.uuid)?,
            secondary: store.secondary_instances(&node.uuid)?,
            node,
        })
    }
}

/// Records a new node and returns it; with `dry_run` nothing is stored.
pub fn add(store: &Store, request: &NodeRequest, dry_run: bool) -> Result<Node> {
    names::host(&request.name)?;
    if store.node(&request.name)?.is_some() {
        let node = request.name.clone();
        return Err(Error::NodeExists { node });
    }
    let group = match &request.group {
        Some(key) => find_group(store, key)?,
        None => only_group(store)?,
    };
    let secondary_ip = request.secondary_ip.unwrap_or(request.primary_ip);
    for address in [request.primary_ip, secondary_ip] {
        check_address(store, address, "")?;
    }
    let uuid = uuid::Uuid::new_v4().to_string();
    let object = ganeti::node(
        &uuid,
        &request.name,
        request.primary_ip,
        secondary_ip,
        &group.uuid,
    );
    let mut node: Node =
        serde_json::from_value(object.into()).map_err(|source| Error::Unwritable { step: "node", source })?;
    node.ndparams = ndparams::update(Level::Node, &node.ndparams, &request.ndparams)?;
    if !dry_run {
        store.commit(&[Change::Node(node.clone())])?;
    }
    Ok(node)
}

/// Gives the only node of a new cluster its addresses; the second one is the first unless another is given.
pub fn set_addresses(
    store: &Store,
    key: &str,
    primary_ip: IpAddr,
    secondary_ip: Option<IpAddr>,
) -> Result<()> {
    let changes = NodeChanges {
        primary_ip: Some(primary_ip),
        secondary_ip: secondary_ip.or(Some(primary_ip)),
        ..NodeChanges::default()
    };
    let node = changed(store, &find_node(store, key)?, &changes)?;
    Ok(store.commit(&[Change::Node(node)])?)
}

/// Takes back a node that was only just added, and on which nothing is.
pub fn take_back(store: &Store, node: &Node) -> Result<()> {
    Ok(store.commit(&[Change::RemoveNode(node.uuid.clone())])?)
}

/// Changes a node. Operations whose steps touch it must be over, but for one thing: a node that is dead can be set offline while they wait for it.
pub async fn modify<N: Nodes>(engine: &Engine<'_, N>, key: &str, changes: &NodeChanges) -> Result<Report> {
    let store = engine.store;
    let Node { uuid, name, .. } = find_node(store, key)?;
    let mut locks = vec![format!("node-settings/{uuid}")];
    if !changes.only_sets_offline() {
        locks.push(node_lock(&uuid));
    }
    let mut warnings = Vec::new();
    let mut report = engine
        .run_locked(Kind::NodeModify, &name, &locks, async |_| {
            let before = find_node(store, &uuid)?;
            let after = changed(store, &before, changes)?;
            if after.group != before.group {
                warnings = split_instances(store, &after)?;
            }
            Ok(vec![Step::Configure {
                apply: vec![Change::Node(after)],
                revert: vec![Change::Node(before)],
            }])
        })
        .await?;
    report.warnings.append(&mut warnings);
    Ok(report)
}

/// Removes a node that nothing is on.
pub async fn remove<N: Nodes>(engine: &Engine<'_, N>, key: &str) -> Result<Report> {
    let store = engine.store;
    let Node { uuid, name, .. } = find_node(store, key)?;
    let locks = [format!("node-settings/{uuid}"), node_lock(&uuid)];
    engine
        .run_locked(Kind::NodeRemove, &name, &locks, async |_| {
            let info = NodeInfo::load(store, &uuid)?;
            ensure_unused(store, &info)?;
            Ok(vec![Step::Configure {
                apply: vec![Change::RemoveNode(uuid.clone())],
                revert: vec![Change::Node(info.node)],
            }])
        })
        .await
}

fn ensure_unused(store: &Store, info: &NodeInfo) -> Result<()> {
    let name = &info.node.name;
    if info.is_master {
        return unfit(
            format!("node {name} cannot be removed: it is the master node"),
            "a cluster has always a master node",
        );
    }
    let listed = |instances: &[Instance]| -> String {
        let names: Vec<_> = instances.iter().map(|instance| instance.name.as_str()).collect();
        names.join(", ")
    };
    let mut users = Vec::new();
    if !info.primary.is_empty() {
        users.push(format!("it is the primary node of {}", listed(&info.primary)));
    }
    if !info.secondary.is_empty() {
        users.push(format!("it holds data of {}", listed(&info.secondary)));
    }
    let detached = store.disks_on(&info.node.uuid)?.into_iter();
    let detached: Vec<_> = detached
        .filter_map(|disk| match store.owner_of_disk(&disk.uuid) {
            Ok(Some(_)) => None,
            Ok(None) => Some(Ok(disk.name.unwrap_or(disk.uuid))),
            Err(error) => Some(Err(error)),
        })
        .collect::<std::result::Result<_, _>>()?;
    if !detached.is_empty() {
        users.push(format!("it holds the detached disks {}", detached.join(", ")));
    }
    match users.is_empty() {
        true => Ok(()),
        false => unfit(
            format!("node {name} cannot be removed: {}", users.join(", and ")),
            "move or remove what is on it first",
        ),
    }
}

/// The node with the changes, if they can be made.
fn changed(store: &Store, before: &Node, changes: &NodeChanges) -> Result<Node> {
    let mut node = before.clone();
    set_role(store, &mut node, changes)?;
    if let Some(address) = changes.primary_ip {
        check_address(store, address, &node.uuid)?;
        node.primary_ip = address.to_string();
    }
    if let Some(address) = changes.secondary_ip {
        check_address(store, address, &node.uuid)?;
        if node.secondary_ip != address.to_string() {
            ensure_not_replicating(store, &node)?;
        }
        node.secondary_ip = address.to_string();
    }
    if let Some(group) = &changes.group {
        node.group = find_group(store, group)?.uuid;
    }
    node.ndparams = ndparams::update(Level::Node, &node.ndparams, &changes.ndparams)?;
    Ok(node)
}

/// A node is offline, or drained, or neither (`LUNodeSetParams`): one flag takes the other away, and makes the node no master candidate.
fn set_role(store: &Store, node: &mut Node, changes: &NodeChanges) -> Result<()> {
    let (offline, drained) = (changes.offline == Some(true), changes.drained == Some(true));
    if offline && drained {
        return unfit(
            "a node is offline or drained, not both",
            "offline nodes get nothing new either",
        );
    }
    if (offline || drained) && store.cluster()?.master_node == node.uuid {
        let role = if offline { "offline" } else { "drained" };
        return unfit(
            format!("node {} cannot be set {role}: it is the master node", node.name),
            "what runs there can be moved to another node first, and the node be shut down then",
        );
    }
    node.offline = changes.offline.unwrap_or(node.offline) && !drained;
    node.drained = changes.drained.unwrap_or(node.drained) && !offline;
    if (node.offline || node.drained) && node.origin.get("master_candidate").is_some() {
        node.origin.set("master_candidate", false.into());
    }
    Ok(())
}

/// Mirrors find each other by the address that they were connected with.
fn ensure_not_replicating(store: &Store, node: &Node) -> Result<()> {
    let secondary = store.secondary_instances(&node.uuid)?;
    let instances = store.primary_instances(&node.uuid)?.into_iter().chain(secondary);
    for instance in instances.filter(|instance| instance.disks_active) {
        let disks = store.disks_of(&instance)?;
        let mut templates = disks.iter().map(|disk| disk.dev_type.template());
        if templates.any(|template| template::INT_MIRROR.contains(template)) {
            return unfit(
                format!(
                    "the address of node {} cannot be changed while the disks of {} are replicated over it",
                    node.name, instance.name
                ),
                "deactivate the disks first",
            );
        }
    }
    Ok(())
}

/// Fails if a node other than `node` (UUID) has the address.
fn check_address(store: &Store, address: IpAddr, node: &str) -> Result<()> {
    if address.is_unspecified() || address.is_multicast() {
        return unfit(
            format!("{address} is not the address of a node"),
            "give that of the node",
        );
    }
    let has = |other: &&Node| {
        let addresses = [&other.primary_ip, &other.secondary_ip];
        other.uuid != node && addresses.iter().any(|other| other.parse() == Ok(address))
    };
    match store.nodes()?.iter().find(has) {
        Some(other) => unfit(
            format!("the address {address} is that of node {} already", other.name),
            "'gnt-disk node list -o name,primary_ip,secondary_ip' shows the addresses",
        ),
        None => Ok(()),
    }
}

fn only_group(store: &Store) -> Result<NodeGroup> {
    let mut groups = store.groups()?;
    match (groups.pop(), groups.pop()) {
        (Some(only), None) => Ok(only),
        _ => unfit(
            "there are several node groups",
            "choose one with --group: 'gnt-disk group list' shows them",
        ),
    }
}

/// A warning for each instance whose nodes are in different groups with `node` where it now is (`CheckAssignmentForSplitInstances`).
fn split_instances(store: &Store, node: &Node) -> Result<Vec<String>> {
    let mut split = Vec::new();
    let secondary = store.secondary_instances(&node.uuid)?;
    for instance in store.primary_instances(&node.uuid)?.into_iter().chain(secondary) {
        let disks = store.disks_of(&instance)?;
        let others = disks.iter().flat_map(|disk| disk.all_nodes());
        let others = others.chain(instance.primary_node.as_deref());
        for other in others.filter(|other| *other != node.uuid) {
            if store.node(other)?.is_some_and(|other| other.group != node.group) {
                split.push(format!(
                    "the nodes of {} are now in different groups",
                    instance.name
                ));
                break;
            }
        }
    }
    Ok(split)
}

/// What room `info`'s node has for disks of `template`, in each place where they can be; none where the template's storage cannot tell.
pub async fn space<N: Nodes>(
    store: &Store,
    nodes: &N,
    info: &NodeInfo,
    template: DiskTemplate,
) -> Result<Option<Vec<Space>>> {
    let can_tell = |device: &LogicalDevice| {
        gnt_bdev::driver(*device).is_ok_and(|driver| driver.capabilities().contains(Operation::Space))
    };
    let Some(device) = template.device().filter(can_tell) else {
        return Ok(None);
    };
    let params = DiskParams::of_group(&store.cluster()?, &info.group)?.get(template);
    let node = nodes.node(&info.node.uuid)?;
    Ok(Some(node.space(device, &params).await?))
}

/// [`space`] of several nodes, which are asked at the same time.
pub async fn spaces<N: Nodes>(
    store: &Store,
    nodes: &N,
    infos: &[NodeInfo],
    template: DiskTemplate,
) -> Vec<Result<Option<Vec<Space>>>> {
    join_all(infos.iter().map(|info| space(store, nodes, info, template))).await
}

/// The one of the `places` to which disks of `template` go unless told otherwise.
pub fn usual_place<'p>(cluster: &Cluster, template: DiskTemplate, places: &'p [Space]) -> Option<&'p Space> {
    let named = |name: &str| places.iter().find(|place| place.name == name);
    let above = |directory: &str| {
        let above = places
            .iter()
            .filter(|place| Path::new(directory).starts_with(&place.name));
        above.max_by_key(|place| place.name.len())
    };
    if template::LVM.contains(template) {
        return named(cluster.volume_group_name.as_deref()?);
    }
    match template {
        DiskTemplate::File => above(&cluster.file_storage_dir),
        DiskTemplate::SharedFile => above(&cluster.shared_file_storage_dir),
        _ => places.first(),
    }
}

#[cfg(test)]
mod tests {
    use gnt_config::{Disk, Mebibytes};
    use gnt_store::{Filter, Owner, PlannedStep, StoreError};
    use serde_json::json;

    use super::*;
    use crate::init::init;
    use crate::ops::activate::deactivate;
    use crate::ops::add::{AddRequest, add as add_instance};
    use crate::sim::SimCluster;
    use crate::tests::now;

    fn request(name: &str, last: u8) -> NodeRequest {
        NodeRequest {
            name: name.to_owned(),
            primary_ip: [192, 0, 2, last].into(),
            secondary_ip: Some([198, 51, 100, last].into()),
            group: None,
            ndparams: Object::new(),
        }
    }

    /// The master node1, and node2.
    fn store() -> Store {
        let store = Store::in_memory().unwrap();
        init(&store, Path::new("/state"), "c", "node1").unwrap();
        add(&store, &request("node2", 2), false).unwrap();
        store
    }

    fn with_engine<T>(store: &Store, work: impl AsyncFnOnce(&Engine<'_, SimCluster>) -> T) -> T {
        let nodes = SimCluster::new(&store.nodes().unwrap());
        let engine = Engine {
            store,
            nodes: &nodes,
            dry_run: false,
            observer: &|_| {},
        };
        now(work(&engine))
    }

    fn changed(store: &Store, node: &str, changes: NodeChanges) -> Result<Report> {
        with_engine(store, async |engine| modify(engine, node, &changes).await)
    }

    fn removed(store: &Store, node: &str) -> Result<Report> {
        with_engine(store, async |engine| remove(engine, node).await)
    }

    fn instance_on(store: &Store, node: &str) -> Result<Report> {
        let request = AddRequest {
            instance: "web".to_owned(),
            template: DiskTemplate::File,
            disks: vec![json!({"size": 64}).as_object().unwrap().clone()],
            primary: Some(node.to_owned()),
            secondary: None,
            file_driver: gnt_config::FileDriver::Loop,
            file_storage_dir: None,
        };
        with_engine(store, async |engine| add_instance(engine, &request).await)
    }

    /// An operation that was begun and planned on node2; its process is dead unless it is this one.
    fn planned(store: &Store, alive: bool) -> String {
        let owner = Owner {
            start_time: if alive { Owner::current().start_time } else { 0 },
            ..Owner::current()
        };
        let operation = store
            .begin("grow", "web", &["instance/web".to_owned()], &owner)
            .unwrap();
        let node = store.node("node2").unwrap().unwrap().uuid;
        let step = Step::CreateStorageDir {
            node: node.clone(),
            path: "/state/file-storage/web".to_owned(),
        };
        let step = PlannedStep {
            name: step.name().to_owned(),
            data: json!(step),
        };
        store.plan(&operation, &[step], &[node_lock(&node)]).unwrap();
        operation
    }

    fn told(error: &Error) -> String {
        crate::error::chain(error)
    }

    #[test]
    fn a_node_is_recorded_once_with_addresses_of_its_own() {
        let store = store();
        let node = store.node("node2").unwrap().unwrap();
        assert_eq!(
            (node.primary_ip.as_str(), node.secondary_ip.as_str()),
            ("192.0.2.2", "198.51.100.2")
        );
        assert_eq!(node.group, store.group("default").unwrap().unwrap().uuid);
        let again = add(&store, &request("node2", 3), false).unwrap_err();
        assert!(matches!(again, Error::NodeExists { .. }));
        let taken = add(&store, &request("node3", 2), false).unwrap_err();
        assert_eq!(
            taken.to_string(),
            "the address 192.0.2.2 is that of node node2 already"
        );
        assert!(add(&store, &request("-o", 3), false).is_err());
        add(&store, &request("node3", 3), true).unwrap();
        assert!(store.node("node3").unwrap().is_none());
    }

    #[test]
    fn a_node_is_offline_or_drained_and_the_master_neither() {
        let store = store();
        let flags = |offline, drained| NodeChanges {
            offline,
            drained,
            ..NodeChanges::default()
        };
        let now = |changes| {
            changed(&store, "node2", changes).map(|_| {
                let node = store.node("node2").unwrap().unwrap();
                (node.offline, node.drained)
            })
        };
        assert_eq!(now(flags(None, Some(true))).unwrap(), (false, true));
        assert_eq!(now(flags(Some(true), None)).unwrap(), (true, false));
        assert_eq!(now(flags(None, Some(true))).unwrap(), (false, true));
        assert_eq!(now(flags(None, Some(false))).unwrap(), (false, false));
        assert!(now(flags(Some(true), Some(true))).is_err());
        for flags in [flags(Some(true), None), flags(None, Some(true))] {
            let error = changed(&store, "node1", flags).unwrap_err();
            assert!(error.to_string().contains("it is the master node"), "{error}");
        }
        now(flags(Some(true), None)).unwrap();
        let error = instance_on(&store, "node2").unwrap_err();
        assert_eq!(told(&error), "node node2 is set offline");
        assert!(store.operations(Filter::Unfinished).unwrap().is_empty());
    }

    #[test]
    fn a_node_is_removed_when_nothing_is_on_it() {
        let store = store();
        instance_on(&store, "node2").unwrap();
        let error = removed(&store, "node2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "node node2 cannot be removed: it is the primary node of web"
        );
        let error = removed(&store, "node1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "node node1 cannot be removed: it is the master node"
        );
        add(&store, &request("node3", 3), false).unwrap();
        let node = store.node("node3").unwrap().unwrap().uuid;
        let device = LogicalDevice::Ext;
        let id = gnt_config::LogicalId::from_json(device, &json!(["ext", "v"])).unwrap();
        let loose = Disk {
            uuid: "d".to_owned(),
            name: Some("loose".to_owned()),
            nodes: vec![node],
            ..Disk::new(device, id, Mebibytes(1))
        };
        store.commit(&[Change::Disk(loose)]).unwrap();
        let error = removed(&store, "node3").unwrap_err();
        assert!(
            error.to_string().ends_with("it holds the detached disks loose"),
            "{error}"
        );
        store.commit(&[Change::RemoveDisk("d".to_owned())]).unwrap();
        removed(&store, "node3").unwrap();
        assert!(store.node("node3").unwrap().is_none());
        assert!(matches!(removed(&store, "node3"), Err(Error::NoNode { .. })));
    }

    #[test]
    fn a_node_that_an_operation_is_at_work_on_stays_as_it_is() {
        let store = store();
        let operation = planned(&store, true);
        for result in [
            removed(&store, "node2"),
            changed(
                &store,
                "node2",
                NodeChanges {
                    drained: Some(true),
                    ..NodeChanges::default()
                },
            ),
        ] {
            match result {
                Err(Error::Store(StoreError::Locked { holder, .. })) => {
                    assert_eq!(holder.operation, operation);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_interrupted_operation_on_a_node_is_healed_before_the_node_is_removed() {
        let store = store();
        let operation = planned(&store, false);
        removed(&store, "node2").unwrap();
        assert_eq!(
            store.operation(&operation).unwrap().state,
            gnt_store::State::Undone
        );
    }

    #[test]
    fn nothing_is_begun_on_a_node_that_is_being_removed() {
        let store = store();
        let node = store.node("node2").unwrap().unwrap();
        let lock = node_lock(&node.uuid);
        let operation = store
            .begin("node-remove", "node2", &[lock], &Owner::current())
            .unwrap();
        let nodes = SimCluster::new(&store.nodes().unwrap());
        let before = nodes.world();
        let error = instance_on(&store, "node2").unwrap_err();
        assert!(
            told(&error).contains(&format!("locked by operation {operation} (node-remove node2)")),
            "{error}"
        );
        assert_eq!(nodes.world(), before);
        assert!(store.instance("web").unwrap().is_none());
        let unfinished = store.operations(Filter::Unfinished).unwrap();
        assert_eq!(unfinished.len(), 1);
    }

    /// The node is dead: whoever waits for it waits in vain, and nothing on it can be undone.
    #[test]
    fn a_dead_node_is_set_offline_and_then_nobody_waits_for_it() {
        let store = store();
        instance_on(&store, "node2").unwrap();
        let operation = planned(&store, true);
        let offline = NodeChanges {
            offline: Some(true),
            ..NodeChanges::default()
        };
        changed(&store, "node2", offline).unwrap();
        store.abandon(&operation).unwrap();
        let healed = with_engine(&store, async |engine| deactivate(engine, "web").await);
        assert_eq!(told(&healed.unwrap_err()), "node node2 is set offline");
        let record = store.operation(&operation).unwrap();
        assert_eq!(record.state, gnt_store::State::Undone);
        let message = record.message.unwrap();
        assert!(
            message.ends_with("was left out: node node2 is set offline"),
            "{message}"
        );
    }

    #[test]
    fn the_usual_place_is_that_of_the_cluster() {
        let space = |name: &str| Space {
            name: name.to_owned(),
            free: Mebibytes(1),
            total: Mebibytes(2),
        };
        let mut cluster = store().cluster().unwrap();
        cluster.volume_group_name = Some("fast".to_owned());
        cluster.file_storage_dir = "/srv/a/b".to_owned();
        let places = ["/srv", "fast", "/srv/a", "xenvg", "/srv/ab"].map(space);
        let name = |template| usual_place(&cluster, template, &places).map(|place| place.name.as_str());
        assert_eq!(name(DiskTemplate::Drbd), Some("fast"));
        assert_eq!(name(DiskTemplate::File), Some("/srv/a"));
        assert_eq!(name(DiskTemplate::SharedFile), None);
    }
}
