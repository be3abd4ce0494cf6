//! What is found of mirrored disks, and that it can be mended as told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use gnt_bdev::{LocalDiskStatus, Owner, SyncStatus};
use gnt_config::{Disk, DiskTemplate, Instance, LogicalDevice, LogicalId, Mebibytes};
use gnt_store::Change;

use super::bench::{Bench, NODES, now, quiet};
use super::rows::{Deed, INSTANCE, Row, SIZE};
use crate::ops::modify::{DiskChange, modify};
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::saga::Event;
use crate::sim::{Extent, Fault, Then, Volume, World, key};
use crate::verify::{Finding, FindingKind, Repair, repair, verify};

/// An instance with three disks, mirrored ones on the first two nodes.
fn bench(template: DiskTemplate, active: bool) -> Bench {
    Bench::new(&Row {
        template,
        active,
        deed: Deed::Activate,
        troubles: &[],
    })
}

fn instance(bench: &Bench) -> (Instance, Vec<Disk>) {
    let instance = bench.store.instance(INSTANCE).unwrap().unwrap();
    let disks = bench.store.disks_of(&instance).unwrap();
    (instance, disks)
}

fn found(bench: &Bench) -> Vec<Finding> {
    now(verify(&bench.store, &bench.cluster)).unwrap()
}

/// Kinds, nodes and mends.
fn told(found: &[Finding]) -> Vec<(FindingKind, &str, &str)> {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default().leak() as &str;
    found
        .iter()
        .map(|finding| (finding.kind, text(&finding.node), text(&finding.mend)))
        .collect()
}

/// These volumes of the first disk (keys end so) are lost on a node.
fn lose(bench: &Bench, node: &str, parts: &[&str]) {
    let (_, disks) = instance(bench);
    let node = format!(":{}:", bench.uuid(node));
    let keys = disks[0].volume_keys().into_iter();
    let keys = keys.filter(|key| key.contains(&node) && parts.iter().any(|part| key.ends_with(part)));
    bench.cluster.with_world(|world| {
        for key in keys {
            world.volumes.remove(&key).unwrap();
        }
    });
}

#[test]
fn a_half_that_is_lost_is_made_anew_from_the_other() {
    let both = ["_data", "_meta"];
    for parts in [&both[..], &both[..1], &both[1..]] {
        for (node, option, what) in [
            (NODES[0], "-p", Replacement::OnPrimary),
            (NODES[1], "-s", Replacement::OnSecondary),
        ] {
            let bench = bench(DiskTemplate::Drbd, false);
            let before = bench.picture();
            lose(&bench, node, parts);
            let mend = format!("gnt-disk replace-disks {INSTANCE} {option} --disks 0");
            assert_eq!(
                told(&found(&bench)),
                [(FindingKind::Degraded, node, mend.as_str())]
            );
            let request = ReplaceRequest {
                what,
                disks: vec!["0".to_owned()],
                early_release: false,
            };
            now(replace_disks(&bench.engine(&quiet), INSTANCE, &request)).unwrap();
            bench.assert_consistent();
            bench.assert_data_kept(&before);
        }
    }
}

#[test]
fn a_disk_that_is_lost_on_both_nodes_is_missing() {
    let bench = bench(DiskTemplate::Drbd, false);
    NODES[..2]
        .iter()
        .for_each(|node| lose(&bench, node, &["_data", "_meta"]));
    let mend = format!("gnt-disk recreate {INSTANCE} --disk 0, if it cannot be brought back");
    let missing = |node| (FindingKind::Missing, node, mend.as_str());
    assert_eq!(told(&found(&bench)), [missing(NODES[0]), missing(NODES[1])]);
}

#[test]
fn a_disk_that_is_missing_is_not_to_be_removed() {
    let bench = bench(DiskTemplate::Plain, false);
    lose(&bench, NODES[0], &[""]);
    let mend = format!("gnt-disk recreate {INSTANCE} --disk 0, if it cannot be brought back");
    assert_eq!(
        told(&found(&bench)),
        [(FindingKind::Missing, NODES[0], mend.as_str())]
    );
}

#[test]
fn what_a_restore_reads_is_left_to_it() {
    for template in [DiskTemplate::Rbd, DiskTemplate::Drbd] {
        let row = Row {
            template,
            active: false,
            deed: Deed::Restore,
            troubles: &[],
        };
        let bench = Bench::new(&row);
        let looks = AtomicUsize::new(0);
        let snapshot = bench.store.detached_disks().unwrap().remove(0);
        let meanwhile = || {
            assert_eq!(found(&bench), []);
            let finding = Finding {
                kind: FindingKind::LeftOverMapping,
                node: None,
                instance: None,
                disk: None,
                message: String::new(),
                mend: None,
                repair: Some(Repair::Unmap {
                    node: bench.uuid(NODES[0]),
                    disk: snapshot.uuid.clone(),
                }),
            };
            let report = now(repair(&bench.engine(&quiet), &[finding])).unwrap();
            assert!(
                report.operation.is_none() && report.warnings[0].contains("restore-snapshot"),
                "{report:?}"
            );
            looks.fetch_add(1, Ordering::Relaxed);
        };
        let observer = |event: Event<'_>| {
            if let Event::Progress { .. } = event {
                // This thread is in the middle of the operation.
                thread::scope(|scope| scope.spawn(meanwhile).join()).unwrap();
            }
        };
        bench.run(&row, &observer).unwrap().unwrap();
        assert!(looks.into_inner() > 0);
        bench.assert_written();
        bench.assert_consistent();
    }
}

