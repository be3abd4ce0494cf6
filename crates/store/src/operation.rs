//! Operations and their steps, as the journal has them.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};
use serde_json::Value;
use strum::{Display, EnumString, IntoStaticStr};

use crate::error::{Result, StoreError};
use crate::owner::Owner;
use crate::read::parse;

/// How far an operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// It has its locks; nothing was done yet.
    Planning,
    /// Its steps are being done.
    Running,
    /// Its steps are being undone, from the last to the first.
    Undoing,
    /// A step could not be undone. It keeps its locks, and waits for another try.
    Stuck,
    /// Every step was done.
    Done,
    /// Nothing of it is left.
    Undone,
    /// It was given up, and what it did is left as it is.
    Failed,
}

impl State {
    /// Whether it is over: no locks are held, nothing more will happen.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Undone | Self::Failed)
    }
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum StepState {
    /// It was not done, or it was begun and nobody knows how far it came.
    Pending,
    /// It was done.
    Done,
    /// It was undone.
    Undone,
    /// It was begun, and undoing it failed: something may be left of it.
    Left,
}

/// A step to be journalled.
#[derive(Clone, PartialEq)]
pub struct PlannedStep {
    /// What it does, for people.
    pub name: String,
    /// All that is needed to do and to undo it. May hold secrets.
    pub data: Value,
}

/// A step as the journal has it.
#[derive(Clone, PartialEq)]
pub struct StepRecord {
    /// What it does, for people.
    pub name: String,
    /// All that is needed to do and to undo it. May hold secrets.
    pub data: Value,
    /// What became of it.
    pub state: StepState,
    /// How far it came, if it takes long and told.
    pub progress: Option<Value>,
}

impl fmt::Debug for PlannedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedStep")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StepRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepRecord")
            .field("name", &self.name)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every step was done.
    Done,
    /// No step is done any more.
    Undone,
    /// Given up; what is left, and why.
    Failed(String),
}

impl Outcome {
    /// The state that an operation ends in.
    pub fn state(&self) -> State {
        match self {
            Self::Done => State::Done,
            Self::Undone => State::Undone,
            Self::Failed(_) => State::Failed,
        }
    }
}

/// Which operations to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Those that are not over.
    Unfinished,
    /// Those too that ended, as far as the history goes.
    All,
}

/// An operation as the journal has it.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationRecord {
    /// Its UUID.
    pub id: String,
    /// What it does: `add`, `grow`…
    pub kind: String,
    /// Name of the instance that it does it to.
    pub instance: String,
    /// How far it has come.
    pub state: State,
    /// Its steps, in the order in which they are done.
    pub steps: Vec<StepRecord>,
    /// When it began, in seconds since the epoch.
    pub started: f64,
    /// When it ended, in seconds since the epoch.
    pub finished: Option<f64>,
    /// The process that runs it, or did.
    pub owner: Owner,
    /// It is not over, and nobody runs it.
    pub interrupted: bool,
    /// Why it is, or was, unwound.
    pub reason: Option<String>,
    /// What could not be undone, or why it was given up.
    pub message: Option<String>,
}

impl OperationRecord {
    /// The first step that is not known to be done. While the operation is unwound, that step may have been begun: it is
    /// to be undone first, unless it is [`StepState::Undone`] or [`StepState::Left`] already, and then those before it.
    pub fn next_step(&self) -> usize {
        let is_done = |step: &StepRecord| step.state == StepState::Done;
        self.steps.iter().take_while(|step| is_done(step)).count()
    }

    /// Reads the operation `id` with its steps.
    pub(crate) fn load(connection: &Connection, id: &str) -> Result<Self> {
        Self::select(connection, "id = ?1", [id])?
            .pop()
            .ok_or_else(|| StoreError::UnknownOperation(id.to_owned()))
    }

    /// Reads operations, the oldest first.
    pub(crate) fn list(connection: &Connection, filter: Filter) -> Result<Vec<Self>> {
        let condition = match filter {
            Filter::Unfinished => "finished IS NULL",
            Filter::All => "TRUE",
        };
        Self::select(connection, condition, [])
    }

    fn select(connection: &Connection, condition: &str, params: impl rusqlite::Params) -> Result<Vec<Self>> {
        let mut select = connection.prepare_cached(&format!(
            "SELECT id, kind, instance, state, started, finished, owner, abandoned, reason, message
             FROM operation WHERE {condition} ORDER BY seq"
        ))?;
        let mut rows = select.query(params)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(Self::from_row(connection, row)?);
        }
        Ok(records)
    }

    fn from_row(connection: &Connection, row: &Row<'_>) -> Result<Self> {
        let id: String = row.get("id")?;
        let state: State = row.get("state")?;
        let abandoned: bool = row.get("abandoned")?;
        let owner: String = row.get("owner")?;
        let owner: Owner = parse("owner of operation", &id, &owner)?;
        Ok(Self {
            kind: row.get("kind")?,
            instance: row.get("instance")?,
            state,
            steps: steps(connection, &id)?,
            started: row.get("started")?,
            finished: row.get("finished")?,
            interrupted: !state.is_finished() && (abandoned || !owner.is_alive()),
            owner,
            reason: row.get("reason")?,
            message: row.get("message")?,
            id,
        })
    }
}

fn steps(connection: &Connection, operation: &str) -> Result<Vec<StepRecord>> {
    let mut select = connection.prepare_cached(
        "SELECT name, state, data, progress FROM step WHERE operation = ?1 ORDER BY position",
    )?;
    let mut rows = select.query([operation])?;
    let mut steps = Vec::new();
    while let Some(row) = rows.next()? {
        let data: String = row.get("data")?;
        let progress: Option<String> = row.get("progress")?;
        let progress = progress.map(|progress| parse("progress of operation", operation, &progress));
        steps.push(StepRecord {
            progress: progress.transpose()?,
            name: row.get("name")?,
            state: row.get("state")?,
            data: parse("step of operation", operation, &data)?,
        });
    }
    Ok(steps)
}

/// Stores an enum under its name.
macro_rules! stored_by_name {
    ($($type:ty),*) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(<&'static str>::from(self).into())
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map_err(FromSqlError::other)
            }
        }
    )*};
}

stored_by_name!(State, StepState);
