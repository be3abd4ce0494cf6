//! Steps and undos that fail.

use std::collections::BTreeSet;

use gnt_config::DiskTemplate;
use gnt_config::template::NEEDS_SECONDARY;
use gnt_store::State;

use super::bench::{Bench, Benches, Case, Picture, now, quiet};
use super::rows::{Deed, Edit, INSTANCE, Row, conversions, distinct_rows, rows};
use crate::error::Error;
use crate::saga::Event;
use crate::sim::{Extent, Fault, Then, World};
use crate::step::Step;
use crate::verify::{FindingKind, RepairKind, verify};

#[test]
fn without_faults_every_operation_is_done() {
    for row in rows().into_iter().chain(conversions()) {
        let _case = Case(format!("{row:?}"));
        let bench = Bench::new(&row);
        let before = bench.picture();
        bench.run(&row, &quiet).unwrap().unwrap();
        bench.assert_consistent();
        bench.assert_free();
        bench.assert_data_kept(&before);
        bench.assert_written();
        if let Deed::Adopt = row.deed {
            let data = |world: &World| -> BTreeSet<u64> {
                world.volumes.values().map(|volume| volume.data.mark()).collect()
            };
            assert_eq!(data(&bench.cluster.world()), data(&before.world));
        }
    }
}

#[test]
fn a_call_that_fails_leaves_everything_as_before() {
    for row in rows() {
        for extent in [Extent::None, Extent::Half, Extent::Whole] {
            for_each_fault(&row, extent, Then::Fail, |bench, before, error| {
                judge(&row, bench, before, extent, error);
                bench.assert_free();
            });
        }
    }
}

/// Runs the row's operation with a fault in the first call, the second, and so on until it is done without.
fn for_each_fault(row: &Row, extent: Extent, then: Then, check: impl Fn(&Bench, &Picture, &Error)) {
    let mut benches = Benches::new(row);
    for call in 0.. {
        let (bench, before) = benches.take();
        bench.cluster.inject(Some(Fault { call, extent, then }));
        let outcome = bench.run(row, &quiet).unwrap();
        let calls = bench.cluster.calls();
        if calls.len() <= call {
            outcome.unwrap();
            return;
        }
        let told = match &outcome {
            Ok(report) => format!("{report:?}"),
            Err(error) => crate::error::chain(error),
        };
        let _case = Case(format!(
            "{row:?}\n{extent:?} of {}, {then:?}\n{calls:#?}\n{told}",
            calls[call]
        ));
        let error = match outcome {
            // It only looks whether there is something that there should not be.
            Ok(_) if only_looks(&calls[call]) => {
                bench.assert_free();
                bench.assert_data_kept(&before);
                // What could not be looked at is neither recovered nor repaired.
                if !matches!(row.deed, Deed::Recover | Deed::Repair) {
                    bench.assert_consistent();
                }
                continue;
            }
            // The operation can do without, and says so.
            Ok(report) if can_do_without(row, &calls[call]) => {
                assert!(report.warnings.iter().any(|warning| warning.contains("injected")));
                bench.assert_free();
                bench.assert_data_kept(&before);
                if let Deed::Mend(_) = row.deed {
                    bench.assert_undone(row, &before);
                }
                continue;
            }
            outcome => outcome.unwrap_err(),
        };
        let error = match error {
            Error::HalfMigrated { source, .. } => *source,
            error => error,
        };
        let chain = crate::error::chain(&error);
        let _case = Case(format!(
            "{row:?}\n{extent:?} of {}, {then:?}\n{calls:#?}\n{chain}",
            calls[call]
        ));
        check(&bench, &before, &error);
        benches.give_back(bench, before);
    }
}

/// Whether the row's operation goes on when the call fails.
pub(super) fn can_do_without(row: &Row, call: &str) -> bool {
    let labels_last = matches!(
        row.deed,
        Deed::Snapshot
            | Deed::Grow(_)
            | Deed::Failover
            | Deed::Finish
            | Deed::Abort
            | Deed::Cleanup
            | Deed::Mend(RepairKind::Label)
    );
    // What cannot be mended is told.
    let mends = matches!(row.deed, Deed::Repair);
    let proposes = matches!(row.deed, Deed::Recover) && only_looks(call);
    mends
        || proposes
        || (labels_last && call.starts_with("set info of"))
        || call.starts_with("remove directory")
        || (NEEDS_SECONDARY.contains(row.template) && is_attempted(&row.deed, call))
}

fn only_looks(call: &str) -> bool {
    let looks = ["links", "minors", "helper", "providers"];
    call.starts_with("find") || call.ends_with(" volumes") || looks.contains(&call)
}

/// Whether an operation on mirrored disks goes on when the call fails, if it is one to the secondary node.
fn is_attempted(deed: &Deed, call: &str) -> bool {
    let attempted: &[&str] = match deed {
        Deed::Activate | Deed::Mend(RepairKind::Activate) => &["assemble", "wait for"],
        Deed::Deactivate => &["shutdown"],
        Deed::Replace(_, true) => &["assemble", "wait for", "find", "set info", "shutdown", "remove"],
        Deed::Replace(_, false) => &["assemble", "wait for", "set info", "shutdown", "remove"],
        _ => &[],
    };
    attempted.iter().any(|what| call.starts_with(what))
}

