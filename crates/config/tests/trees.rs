//! Properties of disks and their trees.

use std::collections::BTreeMap;

use gnt_config::template::{self, GROWABLE};
use gnt_config::{AccessMode, Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes, Object, Secret};
use proptest::prelude::*;
use serde_json::{Value, json};

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9.-]{1,12}"
}

fn driver() -> impl Strategy<Value = FileDriver> {
    prop_oneof![
        Just(FileDriver::Loop),
        Just(FileDriver::Blktap),
        Just(FileDriver::Blktap2)
    ]
}

fn drbd_id() -> impl Strategy<Value = LogicalId> {
    (any::<[u8; 2]>(), any::<Option<u16>>(), any::<[u32; 2]>(), name()).prop_map(
        |([a, b], port, minors, secret)| LogicalId::Drbd8 {
            nodes: [format!("node-{a}"), format!("node-{}", u16::from(b) + 256)],
            port,
            minors,
            secret: Secret::new(secret),
        },
    )
}

/// A device type other than drbd, and an id that fits.
fn leaf_id() -> impl Strategy<Value = (LogicalDevice, LogicalId)> {
    prop_oneof![
        (name(), name()).prop_map(|(vg, lv)| (LogicalDevice::Plain, LogicalId::Lv { vg, lv })),
        (driver(), name()).prop_map(|(driver, path)| (LogicalDevice::File, LogicalId::File { driver, path })),
        (driver(), name())
            .prop_map(|(driver, path)| (LogicalDevice::SharedFile, LogicalId::File { driver, path })),
        (driver(), name())
            .prop_map(|(driver, path)| (LogicalDevice::Gluster, LogicalId::Gluster { driver, path })),
        name().prop_map(|path| (LogicalDevice::Blockdev, LogicalId::BlockDev { path })),
        name().prop_map(|volume| (LogicalDevice::Rbd, LogicalId::Rbd { volume })),
        (name(), name())
            .prop_map(|(provider, volume)| (LogicalDevice::Ext, LogicalId::Ext { provider, volume })),
    ]
}

prop_compose! {
    /// A device with any values in the fields that every type has.
    fn device(id: impl Strategy<Value = (LogicalDevice, LogicalId)>)(
        (dev_type, logical_id) in id,
        uuid in name(),
        name in prop::option::of(name()),
        nodes in prop::collection::vec(name(), 0..3),
        index in prop::option::of(0..16u32),
        size in 0..1u64 << 40,
        mode in prop_oneof![Just(None), Just(Some(AccessMode::Ro)), Just(Some(AccessMode::Rw))],
        params in prop::collection::btree_map("[a-z]{1,6}", any::<i32>(), 0..3),
        spindles in any::<Option<u64>>(),
    ) -> Disk {
        let mut disk = Disk::new(dev_type, logical_id, Mebibytes(size));
        disk.uuid = uuid;
        disk.name = name;
        disk.nodes = nodes;
        disk.iv_name = index.map(|index| format!("disk/{index}"));
        disk.mode = mode;
        disk.params = params.into_iter().map(|(key, value)| (key, value.into())).collect::<Object>();
        disk.spindles = spindles;
        disk
    }
}

/// A disk of any template, and drbd over plain volumes with sizes as they are when it is made.
fn tree() -> impl Strategy<Value = Disk> {
    let volume =
        || device((name(), name()).prop_map(|(vg, lv)| (LogicalDevice::Plain, LogicalId::Lv { vg, lv })));
    let drbd = (
        device(drbd_id().prop_map(|id| (LogicalDevice::Drbd, id))),
        volume(),
        volume(),
    )
        .prop_map(|(mut disk, mut data, meta)| {
            data.size = disk.size;
            disk.children = vec![data, meta];
            disk
        });
    prop_oneof![3 => device(leaf_id()), 2 => drbd]
}

fn written(disk: &Disk) -> Value {
    serde_json::to_value(disk).unwrap_or_default()
}

