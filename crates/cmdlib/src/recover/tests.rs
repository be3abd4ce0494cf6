//! What is rebuilt, and what is told of what is not.

use std::collections::BTreeMap;
use std::path::Path;

use gnt_bdev::{DrbdMinor, ErrorKind, Owner, Target, Told};
use gnt_config::template::{ALL, MUST_ADOPT, NEEDS_SECONDARY};
use gnt_config::{
    AccessMode, Disk, DiskTemplate, FileDriver, Instance, Kept, LogicalDevice, LogicalId, Mebibytes, Node,
    Secret,
};
use gnt_store::{Change, DrbdReservation, Filter, Store};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Proposal, RemarkKind, Selection, from_survey, import, propose};
use crate::compute::check_requests;
use crate::generate::{GenerateRequest, generate_disk_template};
use crate::ids::{DrbdNumbers, RandomIds};
use crate::node::NodeError;
use crate::ops::Subject;
use crate::ops::add::new_instance;
use crate::ops::label::detached;
use crate::recover::known::Known;
use crate::saga::Engine;
use crate::sim::{Extent, Fault, SimCluster, Then, Volume, device_path, key};
use crate::step::Step;
use crate::survey::{Seen, Survey};
use crate::tests::now;
use crate::verify::{FindingKind, verify};

/// A cluster with nothing in it.
struct Site {
    store: Store,
    nodes: Vec<Node>,
    cluster: SimCluster,
}

impl Site {
    fn new(nodes: usize) -> Self {
        let store = Store::in_memory().unwrap();
        crate::init::init(&store, Path::new("/state"), "cluster", "node0").unwrap();
        let first = store.nodes().unwrap().remove(0);
        for number in 0..nodes {
            let node = Node {
                uuid: match number {
                    0 => first.uuid.clone(),
                    _ => uuid::Uuid::new_v4().to_string(),
                },
                name: format!("node{number}"),
                secondary_ip: format!("192.0.2.{number}"),
                ..first.clone()
            };
            store.commit(&[Change::Node(node)]).unwrap();
        }
        let nodes = store.nodes().unwrap();
        let cluster = SimCluster::new(&nodes);
        Self {
            store,
            nodes,
            cluster,
        }
    }

    fn engine(&self) -> Engine<'_, SimCluster> {
        Engine {
            store: &self.store,
            nodes: &self.cluster,
            dry_run: false,
            observer: &|_| {},
        }
    }

    fn node(&self, number: usize) -> &str {
        &self.nodes[number].uuid
    }

    fn propose(&self) -> Proposal {
        now(propose(&self.store, &self.cluster, &[])).unwrap()
    }

    fn import(&self, selection: &Selection) -> Vec<String> {
        let named = &selection.instances;
        let proposal = now(propose(&self.store, &self.cluster, named)).unwrap();
        let selected = proposal.select(selection).unwrap();
        now(import(&self.engine(), &selected)).unwrap().warnings
    }

    /// A volume of a node, or of all.
    fn put(&self, node: usize, device: LogicalDevice, id: LogicalId, size: u64, owner: Owner) {
        let node = self.node(node);
        let volume = Volume {
            owner,
            ..Volume::new(node, device, &id, Mebibytes(size))
        };
        self.cluster
            .with_world(|world| drop(world.volumes.insert(key(node, device, &id), volume)));
    }

    /// The volumes of a disk, with what they are told, on the node of the same name; LVM and providers round sizes up.
    fn put_disk(&self, of: &Site, subject: &Subject, disk: &Disk) {
        for step in subject.relabel(disk, None).unwrap() {
            let Step::SetInfo { label, .. } = step else {
                panic!("{step}")
            };
            let number = of.nodes.iter().position(|node| node.uuid == label.at.node);
            for device in label.at.disk.walk() {
                if device.dev_type == LogicalDevice::Drbd {
                    continue;
                }
                let owner = Owner::of(&Target::new(device, &label.at.instance), Some(&label.info));
                let size = match device.dev_type {
                    LogicalDevice::Plain => device.size.0.next_multiple_of(32),
                    LogicalDevice::Ext => device.size.0.next_multiple_of(64),
                    _ => device.size.0,
                };
                self.put(
                    number.unwrap(),
                    device.dev_type,
                    device.logical_id.clone(),
                    size,
                    owner,
                );
            }
        }
    }

    /// The configuration without what cannot be recovered: secrets, times, and UUIDs of nodes, which are called by their names.
    fn picture(&self) -> Value {
        let names: BTreeMap<_, _> = self
            .nodes
            .iter()
            .map(|node| (node.uuid.as_str(), &node.name))
            .collect();
        let instances = self.store.instances().unwrap();
        let instances = instances.iter().map(|instance| {
            json!({
                "uuid": instance.uuid, "name": instance.name, "disks": instance.disks, "active": instance.disks_active,
                "primary": names[instance.primary_node.as_deref().unwrap()],
            })
        });
        let disks = self.store.disks().unwrap();
        let disks = disks.iter().map(picture_of);
        let mut picture =
            json!({"instances": instances.collect::<Vec<_>>(), "disks": disks.collect::<Vec<_>>()})
                .to_string();
        for (uuid, name) in names {
            picture = picture.replace(uuid, name);
        }
        serde_json::from_str(&picture).unwrap()
    }
}