#[test]
fn minors_that_no_disk_in_use_has_are_told() {
    let bench = bench(DiskTemplate::Drbd, true);
    let (mut instance, disks) = instance(&bench);
    let [minor, ..] = disks
        .iter()
        .flat_map(Disk::drbd_minors)
        .filter(|(node, _)| *node == bench.uuid(NODES[1]))
        .map(|(_, minor)| minor)
        .collect::<Vec<_>>()[..]
    else {
        panic!("no minor");
    };
    // One that is primary on both nodes.
    let primary = |is_primary| {
        bench.cluster.with_world(|world| {
            let machine = world.machines.get_mut(&bench.uuid(NODES[1])).unwrap();
            machine.minors.get_mut(&minor).unwrap().is_primary = is_primary;
        });
    };
    primary(true);
    let mend = format!("drbdsetup secondary {minor}");
    assert_eq!(
        told(&found(&bench)),
        [(FindingKind::LeftOverMapping, NODES[1], mend.as_str())]
    );
    primary(false);
    assert_eq!(found(&bench), []);
    // Nobody took them down.
    instance.disks_active = false;
    bench.store.commit(&[Change::Instance(instance)]).unwrap();
    let left = found(&bench);
    let of = |kind| left.iter().filter(move |finding| finding.kind == kind).count();
    assert_eq!(of(FindingKind::LeftOverMapping), 6, "{left:?}");
    let report = now(repair(&bench.engine(&quiet), &left)).unwrap();
    assert_eq!(report.warnings, [""; 0]);
    assert_eq!(found(&bench), []);
}

#[test]
fn a_minor_that_stayed_on_a_node_that_has_no_disk_is_told() {
    let bench = bench(DiskTemplate::Drbd, true);
    bench.cluster.with_world(|world| {
        let minors = &world.machines[&bench.uuid(NODES[1])].minors;
        let minor = minors.values().next().unwrap().clone();
        let machine = world.machines.get_mut(&bench.uuid(NODES[2])).unwrap();
        machine.minors.insert(7, minor);
    });
    let mend = "drbdsetup down resource7";
    assert_eq!(
        told(&found(&bench)),
        [(FindingKind::LeftOverMapping, NODES[2], mend)]
    );
}

#[test]
fn devices_that_cannot_be_told_are_said() {
    let bench = bench(DiskTemplate::Rbd, true);
    assert_eq!(found(&bench), []);
    let calls = bench.cluster.calls();
    let call = calls
        .iter()
        .position(|call| call == "attached rbd volumes")
        .unwrap();
    bench.cluster.inject(Some(Fault {
        call,
        extent: Extent::None,
        then: Then::Fail,
    }));
    let found = found(&bench);
    let kinds: Vec<_> = found.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::Unknown], "{found:?}");
}

#[test]
fn what_had_a_detached_disk_last_is_not_forgotten_when_its_volumes_are_told_anew() {
    let bench = bench(DiskTemplate::Drbd, true);
    let (instance, disks) = instance(&bench);
    let detach = DiskChange::Detach { disk: "2".to_owned() };
    now(modify(&bench.engine(&quiet), INSTANCE, &[detach])).unwrap();
    assert_eq!(found(&bench), []);
    let owners = || -> Vec<Owner> {
        let world = bench.cluster.world();
        let keys = disks[2].volume_keys().into_iter();
        keys.map(|key| world.volumes[&key].owner.clone()).collect()
    };
    let before = owners();
    assert!(
        before
            .iter()
            .all(|owner| owner.kept.detached && owner.index.is_none())
    );
    for key in disks[2].volume_keys() {
        // As they were before it was detached.
        let was = |world: &mut World| world.volumes.get_mut(&key).unwrap().owner.index = Some(2);
        bench.cluster.with_world(was);
        let stale = found(&bench);
        assert_eq!(
            told(&stale).iter().map(|(kind, ..)| *kind).collect::<Vec<_>>(),
            [FindingKind::StaleMetadata]
        );
        now(repair(&bench.engine(&quiet), &stale)).unwrap();
        assert_eq!(found(&bench), []);
        let of = |owner: &Owner| (owner.instance.clone(), owner.kept.instance_uuid.clone());
        assert_eq!(
            owners().iter().map(of).collect::<Vec<_>>(),
            before.iter().map(of).collect::<Vec<_>>()
        );
        assert!(
            owners()
                .iter()
                .any(|owner| owner.kept.instance_uuid.as_ref() == Some(&instance.uuid))
        );
    }
}

