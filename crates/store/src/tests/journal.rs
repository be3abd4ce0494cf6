//! Operations: their steps, locks and owners.

use gnt_config::{Instance, Migration};
use proptest::prelude::*;
use serde_json::json;

use crate::tests::objects::{ext, instance, store};
use crate::{Change, Filter, HISTORY, Outcome, Owner, PlannedStep, State, StepState, Store, StoreError};

/// A process that is no more: its id is above all that Linux gives.
fn dead() -> Owner {
    Owner {
        pid: (1 << 22) + 1,
        command: "gnt-disk add inst1".into(),
        ..Owner::current()
    }
}

fn begin(store: &Store, owner: &Owner) -> String {
    let locks = ["node/b".into(), "instance/inst1".into(), "node/b".into()];
    store.begin("add", "inst1", &locks, owner).unwrap()
}

fn steps(count: usize) -> Vec<PlannedStep> {
    let step = |n| PlannedStep {
        name: format!("step {n}"),
        data: json!({"n": n, "secret": "sesame"}),
    };
    (0..count).map(step).collect()
}

/// A running operation of this process, with `count` steps.
fn running(store: &Store, count: usize) -> String {
    let operation = begin(store, &Owner::current());
    store.plan(&operation, &steps(count), &[]).unwrap();
    operation
}

fn is_free(store: &Store) -> bool {
    match store.begin("probe", "inst1", &["instance/inst1".into()], &Owner::current()) {
        Ok(probe) => {
            store.finish(&probe, &Outcome::Done).unwrap();
            true
        }
        Err(_) => false,
    }
}

/// Takes a lock as a plan does.
fn share(store: &Store, owner: &Owner, lock: &str) -> Result<String, StoreError> {
    let operation = store.begin("grow", "inst2", &[], owner)?;
    let shared = store.plan(&operation, &steps(1), &[lock.to_owned()]);
    if shared.is_err() {
        assert_eq!(store.operation(&operation)?.state, State::Planning);
        assert_eq!(store.operation(&operation)?.steps, []);
        store.finish(&operation, &Outcome::Undone)?;
    }
    shared.map(|()| operation)
}

fn alone(store: &Store, lock: &str) -> Result<String, StoreError> {
    store.begin("remove", "b", &[lock.to_owned()], &Owner::current())
}

fn end(store: &Store, operation: &str) {
    store
        .finish(operation, &Outcome::Failed("given up".into()))
        .unwrap();
}

#[test]
fn a_lock_is_held_by_one_operation_or_by_several_that_share_it() {
    let store = store();
    let first = share(&store, &Owner::current(), "node/b").unwrap();
    let second = share(&store, &Owner::current(), "node/b").unwrap();
    assert!(matches!(alone(&store, "node/b"), Err(StoreError::Locked { .. })));
    end(&store, &first);
    match alone(&store, "node/b") {
        Err(StoreError::Locked { lock, holder }) => {
            assert_eq!((lock.as_str(), &holder.operation), ("node/b", &second));
        }
        other => panic!("{other:?}"),
    }
    end(&store, &second);

    let remover = alone(&store, "node/b").unwrap();
    match share(&store, &Owner::current(), "node/b") {
        Err(StoreError::Locked { holder, .. }) => assert_eq!(holder.operation, remover),
        other => panic!("{other:?}"),
    }
    share(&store, &Owner::current(), "node/c").unwrap();
    // What it has for itself it has still when its steps touch it.
    store.plan(&remover, &steps(1), &["node/b".into()]).unwrap();
    assert!(share(&store, &Owner::current(), "node/b").is_err());
    end(&store, &remover);
    share(&store, &Owner::current(), "node/b").unwrap();
    store.check().unwrap();
}

#[test]
fn of_those_that_share_a_lock_the_running_ones_are_told_first() {
    let store = store();
    let left = share(&store, &dead(), "node/b").unwrap();
    let running = share(&store, &Owner::current(), "node/b").unwrap();
    match alone(&store, "node/b") {
        Err(StoreError::Locked { holder, .. }) => assert_eq!(holder.operation, running),
        other => panic!("{other:?}"),
    }
    end(&store, &running);
    match alone(&store, "node/b") {
        Err(StoreError::Interrupted { operation, .. }) => assert_eq!(operation.operation, left),
        other => panic!("{other:?}"),
    }
}

