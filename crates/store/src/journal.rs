//! The operation journal: what is under way, how far it has come, and who is at it.
//!
//! ```text
//!            plan              last step_done
//! Planning ────────▶ Running ─────────────────▶ Done
//!     │                 │ start_undo
//!     │                 ▼        step_undone(0)
//!     └───────────▶ Undoing ──────────────────▶ Undone
//!                       │ ▲
//!                  fail ▼ │ start_undo
//!                     Stuck ── finish ────────▶ Failed
//! ```
//!
//! An operation holds its locks and reservations until one of the states on the right. Its process may die at any point:
//! the operation is then *interrupted*, and stays as it is until another process [adopts](Store::adopt) it.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;
use uuid::Uuid;

use crate::change::{self, Change};
use crate::error::{Result, StoreError};
use crate::lock::{self, Mode};
use crate::operation::{Filter, OperationRecord, Outcome, PlannedStep, State, StepState};
use crate::owner::Owner;
use crate::read::to_json;
use crate::store::{Durability, Store, now};

/// How many finished operations are kept, besides those that began a migration which has no end yet.
pub const HISTORY: usize = 100;

impl Store {
    /// Begins an operation: takes `locks` (names such as `instance/NAME`) for it alone, all or none, and returns the operation's id.
    ///
    /// A lock that is held is [`StoreError::Locked`] if its operation is being run, [`StoreError::Interrupted`] if it
    /// has to be healed first.
    pub fn begin(&self, kind: &str, instance: &str, locks: &[String], owner: &Owner) -> Result<String> {
        let id = Uuid::new_v4().to_string();
        let owner = to_json("owner of operation", &id, owner)?;
        // Nothing is lost when a power cut undoes this: it would have ended the operation too.
        self.write(Durability::Process, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO operation (id, kind, instance, state, started, owner) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![id, kind, instance, State::Planning, now(), owner])?;
            lock::acquire(transaction, &id, locks, Mode::Exclusive)
        })?;
        Ok(id)
    }

    /// Journals what the operation is about to do, and takes `locks`, all or none, which it shares with others that do so. From here on it is
    /// running, and its first step may be begun. A plan without steps is done.
    ///
    /// Nothing is journalled if an operation has one of the locks for itself: the errors are those of [`begin`](Self::begin).
    pub fn plan(&self, operation: &str, steps: &[PlannedStep], locks: &[String]) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            expect(transaction, operation, "plan it", |state| {
                state == State::Planning
            })?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO step (operation, position, name, state, data) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for (position, step) in steps.iter().enumerate() {
                let data = to_json("step of operation", operation, &step.data)?;
                insert.execute(params![
                    operation,
                    position as i64,
                    step.name,
                    StepState::Pending,
                    data
                ])?;
            }
            if steps.is_empty() {
                return close(transaction, operation, &Outcome::Done);
            }
            lock::acquire(transaction, operation, locks, Mode::Shared)?;
            set_state(transaction, operation, State::Running)
        })
    }

    /// Forgets an operation that was never [planned](Self::plan): it was refused, or only rehearsed, and is no history.
    pub fn withdraw(&self, operation: &str) -> Result<()> {
        self.write(Durability::Process, |transaction| {
            expect(transaction, operation, "withdraw it", |state| {
                state == State::Planning
            })?;
            transaction
                .prepare_cached("DELETE FROM operation WHERE id = ?1")?
                .execute([operation])?;
            Ok(())
        })
    }

    /// Records that step `index` (from 0) was done, and makes `changes`, in one transaction. With its last step the
    /// operation is done, and [finished](Self::finish). Saying so twice does no harm as long as it runs.
    pub fn step_done(&self, operation: &str, index: usize, changes: &[Change]) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            expect(transaction, operation, "do a step", |state| {
                state == State::Running
            })?;
            let neighbours = Neighbours::of(transaction, operation, index)?;
            if neighbours.before.is_some_and(|state| state != StepState::Done) {
                return Err(wrong_step(operation, index));
            }
            set_step(transaction, operation, index, StepState::Done)?;
            change::apply(transaction, changes)?;
            match neighbours.after {
                Some(_) => Ok(()),
                None => close(transaction, operation, &Outcome::Done),
            }
        })
    }

    /// Records how far step `index`, which is being done, has come: whoever goes on with it begins there. A power cut may take it back, so what it
    /// tells must be true for good, and what is done twice must do no harm.
    pub fn step_progress(&self, operation: &str, index: usize, progress: &Value) -> Result<()> {
        self.write(Durability::Process, |transaction| {
            expect(transaction, operation, "go on with a step", |state| {
                state == State::Running
            })?;
            let progress = to_json("progress of operation", operation, progress)?;
            let changed = transaction
                .prepare_cached("UPDATE step SET progress = ?3 WHERE operation = ?1 AND position = ?2")?
                .execute(params![operation, index as i64, progress])?;
            match changed {
                0 => Err(wrong_step(operation, index)),
                _ => Ok(()),
            }
        })
    }

    /// Records that step `index` was undone, and makes `changes`, in one transaction. Steps are undone from the last to
    /// the first; with the first the operation is undone, and [finished](Self::finish).
    pub fn step_undone(&self, operation: &str, index: usize, changes: &[Change]) -> Result<()> {
        self.unwind_step(operation, index, StepState::Undone, |transaction| {
            change::apply(transaction, changes)
        })
    }

    /// Records that step `index` is passed over while the operation is unwound: something may be left of it, which `message` tells. As
    /// [`step_undone`](Self::step_undone) otherwise.
    pub fn step_left(&self, operation: &str, index: usize, message: &str) -> Result<()> {
        self.unwind_step(operation, index, StepState::Left, |transaction| {
            transaction
                .prepare_cached("UPDATE operation SET message = ?2 WHERE id = ?1")?
                .execute(params![operation, message])?;
            Ok(())
        })
    }

    fn unwind_step(
        &self,
        operation: &str,
        index: usize,
        state: StepState,
        and: impl FnOnce(&Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            expect(transaction, operation, "undo a step", |state| {
                state == State::Undoing
            })?;
            let neighbours = Neighbours::of(transaction, operation, index)?;
            if neighbours.after == Some(StepState::Done) {
                return Err(wrong_step(operation, index));
            }
            set_step(transaction, operation, index, state)?;
            and(transaction)?;
            match neighbours.before {
                Some(_) => Ok(()),
                None => close(transaction, operation, &Outcome::Undone),
            }
        })
    }

    /// From here on the operation is unwound, for the `reason` given; a reason given before is kept. Also another try
    /// for one that is stuck.
    pub fn start_undo(&self, operation: &str, reason: &str) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            expect(transaction, operation, "unwind it", |state| !state.is_finished())?;
            transaction
                .prepare_cached(
                    "UPDATE operation SET state = ?2, reason = coalesce(reason, ?3), message = NULL WHERE id = ?1",
                )?
                .execute(params![operation, State::Undoing, reason])?;
            Ok(())
        })
    }

    /// Keeps the operation as stuck: something, which `message` tells, could not be undone. It keeps its locks.
    pub fn fail(&self, operation: &str, message: &str) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            expect(transaction, operation, "keep it as stuck", |state| {
                !state.is_finished()
            })?;
            transaction
                .prepare_cached("UPDATE operation SET state = ?2, message = ?3 WHERE id = ?1")?
                .execute(params![operation, State::Stuck, message])?;
            Ok(())
        })
    }

    /// Ends the operation: its locks and reservations are released, and it becomes history, of which the last
    /// [`HISTORY`] are kept. It must have come to what `outcome` says; one that has ended so already stays as it is.
    pub fn finish(&self, operation: &str, outcome: &Outcome) -> Result<()> {
        // Nothing is lost when a power cut undoes this: the steps tell the same, and whoever adopts it ends it again.
        self.write(Durability::Process, |transaction| {
            let is_so = |step: StepState| step == StepState::Done;
            let state = expect(transaction, operation, "end it so", |state| {
                !state.is_finished() || state == outcome.state()
            })?;
            if state.is_finished() {
                return Ok(());
            }
            let contradicted = match outcome {
                Outcome::Done => any_step(transaction, operation, |step| !is_so(step))?,
                Outcome::Undone => any_step(transaction, operation, is_so)?,
                Outcome::Failed(_) => false,
            };
            if contradicted {
                let action = "end it so before its steps have";
                return Err(wrong_state(operation, state, action));
            }
            close(transaction, operation, outcome)
        })
    }

    /// Ends an operation that is being unwound and cannot be further: step `index`, which was begun and has no undo, turned out to be
    /// done. In one transaction it is recorded as that, its `changes` are made, and the operation is given up with `message`.
    pub fn finish_partly(
        &self,
        operation: &str,
        index: usize,
        changes: &[Change],
        message: &str,
    ) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            expect(transaction, operation, "end it there", |state| {
                state == State::Undoing
            })?;
            let neighbours = Neighbours::of(transaction, operation, index)?;
            if neighbours.before.is_some_and(|state| state != StepState::Done) {
                return Err(wrong_step(operation, index));
            }
            set_step(transaction, operation, index, StepState::Done)?;
            change::apply(transaction, changes)?;
            close(transaction, operation, &Outcome::Failed(message.to_owned()))
        })
    }

    /// Takes over an operation that nobody runs. Of several processes that try, one succeeds; to the others it is
    /// [`StoreError::StillRunning`], as it is while its owner lives.
    pub fn adopt(&self, operation: &str, owner: &Owner) -> Result<OperationRecord> {
        let json = to_json("owner of operation", operation, owner)?;
        self.write(Durability::Process, |transaction| {
            let record = OperationRecord::load(transaction, operation)?;
            if record.state.is_finished() {
                let action = "resume or abort what has ended";
                return Err(wrong_state(operation, record.state, action));
            }
            if !record.interrupted {
                return Err(StoreError::StillRunning {
                    operation: record.id.clone(),
                    holder: Box::new(record.into()),
                });
            }
            transaction
                .prepare_cached("UPDATE operation SET owner = ?2, abandoned = 0 WHERE id = ?1")?
                .execute(params![operation, json])?;
            Ok(OperationRecord {
                owner: owner.clone(),
                interrupted: false,
                ..record
            })
        })
    }

    /// The operation is not run any more, although its owner may live: a task that was cancelled, a machine that is gone
    /// for good. It stays as it is and is interrupted.
    pub fn abandon(&self, operation: &str) -> Result<()> {
        self.write(Durability::Process, |transaction| {
            expect(transaction, operation, "abandon it", |state| !state.is_finished())?;
            transaction
                .prepare_cached("UPDATE operation SET abandoned = 1 WHERE id = ?1")?
                .execute([operation])?;
            Ok(())
        })
    }

    /// The operation whose id is or begins with `id`.
    pub fn operation(&self, id: &str) -> Result<OperationRecord> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT id FROM operation WHERE substr(id, 1, length(?1)) = ?1 ORDER BY seq",
            )?;
            let found: Vec<String> = select
                .query_map([id], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            match found.as_slice() {
                _ if id.is_empty() => Err(StoreError::UnknownOperation(id.to_owned())),
                [] => Err(StoreError::UnknownOperation(id.to_owned())),
                [only] => OperationRecord::load(connection, only),
                _ => Err(StoreError::AmbiguousOperation {
                    prefix: id.to_owned(),
                    candidates: found,
                }),
            }
        })
    }

    /// Operations, the oldest first.
    pub fn operations(&self, filter: Filter) -> Result<Vec<OperationRecord>> {
        self.read(|connection| OperationRecord::list(connection, filter))
    }
}