fn picture_of(disk: &Disk) -> Value {
    let children: Vec<_> = disk.children.iter().map(picture_of).collect();
    json!({
        "uuid": disk.uuid, "name": disk.name, "type": disk.dev_type, "id": disk.logical_id.to_display_json(), "size": disk.size,
        "nodes": disk.nodes, "mode": disk.mode, "params": disk.params, "spindles": disk.spindles, "index": disk.index(),
        "children": children,
    })
}

/// A wish for an instance.
#[derive(Debug, Clone)]
struct Wish {
    template: DiskTemplate,
    primary: usize,
    driver: FileDriver,
    /// Size, whether read-only, whether it has a name, whether it was detached.
    disks: Vec<(u64, bool, bool, bool)>,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let templates: Vec<_> = ALL
        .difference(MUST_ADOPT)
        .iter()
        .filter(|template| template.device().is_some())
        .collect();
    let disk = (
        1u64..100_000,
        any::<bool>(),
        any::<bool>(),
        proptest::bool::weighted(0.2),
    );
    let drivers = proptest::sample::select(vec![FileDriver::Loop, FileDriver::Blktap]);
    let wish = (
        proptest::sample::select(templates),
        0usize..3,
        drivers,
        proptest::collection::vec(disk, 1..5),
    );
    let wish = wish.prop_map(|(template, primary, driver, disks)| Wish {
        template,
        primary,
        driver,
        disks,
    });
    proptest::collection::vec(wish, 1..6)
}

