//! Groups of nodes (`gnt-group`).

use gnt_config::params::node::{self as ndparams, Level};
use gnt_config::params::{self, DiskParams};
use gnt_config::{DiskTemplate, Node, NodeGroup, Object, names};
use gnt_store::{Change, Store};

use crate::error::{Error, Result};
use crate::init::ganeti;
use crate::ops::configuration::alone;
use crate::ops::{find_group, unfit};

/// What is to be changed of a group.
#[derive(Debug, Clone, Default)]
pub struct GroupChanges {
    /// Its name.
    pub name: Option<String>,
    /// Disk parameters of templates that get new values.
    pub diskparams: Vec<(DiskTemplate, Object)>,
    /// Node parameters that get new values.
    pub ndparams: Object,
}

/// A group and its nodes.
#[derive(Debug, Clone)]
pub struct GroupInfo {
    /// The group.
    pub group: NodeGroup,
    /// Its nodes, by name.
    pub nodes: Vec<Node>,
    /// Names of the instances that run on them.
    pub instances: Vec<String>,
}

impl GroupInfo {
    /// The group of that name or UUID.
    pub fn load(store: &Store, key: &str) -> Result<Self> {
        Self::of(store, find_group(store, key)?)
    }

    /// Every group, by name.
    pub fn all(store: &Store) -> Result<Vec<Self>> {
        let groups = store.groups()?.into_iter();
        groups.map(|group| Self::of(store, group)).collect()
    }

    fn of(store: &Store, group: NodeGroup) -> Result<Self> {
        let mut nodes = store.nodes()?;
        nodes.retain(|node| node.group == group.uuid);
        let mut instances = Vec::new();
        for node in &nodes {
            let here = store.primary_instances(&node.uuid)?.into_iter();
            instances.extend(here.map(|instance| instance.name));
        }
        instances.sort();
        Ok(Self {
            group,
            nodes,
            instances,
        })
    }
}

/// Records a new group without nodes, and returns it; with `dry_run` nothing is stored.
pub fn add(store: &Store, name: &str, changes: &GroupChanges, dry_run: bool) -> Result<NodeGroup> {
    alone(store, "group-add", name, dry_run, || {
        let uuid = uuid::Uuid::new_v4().to_string();
        let group = serde_json::from_value(ganeti::group(&uuid, "").into());
        let group = group.map_err(|source| Error::Unwritable {
            step: "group",
            source,
        })?;
        let changes = GroupChanges {
            name: Some(name.to_owned()),
            ..changes.clone()
        };
        let group = changed(store, group, &changes)?;
        Ok((group.clone(), vec![Change::Group(group)]))
    })
}

/// Changes a group, and returns it as it is then; with `dry_run` nothing is stored.
pub fn modify(store: &Store, key: &str, changes: &GroupChanges, dry_run: bool) -> Result<NodeGroup> {
    let NodeGroup { uuid, name, .. } = find_group(store, key)?;
    alone(store, "group-modify", &name, dry_run, || {
        let group = changed(store, find_group(store, &uuid)?, changes)?;
        Ok((group.clone(), vec![Change::Group(group)]))
    })
}

/// Removes a group that has no nodes; with `dry_run` nothing is stored.
pub fn remove(store: &Store, key: &str, dry_run: bool) -> Result<()> {
    let NodeGroup { uuid, name, .. } = find_group(store, key)?;
    alone(store, "group-remove", &name, dry_run, || {
        let GroupInfo { nodes, .. } = GroupInfo::load(store, &uuid)?;
        if !nodes.is_empty() {
            let nodes: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
            return unfit(
                format!(
                    "group {name} cannot be removed: the nodes {} are in it",
                    nodes.join(", ")
                ),
                "'gnt-disk node modify NODE --group GROUP' moves them to another",
            );
        }
        Ok(((), vec![Change::RemoveGroup(uuid.clone())]))
    })
}

/// The group with the changes, if they can be made.
fn changed(store: &Store, mut group: NodeGroup, changes: &GroupChanges) -> Result<NodeGroup> {
    if let Some(name) = &changes.name {
        names::group(name)?;
        if store.group(name)?.is_some_and(|other| other.uuid != group.uuid) {
            return unfit(
                format!("there is a node group {name} already"),
                "'gnt-disk group list' shows the groups",
            );
        }
        group.name.clone_from(name);
    }
    for (template, values) in &changes.diskparams {
        let set = group.diskparams.get(template).cloned().unwrap_or_default();
        let updated = params::update(*template, &set, values)?;
        group.diskparams.insert(*template, updated);
    }
    group.ndparams = ndparams::update(Level::Group, &group.ndparams, &changes.ndparams)?;
    DiskParams::of_group(&store.cluster()?, &group)?;
    Ok(group)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::init::init;

    fn store() -> Store {
        let store = Store::in_memory().unwrap();
        init(&store, Path::new("/state"), "c", "node1").unwrap();
        store
    }

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn groups_are_made_changed_and_removed() {
        let store = store();
        let wanted = GroupChanges {
            diskparams: vec![(DiskTemplate::Plain, object(json!({"stripes": "2"})))],
            ndparams: object(json!({"exclusive_storage": "true"})),
            ..GroupChanges::default()
        };
        add(&store, "racks", &wanted, true).unwrap();
        assert!(store.group("racks").unwrap().is_none());
        let made = add(&store, "racks", &wanted, false).unwrap();
        assert_eq!(made.diskparams[&DiskTemplate::Plain]["stripes"], 2);
        assert_eq!(made.ndparams["exclusive_storage"], true);
        assert!(add(&store, "racks", &wanted, false).is_err());
        let changes = GroupChanges {
            name: Some("rack1".to_owned()),
            diskparams: vec![(DiskTemplate::Plain, object(json!({"stripes": "default"})))],
            ..GroupChanges::default()
        };
        let changed = modify(&store, "racks", &changes, false).unwrap();
        assert_eq!(
            (changed.uuid.as_str(), changed.name.as_str()),
            (made.uuid.as_str(), "rack1")
        );
        assert_eq!(changed.diskparams[&DiskTemplate::Plain], Object::new());
        assert!(modify(&store, "racks", &changes, false).is_err());
        remove(&store, "rack1", true).unwrap();
        remove(&store, "rack1", false).unwrap();
        assert!(store.group("rack1").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let store = store();
        let error = remove(&store, "default", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "group default cannot be removed: the nodes node1 are in it"
        );
        let taken = GroupChanges {
            name: Some("default".to_owned()),
            ..GroupChanges::default()
        };
        add(&store, "other", &GroupChanges::default(), false).unwrap();
        assert!(modify(&store, "other", &taken, false).is_err());
        for name in ["", "a/b", "-x", "a b"] {
            assert!(
                add(&store, name, &GroupChanges::default(), false).is_err(),
                "{name}"
            );
        }
        let wrong = GroupChanges {
            diskparams: vec![(DiskTemplate::File, object(json!({"stripes": "2"})))],
            ..GroupChanges::default()
        };
        assert!(modify(&store, "other", &wrong, false).is_err());
        assert!(
            store
                .operations(gnt_store::Filter::Unfinished)
                .unwrap()
                .is_empty()
        );
    }
}