#[test]
fn how_far_a_step_came_is_known_to_whoever_goes_on_with_it() {
    let store = Store::in_memory().unwrap();
    let id = store.begin("convert", "inst1", &[], &Owner::current()).unwrap();
    let step = |name: &str| PlannedStep {
        name: name.into(),
        data: serde_json::json!({}),
    };
    store.plan(&id, &[step("copy"), step("record")], &[]).unwrap();
    let progress = || -> Vec<_> {
        let steps = store.operation(&id).unwrap().steps;
        steps.into_iter().map(|step| step.progress).collect()
    };
    assert_eq!(progress(), [None, None]);
    store.step_progress(&id, 0, &7.into()).unwrap();
    store.step_progress(&id, 0, &8.into()).unwrap();
    assert_eq!(progress(), [Some(8.into()), None]);
    let unknown = store.step_progress(&id, 2, &1.into());
    assert!(
        matches!(unknown, Err(StoreError::WrongStep { step: 2, .. })),
        "{unknown:?}"
    );
    store.start_undo(&id, "no space").unwrap();
    let undoing = store.step_progress(&id, 0, &9.into());
    assert!(
        matches!(undoing, Err(StoreError::WrongState { .. })),
        "{undoing:?}"
    );
}

#[test]
fn an_operation_runs_to_its_end() {
    let store = store();
    let operation = begin(&store, &Owner::current());
    assert_eq!(store.operation(&operation).unwrap().state, State::Planning);
    store.plan(&operation, &steps(2), &[]).unwrap();
    store
        .step_done(&operation, 0, &[Change::Disk(ext("d0", "v0"))])
        .unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!(
        (record.state, record.next_step(), record.interrupted),
        (State::Running, 1, false)
    );
    assert_eq!((record.kind.as_str(), record.instance.as_str()), ("add", "inst1"));
    assert_eq!(record.steps[0].state, StepState::Done);
    assert_eq!(record.steps[1].data, steps(2)[1].data);
    assert!(!format!("{record:?} {:?}", steps(1)).contains("sesame"));
    assert!(!is_free(&store));
    store
        .step_done(&operation, 1, &[Change::Instance(instance("inst1", &["d0"]))])
        .unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!((record.state, record.next_step()), (State::Done, 2));
    assert!(record.finished.unwrap() >= record.started);
    assert!(is_free(&store));
    assert!(store.operations(Filter::Unfinished).unwrap().is_empty());
    // To end it once more as it ended is no error.
    store.finish(&operation, &Outcome::Done).unwrap();
    let error = store.finish(&operation, &Outcome::Undone).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("operation {operation} is done: cannot end it so")
    );
}

#[test]
fn an_operation_is_unwound_from_its_last_step() {
    let store = store();
    let operation = running(&store, 3);
    store
        .step_done(&operation, 0, &[Change::Disk(ext("d0", "v0"))])
        .unwrap();
    store.step_done(&operation, 1, &[]).unwrap();
    store.start_undo(&operation, "step 2 went wrong").unwrap();
    // Step 2 was begun, and is undone too.
    store.step_undone(&operation, 2, &[]).unwrap();
    assert!(matches!(
        store.step_undone(&operation, 0, &[]),
        Err(StoreError::WrongStep { step: 0, .. })
    ));
    assert!(matches!(
        store.step_undone(&operation, 3, &[]),
        Err(StoreError::WrongStep { step: 3, .. })
    ));
    store.step_undone(&operation, 1, &[]).unwrap();
    store.start_undo(&operation, "another reason").unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!((record.state, record.next_step()), (State::Undoing, 1));
    assert_eq!(record.reason.as_deref(), Some("step 2 went wrong"));
    assert!(matches!(
        store.step_done(&operation, 1, &[]),
        Err(StoreError::WrongState { .. })
    ));
    store
        .step_undone(&operation, 0, &[Change::RemoveDisk("d0".into())])
        .unwrap();
    assert_eq!(store.operation(&operation).unwrap().state, State::Undone);
    assert!(store.disks().unwrap().is_empty());
    assert!(is_free(&store));
}

#[test]
fn what_may_be_left_of_a_step_is_kept() {
    let store = store();
    let operation = running(&store, 2);
    store.step_done(&operation, 0, &[]).unwrap();
    store.start_undo(&operation, "no space").unwrap();
    store.step_left(&operation, 1, "volume v1 may be left").unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!((record.state, record.next_step()), (State::Undoing, 1));
    assert_eq!(record.steps[1].state, StepState::Left);
    store.step_undone(&operation, 0, &[]).unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!(
        (record.state, record.message.as_deref()),
        (State::Undone, Some("volume v1 may be left"))
    );
    assert!(is_free(&store));
}