/// Makes what is wished for in the configuration of one site, and its volumes in that of another.
fn build(wishes: &[Wish], lost: &Site, left: &Site) {
    let operation = lost
        .store
        .begin("add", "", &[], &gnt_store::Owner::current())
        .unwrap();
    for (number, wish) in wishes.iter().enumerate() {
        let name = format!("web{number}.example.org");
        let primary = lost.node(wish.primary).to_owned();
        let secondary = match NEEDS_SECONDARY.contains(wish.template) {
            true => vec![lost.node((wish.primary + 1) % 3).to_owned()],
            false => Vec::new(),
        };
        let requests = wish.disks.iter().map(|(size, ro, named, _)| {
            let mut request = json!({"size": size, "mode": if *ro { "ro" } else { "rw" }});
            if wish.template == DiskTemplate::Ext {
                request["pool"] = "fast pool".into();
            }
            if *named {
                request["name"] = format!("größe {size}").into();
            }
            request.as_object().unwrap().clone()
        });
        // Names must differ.
        let requests: Vec<_> = requests.collect();
        let Ok(specs) = check_requests(0, &requests, wish.template, Some("xenvg")) else {
            continue;
        };
        let mut instance = new_instance(&name, &primary).unwrap();
        let directory = format!("/state/{}/{name}", wish.template);
        let request = GenerateRequest {
            secondary_nodes: &secondary,
            file_storage_dir: Some(&directory),
            file_driver: wish.driver,
            default_vg: Some("xenvg"),
            default_metavg: Some("metavg"),
            ..GenerateRequest::new(wish.template, &instance.uuid, &primary, &specs)
        };
        let mut ids = RandomIds::new(|disk: &str, nodes: [&str; 2]| {
            let DrbdReservation { port, minors } = lost.store.reserve_drbd(&operation, disk, nodes)?;
            Ok::<_, gnt_store::StoreError>(DrbdNumbers { port, minors })
        });
        let disks = generate_disk_template(&request, &mut ids).unwrap();
        let (mut attached, mut loose) = (Vec::new(), Vec::new());
        for (mut disk, (.., is_loose)) in disks.into_iter().zip(&wish.disks) {
            if disk.mode == Some(AccessMode::Ro) {
                disk.set_mode(AccessMode::Ro);
            }
            match is_loose {
                true => loose.push(detached(&disk)),
                false => attached.push(disk),
            }
        }
        for (index, disk) in attached.iter_mut().enumerate() {
            disk.iv_name = Some(format!("disk/{index}"));
        }
        instance.disks = attached.iter().map(|disk| disk.uuid.clone()).collect();
        let all = attached.iter().chain(&loose).cloned();
        let mut changes: Vec<_> = all.clone().map(Change::Disk).collect();
        if !attached.is_empty() {
            changes.push(Change::Instance(instance.clone()));
        }
        lost.store.commit(&changes).unwrap();
        let subject = Subject::new(&lost.store, instance, all.collect()).unwrap();
        for disk in &subject.disks {
            left.put_disk(lost, &subject, disk);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_configuration_that_is_lost_is_rebuilt_from_its_volumes(wishes in wishes()) {
        let (lost, left) = (Site::new(3), Site::new(3));
        build(&wishes, &lost, &left);
        let proposal = left.propose();
        prop_assert_eq!(&proposal.remarks, &[]);
        now(import(&left.engine(), &proposal)).unwrap();
        prop_assert_eq!(left.picture(), lost.picture());
        // Nothing is left to recover.
        prop_assert!(left.propose().is_empty());
        let steps = left.store.operations(Filter::All).unwrap().into_iter().flat_map(|record| record.steps);
        let told: Vec<_> = steps.filter(|step| step.name == "set-info").map(|step| step.data).collect();
        prop_assert_eq!(told, Vec::<Value>::new());
    }

    #[test]
    fn what_is_there_already_is_not_touched(wishes in wishes(), keep in 0usize..6) {
        let (lost, left) = (Site::new(3), Site::new(3));
        build(&wishes, &lost, &left);
        let some = Selection { instances: left.propose().instances.iter().take(keep).map(|found| found.instance.name.clone()).collect(), ..Selection::default() };
        if !some.instances.is_empty() {
            left.import(&some);
        }
        let before: Vec<_> = left.store.disks().unwrap();
        left.import(&Selection::default());
        for disk in before {
            prop_assert_eq!(left.store.disk(&disk.uuid).unwrap(), Some(disk));
        }
        prop_assert_eq!(left.picture(), lost.picture());
    }
}

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn lv(name: &str) -> LogicalId {
    LogicalId::Lv {
        vg: "xenvg".to_owned(),
        lv: name.to_owned(),
    }
}

fn ganeti(instance: &str) -> Owner {
    Owner {
        instance: Some(instance.to_owned()),
        info: Some(format!("originstname+{instance}")),
        ..Owner::default()
    }
}

/// What our volumes say.
fn ours(instance: &str, index: u32, uuid: &str) -> Owner {
    Owner {
        index: Some(index),
        uuid: Some(uuid.to_owned()),
        kept: Kept {
            instance_uuid: Some(format!("uuid of {instance}")),
            ..Kept::default()
        },
        ..ganeti(instance)
    }
}

fn kinds(proposal: &Proposal) -> Vec<RemarkKind> {
    proposal.remarks.iter().map(|remark| remark.kind).collect()
}

#[test]
fn volumes_of_ganeti_tell_as_much_as_their_tags_and_names() {
    let site = Site::new(2);
    let other = UUID.replace('0', "f");
    site.put(
        1,
        LogicalDevice::Plain,
        lv(&format!("{UUID}.disk1")),
        96,
        ganeti("db"),
    );
    site.put(
        1,
        LogicalDevice::Plain,
        lv(&format!("{other}.disk0")),
        64,
        ganeti("db"),
    );
    // A leftover of replace-disks, and a snapshot.
    site.put(
        1,
        LogicalDevice::Plain,
        lv(&format!("{other}.disk0.snap-1")),
        64,
        ganeti("db"),
    );
    site.put(0, LogicalDevice::Plain, lv("root"), 64, Owner::default());
    let rbd = LogicalId::Rbd {
        volume: format!("{UUID}.rbd.disk0"),
    };
    site.put(0, LogicalDevice::Rbd, rbd.clone(), 64, Owner::default());
    let foreign = LogicalId::Rbd {
        volume: "golden-image".to_owned(),
    };
    site.put(0, LogicalDevice::Rbd, foreign, 64, Owner::default());

    let proposal = site.propose();
    let [db] = &proposal.instances[..] else {
        panic!("{proposal:?}")
    };
    let sizes: Vec<_> = db.disks.iter().map(|disk| (disk.index(), disk.size.0)).collect();
    assert_eq!(sizes, [(Some(0), 64), (Some(1), 96)]);
    assert_eq!(db.instance.primary_node.as_deref(), Some(site.node(1)));
    let mut loose: Vec<_> = proposal
        .detached
        .iter()
        .map(|loose| loose.disk.logical_id.to_string())
        .collect();
    loose.sort();
    assert_eq!(
        loose,
        [
            format!("rbd/{UUID}.rbd.disk0"),
            format!("xenvg/{other}.disk0.snap-1")
        ]
    );
    assert_eq!(kinds(&proposal), [RemarkKind::Unowned]);

    // From then on they carry all.
    assert_eq!(site.import(&Selection::default()), [""; 0]);
    let found = now(verify(&site.store, &site.cluster)).unwrap();
    assert!(
        found.iter().all(|finding| finding.kind == FindingKind::Orphan),
        "{found:?}"
    );
    for disk in site.store.disks().unwrap() {
        let key = disk.volume_keys().concat();
        assert_eq!(site.cluster.world().volumes[&key].owner.uuid, Some(disk.uuid));
    }
}

#[test]
fn a_drbd_pair_of_ganeti_is_known_by_the_name_of_its_volumes() {
    let site = Site::new(2);
    for node in [0, 1] {
        for (part, size) in [("data", 96), ("meta", 128)] {
            site.put(
                node,
                LogicalDevice::Plain,
                lv(&format!("{UUID}.disk0_{part}")),
                size,
                ganeti("db"),
            );
        }
    }
    let proposal = site.propose();
    let disk = &proposal.instances[0].disks[0];
    assert_eq!(
        (disk.dev_type, disk.size, disk.children.len()),
        (LogicalDevice::Drbd, Mebibytes(96), 2)
    );
    assert_eq!(disk.drbd_minors().len(), 2);
    assert_eq!(disk.drbd_ports(), [gnt_store::FIRST_DRBD_PORT]);
    assert_eq!(
        kinds(&proposal),
        [RemarkKind::Chosen],
        "where it ran is not known"
    );
    site.import(&Selection::default());
    assert!(site.propose().is_empty());
}

#[test]
fn an_instance_of_which_a_disk_is_missing_is_recovered_only_when_that_is_wanted() {
    let site = Site::new(1);
    for index in [0, 2] {
        site.put(
            0,
            LogicalDevice::Plain,
            lv(&format!("v{index}")),
            64,
            ours("web", index, &format!("d{index}")),
        );
    }
    let proposal = site.propose();
    assert_eq!(kinds(&proposal), [RemarkKind::Missing]);
    assert_eq!(
        proposal.remarks[0].message,
        "no volume was found that says that it is disk/1"
    );
    assert!(proposal.select(&Selection::default()).unwrap().is_empty());
    let named = |incomplete| Selection {
        instances: vec!["web".to_owned()],
        incomplete,
    };
    assert!(proposal.select(&named(false)).is_err());
    site.import(&named(true));
    let web = Subject::load(&site.store, "web").unwrap();
    let disks: Vec<_> = web
        .disks
        .iter()
        .map(|disk| (disk.uuid.as_str(), disk.index()))
        .collect();
    assert_eq!(disks, [("d0", Some(0)), ("d2", Some(1))]);
    // The one that moved up knows it.
    assert_eq!(now(verify(&site.store, &site.cluster)).unwrap(), []);
    let unknown = Selection {
        instances: vec!["mail".to_owned()],
        ..Selection::default()
    };
    assert_eq!(
        proposal.select(&unknown).unwrap_err().to_string(),
        "nothing was found of mail"
    );
}

#[test]
fn of_two_that_claim_the_same_neither_is_believed() {
    let site = Site::new(2);
    // One place of one instance, twice.
    site.put(0, LogicalDevice::Plain, lv("a"), 64, ours("web", 0, "a"));
    site.put(0, LogicalDevice::Plain, lv("b"), 64, ours("web", 0, "b"));
    // One disk, twice: a copy that a move left.
    site.put(0, LogicalDevice::Plain, lv("c"), 64, ours("db", 0, "c"));
    site.put(1, LogicalDevice::Plain, lv("c"), 64, ours("db", 0, "c"));
    // An instance on two nodes.
    site.put(0, LogicalDevice::Plain, lv("e"), 64, ours("mail", 0, "e"));
    site.put(1, LogicalDevice::Plain, lv("f"), 64, ours("mail", 1, "f"));
    let proposal = site.propose();
    assert!(proposal.instances.is_empty(), "{proposal:?}");
    assert_eq!(kinds(&proposal), [RemarkKind::Conflict; 3]);
    let messages: Vec<_> = proposal
        .remarks
        .iter()
        .map(|remark| remark.message.as_str())
        .collect();
    assert!(
        messages.contains(&"disk/0 cannot be xenvg/a on node0 and xenvg/b on node0: it stays detached"),
        "{messages:?}"
    );
    assert!(
        messages.contains(&"xenvg/c on node0 and xenvg/c on node1 say that they are the same disk, c"),
        "{messages:?}"
    );
    assert!(
        messages.contains(&"2 disks stay detached: they are on the nodes node0 and node1"),
        "{messages:?}"
    );
    let loose: Vec<_> = proposal
        .detached
        .iter()
        .map(|loose| loose.disk.uuid.as_str())
        .collect();
    assert_eq!(loose, ["a", "b", "e", "f"]);
    site.import(&Selection::default());
    assert_eq!(site.store.detached_disks().unwrap().len(), 4);
}

#[test]
fn a_disk_of_an_instance_that_is_there_without_it_stays_detached() {
    let site = Site::new(1);
    let instance = new_instance("web", site.node(0)).unwrap();
    site.store.commit(&[Change::Instance(instance)]).unwrap();
    site.put(0, LogicalDevice::Plain, lv("a"), 64, ours("web", 0, "a"));
    let proposal = site.propose();
    assert_eq!((proposal.instances.len(), proposal.detached.len()), (0, 1));
    assert_eq!(
        proposal.remarks[0].mend.as_deref(),
        Some("gnt-disk modify web --disk attach:UUID")
    );
    site.import(&Selection::default());
    assert_eq!(site.store.detached_disks().unwrap()[0].uuid, "a");
}

#[test]
fn the_node_is_where_the_disks_are_in_use_and_not_where_they_were_told() {
    let site = Site::new(3);
    let ext = LogicalId::Ext {
        provider: "san".to_owned(),
        volume: "v".to_owned(),
    };
    let mut owner = ours("web", 0, "a");
    owner.kept.primary = Some("node1".to_owned());
    site.put(0, LogicalDevice::Ext, ext.clone(), 64, owner.clone());
    let primary = |site: &Site| site.propose().instances[0].instance.clone();
    let Instance {
        primary_node,
        disks_active,
        ..
    } = primary(&site);
    assert_eq!(
        (primary_node.as_deref(), disks_active),
        (Some(site.node(1)), false)
    );
    site.cluster.with_world(|world| {
        let path = device_path(site.node(2), LogicalDevice::Ext, &ext);
        let machine = world.machines.get_mut(site.node(2)).unwrap();
        machine.links.insert(("web".to_owned(), 0), path);
    });
    // The node was rebooted: a link is there, and what it leads to is not.
    assert_eq!(primary(&site).primary_node.as_deref(), Some(site.node(1)));
    site.cluster.with_world(|world| {
        let key = key("", LogicalDevice::Ext, &ext);
        world.machines.get_mut(site.node(2)).unwrap().attached.insert(key);
    });
    assert_eq!(
        kinds(&site.propose()),
        [RemarkKind::Chosen],
        "the volume tells otherwise"
    );
    let Instance {
        primary_node,
        disks_active,
        ..
    } = primary(&site);
    assert_eq!(
        (primary_node.as_deref(), disks_active),
        (Some(site.node(2)), true)
    );
}

/// Half a mirror on each node, and what runs there.
fn drbd_survey(site: &Site, running: &[Option<DrbdMinor>], halves: &[usize]) -> Survey {
    let lost = Site::new(2);
    let wish = Wish {
        template: DiskTemplate::Drbd,
        primary: 0,
        driver: FileDriver::Loop,
        disks: vec![(64, false, false, false)],
    };
    build(&[wish], &lost, site);
    let world = site.cluster.world();
    let seen = site.nodes.iter().enumerate().map(|(number, node)| {
        let volumes = world
            .volumes
            .values()
            .filter(|volume| volume.node.as_ref() == Some(&node.uuid) && halves.contains(&number));
        let found = volumes.cloned().map(|volume| gnt_bdev::FoundVolume {
            device: volume.device,
            logical_id: volume.logical_id,
            bytes: Some(volume.size.bytes()),
            owner: volume.owner,
        });
        let data = world
            .volumes
            .values()
            .find(|volume| volume.logical_id.to_string().ends_with("_data"))
            .unwrap();
        let minors = running[number].clone().map(|minor| DrbdMinor {
            data: minor.data.map(|_| format!("/dev/{}", data.logical_id).into()),
            ..minor
        });
        Seen {
            node: node.clone(),
            volumes: vec![(LogicalDevice::Plain, Ok(found.collect()))],
            links: Ok(Vec::new()),
            minors: Ok(minors.into_iter().collect()),
        }
    });
    Survey {
        seen: seen.collect(),
        silent: Vec::new(),
    }
}

fn minor(minor: u32, node: usize, primary: bool, secret: Option<&str>) -> DrbdMinor {
    let end = |node: usize| format!("192.0.2.{node}:12345").parse().ok();
    DrbdMinor {
        minor,
        ours: true,
        data: Some("data".into()),
        meta: None,
        local: end(node),
        remote: end(1 - node),
        primary,
        secret: secret.map(Secret::new),
    }
}

fn drbd_id(proposal: &Proposal) -> (Option<u16>, [u32; 2], Secret) {
    match &proposal.instances[0].disks[0].logical_id {
        LogicalId::Drbd8 {
            port, minors, secret, ..
        } => (*port, *minors, secret.clone()),
        id => panic!("{id}"),
    }
}

#[test]
fn what_runs_keeps_its_numbers_and_its_secret() {
    let site = Site::new(2);
    let running = [
        Some(minor(7, 0, false, Some("sekrit"))),
        Some(minor(9, 1, true, None)),
    ];
    let survey = drbd_survey(&site, &running, &[0, 1]);
    let proposal = from_survey(&survey, &Known::read(&site.store).unwrap(), &[]).unwrap();
    assert_eq!(kinds(&proposal), [], "{:?}", proposal.remarks);
    assert_eq!(drbd_id(&proposal), (Some(12345), [7, 9], Secret::new("sekrit")));
    // It runs where it is primary.
    assert_eq!(
        proposal.instances[0].instance.primary_node.as_deref(),
        Some(site.node(1))
    );
}

#[test]
fn a_secret_that_cannot_be_read_is_told_with_what_is_to_be_done() {
    let site = Site::new(2);
    let running = [Some(minor(7, 0, true, None)), None];
    let survey = drbd_survey(&site, &running, &[0, 1]);
    let proposal = from_survey(&survey, &Known::read(&site.store).unwrap(), &[]).unwrap();
    assert_eq!(kinds(&proposal), [RemarkKind::Chosen]);
    assert!(
        proposal.remarks[0].message.contains("drbd7 runs on node node0"),
        "{:?}",
        proposal.remarks
    );
    let (port, minors, _) = drbd_id(&proposal);
    assert_eq!((port, minors), (Some(12345), [7, 0]));
}

#[test]
fn half_a_mirror_is_recovered_and_told() {
    let site = Site::new(2);
    let survey = drbd_survey(&site, &[None, None], &[1]);
    let proposal = from_survey(&survey, &Known::read(&site.store).unwrap(), &[]).unwrap();
    assert_eq!(kinds(&proposal), [RemarkKind::HalfMirror]);
    let remark = &proposal.remarks[0];
    assert_eq!(remark.node.as_deref(), Some("node0"));
    assert!(
        remark.message.ends_with("has no data and meta there"),
        "{}",
        remark.message
    );
    let disk = &proposal.instances[0].disks[0];
    assert_eq!(disk.nodes, [site.node(0), site.node(1)]);
}

#[test]
fn a_node_that_is_not_there_any_more_is_named() {
    let site = Site::new(2);
    let mut survey = drbd_survey(&site, &[None, None], &[0]);
    for (_, found) in &mut survey.seen[0].volumes {
        for volume in found.as_mut().unwrap() {
            if let Some(mirror) = &mut volume.owner.kept.mirror
                && let Some(nodes) = &mut mirror.nodes
            {
                nodes[1] = "node7".to_owned();
            }
        }
    }
    let proposal = from_survey(&survey, &Known::read(&site.store).unwrap(), &[]).unwrap();
    assert!(proposal.instances.is_empty());
    assert!(
        proposal.remarks[0]
            .message
            .contains("its nodes are node0 and node7"),
        "{:?}",
        proposal.remarks
    );
}

#[test]
fn a_volume_that_is_smaller_than_it_should_be_is_told() {
    let site = Site::new(1);
    let sized = |kept, real| {
        let mut owner = ours("web", 0, "a");
        owner.kept.size = Some(Mebibytes(kept));
        site.put(0, LogicalDevice::Plain, lv("a"), real, owner);
        let proposal = site.propose();
        (proposal.instances[0].disks[0].size.0, kinds(&proposal))
    };
    assert_eq!(sized(64, 64), (64, vec![]));
    assert_eq!(sized(65, 96), (65, vec![]), "LVM rounded it up");
    assert_eq!(sized(64, 1024), (1024, vec![]), "it grew");
    assert_eq!(sized(128, 64), (64, vec![RemarkKind::WrongSize]));
}

#[test]
fn every_provider_and_directory_is_asked_for_on_every_node() {
    let site = Site::new(2);
    let id = |provider: &str| LogicalId::Ext {
        provider: provider.to_owned(),
        volume: "v".to_owned(),
    };
    for (provider, instance) in [("lun", "db"), ("san", "web")] {
        let mut owner = ours(instance, 0, provider);
        owner.kept.primary = Some("node0".to_owned());
        site.put(0, LogicalDevice::Ext, id(provider), 64, owner);
    }
    site.cluster.inject(None);
    assert_eq!(kinds(&site.propose()), []);
    let calls = site.cluster.calls();
    let of_ext = |call: &&usize| calls[**call].contains("ext ") || calls[**call].contains("providers");
    let numbers: Vec<usize> = (0..calls.len()).collect();
    let asked: Vec<&usize> = numbers.iter().filter(of_ext).collect();
    assert_eq!(asked.len(), 6, "two nodes, two providers: {calls:?}");
    for call in asked {
        site.cluster.inject(Some(Fault {
            call: *call,
            extent: Extent::None,
            then: Then::Fail,
        }));
        let proposal = site.propose();
        assert_eq!(kinds(&proposal), [RemarkKind::Unasked], "{}", calls[*call]);
        assert_eq!(proposal.instances.len(), 2, "the other node tells of it");
    }
}

fn rbd(volume: &str) -> LogicalId {
    LogicalId::Rbd {
        volume: volume.to_owned(),
    }
}

/// What a volume of another cluster says, or one that does not say of which it is.
fn of_cluster(cluster: Option<&str>, primary: &str, instance: &str, uuid: &str) -> Owner {
    let mut owner = ours(instance, 0, uuid);
    owner.kept.cluster = cluster.map(str::to_owned);
    owner.kept.primary = Some(primary.to_owned());
    owner
}

fn named(instance: &str) -> Selection {
    Selection {
        instances: vec![instance.to_owned()],
        ..Selection::default()
    }
}

#[test]
fn what_another_cluster_has_on_the_same_storage_is_left_alone_unless_it_is_named() {
    let site = Site::new(2);
    // Its nodes may be called as ours are.
    for (volume, instance) in [("v", "web"), ("w", "db")] {
        let owner = of_cluster(Some("prod"), "node1", instance, volume);
        site.put(0, LogicalDevice::Rbd, rbd(volume), 64, owner);
    }
    let own = of_cluster(Some("cluster"), "node0", "mail", "x");
    site.put(0, LogicalDevice::Rbd, rbd("x"), 64, own);
    let found = now(verify(&site.store, &site.cluster)).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|finding| (finding.kind, finding.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                FindingKind::Orphan,
                "no disk has the rbd volume rbd/x, which says that it is disk/0 of mail"
            ),
            (FindingKind::OtherCluster, "2 rbd volumes are of the cluster prod"),
        ]
    );
    let proposal = site.propose();
    assert_eq!(kinds(&proposal), [RemarkKind::OtherCluster]);
    assert_eq!(
        proposal.remarks[0].message,
        "2 volumes are left out, which say that they are of the cluster prod"
    );
    let names: Vec<_> = proposal
        .instances
        .iter()
        .map(|found| found.instance.name.as_str())
        .collect();
    assert_eq!((names, proposal.detached.len()), (vec!["mail"], 0));
    // It is the same cluster, which was called otherwise.
    site.import(&named("web"));
    assert_eq!(site.store.instances().unwrap().len(), 1);
    let world = site.cluster.world();
    let cluster = |volume| {
        let key = key("", LogicalDevice::Rbd, &rbd(volume));
        world.volumes[&key].owner.kept.cluster.clone()
    };
    assert_eq!(cluster("v").as_deref(), Some("cluster"), "it is told");
    assert_eq!(cluster("w").as_deref(), Some("prod"));
}

