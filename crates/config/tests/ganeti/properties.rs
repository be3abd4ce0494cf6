//! Whatever is in a file: what we do not know survives, nothing panics, no secret is shown.

use std::sync::LazyLock;

use gnt_config::Config;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value};

use crate::{REAL, TEXT, chain, read, shows_no_secret};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

/// Pointers to all values below `value`.
fn pointers(value: &Value, pointer: &str, all: &mut Vec<String>) {
    all.push(pointer.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| pointers(value, &format!("{pointer}/{key}"), all)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| pointers(value, &format!("{pointer}/{index}"), all));
        }
        _ => {}
    }
}

static POINTERS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut all = Vec::new();
    pointers(&REAL, "", &mut all);
    all
});

/// Whether an object can have any key: its keys are not UUIDs, templates or parameters.
fn is_open(pointer: &str) -> bool {
    let keyed = ["/nodes", "/nodegroups", "/instances", "/disks"];
    !keyed.contains(&pointer) && !pointer.ends_with("/diskparams")
}

/// Keys with a field that may be left out, or be null.
const OPTIONAL: [&str; 22] = [
    "children",
    "disk_template",
    "disks",
    "disks_active",
    "diskparams",
    "drained",
    "enabled_disk_templates",
    "file_storage_dir",
    "gluster_storage_dir",
    "highest_used_port",
    "iv_name",
    "mode",
    "name",
    "nodes",
    "offline",
    "params",
    "primary_node",
    "shared_file_storage_dir",
    "spindles",
    "tcpudp_port_pool",
    "uuid",
    "volume_group_name",
];

/// Takes away what may not be null: top-level tables, names and UUIDs but a disk's.
fn is_optional(pointer: &str) -> bool {
    let Some((parent, key)) = pointer.rsplit_once('/') else {
        return false;
    };
    let of_disk = parent.starts_with("/disks/") && !parent.ends_with("/params");
    let typed = of_disk || parent.matches('/').count() <= 2;
    typed && !parent.is_empty() && OPTIONAL.contains(&key) && (of_disk || !["name", "uuid"].contains(&key))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// What we do not know is preserved, at every level.
    #[test]
    fn unknown_keys_and_nulls_survive(
        extra in prop::collection::vec((any::<Index>(), any::<String>(), any_json()), 0..20),
        cleared in prop::collection::vec((any::<Index>(), any::<bool>()), 0..20),
    ) {
        let mut config = REAL.clone();
        let optional: Vec<_> = POINTERS.iter().filter(|pointer| is_optional(pointer)).collect();
        for (at, remove) in cleared {
            let (parent, key) = at.get(&optional).rsplit_once('/').unwrap();
            let Some(parent) = config.pointer_mut(parent).and_then(Value::as_object_mut) else { continue };
            match remove {
                true => { parent.remove(key); }
                false => { parent.insert(key.to_owned(), Value::Null); }
            }
        }
        for (at, key, value) in extra {
            let pointer = at.get(&POINTERS[..]);
            if let Some(object) = config.pointer_mut(pointer).and_then(Value::as_object_mut)
                && is_open(pointer)
            {
                object.insert(format!("x{key}"), value);
            }
        }
        let read = match read(&config) {
            Ok(read) => read,
            Err(error) => return Err(TestCaseError::fail(chain(&error))),
        };
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), config);
    }

    /// Whatever stands where, reading, checking and writing end in a result, and nothing shows a secret.
    #[test]
    fn misplaced_values_never_panic(changes in prop::collection::vec((any::<Index>(), any_json()), 1..4)) {
        let mut config = REAL.clone();
        for (at, value) in changes {
            if let Some(place) = config.pointer_mut(at.get(&POINTERS[..]).as_str()) {
                *place = value;
            }
        }
        match read(&config) {
            Err(error) => prop_assert!(shows_no_secret(&chain(&error)), "{}", chain(&error)),
            Ok(read) => {
                if let Err(error) = read.validate() {
                    prop_assert!(shows_no_secret(&error.to_string()), "{error}");
                }
                prop_assert_eq!(serde_json::to_value(&read).unwrap(), config);
            }
        }
    }

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut text = TEXT.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        match Config::from_slice(&text) {
            Ok(read) => { let _ = read.validate(); }
            Err(error) => prop_assert!(shows_no_secret(&chain(&error)), "{}", chain(&error)),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Config::from_slice(&text).is_err());
    }
}