#[test]
fn what_turns_out_to_be_done_while_unwinding_is_recorded_with_its_changes() {
    let store = store();
    let operation = running(&store, 3);
    let disk = [Change::Disk(ext("d0", "v0"))];
    let end = |index| store.finish_partly(&operation, index, &disk, "it stays");
    assert!(matches!(end(0), Err(StoreError::WrongState { .. })));
    store.step_done(&operation, 0, &[]).unwrap();
    store.start_undo(&operation, "the provider is gone").unwrap();
    assert!(matches!(end(2), Err(StoreError::WrongStep { step: 2, .. })));
    end(1).unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!((record.state, record.next_step()), (State::Failed, 2));
    assert_eq!(record.message.as_deref(), Some("it stays"));
    assert_eq!(store.disks().unwrap().len(), 1);
    assert!(is_free(&store));
}

#[test]
fn steps_go_one_after_the_other_and_with_their_changes() {
    let store = store();
    let operation = running(&store, 2);
    assert!(matches!(
        store.step_done(&operation, 1, &[]),
        Err(StoreError::WrongStep { step: 1, .. })
    ));
    assert!(matches!(
        store.step_done(&operation, 2, &[]),
        Err(StoreError::WrongStep { step: 2, .. })
    ));
    // What cannot be committed is not done either.
    let refused = store.step_done(&operation, 0, &[Change::Instance(instance("inst1", &["d9"]))]);
    assert!(matches!(refused, Err(StoreError::UnknownDisk { .. })));
    assert_eq!(store.operation(&operation).unwrap().next_step(), 0);
    for _twice in 0..2 {
        store
            .step_done(&operation, 0, &[Change::Disk(ext("d0", "v0"))])
            .unwrap();
    }
    let error = store.plan(&operation, &steps(1), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("operation {operation} is running: cannot plan it")
    );
    assert!(
        store.finish(&operation, &Outcome::Done).is_err(),
        "step 1 is not done"
    );
    assert!(
        store.finish(&operation, &Outcome::Undone).is_err(),
        "step 0 is done"
    );
}

#[test]
fn an_operation_may_have_nothing_to_do() {
    let store = store();
    let operation = running(&store, 0);
    assert_eq!(store.operation(&operation).unwrap().state, State::Done);
    let operation = begin(&store, &Owner::current());
    store.finish(&operation, &Outcome::Undone).unwrap();
    assert!(is_free(&store));
}

#[test]
fn what_cannot_be_undone_is_kept() {
    let store = store();
    let operation = running(&store, 1);
    store.step_done(&operation, 0, &[]).unwrap_or_default();
    let operation = {
        assert_eq!(store.operation(&operation).unwrap().state, State::Done);
        running(&store, 2)
    };
    store.step_done(&operation, 0, &[]).unwrap();
    store.start_undo(&operation, "no space").unwrap();
    store.fail(&operation, "lvremove: device is busy").unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!(record.state, State::Stuck);
    assert_eq!(record.reason.as_deref(), Some("no space"));
    assert_eq!(record.message.as_deref(), Some("lvremove: device is busy"));
    assert!(!is_free(&store));
    assert_eq!(store.operations(Filter::Unfinished).unwrap().len(), 1);
    // Another try, and then it is given up.
    store.start_undo(&operation, "again").unwrap();
    assert_eq!(store.operation(&operation).unwrap().message, None);
    store.fail(&operation, "still busy").unwrap();
    store
        .finish(&operation, &Outcome::Failed("volume x is left".into()))
        .unwrap();
    let record = store.operation(&operation).unwrap();
    assert_eq!(
        (record.state, record.message.as_deref()),
        (State::Failed, Some("volume x is left"))
    );
    assert!(is_free(&store));
    for refused in [
        store.fail(&operation, ""),
        store.start_undo(&operation, ""),
        store.abandon(&operation),
    ] {
        assert!(matches!(refused, Err(StoreError::WrongState { .. })));
    }
}