proptest! {
    #[test]
    fn a_tree_survives_the_wire(disk in tree()) {
        let wire = written(&disk);
        let read: Disk = serde_json::from_value(wire.clone()).unwrap();
        prop_assert_eq!(&read, &disk);
        prop_assert_eq!(written(&read), wire);
    }

    #[test]
    fn a_logical_id_survives_the_wire(disk in tree()) {
        let id = &disk.logical_id;
        prop_assert!(id.fits(disk.dev_type));
        prop_assert_eq!(&LogicalId::from_json(disk.dev_type, &id.to_json()).unwrap(), id);
    }

    /// Ids are told apart by the device's type: what is read for another type is an id of that type.
    #[test]
    fn a_logical_id_fits_the_type_that_it_was_read_for((_, id) in leaf_id()) {
        for template in template::ALL {
            let Some(device) = template.device() else { continue };
            if let Ok(read) = LogicalId::from_json(device, &id.to_json()) {
                prop_assert!(read.fits(device));
            }
        }
    }

    #[test]
    fn a_secret_is_neither_displayed_nor_debugged(disk in tree(), secret in "[g-z]{20}") {
        let LogicalId::Drbd8 { nodes, port, minors, .. } = disk.logical_id.clone() else { return Ok(()) };
        let id = LogicalId::Drbd8 { nodes, port, minors, secret: Secret::new(&secret) };
        let mut with_secret = disk;
        with_secret.logical_id = id;
        let read: Disk = serde_json::from_value(written(&with_secret)).unwrap();
        let shown = format!("{read} {read:?} {}", read.logical_id.to_display_json());
        prop_assert!(!shown.contains(&secret), "{}", shown);
        prop_assert!(written(&read).to_string().contains(&secret));
    }

    /// Growing is all or nothing, twice is the sum, and what grows is the disk and the volumes that `growth` asks for.
    #[test]
    fn growing_is_recorded_where_space_is_needed(disk in tree(), first in 0..1u64 << 30, second in 0..1u64 << 30) {
        let mut grown = disk.clone();
        let outcome = grown.record_grow(Mebibytes(first));
        prop_assert_eq!(outcome.is_ok(), GROWABLE.contains(disk.dev_type.template()));
        if outcome.is_err() {
            prop_assert_eq!(grown, disk);
            return Ok(());
        }
        prop_assert_eq!(grown.size, disk.size + Mebibytes(first));

        let volumes = |disk: &Disk| {
            let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
            for device in disk.walk() {
                if let LogicalId::Lv { vg, .. } = &device.logical_id {
                    *sizes.entry(vg.clone()).or_default() += device.size.0;
                }
            }
            sizes
        };
        let mut expected = volumes(&disk);
        for (vg, amount) in disk.growth(Mebibytes(first)) {
            *expected.entry(vg.to_owned()).or_default() += amount.0;
        }
        prop_assert_eq!(volumes(&grown), expected);

        grown.record_grow(Mebibytes(second)).unwrap();
        let mut at_once = disk.clone();
        at_once.record_grow(Mebibytes(first + second)).unwrap();
        prop_assert_eq!(grown, at_once);
    }

    #[test]
    fn a_growth_that_does_not_fit_changes_nothing(disk in tree()) {
        let mut grown = disk.clone();
        let too_much = Mebibytes(u64::MAX);
        prop_assert!(disk.size.0 == 0 || grown.record_grow(too_much).is_err());
        if disk.size.0 > 0 {
            prop_assert_eq!(grown, disk);
        }
    }

    /// Each device is sent to the nodes that hold it, by itself or with its parent.
    #[test]
    fn the_node_tree_covers_the_disk(disk in tree(), elsewhere in name()) {
        let home = match &disk.logical_id {
            LogicalId::Drbd8 { nodes, .. } => nodes[0].clone(),
            _ => elsewhere.clone(),
        };
        let nodes: Vec<&str> = disk.node_tree(&home).unwrap().into_iter().map(|(node, _)| node).collect();
        prop_assert_eq!(&nodes, &disk.nodes_from(&home).unwrap());
        prop_assert!(nodes.contains(&home.as_str()));
        if let LogicalId::Drbd8 { .. } = disk.logical_id {
            prop_assert!(disk.node_tree(&elsewhere).is_err());
        }
    }

    #[test]
    fn keys_of_volumes_are_distinct_and_tell_disks_apart(one in tree(), other in tree()) {
        let keys = one.volume_keys();
        prop_assert!(!keys.is_empty());
        let shared = keys.iter().any(|key| other.volume_keys().contains(key));
        let ids = |disk: &Disk| disk.walk().map(|disk| disk.logical_id.to_json()).collect::<Vec<_>>();
        if shared {
            prop_assert!(ids(&one).iter().any(|id| ids(&other).contains(id)));
        }
    }

    #[test]
    fn a_size_that_is_shown_is_read_as_nearly_the_same(mib in 0..1u64 << 50) {
        let shown: Mebibytes = Mebibytes(mib).to_string().parse().unwrap();
        prop_assert!(shown.0.abs_diff(mib) <= mib / 20 + 1, "{}", Mebibytes(mib));
    }

    #[test]
    fn whole_mebibytes_are_exact(mib in any::<u64>(), spaces in " {0,2}") {
        for text in [format!("{mib}"), format!("{spaces}{mib}{spaces}M"), format!("{mib}.000MiB")] {
            prop_assert_eq!(text.parse(), Ok(Mebibytes(mib)));
        }
        prop_assert_eq!(Mebibytes::from_bytes(Mebibytes(mib >> 20).bytes()), Mebibytes(mib >> 20));
    }

    #[test]
    fn any_text_is_a_size_or_an_error(text in any::<String>()) {
        let _ = text.parse::<Mebibytes>();
    }
}

#[test]
fn the_mode_reaches_the_data_volume_only() {
    let volume = |lv| json!({"dev_type": "plain", "logical_id": ["vg", lv], "size": 1});
    let mut disk: Disk = serde_json::from_value(json!({
        "dev_type": "drbd", "logical_id": ["a", "b", 1, 0, 0, "s"], "size": 1,
        "children": [volume("data"), volume("meta")],
    }))
    .unwrap();
    disk.set_mode(AccessMode::Ro);
    let modes: Vec<_> = disk.walk().map(|disk| disk.mode).collect();
    assert_eq!(modes, [Some(AccessMode::Ro), Some(AccessMode::Ro), None]);
}

#[test]
fn what_is_not_known_of_a_disk_is_said() {
    let drbd = json!({"dev_type": "drbd", "logical_id": ["a", "b", 1, 0, 0, "s"], "size": 1});
    let mut disk: Disk = serde_json::from_value(drbd).unwrap();
    assert_eq!(
        disk.nodes_from("c").unwrap_err().to_string(),
        "drbd0/0 port 1 does not live on node c"
    );
    let addresses = BTreeMap::from([("a".to_owned(), "192.0.2.1".to_owned())]);
    let error = disk.set_dynamic_params("a", &addresses).unwrap_err();
    assert_eq!(
        error.to_string(),
        "drbd0/0 port 1 needs the address of node b, which is not known"
    );
    assert_eq!(disk.set_dynamic_params("c", &addresses), Ok(()));
    assert_eq!(disk.dynamic_params, None);
}
