//! Whatever is wished for, what is generated is well formed and unlike anything generated before.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;

use proptest::prelude::*;
use serde_json::{Value, json};
use strum::IntoEnumIterator;

use gnt_config::Object;

use super::*;
use crate::compute::check_requests;
use crate::ids::{RandomIds, SequentialIds};

const INSTANCE: &str = "5c5b7ad5-8f5e-4f4f-9e10-5ac1dd5ae64b";

/// One call's worth of wishes.
#[derive(Debug, Clone)]
struct Call {
    template: DiskTemplate,
    wishes: Vec<Object>,
    base_index: u32,
    nodes: [String; 2],
}

impl Call {
    fn specs(&self) -> Vec<DiskSpec> {
        check_requests(self.base_index, &self.wishes, self.template, Some("xenvg")).unwrap()
    }

    fn generate<I: Ids>(&self, ids: &mut I) -> Result<Vec<Disk>, GenerateError<I::Error>> {
        let secondary = usize::from(template::NEEDS_SECONDARY.contains(self.template));
        let request = GenerateRequest {
            template: self.template,
            instance_uuid: INSTANCE,
            primary_node: &self.nodes[0],
            secondary_nodes: &self.nodes[1..=secondary],
            disks: &self.specs(),
            file_storage_dir: Some("/srv/file/inst"),
            file_driver: FileDriver::Loop,
            base_index: self.base_index,
            default_vg: Some("xenvg"),
            default_metavg: Some("metavg"),
        };
        generate_disk_template(&request, ids)
    }
}

/// A good wish for a disk of `template`, with anything in it that means something there. What must differ between disks
/// has `at` in it.
fn wish(template: DiskTemplate, at: usize) -> impl Strategy<Value = Object> {
    let size = prop_oneof![(1u64..1 << 40).prop_map(Value::from), Just(json!("20G"))];
    let mode = prop::sample::select(vec!["rw", "ro"]);
    let optional = prop::array::uniform6(any::<bool>());
    let param = ("[a-z]{8}", "\\PC{0,12}");
    (size, mode, 1u64..9, optional, param).prop_map(move |(size, mode, spindles, optional, param)| {
        let [name, vg, metavg, spindle, access, ext] = optional;
        let adopt = template::MUST_ADOPT.contains(template);
        let mut wish = Object::from_iter([("mode".to_owned(), mode.into())]);
        let mut set = |when: bool, key: &str, value: Value| {
            if when {
                wish.insert(key.to_owned(), value);
            }
        };
        set(!adopt, "size", size);
        set(adopt, "adopt", format!("/dev/disk/by-id/{at}").into());
        set(name, "name", format!("disk-{at}").into());
        set(vg && template::LVM.contains(template), "vg", "fast".into());
        set(
            metavg && template::DRBD.contains(template),
            "metavg",
            "fast".into(),
        );
        set(
            spindle && template::EXCLUSIVE_STORAGE.contains(template),
            "spindles",
            spindles.into(),
        );
        set(
            access && template::HAVE_ACCESS.contains(template),
            "access",
            "userspace".into(),
        );
        set(
            ext && template::HAVE_PROVIDER.contains(template),
            "provider",
            "other".into(),
        );
        set(
            ext && template::HAVE_PROVIDER.contains(template),
            &param.0,
            param.1.into(),
        );
        wish
    })
}

fn call() -> impl Strategy<Value = Call> {
    let templates: Vec<_> = DiskTemplate::iter()
        .filter(|template| template.device().is_some())
        .collect();
    let nodes = prop::sample::select(vec![["a", "b"], ["b", "a"], ["b", "c"]]);
    (prop::sample::select(templates), 0usize..5, 0u32..16, nodes).prop_flat_map(
        |(template, count, base_index, nodes)| {
            let wishes: Vec<_> = (0..count).map(|at| wish(template, at)).collect();
            wishes.prop_map(move |wishes| Call {
                template,
                wishes,
                base_index,
                nodes: nodes.map(str::to_owned),
            })
        },
    )
}

/// Hands out ports from 11000 and on each node minors from 0, as the store does.
fn reserve() -> impl FnMut(&str, [&str; 2]) -> Result<DrbdNumbers, Infallible> {
    let mut minors: BTreeMap<String, u32> = BTreeMap::new();
    let mut port = 11_000;
    move |_, nodes| {
        port += 1;
        let minors = nodes.map(|node| {
            let next = minors.entry(node.to_owned()).or_default();
            *next += 1;
            *next - 1
        });
        Ok(DrbdNumbers { port, minors })
    }
}