#[test]
fn a_lock_names_who_holds_it() {
    let store = store();
    let operation = begin(&store, &Owner::current());
    let wanted = ["instance/inst0".into(), "node/b".into()];
    let error = store
        .begin("grow", "inst0", &wanted, &Owner::current())
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with(&format!(
            "node/b is locked by operation {operation} (add inst1), process "
        )),
        "{message}"
    );
    assert!(error.hint().unwrap().contains(&operation));
    match error {
        StoreError::Locked { lock, holder } => {
            assert_eq!((lock.as_str(), holder.pid), ("node/b", std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    // All or none: the other one is free, and no operation is left.
    store
        .begin("grow", "inst0", &wanted[..1], &Owner::current())
        .unwrap();
    assert_eq!(store.operations(Filter::All).unwrap().len(), 2);
}

#[test]
fn an_interrupted_operation_is_adopted_once() {
    let store = store();
    let operation = begin(&store, &dead());
    store.plan(&operation, &steps(2), &[]).unwrap();
    assert!(store.operation(&operation).unwrap().interrupted);
    let locks = ["instance/inst1".into()];
    let error = store
        .begin("grow", "inst1", &locks, &Owner::current())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "instance/inst1 is locked by operation {operation} (add inst1), which was interrupted while running"
        )
    );
    assert!(error.hint().unwrap().contains("operation resume"));
    let record = store.adopt(&operation, &Owner::current()).unwrap();
    assert_eq!((record.steps.len(), record.interrupted), (2, false));
    assert_eq!(record.owner, Owner::current());
    let error = store.adopt(&operation, &Owner::current()).unwrap_err();
    assert!(matches!(error, StoreError::StillRunning { .. }), "{error:?}");
    assert!(matches!(
        store.begin("grow", "inst1", &locks, &dead()),
        Err(StoreError::Locked { .. })
    ));
    // Its owner lives, and gives it up.
    store.abandon(&operation).unwrap();
    assert!(store.operation(&operation).unwrap().interrupted);
    assert!(matches!(
        store.begin("grow", "inst1", &locks, &dead()),
        Err(StoreError::Interrupted { .. })
    ));
    store.adopt(&operation, &Owner::current()).unwrap();
    store.start_undo(&operation, "aborted").unwrap();
    store.finish(&operation, &Outcome::Undone).unwrap();
    let error = store.adopt(&operation, &Owner::current()).unwrap_err();
    assert!(matches!(error, StoreError::WrongState { .. }), "{error:?}");
    assert!(!store.operation(&operation).unwrap().interrupted);
}

#[test]
fn an_operation_is_found_by_the_beginning_of_its_id() {
    let store = store();
    let ids: Vec<_> = (0..17)
        .map(|_| store.begin("add", "i", &[], &Owner::current()).unwrap())
        .collect();
    assert_eq!(store.operation(&ids[3][..30]).unwrap().id, ids[3]);
    // Of 17 ids two begin with the same hexadecimal digit.
    let ambiguous = ids
        .iter()
        .map(|id| store.operation(&id[..1]))
        .find_map(Result::err)
        .unwrap();
    assert!(matches!(&ambiguous, StoreError::AmbiguousOperation { candidates, .. } if candidates.len() > 1));
    for nothing in ["", "%", "x"] {
        assert!(
            matches!(store.operation(nothing), Err(StoreError::UnknownOperation(_))),
            "{nothing}"
        );
    }
    for result in [
        store.step_done("x", 0, &[]),
        store.plan("x", &[], &[]),
        store.finish("x", &Outcome::Done),
    ] {
        assert!(matches!(result, Err(StoreError::UnknownOperation(_))));
    }
}

#[test]
fn only_the_last_of_history_are_kept() {
    let store = store();
    let stuck = running(&store, 1);
    store.fail(&stuck, "x").unwrap();
    let ids: Vec<_> = (0..HISTORY + 5)
        .map(|_| {
            let operation = store.begin("list", "", &[], &Owner::current()).unwrap();
            store.plan(&operation, &[], &[]).unwrap();
            operation
        })
        .collect();
    let kept: Vec<_> = store
        .operations(Filter::All)
        .unwrap()
        .into_iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(kept.len(), HISTORY + 1);
    assert_eq!(kept[0], stuck);
    assert_eq!(kept[1..], ids[5..]);
}

#[test]
fn what_began_a_migration_is_kept_until_that_ends() {
    let store = store();
    let finished = |instance: &str| {
        let operation = store.begin("any", instance, &[], &Owner::current()).unwrap();
        store.plan(&operation, &[], &[]).unwrap();
        operation
    };
    let began = finished("web");
    let migrating = |migration| {
        let web = Instance {
            migration,
            ..instance("web", &[])
        };
        store.commit(&[Change::Instance(web)]).unwrap();
    };
    migrating(Some(Migration {
        source: "node-a".to_owned(),
        target: "node-b".to_owned(),
        operation: Some(began.clone()),
    }));
    let others: Vec<_> = (0..=HISTORY).map(|_| finished("web")).collect();
    assert!(store.operation(&began).is_ok());
    assert!(store.operation(&others[0]).is_err());
    migrating(None);
    finished("web");
    assert!(store.operation(&began).is_err());
}

#[derive(Debug, Clone)]
enum Call {
    Plan(usize),
    Done(usize),
    StartUndo,
    Undone(usize),
    Fail,
    Finish(Outcome),
    Abandon,
    Adopt,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        1 => (0..4usize).prop_map(Call::Plan),
        8 => (0..4usize).prop_map(Call::Done),
        1 => Just(Call::StartUndo),
        8 => (0..4usize).prop_map(Call::Undone),
        1 => Just(Call::Fail),
        1 => Just(Call::Finish(Outcome::Done)),
        1 => Just(Call::Finish(Outcome::Undone)),
        1 => Just(Call::Finish(Outcome::Failed("given up".into()))),
        1 => Just(Call::Abandon),
        1 => Just(Call::Adopt),
    ]
}

