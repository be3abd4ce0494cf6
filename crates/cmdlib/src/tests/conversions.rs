//! Conversions to and from what is mirrored, on three nodes.

use std::time::Duration;

use gnt_config::DiskTemplate;
use gnt_store::Change;

use super::bench::{Bench, NODES, now, quiet};
use super::rows::{Deed, INSTANCE, Row, conversion};
use crate::ops::activate::{activate, deactivate};
use crate::ops::convert::{ConvertRequest, convert};
use crate::ops::failover::{FailoverRequest, failover};
use crate::ops::node::{self, NodeChanges};
use crate::recover::{import, propose};

fn bench(template: DiskTemplate) -> Bench {
    Bench::new(&Row {
        template,
        active: false,
        deed: Deed::Convert(DiskTemplate::Drbd, None),
        troubles: &[],
    })
}

fn convert_to(bench: &Bench, template: DiskTemplate) -> crate::error::Result<crate::saga::Report> {
    let mut request = conversion(template);
    request.secondary = (template == DiskTemplate::Drbd).then(|| NODES[1].to_owned());
    now(convert(&bench.engine(&quiet), INSTANCE, &request))
}

fn convert_on(bench: &Bench, template: DiskTemplate, primary: &str, secondary: Option<&str>) {
    let request = ConvertRequest {
        primary: Some(primary.to_owned()),
        secondary: secondary.map(str::to_owned),
        ..conversion(template)
    };
    now(convert(&bench.engine(&quiet), INSTANCE, &request)).unwrap();
    let found = bench.store.instance(INSTANCE).unwrap().unwrap();
    assert_eq!(found.primary_node, Some(bench.uuid(primary)));
    bench.assert_written();
    bench.assert_consistent();
    bench.assert_free();
}

/// Lets mirrors be complete.
fn synchronise(bench: &Bench) {
    now(activate(&bench.engine(&quiet), INSTANCE)).unwrap();
    now(async { tokio::time::sleep(Duration::from_secs(3600)).await });
    now(deactivate(&bench.engine(&quiet), INSTANCE)).unwrap();
}

#[test]
fn a_logical_volume_gets_a_mirror_and_loses_it_without_being_copied() {
    let bench = bench(DiskTemplate::Plain);
    for _ in 0..2 {
        bench.cluster.inject(None);
        convert_to(&bench, DiskTemplate::Drbd).unwrap();
        let calls = bench.cluster.calls();
        assert!(!calls.iter().any(|call| call.starts_with("copy")), "{calls:?}");
        bench.assert_written();
        synchronise(&bench);
        bench.assert_consistent();
        bench.cluster.inject(None);
        convert_to(&bench, DiskTemplate::Plain).unwrap();
        let calls = bench.cluster.calls();
        assert!(!calls.iter().any(|call| call.starts_with("copy")), "{calls:?}");
        bench.assert_written();
        bench.assert_consistent();
        bench.assert_free();
    }
}

#[test]
fn a_mirror_can_be_made_of_anything_and_anything_of_a_mirror() {
    for template in [DiskTemplate::File, DiskTemplate::Ext, DiskTemplate::Rbd] {
        let bench = bench(template);
        convert_to(&bench, DiskTemplate::Drbd).unwrap();
        bench.assert_written();
        synchronise(&bench);
        bench.assert_consistent();
        convert_to(&bench, template).unwrap();
        bench.assert_written();
        bench.assert_consistent();
        bench.assert_free();
    }
}

/// Although it was never in use there.
#[test]
fn the_data_goes_with_a_new_mirror() {
    for template in [DiskTemplate::Plain, DiskTemplate::File] {
        let bench = bench(template);
        convert_to(&bench, DiskTemplate::Drbd).unwrap();
        let request = FailoverRequest {
            instance: INSTANCE.to_owned(),
            ..FailoverRequest::default()
        };
        now(failover(&bench.engine(&quiet), &request)).unwrap();
        synchronise(&bench);
        bench.assert_written();
        bench.assert_consistent();
        convert_to(&bench, template).unwrap();
        bench.assert_written();
        bench.assert_free();
    }
}

/// Logical volumes too are copied then.
#[test]
fn an_instance_can_go_to_another_node_with_its_new_disks() {
    let bench = bench(DiskTemplate::Plain);
    convert_on(&bench, DiskTemplate::File, NODES[1], None);
    convert_on(&bench, DiskTemplate::Rbd, NODES[2], None);
    convert_on(&bench, DiskTemplate::Plain, NODES[0], None);
    convert_on(&bench, DiskTemplate::Drbd, NODES[1], Some(NODES[2]));
    synchronise(&bench);
    // Where its mirror is.
    convert_on(&bench, DiskTemplate::Plain, NODES[2], None);
    convert_on(&bench, DiskTemplate::Ext, NODES[2], None);
}

#[test]
fn a_drained_node_gets_no_converted_instance() {
    let bench = bench(DiskTemplate::Plain);
    let drained = NodeChanges {
        drained: Some(true),
        ..NodeChanges::default()
    };
    now(node::modify(&bench.engine(&quiet), NODES[1], &drained)).unwrap();
    let request = ConvertRequest {
        primary: Some(NODES[1].to_owned()),
        ..conversion(DiskTemplate::File)
    };
    let error = now(convert(&bench.engine(&quiet), INSTANCE, &request)).unwrap_err();
    assert!(error.to_string().contains("is drained"), "{error}");
    bench.assert_consistent();
}

/// It keeps the name of a part of a mirror.
#[test]
fn a_volume_that_lost_its_mirror_is_recovered_as_the_disk_that_it_is() {
    let bench = bench(DiskTemplate::Plain);
    convert_to(&bench, DiskTemplate::Drbd).unwrap();
    synchronise(&bench);
    convert_to(&bench, DiskTemplate::Plain).unwrap();
    let before = bench.store.instance(INSTANCE).unwrap().unwrap();
    let disks = before.disks.iter().cloned().map(Change::RemoveDisk);
    let lost = [Change::RemoveInstance(before.uuid.clone())];
    bench
        .store
        .commit(&lost.into_iter().chain(disks).collect::<Vec<_>>())
        .unwrap();
    let engine = bench.engine(&quiet);
    let proposal = now(propose(engine.store, engine.nodes, &[])).unwrap();
    now(import(&engine, &proposal)).unwrap();
    let recovered = bench.store.instance(INSTANCE).unwrap().unwrap();
    assert_eq!(
        (recovered.uuid, recovered.disks),
        (before.uuid, before.disks),
        "{:?}",
        proposal.remarks
    );
    bench.assert_consistent();
}