/// Checks one top-level disk against the wish that it was generated from.
fn check_tree(call: &Call, index: u32, spec: &DiskSpec, disk: &Disk) {
    assert_eq!(disk.index(), Some(index));
    assert_eq!(Some(disk.dev_type), call.template.device());
    assert_eq!(
        (disk.size, disk.mode, &disk.name),
        (spec.size, Some(spec.mode), &spec.name)
    );
    assert!(disk.walk().all(|device| device.logical_id.fits(device.dev_type)));
    let nodes = if !template::NODE_LOCAL.contains(call.template) {
        &[]
    } else if template::NEEDS_SECONDARY.contains(call.template) {
        &call.nodes[..]
    } else {
        &call.nodes[..1]
    };
    assert!(disk.walk().all(|device| device.nodes == nodes));
    let LogicalId::Drbd8 { nodes: ends, .. } = &disk.logical_id else {
        assert!(disk.children.is_empty());
        return;
    };
    assert_eq!(ends, &call.nodes);
    let [data, meta] = &disk.children[..] else {
        panic!("{} children", disk.children.len())
    };
    assert_eq!((data.size, meta.size), (spec.size, DRBD_META_SIZE));
    for child in [data, meta] {
        assert!(child.children.is_empty() && child.iv_name.is_none() && child.params.is_empty());
    }
    let lv = |child: &Disk| match &child.logical_id {
        LogicalId::Lv { lv, .. } => lv.clone(),
        other => panic!("{other}"),
    };
    let prefix = lv(data).strip_suffix("_data").map(str::to_owned);
    assert_eq!(prefix, lv(meta).strip_suffix("_meta").map(str::to_owned));
    assert!(prefix.is_some_and(|prefix| prefix.ends_with(&format!(".disk{index}"))));
}

/// What a device has that no other may have.
fn handed_out(device: &Disk) -> Vec<String> {
    let mut things = vec![device.uuid.clone()];
    match &device.logical_id {
        LogicalId::Drbd8 {
            nodes,
            port,
            minors,
            secret,
        } => {
            things.extend(port.map(|port| format!("port {port}")));
            things.push(secret.expose().to_owned());
            things.extend((0..2).map(|end| format!("minor {} on {}", minors[end], nodes[end])));
        }
        // A device that exists already and a file named after the instance are not handed out.
        LogicalId::BlockDev { .. } | LogicalId::Gluster { .. } => {}
        id => things.push(id.to_string()),
    }
    things
}

proptest! {
    #[test]
    fn checked_wishes_become_well_formed_disks(call in call()) {
        let disks = call.generate(&mut RandomIds::new(reserve())).unwrap();
        let specs = call.specs();
        prop_assert_eq!(disks.len(), specs.len());
        for ((index, spec), disk) in (call.base_index..).zip(&specs).zip(&disks) {
            check_tree(&call, index, spec, disk);
        }
    }

    #[test]
    fn nothing_is_handed_out_twice(calls in prop::collection::vec(call(), 1..8)) {
        let mut ids = RandomIds::new(reserve());
        let mut seen = HashSet::new();
        for call in calls {
            for disk in call.generate(&mut ids).unwrap() {
                for thing in disk.walk().flat_map(handed_out) {
                    prop_assert!(seen.insert(thing.clone()), "{} twice", thing);
                }
            }
        }
    }

    #[test]
    fn disks_survive_the_wire(call in call()) {
        let disks = call.generate(&mut RandomIds::new(reserve())).unwrap();
        let wire = serde_json::to_string(&disks).unwrap();
        let read: Vec<Disk> = serde_json::from_str(&wire).unwrap();
        prop_assert_eq!(&read, &disks);
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), wire);
    }

    #[test]
    fn only_what_was_wished_becomes_a_parameter(call in call()) {
        for (spec, disk) in call.specs().iter().zip(call.generate(&mut SequentialIds::default()).unwrap()) {
            let mut wished = spec.ext_params.clone();
            wished.extend(spec.access.map(|access| ("access".to_owned(), access.to_string().into())));
            wished.extend(spec.provider.clone().map(|provider| ("provider".to_owned(), provider.into())));
            prop_assert_eq!(&disk.params, &wished);
        }
    }
}

fn one(template: DiskTemplate) -> Call {
    Call {
        template,
        wishes: vec![Object::from_iter([("size".to_owned(), 64.into())])],
        base_index: 3,
        nodes: ["a", "b"].map(str::to_owned),
    }
}

fn request<'a>(call: &'a Call, disks: &'a [DiskSpec]) -> GenerateRequest<'a> {
    GenerateRequest {
        template: call.template,
        instance_uuid: INSTANCE,
        primary_node: &call.nodes[0],
        secondary_nodes: &[],
        disks,
        file_storage_dir: None,
        file_driver: FileDriver::Loop,
        base_index: call.base_index,
        default_vg: None,
        default_metavg: None,
    }
}

fn error(request: &GenerateRequest<'_>) -> GenerateError<Infallible> {
    generate_disk_template(request, &mut SequentialIds::default()).unwrap_err()
}