/// What an operation should be like.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    state: State,
    steps: Vec<StepState>,
    abandoned: bool,
}

impl Expected {
    /// After the call, or none if that is to be refused.
    fn after(&self, call: &Call) -> Option<Self> {
        let mut after = self.clone();
        let is_done = |index: usize| self.steps.get(index) == Some(&StepState::Done);
        let unfinished = !self.state.is_finished();
        let allowed = match call {
            Call::Plan(count) => {
                after.steps = vec![StepState::Pending; *count];
                after.state = if *count == 0 { State::Done } else { State::Running };
                self.state == State::Planning
            }
            Call::Done(index) => {
                *after.steps.get_mut(*index)? = StepState::Done;
                if index + 1 == self.steps.len() {
                    after.state = State::Done;
                }
                self.state == State::Running && (0..*index).all(is_done)
            }
            Call::StartUndo => {
                after.state = State::Undoing;
                unfinished
            }
            Call::Undone(index) => {
                *after.steps.get_mut(*index)? = StepState::Undone;
                if *index == 0 {
                    after.state = State::Undone;
                }
                self.state == State::Undoing && !(index + 1..self.steps.len()).any(is_done)
            }
            Call::Fail => {
                after.state = State::Stuck;
                unfinished
            }
            Call::Finish(outcome) => {
                after.state = outcome.state();
                let count = (0..self.steps.len()).filter(|index| is_done(*index)).count();
                let is_so = match outcome {
                    Outcome::Done => count == self.steps.len(),
                    Outcome::Undone => count == 0,
                    Outcome::Failed(_) => true,
                };
                (unfinished && is_so) || self.state == outcome.state()
            }
            Call::Abandon => {
                after.abandoned = true;
                unfinished
            }
            Call::Adopt => {
                after.abandoned = false;
                unfinished && self.abandoned
            }
        };
        allowed.then_some(after)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_what_makes_sense_is_journalled(count in 1..4usize, calls in prop::collection::vec(call(), 1..30)) {
        let store = store();
        let me = Owner::current();
        let id = begin(&store, &me);
        let mut expected = Expected { state: State::Planning, steps: vec![], abandoned: false };
        for call in [Call::Plan(count)].into_iter().chain(calls) {
            let result = match &call {
                Call::Plan(count) => store.plan(&id, &steps(*count), &[]),
                Call::Done(index) => store.step_done(&id, *index, &[]),
                Call::StartUndo => store.start_undo(&id, "it went wrong"),
                Call::Undone(index) => store.step_undone(&id, *index, &[]),
                Call::Fail => store.fail(&id, "it is stuck"),
                Call::Finish(outcome) => store.finish(&id, outcome),
                Call::Abandon => store.abandon(&id),
                Call::Adopt => store.adopt(&id, &me).map(drop),
            };
            let after = expected.after(&call);
            prop_assert_eq!(result.is_ok(), after.is_some(), "{:?} on {:?}: {:?}", call, expected, result);
            expected = after.unwrap_or(expected);
            let record = store.operation(&id).unwrap();
            prop_assert_eq!(record.state, expected.state);
            prop_assert_eq!(record.interrupted, expected.abandoned && !expected.state.is_finished());
            prop_assert_eq!(record.finished.is_some(), expected.state.is_finished());
            prop_assert_eq!(record.steps.into_iter().map(|step| step.state).collect::<Vec<_>>(), expected.steps.clone());
            prop_assert_eq!(is_free(&store), expected.state.is_finished());
        }
    }
}

#[test]
fn what_was_not_planned_is_forgotten_with_all_that_it_had() {
    let store = store();
    let operation = begin(&store, &Owner::current());
    store.withdraw(&operation).unwrap();
    assert_eq!(store.operations(Filter::All).unwrap(), []);
    assert!(is_free(&store));
    let operation = running(&store, 1);
    let error = store.withdraw(&operation).unwrap_err();
    assert!(matches!(error, StoreError::WrongState { .. }), "{error}");
    assert_eq!(store.operation(&operation).unwrap().state, State::Running);
}
