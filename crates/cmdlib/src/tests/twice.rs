//! Steps and undos that are done twice, because the process died before it could note that they were done.

use std::sync::Mutex;

use super::bench::{Bench, Case, Observer, catch_crash, now};
use super::crashes::last_step;
use super::rows::rows;
use crate::error::{Error, Result};
use crate::saga::Event;
use crate::sim::{Extent, Fault, Then, crash};

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
    for row in rows() {
        let Some(call) = last_step(&row) else { continue };
        let (bench, acted) = (Bench::new(&row), Mutex::default());
        let before = bench.picture();
        let (extent, then) = (Extent::Whole, Then::Fail);
        bench.cluster.inject(Some(Fault { call, extent, then }));
        let outcome = bench.run(&row, &crash_after(0, What::Undos, &acted));
        bench.cluster.inject(None);
        let _case = Case(format!("{row:?}\n{:#?}", acted.lock().unwrap()));
        // What failed had nothing to undo before it, or cannot be undone.
        if outcome.is_some() {
            continue;
        }
        match go_on(&bench, &acted, What::Undos) {
            Err(Error::AbortedLate { .. }) => bench.assert_consistent(),
            undone => {
                undone.unwrap();
                bench.assert_undone(&row, &before);
            }
        }
        bench.assert_free();
    }
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
