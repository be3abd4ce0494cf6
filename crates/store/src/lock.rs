//! Locks: names that operations hold until they end, one alone or several that share.

use std::fmt;

use rusqlite::{Connection, Transaction, params};

use crate::error::{Result, StoreError};
use crate::operation::{OperationRecord, State};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By one operation alone.
    Exclusive,
    /// By any number of operations, while none has it alone.
    Shared,
}

/// Who holds a lock: an operation and the process that runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// Id of the operation.
    pub operation: String,
    /// What it does.
    pub kind: String,
    /// Name of the instance that it does it to.
    pub instance: String,
    /// Process id.
    pub pid: u32,
    /// Machine on which the process runs.
    pub host: String,
    /// Its command line.
    pub command: String,
    /// When the operation began, in seconds since the epoch.
    pub since: f64,
}

impl From<OperationRecord> for Holder {
    fn from(record: OperationRecord) -> Self {
        Self {
            operation: record.id,
            kind: record.kind,
            instance: record.instance,
            pid: record.owner.pid,
            host: record.owner.host,
            command: record.owner.command,
            since: record.started,
        }
    }
}

/// `operation 4711… (grow inst1), process 123 on node1 since 2026-01-02T03:04:05Z: gnt-disk grow inst1 0 1G`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            kind,
            instance,
            pid,
            host,
            command,
            since,
        } = self;
        write!(
            f,
            "operation {operation} ({kind} {instance}), process {pid} on {host}"
        )?;
        if let Ok(since) = jiff::Timestamp::from_second(*since as i64) {
            write!(f, " since {since}")?;
        }
        write!(f, ": {command}")
    }
}

/// An operation that holds a lock although nobody runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Interruption {
    /// Id of the operation.
    pub operation: String,
    /// What it does.
    pub kind: String,
    /// Name of the instance that it does it to.
    pub instance: String,
    /// How far it came.
    pub state: State,
}

/// `operation 4711… (grow inst1), which was interrupted while running`.
impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            kind,
            instance,
            state,
        } = self;
        write!(f, "operation {operation} ({kind} {instance}), ")?;
        match state {
            State::Stuck => f.write_str("which could not be unwound"),
            state => write!(f, "which was interrupted while {state}"),
        }
    }
}

/// Takes `locks` for `operation`, all or none, in the order of their names. What it holds alone already it keeps so.
pub(crate) fn acquire(
    transaction: &Transaction<'_>,
    operation: &str,
    locks: &[String],
    mode: Mode,
) -> Result<()> {
    let mut sorted: Vec<_> = locks.iter().collect();
    sorted.sort();
    sorted.dedup();
    let exclusive = mode == Mode::Exclusive;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO lock (name, operation, exclusive) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for lock in sorted {
        if let Some(holder) = holder(transaction, operation, lock, mode)? {
            let lock = lock.clone();
            return Err(if holder.interrupted {
                let operation = Box::new(Interruption {
                    operation: holder.id,
                    kind: holder.kind,
                    instance: holder.instance,
                    state: holder.state,
                });
                StoreError::Interrupted { lock, operation }
            } else {
                let holder = Box::new(holder.into());
                StoreError::Locked { lock, holder }
            });
        }
        insert.execute(params![lock, operation, exclusive])?;
    }
    Ok(())
}

/// The operation that keeps `operation` from getting the lock. Of several it is one that is being run: while there is one, healing the
/// others does not help.
fn holder(
    connection: &Connection,
    operation: &str,
    lock: &str,
    mode: Mode,
) -> Result<Option<OperationRecord>> {
    let mut select = connection.prepare_cached(
        "SELECT operation FROM lock WHERE name = ?1 AND operation <> ?2 AND (?3 OR exclusive) ORDER BY operation",
    )?;
    let mut others = select.query(params![lock, operation, mode == Mode::Exclusive])?;
    let mut interrupted = None;
    while let Some(row) = others.next()? {
        let record = OperationRecord::load(connection, &row.get::<_, String>(0)?)?;
        if !record.interrupted {
            return Ok(Some(record));
        }
        interrupted.get_or_insert(record);
    }
    Ok(interrupted)
}
