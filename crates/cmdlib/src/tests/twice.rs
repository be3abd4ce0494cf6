//! Steps and undos that are done twice, because the process died before it could note that they were done.

use std::collections::BTreeSet;
use std::sync::Mutex;

use strum::IntoEnumIterator;

use super::bench::{Bench, Case, Observer, catch_crash, now};
use super::faults::can_do_without;
use super::rows::{Row, rows};
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::saga::Event;
use crate::sim::{Extent, Fault, Then, crash};
use crate::step::{Step, Undo};

/// What is done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Steps,
    Undos,
}

/// Crashes when one has acted, leaving out the first so many.
fn crash_after(skipped: usize, what: What, acted: &Mutex<Vec<String>>) -> impl Fn(Event<'_>) + Sync {
    let (count, is_meant) = (Mutex::new(0), Mutex::new(false));
    move |event| match event {
        Event::Starting(_) => *is_meant.lock().unwrap() = what == What::Steps,
        Event::Undoing(_) => *is_meant.lock().unwrap() = what == What::Undos,
        Event::Acted(step) if *is_meant.lock().unwrap() => {
            acted.lock().unwrap().push(step.name().to_owned());
            *count.lock().unwrap() += 1;
            if *count.lock().unwrap() > skipped {
                crash();
            }
        }
        _ => {}
    }
}

/// Goes on with what is left until nothing is; each process dies when it has done again what the one before did, and one thing more. What
/// has to be undone before it is done again takes more than that: a process that got no further than the one before lets the next do more.
fn go_on(bench: &Bench, acted: &Mutex<Vec<String>>, what: What) -> Result<()> {
    let (mut before, mut again) = (None, 1);
    while let Some(record) = bench.unfinished().pop() {
        let steps: Vec<_> = record.steps.iter().map(|step| step.state).collect();
        let here = Some((record.state, steps));
        again = if here == before { again + 1 } else { 1 };
        before = here;
        let observer = crash_after(again, what, acted);
        let observer: &Observer<'_> = &observer;
        let engine = bench.engine(observer);
        let done = catch_crash(|| match what {
            What::Steps => now(engine.resume(&record)).map(drop),
            What::Undos => now(engine.abort(&record)).map(drop),
        });
        match done {
            Some(done) => return done,
            None => bench.bury(),
        }
    }
    Ok(())
}

#[test]
fn every_step_can_be_done_twice() {
    for row in rows() {
        let (bench, acted) = (Bench::new(&row), Mutex::default());
        let before = bench.picture();
        if bench.run(&row, &crash_after(0, What::Steps, &acted)).is_none() {
            go_on(&bench, &acted, What::Steps).unwrap();
        }
        let _case = Case(format!("{row:?}\n{:#?}", acted.lock().unwrap()));
        bench.assert_consistent();
        bench.assert_free();
        bench.assert_data_kept(&before);
    }
}

#[test]
fn every_undo_can_be_done_twice() {
    let mut undone = BTreeSet::new();
    for row in rows() {
        let Some(call) = last_that_is_undone(&row) else {
            continue;
        };
        let (bench, acted, begun) = (Bench::new(&row), Mutex::default(), Mutex::new(Vec::new()));
        let before = bench.picture();
        let (extent, then) = (Extent::Whole, Then::Fail);
        bench.cluster.inject(Some(Fault { call, extent, then }));
        let crash = crash_after(0, What::Undos, &acted);
        let outcome = bench.run(&row, &|event| {
            if let Event::Starting(step) = event {
                begun.lock().unwrap().push(step.clone());
            }
            crash(event);
        });
        bench.cluster.inject(None);
        let _case = Case(format!("{row:?}\n{:#?}", acted.lock().unwrap()));
        if outcome.is_some() {
            assert!(!can_be_undone(&begun.lock().unwrap()), "nothing was undone");
            continue;
        }
        undone.insert(row.deed.kind().as_str());
        match go_on(&bench, &acted, What::Undos) {
            Err(Error::AbortedLate { .. }) => bench.assert_consistent(),
            undone => {
                undone.unwrap();
                bench.assert_undone(&row, &before);
            }
        }
        bench.assert_free();
    }
    // These change the configuration alone, go on without what fails, or do nothing that could be undone.
    let not: Vec<_> = Kind::iter()
        .map(Kind::as_str)
        .filter(|kind| !undone.contains(kind))
        .collect();
    assert_eq!(
        not,
        [
            "grow",
            "remove-snapshot",
            "migrate-finish",
            "migrate-abort",
            "migrate-cleanup",
            "recover",
            "node-modify",
            "node-remove",
            "repair",
        ]
    );
}

/// The last call that the operation cannot do without, and before which nothing happens that cannot be undone.
fn last_that_is_undone(row: &Row) -> Option<usize> {
    let (bench, ends) = (Bench::new(row), Mutex::new(None));
    let note = |event: Event<'_>| {
        if let Event::Starting(step) = event
            && step.is_final()
        {
            ends.lock().unwrap().get_or_insert(bench.cluster.calls().len());
        }
    };
    bench.run(row, &note).unwrap().unwrap();
    let calls = bench.cluster.calls();
    let end = ends.into_inner().unwrap().unwrap_or(calls.len());
    calls[..end].iter().rposition(|call| !can_do_without(row, call))
}

/// Whether something was done that can be undone, of steps that were begun, the last of which failed in a call.
fn can_be_undone(begun: &[Step]) -> bool {
    let since_final = begun.iter().rev().take_while(|step| !step.is_final());
    since_final
        .into_iter()
        .any(|step| matches!(step.undo(), Undo::Step(_)))
}

#[test]
fn a_process_that_dies_after_each_step_dies_once_for_each() {
    let row = rows().swap_remove(0);
    let (whole, acted) = (Mutex::default(), Mutex::default());
    let bench = Bench::new(&row);
    bench
        .run(&row, &crash_after(usize::MAX, What::Steps, &whole))
        .unwrap()
        .unwrap();
    let bench = Bench::new(&row);
    assert!(bench.run(&row, &crash_after(0, What::Steps, &acted)).is_none());
    go_on(&bench, &acted, What::Steps).unwrap();
    let twice: Vec<_> = whole
        .lock()
        .unwrap()
        .iter()
        .flat_map(|step: &String| [step.clone(), step.clone()])
        .collect();
    assert_eq!(*acted.lock().unwrap(), twice);
}
