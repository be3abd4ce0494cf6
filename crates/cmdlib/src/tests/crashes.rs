//! Processes that die, and what the next one makes of it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use gnt_store::{OperationRecord, State};

use super::bench::{Bench, Benches, Case, Observer, Picture, catch_crash, crash_at, now, quiet};
use super::faults::can_do_without;
use super::rows::{Deed, Row, distinct_rows};
use crate::error::{Error, Result};
use crate::saga::{Healing, Report};
use crate::sim::{Extent, Fault, Then};

/// How the next process goes on.
#[derive(Debug, Clone, Copy)]
enum Recovery {
    NextOperation,
    HealAll,
    Resume,
    Abort,
}

use Recovery::{Abort, HealAll, NextOperation, Resume};

impl Recovery {
    fn run(self, bench: &Bench, observer: &Observer<'_>) -> Result<Report> {
        let Some(record) = bench.unfinished().pop() else {
            return Ok(Report::default());
        };
        let engine = bench.engine(observer);
        match self {
            Self::NextOperation | Self::HealAll if Healing::of(&record)? == Healing::Ask => {
                self.assert_refused(bench, &record);
                now(engine.resume(&record))
            }
            Self::NextOperation => bench.next_operation(),
            Self::HealAll => now(engine.heal_all()),
            Self::Resume => now(engine.resume(&record)),
            Self::Abort => now(engine.abort(&record)),
        }
    }

    /// What overwrites data does not go on by itself, and stays as it is.
    fn assert_refused(self, bench: &Bench, record: &OperationRecord) {
        let before = bench.picture();
        let told = match self {
            Self::HealAll => now(bench.engine(&quiet).heal_all()).unwrap().warnings.concat(),
            _ => match bench.next_operation() {
                Err(error @ Error::Overwriting { .. }) => error.to_string(),
                other => panic!("{other:?}"),
            },
        };
        assert!(
            told.contains(&record.id) && told.contains("does not go on by itself"),
            "{told}"
        );
        assert_eq!(bench.picture(), before);
        assert_eq!(bench.unfinished(), std::slice::from_ref(record));
    }

    /// Whether a crash at the event or call with this number is to be recovered from in this way. Operations that have many take turns.
    fn is_due(self, row: &Row, number: usize) -> bool {
        let turn = match self {
            Self::NextOperation | Self::HealAll => 0,
            Self::Resume => 1,
            Self::Abort => 2,
        };
        !row.is_long() || number % 3 == turn
    }

    /// Whether what is left is what this way promises.
    fn check(
        self,
        row: &Row,
        bench: &Bench,
        before: &Picture,
        crashed: Option<State>,
        result: &Result<Report>,
    ) {
        bench.assert_free();
        // What was being removed may have lost its data, unless it was copied first.
        let copies = matches!(row.deed, Deed::Convert(..) | Deed::Move | Deed::Replace(..));
        let told = match result {
            Ok(report) => report.warnings.join("; "),
            Err(error) => crate::error::chain(error),
        };
        let damaged = told.contains("may be damaged");
        if copies || !damaged {
            bench.assert_data_kept(before);
        }
        // Who breaks off when what was replaced is being removed wants the rest of it to stay.
        let keeps_old =
            matches!(row.deed, Deed::Replace(..)) && matches!(result, Err(Error::AbortedLate { .. }));
        // Who breaks off when something is being mended leaves the rest of it.
        let keeps_wrong = matches!(row.deed, Deed::Mend(_));
        if bench.picture() != *before && !keeps_old && !keeps_wrong {
            bench.assert_consistent();
        }
        match (self, crashed, result) {
            // A removal or a growth had begun.
            (_, _, Ok(Report { warnings, .. }))
                if warnings.iter().any(|w| {
                    w.contains("may be damaged") || w.contains(" has ") || w.contains("may be overwritten")
                }) => {}
            (_, None, Ok(_)) => {}
            (Self::Abort, Some(_), Ok(report)) => {
                assert_eq!(report.warnings, [""; 0]);
                bench.assert_undone(row, before);
            }
            (Self::Resume, Some(State::Running), Ok(report)) => {
                assert_eq!(report.warnings, [""; 0]);
                bench.assert_written();
            }
            (Self::Resume, Some(_), Ok(_)) => bench.assert_undone(row, before),
            (Self::Resume | Self::Abort, Some(_), Err(Error::AbortedLate { .. })) => {}
            (Self::NextOperation | Self::HealAll, Some(_), Ok(_)) => {}
            (_, _, Err(error)) => panic!("{self:?}: {}", crate::error::chain(error)),
        }
        if keeps_wrong {
            bench.assert_undone(row, before);
        }
    }
}

#[test]
fn a_crash_at_any_event_is_healed() {
    for row in distinct_rows() {
        for recovery in [NextOperation, Resume, Abort] {
            let mut benches = Benches::new(&row);
            for number in (0..).filter(|number| recovery.is_due(&row, *number)) {
                let (bench, before) = benches.take();
                let events = Mutex::new(Vec::new());
                let outcome = bench.run(&row, &crash_at(number, &events));
                let _case = Case(format!(
                    "{row:?}\n{recovery:?} after {:#?}",
                    events.lock().unwrap()
                ));
                if let Some(done) = outcome {
                    done.unwrap();
                    break;
                }
                recover(&row, &bench, &before, recovery);
                benches.give_back(bench, before);
            }
        }
    }
}

