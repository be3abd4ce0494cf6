//! What becomes of an instance that is given another node, for every template that is mirrored.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gnt_config::DiskTemplate;
use gnt_config::template::NEEDS_SECONDARY;
use gnt_store::Filter;

use super::*;
use crate::ops::activate::{activate, deactivate};
use crate::ops::migrate::tests::{BEFORE, MEANWHILE, SOURCE, Scene, TARGET, TEMPLATES, WEB, quiet};
use crate::saga::Event;
use crate::sim::{Extent, Fault, Then};
use crate::tests::{Case, bury, catch_crash, now};

/// How the node is that the instance is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Lives,
    /// It has no power, and is marked offline.
    GivenUp,
    /// It has no power, and nobody said so.
    Dead,
    /// It has power, and does not answer.
    Silent,
}

impl Source {
    const ALL: [Self; 4] = [Self::Lives, Self::GivenUp, Self::Dead, Self::Silent];

    fn make(self, scene: &Scene) {
        if let Self::GivenUp | Self::Dead = self {
            scene.kill(SOURCE);
        }
        match self {
            Self::GivenUp => scene.set_offline(SOURCE, true),
            Self::Silent => scene.set_answers(SOURCE, false),
            Self::Lives | Self::Dead => {}
        }
    }

    /// It is as it was before anything happened to it.
    fn mend(self, scene: &Scene) {
        match self {
            Self::Lives => {}
            Self::Silent => scene.set_answers(SOURCE, true),
            Self::GivenUp | Self::Dead => {
                scene.boot(SOURCE);
                scene.set_offline(SOURCE, false);
            }
        }
    }
}

/// How the halves of a mirrored disk are when the failover begins. What has only one volume is always [alike](Self::Alike).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halves {
    /// Both have all.
    Alike,
    /// The link was cut, and the instance wrote since.
    Apart,
    /// The target was started anew, and the instance wrote since.
    NotInUse,
    /// The same, and the target's half gets what it lacks.
    Synchronising,
}