/// Whether what the error says is true.
fn judge(row: &Row, bench: &Bench, before: &Picture, extent: Extent, error: &Error) {
    match error {
        Error::UndoFailed { .. } => panic!("{error}"),
        Error::Partial { .. } | Error::Leftover { .. } => {
            bench.assert_consistent();
            let calls = bench.cluster.calls();
            let half_removed =
                |calls: &[String]| calls[0].starts_with("remove ") && calls[1].starts_with("find");
            if extent != Extent::Half || !calls.windows(2).any(half_removed) {
                bench.assert_data_kept(before);
            }
        }
        _ => bench.assert_undone(row, before),
    }
}

#[test]
fn an_undo_that_fails_is_kept_until_it_is_mended_or_given_up() {
    for row in distinct_rows() {
        for_each_fault(&row, Extent::Whole, Then::FailOn, |bench, before, error| {
            let Error::UndoFailed { operation, .. } = error else {
                // Nothing could be asked: only what was recorded is known.
                return bench.assert_free();
            };
            let stuck = bench.unfinished().remove(0);
            assert_eq!(
                (stuck.id.as_str(), stuck.state, stuck.interrupted),
                (operation.as_str(), State::Stuck, true)
            );
            assert!(stuck.message.is_some_and(|message| message.contains("injected")));
            // The next operation tries again, fails again and says so.
            let again = bench.next_operation().unwrap_err();
            assert!(
                matches!(&again, Error::NotHealed { operation: id, .. } if id == operation),
                "{again:?}"
            );
            // Mended.
            bench.cluster.inject(None);
            let shown = now(verify(&bench.store, &bench.cluster)).unwrap();
            assert!(
                shown
                    .iter()
                    .any(|finding| finding.kind == FindingKind::Interrupted
                        && finding.instance.as_deref() == Some(INSTANCE))
            );
            let stuck = bench.store.operation(operation).unwrap();
            match now(bench.engine(&quiet).resume(&stuck)) {
                Ok(_) => bench.assert_undone(&row, before),
                Err(Error::AbortedLate { .. }) => bench.assert_consistent(),
                Err(error) => panic!("{error}"),
            }
            bench.assert_free();
        });
        for_each_fault(&row, Extent::Whole, Then::FailOn, |bench, _, error| {
            if let Error::UndoFailed { operation, .. } = error {
                let stuck = bench.store.operation(operation).unwrap();
                now(bench.engine(&quiet).give_up(&stuck)).unwrap();
                bench.assert_free();
                assert_eq!(bench.store.operation(operation).unwrap().state, State::Failed);
            }
        });
    }
}

/// A removal of which a part was done when the operation was undone, and of which nothing is left when that goes on.
#[test]
fn what_was_judged_when_undoing_began_is_not_judged_again() {
    let row = Row {
        template: DiskTemplate::Ext,
        active: false,
        deed: Deed::Modify(vec![Edit::Add(Some(1)), Edit::Remove(2)]),
        troubles: &[],
    };
    let rehearsal = Bench::new(&row);
    rehearsal.cluster.inject(None);
    rehearsal.run(&row, &quiet).unwrap().unwrap();
    let calls = rehearsal.cluster.calls();
    let call = calls
        .iter()
        .rposition(|call| call.starts_with("remove "))
        .unwrap();

    let bench = Bench::new(&row);
    let before = bench.picture();
    let fault = |call, extent| {
        let then = Then::Fail;
        bench.cluster.inject(Some(Fault { call, extent, then }));
    };
    let undo_fails = |event: Event<'_>| {
        if let Event::Undoing(Step::RemoveDisk { .. }) = event {
            fault(0, Extent::None);
        }
    };
    fault(call, Extent::Half);
    let error = bench.run(&row, &undo_fails).unwrap().unwrap_err();
    let Error::UndoFailed { operation, .. } = &error else {
        panic!("{error:?}");
    };
    bench.cluster.inject(None);
    bench.cluster.with_world(|world| {
        let half_removed = before.world.volumes.keys().filter(|key| {
            let (was, is) = (&before.world.volumes[*key], world.volumes.get(*key));
            is.is_some_and(|is| is.data != was.data)
        });
        let half_removed: Vec<_> = half_removed.cloned().collect();
        assert_eq!(half_removed.len(), 1);
        world.volumes.remove(&half_removed[0]);
    });
    let stuck = bench.store.operation(operation).unwrap();
    let resumed = now(bench.engine(&quiet).resume(&stuck));
    let disks = |picture: &Picture| picture.configuration["instances"].clone();
    assert_eq!(disks(&bench.picture()), disks(&before), "{resumed:?}");
    let there = bench.cluster.world().volumes;
    let made: Vec<_> = there
        .keys()
        .filter(|key| !before.world.volumes.contains_key(*key))
        .collect();
    assert_eq!(
        made,
        [""; 0],
        "{resumed:?} {:#?}",
        bench.store.operation(operation)
    );
    bench.assert_free();
}
