//! Conversions to and from what is mirrored, on three nodes.

use std::time::Duration;

use gnt_config::DiskTemplate;

use super::bench::{Bench, NODES, now, quiet};
use super::rows::{Deed, INSTANCE, Row, conversion};
use crate::ops::activate::{activate, deactivate};
use crate::ops::convert::convert;
use crate::ops::failover::{FailoverRequest, failover};

fn bench(template: DiskTemplate) -> Bench {
    Bench::new(&Row {
        template,
        active: false,
        deed: Deed::Convert(DiskTemplate::Drbd),
        troubles: &[],
    })
}

fn convert_to(bench: &Bench, template: DiskTemplate) -> crate::error::Result<crate::saga::Report> {
    let mut request = conversion(template);
    request.secondary = (template == DiskTemplate::Drbd).then(|| NODES[1].to_owned());
    now(convert(&bench.engine(&quiet), INSTANCE, &request))
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
    for round in 0..2 {
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
        assert!(round < 2);
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
