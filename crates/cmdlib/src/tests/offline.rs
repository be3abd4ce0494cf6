//! Nodes that die, and are set offline while an operation runs that has seen them online.

use gnt_config::DiskTemplate;
use gnt_store::Change;

use super::bench::{Bench, NODES, now};
use super::rows::{Deed, INSTANCE, Row};
use crate::error::{Error, Result};
use crate::ops::replace_disks::{ReplaceRequest, Replacement, replace_disks};
use crate::saga::{Event, Report};
use crate::step::Step;

/// Replaces the secondary node by the third, which dies before the new disks are put into use.
fn replace(bench: &Bench, set_offline: bool) -> Result<Report> {
    let node3 = bench.uuid(NODES[2]);
    let die = |event: Event<'_>| {
        if let Event::Starting(Step::AssembleDisks { at, .. }) = event
            && at.node == node3
        {
            bench.cluster.with_world(|world| world.kill(&node3));
            if set_offline {
                let mut node = bench.store.node(&node3).unwrap().unwrap();
                node.offline = true;
                bench.store.commit(&[Change::Node(node)]).unwrap();
            }
        }
    };
    let request = ReplaceRequest {
        what: Replacement::NewSecondary(NODES[2].to_owned()),
        disks: Vec::new(),
        early_release: false,
    };
    now(replace_disks(&bench.engine(&die), INSTANCE, &request))
}

fn bench() -> Bench {
    Bench::new(&Row {
        template: DiskTemplate::Drbd,
        active: true,
        deed: Deed::Activate,
        troubles: &[],
    })
}

#[test]
fn what_is_set_offline_meanwhile_is_left_out() {
    let bench = bench();
    let error = replace(&bench, true).unwrap_err();
    let Error::Leftover { leftover, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(
        leftover.contains("was left out: node node3 is set offline"),
        "{leftover}"
    );
    bench.assert_free();
}

#[test]
fn what_is_only_dead_keeps_the_operation() {
    let bench = bench();
    let error = replace(&bench, false).unwrap_err();
    assert!(matches!(error, Error::UndoFailed { .. }), "{error:?}");
    // The admin gives the node up, and another process undoes it.
    let mut node = bench.store.node(NODES[2]).unwrap().unwrap();
    node.offline = true;
    bench.store.commit(&[Change::Node(node)]).unwrap();
    let unfinished = bench.unfinished();
    let report = now(bench.engine(&super::bench::quiet).abort(&unfinished[0])).unwrap();
    assert!(report.warnings[0].contains("node3 is set offline"), "{report:?}");
    bench.assert_free();
}