/// A volume of a logical volume manager on a node, as another that there is.
fn put(bench: &Bench, node: &str, lv: &str, like: Option<&Disk>) -> LogicalId {
    let node = bench.uuid(node);
    let vg = bench.store.cluster().unwrap().volume_group_name.unwrap();
    let id = LogicalId::Lv {
        vg,
        lv: lv.to_owned(),
    };
    bench.cluster.with_world(|world| {
        let mut volume = Volume::new(&node, LogicalDevice::Plain, &id, SIZE);
        if let Some(disk) = like {
            volume.owner = world.volumes[&disk.volume_keys()[0]].owner.clone();
        }
        world
            .volumes
            .insert(key(&node, LogicalDevice::Plain, &id), volume);
    });
    id
}

#[test]
fn what_is_on_the_wrong_node_is_told_with_the_right_one() {
    for (template, homes) in [
        (DiskTemplate::Plain, NODES[0].to_owned()),
        (DiskTemplate::Drbd, format!("{} and {}", NODES[0], NODES[1])),
    ] {
        let bench = bench(template, false);
        let (_, disks) = instance(&bench);
        let data = disks[0].data_device().clone();
        put(&bench, NODES[2], &data.logical_id.volume(), Some(&disks[0]));
        let id = &data.logical_id;
        let mend = format!(
            "lvremove {id} on {}, if nobody wants it, after making sure that {id} on {homes} is the right one",
            NODES[2]
        );
        assert_eq!(
            told(&found(&bench)),
            [(FindingKind::WrongNode, NODES[2], mend.as_str())]
        );
    }
}

#[test]
fn what_only_has_our_name_is_an_orphan_and_what_has_not_is_other_peoples() {
    let bench = bench(DiskTemplate::Plain, false);
    for others in ["root", "golden.disk0", "backup-of-web"] {
        put(&bench, NODES[1], others, None);
    }
    assert_eq!(found(&bench), []);
    let id = put(
        &bench,
        NODES[1],
        "01234567-89ab-cdef-0123-456789abcdef.disk0_data",
        None,
    );
    let mend = format!(
        "gnt-disk recover, if it is wanted; lvremove {id} on {}, if nobody wants it",
        NODES[1]
    );
    assert_eq!(
        told(&found(&bench)),
        [(FindingKind::Orphan, NODES[1], mend.as_str())]
    );
}

#[test]
fn a_disk_on_a_lost_physical_volume_tells_how_it_is_made_anew() {
    let bench = bench(DiskTemplate::Plain, false);
    bench.cluster.with_world(|world| {
        world.sync = SyncStatus {
            is_degraded: true,
            ldisk_status: LocalDiskStatus::Faulty,
            ..SyncStatus::OKAY
        };
    });
    let found = found(&bench);
    assert_eq!(found.len(), 4, "{found:?}");
    let vg = bench.store.cluster().unwrap().volume_group_name.unwrap();
    for finding in &found {
        let mend = finding.mend.as_deref().unwrap();
        let instance = finding.instance.as_deref().unwrap();
        assert_eq!(finding.kind, FindingKind::Degraded);
        assert!(
            mend.starts_with(&format!("vgreduce --removemissing --force {vg} on {}", NODES[0])),
            "{mend}"
        );
        assert!(
            mend.contains(&format!("gnt-disk recreate {instance} --disk ")),
            "{mend}"
        );
    }
}

#[test]
fn a_device_that_shrank_is_taken_as_large_as_it_is() {
    let bench = bench(DiskTemplate::Blockdev, false);
    let (_, disks) = instance(&bench);
    let path = disks[0].logical_id.volume().into_owned();
    let small = Mebibytes(SIZE.0 / 2);
    bench.cluster.with_world(|world| {
        world.volumes.get_mut(&disks[0].volume_keys()[0]).unwrap().size = small;
    });
    let mend = format!(
        "make {path} that large where it comes from; or take it as large as it is: gnt-disk modify {INSTANCE} --disk \
         0:remove, and then gnt-disk modify {INSTANCE} --disk 0:add,adopt={path}"
    );
    assert_eq!(
        told(&found(&bench)),
        [(FindingKind::WrongSize, NODES[0], mend.as_str())]
    );
    let remove = DiskChange::Remove { disk: "0".to_owned() };
    let wish = serde_json::json!({"adopt": path});
    let add = DiskChange::Add {
        at: Some(0),
        wish: wish.as_object().unwrap().clone(),
    };
    for change in [remove, add] {
        now(modify(&bench.engine(&quiet), INSTANCE, &[change])).unwrap();
    }
    assert_eq!(instance(&bench).1[0].size, small);
    assert_eq!(found(&bench), []);
}