/// Before and after a call the step's own events are.
#[test]
fn a_crash_in_the_middle_of_a_call_is_healed() {
    for row in distinct_rows() {
        for recovery in [NextOperation, Resume, Abort] {
            let mut benches = Benches::new(&row);
            for call in (0..).filter(|call| recovery.is_due(&row, *call)) {
                let (bench, before) = benches.take();
                let (extent, then) = (Extent::Half, Then::Crash);
                bench.cluster.inject(Some(Fault { call, extent, then }));
                let outcome = bench.run(&row, &quiet);
                let calls = bench.cluster.calls();
                let _case = Case(format!(
                    "{row:?}\n{recovery:?} after half of the last of {calls:#?}"
                ));
                if let Some(done) = outcome {
                    done.unwrap();
                    break;
                }
                bench.cluster.inject(None);
                recover(&row, &bench, &before, recovery);
                benches.give_back(bench, before);
            }
        }
    }
}

#[test]
fn a_crash_while_undoing_is_healed() {
    for row in distinct_rows() {
        let Some(call) = last_step(&row) else { continue };
        for recovery in [NextOperation, Resume, Abort] {
            let mut benches = Benches::new(&row);
            for number in (0..).filter(|number| recovery.is_due(&row, *number)) {
                let (bench, before) = benches.take();
                let (extent, then) = (Extent::Whole, Then::Fail);
                bench.cluster.inject(Some(Fault { call, extent, then }));
                let events = Mutex::new(Vec::new());
                let outcome = bench.run(&row, &crash_at(number, &events));
                let _case = Case(format!(
                    "{row:?}\n{recovery:?} after {:#?}",
                    events.lock().unwrap()
                ));
                bench.cluster.inject(None);
                if let Some(outcome) = outcome {
                    outcome.unwrap_err();
                    break;
                }
                recover(&row, &bench, &before, recovery);
                benches.give_back(bench, before);
            }
        }
    }
}

/// The last call that the operation cannot do without.
fn last_step(row: &Row) -> Option<usize> {
    let bench = Bench::new(row);
    bench.run(row, &quiet).unwrap().unwrap();
    let calls = bench.cluster.calls();
    calls.iter().rposition(|call| !can_do_without(row, call))
}

#[test]
fn a_crash_while_recovering_is_healed() {
    for row in distinct_rows() {
        let half = events(&row) / 2;
        for (first, second) in [(HealAll, HealAll), (Resume, Abort), (Abort, Resume)] {
            let mut benches = Benches::new(&row);
            for number in (0..).filter(|number| first.is_due(&row, *number)) {
                let (bench, before) = benches.take();
                let events = Mutex::new(Vec::new());
                assert!(bench.run(&row, &crash_at(half, &events)).is_none());
                let again = Mutex::new(Vec::new());
                let observer = crash_at(number, &again);
                let recovered = catch_crash(|| first.run(&bench, &observer));
                let _case = Case(format!(
                    "{row:?}\n{first:?} after {:#?}\nand {second:?} after {:#?}",
                    events.lock().unwrap(),
                    again.lock().unwrap()
                ));
                if recovered.is_some() {
                    break;
                }
                bench.bury();
                recover(&row, &bench, &before, second);
                benches.give_back(bench, before);
            }
        }
    }
}

fn recover(row: &Row, bench: &Bench, before: &Picture, recovery: Recovery) {
    let crashed = bench.unfinished().pop().map(|record| record.state);
    let result = recovery.run(bench, &quiet);
    recovery.check(row, bench, before, crashed, &result);
}

/// How many events the row's operation has.
fn events(row: &Row) -> usize {
    let events = Mutex::new(Vec::new());
    let bench = Bench::new(row);
    bench
        .run(row, &crash_at(usize::MAX - 1, &events))
        .unwrap()
        .unwrap();
    events.into_inner().unwrap().len()
}

/// Nobody wants what is left of a disk overwritten because somebody else looked at it.
#[test]
fn only_what_overwrites_data_waits_to_be_told_to_go_on() {
    let mut asked = BTreeSet::new();
    for row in distinct_rows() {
        let overwrites = matches!(row.deed, Deed::Wipe | Deed::Image | Deed::Restore);
        if !overwrites && !matches!(row.deed, Deed::Convert(..) | Deed::Move | Deed::Remove) {
            continue;
        }
        for number in 0..events(&row) {
            let bench = Bench::new(&row);
            bench.run(&row, &crash_at(number, &Mutex::new(Vec::new())));
            for record in bench.unfinished() {
                let asks = Healing::of(&record).unwrap() == Healing::Ask;
                assert!(overwrites || !asks, "{row:?}: {record:?}");
                asked.extend(asks.then_some(record.kind));
            }
        }
    }
    assert_eq!(asked.len(), 3, "{asked:?}");
}