/// States of the steps beside one.
struct Neighbours {
    before: Option<StepState>,
    after: Option<StepState>,
}

impl Neighbours {
    /// The step itself must exist.
    fn of(transaction: &Transaction<'_>, operation: &str, index: usize) -> Result<Self> {
        let mut select =
            transaction.prepare_cached("SELECT state FROM step WHERE operation = ?1 AND position = ?2")?;
        let mut state = |position: Option<usize>| match position {
            None => Ok(None),
            Some(position) => select
                .query_row(params![operation, position as i64], |row| row.get(0))
                .optional(),
        };
        if state(Some(index))?.is_none() {
            return Err(wrong_step(operation, index));
        }
        Ok(Self {
            before: state(index.checked_sub(1))?,
            after: state(Some(index + 1))?,
        })
    }
}

fn wrong_step(operation: &str, step: usize) -> StoreError {
    let operation = operation.to_owned();
    StoreError::WrongStep { operation, step }
}

fn wrong_state(operation: &str, state: State, action: &'static str) -> StoreError {
    StoreError::WrongState {
        operation: operation.to_owned(),
        state,
        action,
    }
}

pub(crate) fn state(connection: &Connection, operation: &str) -> Result<State> {
    connection
        .prepare_cached("SELECT state FROM operation WHERE id = ?1")?
        .query_row([operation], |row| row.get(0))
        .optional()?
        .ok_or_else(|| StoreError::UnknownOperation(operation.to_owned()))
}