impl Halves {
    fn make(self, scene: &Scene) {
        match self {
            Self::Alike => return,
            Self::Apart => scene.set_linked(false),
            Self::NotInUse | Self::Synchronising => {
                scene.kill(TARGET);
                scene.boot(TARGET);
            }
        }
        scene.write(SOURCE, MEANWHILE).unwrap();
        if self == Self::Synchronising {
            scene.cluster.with_world(|world| world.drbd.rate = Some(1));
            now(activate(&scene.engine(&quiet), WEB)).unwrap();
        }
    }
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is on the target, with these data.
    Done(u8),
    /// Nothing was begun, or all undone; the error says this.
    Refused(&'static str),
}

use Outcome::{Done, Refused};

const SILENT: Outcome = Refused("node node1, on which instance web runs, does not answer");
const OUTDATED: Outcome = Refused("may be out of date on node node2");

/// An instance whose disks are in use or not, on a source that is somehow.
fn scene(template: DiskTemplate, in_use: bool, halves: Halves, source: Source) -> Scene {
    let scene = Scene::new(template);
    halves.make(&scene);
    if !in_use {
        now(deactivate(&scene.engine(&quiet), WEB)).unwrap();
    }
    source.make(&scene);
    scene.cluster.inject(None);
    scene
}

fn fail_over(
    scene: &Scene,
    ignore_consistency: bool,
    observer: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Report> {
    let request = FailoverRequest {
        instance: WEB.to_owned(),
        target: Some(TARGET.to_owned()),
        ignore_consistency,
    };
    now(failover(&scene.engine(observer), &request))
}

/// The outcome is as expected, and no other node has anything open. When all is mended the instance can be used where it is, with the data
/// that it should have.
fn check(
    scene: &Scene,
    in_use: bool,
    halves: Halves,
    source: Source,
    expected: Outcome,
    result: Result<Report>,
) {
    scene.assert_open_on_one_node();
    assert_eq!(scene.store.operations(Filter::Unfinished).unwrap(), []);
    assert_eq!(scene.subject().instance.disks_active, in_use);
    let (node, data) = match (expected, halves) {
        (Done(data), _) => (TARGET, data),
        (Refused(_), Halves::Alike) => (SOURCE, BEFORE),
        (Refused(_), _) => (SOURCE, MEANWHILE),
    };
    assert_eq!(scene.subject().node.name, node);
    match (expected, result) {
        (Done(_), Ok(report)) => {
            let told = report.warnings.join("; ");
            assert_eq!(
                told.contains("was not asked to give up"),
                source == Source::GivenUp,
                "{told}"
            );
        }
        (Refused(why), Err(error)) => {
            let told = crate::error::chain(&error);
            assert!(told.contains(why), "{told}");
            if expected == OUTDATED {
                assert!(error.hint().unwrap().contains("--ignore-consistency"));
            }
        }
        (_, result) => panic!("{result:?}"),
    }
    // What was written on the source and is not on the target is a split brain from then on, which only a human ends.
    let lost = halves != Halves::Alike && data == BEFORE;
    source.mend(scene);
    if !lost {
        scene.set_linked(true);
        now(activate(&scene.engine(&quiet), WEB)).unwrap();
        now(async { tokio::time::sleep(Duration::from_secs(3600)).await });
        now(activate(&scene.engine(&quiet), WEB)).unwrap();
        scene.assert_settled(node, data);
        scene.assert_in_sync();
    } else if in_use {
        assert_eq!(scene.read(node), [data; 2]);
    }
}

/// What reaches its data from both nodes.
#[test]
fn what_has_one_volume() {
    for template in TEMPLATES {
        for in_use in [true, false] {
            for source in Source::ALL {
                for ignore in [false, true] {
                    let expected = match source {
                        Source::Lives | Source::GivenUp => Done(BEFORE),
                        Source::Dead | Source::Silent => SILENT,
                    };
                    let scene = scene(template, in_use, Halves::Alike, source);
                    let result = fail_over(&scene, ignore, &quiet);
                    let _case = Case(format!(
                        "{template}, in use: {in_use}, {source:?}, ignoring: {ignore}, {result:?}"
                    ));
                    check(&scene, in_use, Halves::Alike, source, expected, result);
                }
            }
        }
    }
}

/// How the halves are, how the source is, and what comes of it, also with `ignore_consistency`.
type Row = (Halves, Source, Outcome, Outcome);

/// Disks that are in use.
const IN_USE: [Row; 12] = [
    (Halves::Apart, Source::Lives, OUTDATED, Done(BEFORE)),
    // It is given what it lacks before it is opened.
    (Halves::NotInUse, Source::Lives, OUTDATED, Done(MEANWHILE)),
    (Halves::Synchronising, Source::Lives, OUTDATED, Done(MEANWHILE)),
    // The target cannot know that it is out of date.
    (Halves::Apart, Source::GivenUp, Done(BEFORE), Done(BEFORE)),
    (Halves::NotInUse, Source::GivenUp, OUTDATED, Done(BEFORE)),
    // Nobody can use half of one and half of the other.
    (Halves::Synchronising, Source::GivenUp, OUTDATED, Refused("data")),
    (Halves::Apart, Source::Dead, SILENT, SILENT),
    (Halves::NotInUse, Source::Dead, SILENT, SILENT),
    (Halves::Synchronising, Source::Dead, SILENT, SILENT),
    (Halves::Apart, Source::Silent, SILENT, SILENT),
    (Halves::NotInUse, Source::Silent, SILENT, SILENT),
    (Halves::Synchronising, Source::Silent, SILENT, SILENT),
];

#[test]
fn what_has_two_halves_that_are_not_alike() {
    for (halves, source, careful, ignoring) in IN_USE {
        for (ignore, expected) in [(false, careful), (true, ignoring)] {
            let scene = scene(DiskTemplate::Drbd, true, halves, source);
            let result = fail_over(&scene, ignore, &quiet);
            let _case = Case(format!("{halves:?}, {source:?}, ignoring: {ignore}, {result:?}"));
            check(&scene, true, halves, source, expected, result);
        }
    }
}

/// The link is still cut: nobody can tell whether the halves are alike.
#[test]
fn halves_at_rest_that_cannot_meet() {
    for (ignore, expected) in [(false, Refused("connected")), (true, Done(BEFORE))] {
        let scene = scene(DiskTemplate::Drbd, false, Halves::Apart, Source::Lives);
        let result = fail_over(&scene, ignore, &quiet);
        let _case = Case(format!("ignoring: {ignore}, {result:?}"));
        check(&scene, false, Halves::Apart, Source::Lives, expected, result);
    }
}

/// They meet, and the target gets what it lacks, before anything is said of the instance. Without the source nothing is looked at: nothing
/// is written either before the disks are activated, and if the source is back by then, they meet.
#[test]
fn halves_at_rest_of_which_one_is_older() {
    for (halves, source) in [
        (Halves::NotInUse, Source::Lives),
        (Halves::Synchronising, Source::Lives),
        (Halves::Apart, Source::GivenUp),
        (Halves::NotInUse, Source::GivenUp),
        (Halves::Synchronising, Source::GivenUp),
    ] {
        let scene = scene(DiskTemplate::Drbd, false, halves, source);
        let result = fail_over(&scene, false, &quiet);
        let _case = Case(format!("{halves:?}, {source:?}, {result:?}"));
        check(&scene, false, halves, source, Done(MEANWHILE), result);
    }
}

// --- what goes wrong meanwhile -----------------------------------------------------------------------------------------

/// Sources from which there is a failover.
const LEFT: [Source; 2] = [Source::Lives, Source::GivenUp];

/// Every case in which something goes wrong.
fn for_each_case(run: impl Fn(&str, DiskTemplate, bool, Source)) {
    for template in TEMPLATES {
        for in_use in [true, false] {
            for source in LEFT {
                run(
                    &format!("{template}, in use: {in_use}, {source:?}"),
                    template,
                    in_use,
                    source,
                );
            }
        }
    }
}

/// After something went wrong, and was mended: what was begun is ended, and what was asked for is done, if it is not.
fn go_on(scene: &Scene, in_use: bool, source: Source) {
    scene.assert_open_on_one_node();
    bury(&scene.store);
    for record in scene.store.operations(Filter::Unfinished).unwrap() {
        now(scene.engine(&quiet).resume(&record)).unwrap();
    }
    scene.assert_open_on_one_node();
    if scene.subject().node.name == SOURCE {
        fail_over(scene, false, &quiet).unwrap();
    }
    assert_eq!(scene.subject().instance.disks_active, in_use);
    scene.assert_open_on_one_node();
    source.mend(scene);
    now(activate(&scene.engine(&quiet), WEB)).unwrap();
    scene.assert_settled(TARGET, BEFORE);
    scene.assert_in_sync();
}

#[test]
fn a_call_that_fails() {
    for_each_case(|case, template, in_use, source| {
        for extent in [Extent::None, Extent::Half, Extent::Whole] {
            for call in 0.. {
                let scene = scene(template, in_use, Halves::Alike, source);
                let then = Then::Fail;
                scene.cluster.inject(Some(Fault { call, extent, then }));
                let result = fail_over(&scene, false, &quiet);
                let asked = scene.cluster.calls_by_node();
                scene.cluster.inject(None);
                let _case = Case(format!(
                    "{case}, {extent:?} of call {call} of {asked:#?}, {result:?}"
                ));
                if asked.len() <= call {
                    result.unwrap();
                    break;
                }
                // Only what the volumes are told can be done without.
                match &result {
                    Ok(_) => assert!(asked[call].1.starts_with("set info"), "nobody noticed"),
                    Err(_) => assert_eq!(scene.subject().node.name, SOURCE),
                }
                assert_eq!(scene.subject().instance.disks_active, in_use);
                go_on(&scene, in_use, source);
            }
        }
    });
}

#[test]
fn a_manager_that_dies() {
    for_each_case(|case, template, in_use, source| {
        for extent in [Extent::None, Extent::Half, Extent::Whole] {
            for call in 0.. {
                let scene = scene(template, in_use, Halves::Alike, source);
                let then = Then::Crash;
                scene.cluster.inject(Some(Fault { call, extent, then }));
                let result = catch_crash(|| fail_over(&scene, false, &quiet));
                let asked = scene.cluster.calls_by_node();
                scene.cluster.inject(None);
                let _case = Case(format!("{case}, {extent:?} of call {call} of {asked:#?}"));
                if let Some(result) = result {
                    result.unwrap();
                    break;
                }
                go_on(&scene, in_use, source);
            }
        }
    });
}

/// Before each step, and before each undo.
#[test]
fn a_target_that_loses_its_power() {
    for_each_case(|case, template, in_use, source| {
        for event in 0.. {
            let scene = scene(template, in_use, Halves::Alike, source);
            let counted = AtomicUsize::new(0);
            let cut = |event_of: Event<'_>| {
                let acts = matches!(event_of, Event::Starting(_) | Event::Undoing(_));
                if acts && counted.fetch_add(1, Ordering::SeqCst) == event {
                    scene.kill(TARGET);
                }
            };
            let result = fail_over(&scene, false, &cut);
            let _case = Case(format!(
                "{case}, at event {event}, {result:?}, {:#?}",
                scene.cluster.calls_by_node()
            ));
            if counted.load(Ordering::SeqCst) <= event {
                break;
            }
            scene.boot(TARGET);
            // What is in use again on the source needs its other half, which was started anew.
            for record in scene.store.operations(Filter::Unfinished).unwrap() {
                now(scene.engine(&quiet).resume(&record)).unwrap();
            }
            if in_use && source == Source::Lives && NEEDS_SECONDARY.contains(template) {
                now(activate(&scene.engine(&quiet), WEB)).unwrap();
            }
            go_on_ignoring(&scene, in_use, source);
        }
    });
}

/// As [`go_on`], but a half that was started anew, and whose like is given up, is believed.
fn go_on_ignoring(scene: &Scene, in_use: bool, source: Source) {
    if source == Source::GivenUp && scene.subject().node.name == SOURCE {
        fail_over(scene, true, &quiet).unwrap();
    }
    go_on(scene, in_use, source);
}
