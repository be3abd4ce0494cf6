//! Whole configurations in and out.

use std::fs;
use std::path::PathBuf;

use gnt_config::ganeti::{Config, Version};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use crate::tests::objects::{drbd, ext, instance, store};
use crate::{Change, Outcome, Owner, Store, StoreError};

/// The recorded configurations that can be imported.
fn fixtures() -> Vec<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let texts = paths.into_iter().map(|path| fs::read(path).unwrap());
    let valid = texts.filter(|text| Config::from_slice(text).is_ok_and(|config| config.validate().is_ok()));
    let values: Vec<_> = valid.map(|text| serde_json::from_slice(&text).unwrap()).collect();
    assert!(!values.is_empty());
    values
}

fn parse(value: &Value) -> Result<Config, gnt_config::ganeti::ConfigError> {
    Config::from_slice(value.to_string().as_bytes())
}

fn through_a_store(value: &Value) -> Value {
    let store = Store::in_memory().unwrap();
    store.import(&parse(value).unwrap(), false).unwrap();
    serde_json::to_value(store.export().unwrap()).unwrap()
}

#[test]
fn what_is_imported_is_exported() {
    for value in fixtures() {
        assert_eq!(through_a_store(&value), value);
    }
}

#[test]
fn a_migration_under_way_is_not_exported() {
    let value = &fixtures()[0];
    let store = Store::in_memory().unwrap();
    store.import(&parse(value).unwrap(), false).unwrap();
    let mut instance = store.instances().unwrap().remove(0);
    let (name, node) = (instance.name.clone(), instance.primary_node.clone().unwrap());
    let migration = gnt_config::Migration {
        source: node.clone(),
        target: node,
        operation: Some("4711".to_owned()),
    };
    instance.migration = Some(migration.clone());
    store.commit(&[Change::Instance(instance)]).unwrap();
    let stored = store.instance(&name).unwrap().unwrap();
    assert_eq!(stored.migration, Some(migration));
    let exported = serde_json::to_value(store.export().unwrap()).unwrap();
    assert!(!exported.to_string().contains("gnt-disk:migration"), "{exported}");
}

#[test]
fn imported_objects_are_objects_like_any_other() {
    let value = &fixtures()[0];
    let config = parse(value).unwrap();
    let store = Store::in_memory().unwrap();
    store.import(&config, false).unwrap();
    assert!(store.is_initialised().unwrap());
    assert_eq!(store.settings().unwrap().es_timeout, 900);
    assert_eq!(store.disks().unwrap().len(), config.disks.len());
    for expected in config.instances.values() {
        let found = store.instance(&expected.name).unwrap().unwrap();
        assert_eq!(&found, expected);
        assert_eq!(store.disks_of(&found).unwrap().len(), expected.disks.len());
    }
    let disk = config.disks.values().next().unwrap();
    assert_eq!(
        store.owner_of_volume(&disk.volume_keys()[0]).unwrap().as_ref(),
        Some(&disk.uuid)
    );
    // A change shows in the object and in the file's serial number, and nowhere else.
    let mut changed = config.instances.values().next().unwrap().clone();
    changed.disks_active = !changed.disks_active;
    store.commit(&[Change::Instance(changed.clone())]).unwrap();
    let mut after = serde_json::to_value(store.export().unwrap()).unwrap();
    let serial = |value: &Value| value["serial_no"].as_u64().unwrap();
    let path = format!("/instances/{}", changed.uuid);
    assert_eq!(serial(&after), serial(value) + 1);
    let instance = after.pointer_mut(&path).unwrap();
    assert_eq!(serial(instance), serial(value.pointer(&path).unwrap()) + 1);
    assert_eq!(instance["disks_active"], changed.disks_active);
    *instance = value.pointer(&path).unwrap().clone();
    for key in ["serial_no", "mtime"] {
        after[key] = value[key].clone();
    }
    assert_eq!(&after, value);
}

#[test]
fn a_configuration_made_here_can_be_read_by_ganeti() {
    let store = store();
    store
        .commit(&[
            Change::Disk(drbd("d0", 11000, [0, 0])),
            Change::Instance(instance("inst1", &["d0"])),
        ])
        .unwrap();
    let config = store.export().unwrap();
    config.validate().unwrap();
    assert_eq!(config.version, Version::V3_0);
    let value = serde_json::to_value(&config).unwrap();
    assert_eq!(value["serial_no"], 2);
    assert_eq!(value["networks"], json!({}));
    assert_eq!(value["disks"]["d0"]["logical_id"][5], "sesame");
    assert_eq!(through_a_store(&value), value);
    let empty = Store::in_memory().unwrap().export().map(|_| ());
    assert!(matches!(empty, Err(StoreError::NotInitialised { .. })));
}

#[test]
fn nothing_is_replaced_unasked() {
    let config = parse(&fixtures()[0]).unwrap();
    let store = store();
    // A cluster without instances and disks is as good as none.
    store.import(&config, false).unwrap();
    let disk = Change::Disk(ext("d0", "v0"));
    store.commit(&[disk]).unwrap();
    let before = serde_json::to_value(store.export().unwrap()).unwrap();
    let error = store.import(&config, false).unwrap_err();
    assert!(matches!(error, StoreError::NotEmpty { disks, .. } if disks as usize == config.disks.len() + 1));
    assert!(error.hint().is_some());
    let operation = store.begin("add", "x", &[], &Owner::current()).unwrap();
    let error = store.import(&config, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("operation {operation} is not finished")
    );
    store.finish(&operation, &Outcome::Undone).unwrap();
    let mut broken = config.clone();
    broken
        .instances
        .values_mut()
        .next()
        .unwrap()
        .disks
        .push("nowhere".into());
    let error = store.import(&broken, true).unwrap_err();
    assert!(matches!(error, StoreError::Inconsistent(_)), "{error:?}");
    assert_eq!(serde_json::to_value(store.export().unwrap()).unwrap(), before);
    store.import(&config, true).unwrap();
    assert!(store.disk("d0").unwrap().is_none());
    assert_eq!(
        serde_json::to_value(store.export().unwrap()).unwrap(),
        fixtures()[0]
    );
    assert_eq!(store.owner_of_volume("ext:ext/v0").unwrap(), None);
}

/// The objects of a configuration into which unknown keys may be put: the file itself, the cluster, each node and so on.
fn objects(file: &mut Value) -> Vec<&mut Map<String, Value>> {
    let mut found = Vec::new();
    let Value::Object(file) = file else {
        panic!("no object")
    };
    for (key, value) in file.iter_mut() {
        match key.as_str() {
            "cluster" => found.extend(value.as_object_mut()),
            "nodes" | "nodegroups" | "instances" | "disks" => {
                found.extend(
                    value
                        .as_object_mut()
                        .unwrap()
                        .values_mut()
                        .filter_map(Value::as_object_mut),
                );
            }
            _ => {}
        }
    }
    found
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn unknown_keys_survive(
        which in any::<Index>(),
        extra in prop::collection::vec((any::<Index>(), "x[a-z]{0,6}", json_value()), 0..6),
        sections in prop::collection::vec(("y[a-z]{0,6}", json_value()), 0..3),
    ) {
        let mut value = which.get(&fixtures()).clone();
        for (index, key, unknown) in extra {
            let mut objects = objects(&mut value);
            let index = index.index(objects.len());
            objects[index].insert(key, unknown);
        }
        for (key, section) in sections {
            value[key] = section;
        }
        prop_assert_eq!(through_a_store(&value), value);
    }
}