/// The operation's state, if it is one of those `allowed`.
pub(crate) fn expect(
    connection: &Connection,
    operation: &str,
    action: &'static str,
    allowed: impl FnOnce(State) -> bool,
) -> Result<State> {
    let state = state(connection, operation)?;
    if allowed(state) {
        Ok(state)
    } else {
        Err(wrong_state(operation, state, action))
    }
}

fn set_state(transaction: &Transaction<'_>, operation: &str, state: State) -> Result<()> {
    transaction
        .prepare_cached("UPDATE operation SET state = ?2 WHERE id = ?1")?
        .execute(params![operation, state])?;
    Ok(())
}

fn set_step(transaction: &Transaction<'_>, operation: &str, index: usize, state: StepState) -> Result<()> {
    transaction
        .prepare_cached("UPDATE step SET state = ?3 WHERE operation = ?1 AND position = ?2")?
        .execute(params![operation, index as i64, state])?;
    Ok(())
}

fn any_step(
    transaction: &Transaction<'_>,
    operation: &str,
    is_one: impl Fn(StepState) -> bool,
) -> Result<bool> {
    let mut select = transaction.prepare_cached("SELECT DISTINCT state FROM step WHERE operation = ?1")?;
    let states: Vec<StepState> = select
        .query_map([operation], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(states.into_iter().any(is_one))
}

fn close(transaction: &Transaction<'_>, operation: &str, outcome: &Outcome) -> Result<()> {
    let message = match outcome {
        Outcome::Failed(message) => Some(message),
        Outcome::Done | Outcome::Undone => None,
    };
    transaction
        .prepare_cached(
            "UPDATE operation SET state = ?2, finished = ?3, message = coalesce(?4, message) WHERE id = ?1",
        )?
        .execute(params![operation, outcome.state(), now(), message])?;
    for release in [
        "DELETE FROM lock WHERE operation = ?1",
        "DELETE FROM drbd_minor WHERE operation = ?1",
        "DELETE FROM port WHERE operation = ?1",
    ] {
        transaction.prepare_cached(release)?.execute([operation])?;
    }
    // As long as an instance is being migrated, the operation that began it tells who does it.
    transaction
        .prepare_cached(
            "DELETE FROM operation WHERE seq IN (SELECT seq FROM operation WHERE finished IS NOT NULL
             ORDER BY finished DESC, seq DESC LIMIT -1 OFFSET ?1)
             AND NOT EXISTS (SELECT 1 FROM instance WHERE name = operation.instance
             AND data ->> '$.\"gnt-disk:migration\".operation' = operation.id)",
        )?
        .execute([HISTORY as i64])?;
    Ok(())
}