#[test]
fn an_instance_of_another_cluster_is_not_ours_because_ours_is_called_so_too() {
    let site = Site::new(1);
    let other = Owner {
        kept: Kept {
            instance_uuid: Some("other".to_owned()),
            ..of_cluster(Some("prod"), "node0", "web", "v").kept
        },
        ..of_cluster(Some("prod"), "node0", "web", "v")
    };
    site.put(0, LogicalDevice::Rbd, rbd("v"), 64, other);
    let own = of_cluster(Some("cluster"), "node0", "web", "w");
    site.put(0, LogicalDevice::Rbd, rbd("w"), 64, own);
    for _ in 0..2 {
        let proposal = now(propose(&site.store, &site.cluster, &["web".to_owned()])).unwrap();
        assert_eq!(kinds(&proposal), [RemarkKind::OtherCluster]);
        assert!(proposal.detached.is_empty(), "{:?}", proposal.detached);
        if !proposal.is_empty() {
            site.import(&named("web"));
        }
    }
    assert_eq!(site.store.disks().unwrap().len(), 1);
}

#[test]
fn what_was_on_nodes_that_are_not_known_is_left_out_unless_it_is_named() {
    let site = Site::new(2);
    site.put(
        0,
        LogicalDevice::Rbd,
        rbd("v"),
        64,
        of_cluster(None, "node7", "web", "v"),
    );
    let mut second = of_cluster(None, "node1", "web", "w");
    second.index = Some(1);
    site.put(0, LogicalDevice::Rbd, rbd("w"), 64, second);
    let mut loose = of_cluster(None, "node7", "db", "x");
    loose.kept.detached = true;
    site.put(0, LogicalDevice::Rbd, rbd("x"), 64, loose);
    let mut ours = of_cluster(Some("cluster"), "node7", "ftp", "y");
    ours.kept.detached = true;
    site.put(0, LogicalDevice::Rbd, rbd("y"), 64, ours);
    let plain = of_cluster(Some("cluster"), "node7", "mail", "z");
    site.put(0, LogicalDevice::Plain, lv("z"), 64, plain);

    let proposal = site.propose();
    assert_eq!(
        kinds(&proposal),
        [RemarkKind::UnknownNode; 2],
        "{:?}",
        proposal.remarks
    );
    let web = &proposal.remarks[1];
    assert_eq!(
        web.message,
        "rbd/v is left out: it was on node node7, which the configuration does not have"
    );
    assert_eq!(
        web.mend.as_deref(),
        Some("gnt-disk node add node7, or gnt-disk recover web if it is this cluster's")
    );
    let names: Vec<_> = proposal
        .instances
        .iter()
        .map(|found| found.instance.name.as_str())
        .collect();
    let loose: Vec<_> = proposal
        .detached
        .iter()
        .map(|loose| loose.disk.uuid.as_str())
        .collect();
    assert_eq!((names, loose), (vec!["mail"], vec!["y"]));

    site.import(&named("web"));
    assert_eq!(Subject::load(&site.store, "web").unwrap().disks.len(), 2);
}