#[test]
fn an_ext_disk_without_provider_belongs_to_ext() {
    let call = one(DiskTemplate::Ext);
    let mut specs = call.specs();
    specs[0].provider = None;
    let disks = generate_disk_template(&request(&call, &specs), &mut SequentialIds::default()).unwrap();
    assert_eq!(disks[0].logical_id.to_json(), json!(["ext", "id0.ext.disk3"]));
    assert_eq!(Value::from(disks[0].params.clone()), json!({"provider": "ext"}));
}

#[test]
fn what_a_name_needs_must_be_there() {
    for (template, what) in [
        (DiskTemplate::Plain, "a volume group"),
        (DiskTemplate::File, "a file storage directory"),
        (DiskTemplate::SharedFile, "a file storage directory"),
    ] {
        let call = one(template);
        let mut specs = call.specs();
        specs[0].vg = None;
        assert_eq!(
            error(&request(&call, &specs)),
            GenerateError::Missing {
                disk: 3,
                template,
                what
            }
        );
    }
    let drbd = one(DiskTemplate::Drbd);
    let specs = drbd.specs();
    let incomplete = GenerateRequest {
        secondary_nodes: &drbd.nodes[1..],
        ..request(&drbd, &specs)
    };
    assert_eq!(
        error(&incomplete).to_string(),
        "disk 3: drbd disks need a volume group for metadata"
    );
    let mut specs = one(DiskTemplate::Plain).specs();
    specs[0].dev_type = DiskTemplate::Blockdev;
    let blockdev = Call {
        template: DiskTemplate::Blockdev,
        ..one(DiskTemplate::Plain)
    };
    assert_eq!(
        error(&request(&blockdev, &specs)).to_string(),
        "disk 3: blockdev disks need a device to adopt"
    );
}

#[test]
fn nodes_must_suit_the_template() {
    let (plain, drbd) = (one(DiskTemplate::Plain), one(DiskTemplate::Drbd));
    let (plain_specs, drbd_specs) = (plain.specs(), drbd.specs());
    let with = |call, specs, nodes: &[String]| {
        let request = GenerateRequest {
            secondary_nodes: nodes,
            ..request(call, specs)
        };
        error(&request).to_string()
    };
    assert_eq!(
        with(&plain, &plain_specs, &plain.nodes[1..]),
        "plain disks cannot have 1 secondary nodes"
    );
    assert_eq!(
        with(&drbd, &drbd_specs, &[]),
        "drbd disks cannot have 0 secondary nodes"
    );
    assert_eq!(
        with(&drbd, &drbd_specs, &drbd.nodes),
        "drbd disks cannot have 2 secondary nodes"
    );
    assert_eq!(
        with(&drbd, &drbd_specs, &drbd.nodes[..1]),
        "node a cannot be both primary and secondary node"
    );
}

#[test]
fn wishes_must_suit_the_request() {
    let (call, rbd) = (one(DiskTemplate::Plain), one(DiskTemplate::Rbd).specs());
    assert_eq!(
        error(&request(&call, &rbd)),
        GenerateError::WrongTemplate {
            disk: 3,
            template: DiskTemplate::Plain,
            found: DiskTemplate::Rbd
        }
    );
    let specs = call.specs();
    let last = GenerateRequest {
        base_index: u32::MAX,
        ..request(&call, &specs)
    };
    assert_eq!(
        error(&last),
        GenerateError::TooMany {
            base_index: u32::MAX,
            disks: 1
        }
    );
    let none = GenerateRequest {
        template: DiskTemplate::Diskless,
        ..request(&call, &specs)
    };
    assert_eq!(error(&none), GenerateError::Diskless { disks: 1 });
}

#[test]
fn nothing_is_reserved_unless_every_disk_can_be_named() {
    let drbd = one(DiskTemplate::Drbd);
    let good = [drbd.specs(), drbd.specs()].concat();
    let mut bad = good.clone();
    bad[1].vg = None;
    let with = |disks| GenerateRequest {
        secondary_nodes: &drbd.nodes[1..],
        default_metavg: Some("meta"),
        ..request(&drbd, disks)
    };
    let mut reserved = 0;
    let mut ids = RandomIds::new(|_: &str, _: [&str; 2]| {
        reserved += 1;
        Err::<DrbdNumbers, _>(std::io::Error::other("full"))
    });
    let unnamed = generate_disk_template(&with(&bad), &mut ids);
    assert!(matches!(unnamed, Err(GenerateError::Missing { disk: 4, .. })));
    let error = generate_disk_template(&with(&good), &mut ids).unwrap_err();
    assert_eq!(reserved, 1);
    assert_eq!(
        error.to_string(),
        r#"disk 3: no DRBD port and minors could be reserved on nodes ["a", "b"]"#
    );
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("full"));
}