/// Changes what the halves of a mirror on each node say.
fn change_owners(survey: &mut Survey, change: impl Fn(usize, &mut Owner)) {
    for (number, seen) in survey.seen.iter_mut().enumerate() {
        for (_, found) in &mut seen.volumes {
            found
                .as_mut()
                .unwrap()
                .iter_mut()
                .for_each(|volume| change(number, &mut volume.owner));
        }
    }
}

#[test]
fn that_the_halves_of_a_mirror_tell_of_two_primary_nodes_is_told() {
    let site = Site::new(2);
    let known = Known::read(&site.store).unwrap();
    let mut survey = drbd_survey(&site, &[None, None], &[0, 1]);
    change_owners(&mut survey, |number, owner| {
        if owner.kept.primary.is_some() {
            owner.kept.primary = Some(format!("node{number}"));
        }
    });
    let proposal = from_survey(&survey, &known, &[]).unwrap();
    assert_eq!(kinds(&proposal), [RemarkKind::Chosen]);
    assert!(
        proposal.remarks[0]
            .message
            .starts_with("it may have run on the nodes node0 and node1"),
        "{:?}",
        proposal.remarks
    );
    // It is being migrated.
    let site = Site::new(2);
    let known = Known::read(&site.store).unwrap();
    let running = [
        Some(minor(7, 0, true, Some("s"))),
        Some(minor(7, 1, true, Some("s"))),
    ];
    let proposal = from_survey(&drbd_survey(&site, &running, &[0, 1]), &known, &[]).unwrap();
    assert_eq!(kinds(&proposal), [RemarkKind::Chosen]);
}

#[test]
fn a_pair_is_not_believed_that_a_volume_on_one_of_its_nodes_contradicts() {
    let site = Site::new(3);
    let known = Known::read(&site.store).unwrap();
    let mut survey = drbd_survey(&site, &[None, None, None], &[0, 1]);
    // The second node was replaced while it was offline.
    change_owners(&mut survey, |number, owner| {
        if let (0, Some(mirror)) = (number, &mut owner.kept.mirror) {
            mirror.nodes = mirror.nodes.take().map(|[first, _]| [first, "node2".to_owned()]);
        }
    });
    let proposal = from_survey(&survey, &known, &[]).unwrap();
    assert!(proposal.instances.is_empty(), "{proposal:?}");
    assert_eq!(kinds(&proposal), [RemarkKind::Conflict]);
}

#[test]
fn what_was_replaced_and_is_still_there_does_not_count() {
    let site = Site::new(2);
    let mut survey = drbd_survey(&site, &[None, None], &[0, 1]);
    let (_, found) = &mut survey.seen[0].volumes[0];
    let found = found.as_mut().unwrap();
    let mut old = found[0].clone();
    if let LogicalId::Lv { lv, .. } = &mut old.logical_id {
        lv.push_str("_replaced-1");
    }
    found.push(old);
    let proposal = from_survey(&survey, &Known::read(&site.store).unwrap(), &[]).unwrap();
    assert_eq!((kinds(&proposal), proposal.instances.len()), (vec![], 1));
}

#[test]
fn a_disk_that_cannot_be_rebuilt_is_missing_be_it_the_last() {
    let site = Site::new(1);
    site.put(0, LogicalDevice::Plain, lv("a"), 64, ours("web", 0, "a"));
    for copy in ["b", "c"] {
        site.put(0, LogicalDevice::Plain, lv(copy), 64, ours("web", 1, copy));
    }
    let proposal = site.propose();
    assert_eq!(proposal.instances[0].missing, [1]);
    assert!(
        proposal
            .select(&Selection::default())
            .unwrap()
            .instances
            .is_empty()
    );
}

#[test]
fn storage_of_a_node_that_does_not_answer_hides_disks_and_one_that_is_not_there_does_not() {
    let site = Site::new(2);
    let told = |kind| {
        let mut survey = drbd_survey(&Site::new(2), &[None, None], &[0, 1]);
        survey.seen[1].minors = Err(NodeError::Storage(gnt_bdev::Error::Told(Told {
            snapshots: None,
            message: "no answer".to_owned(),
            kind,
            hint: None,
            cause: None,
        })));
        let proposal = from_survey(&survey, &Known::read(&site.store).unwrap(), &[]).unwrap();
        kinds(&proposal)
    };
    assert!(told(ErrorKind::Other).contains(&RemarkKind::Unasked));
    let quiet = told(ErrorKind::NotInstalled);
    assert!(quiet.contains(&RemarkKind::NoStorage) && !quiet.contains(&RemarkKind::Unasked));
}
