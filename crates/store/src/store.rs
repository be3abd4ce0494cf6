//! Opening the database, and transactions on it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Result, StoreError};
use crate::operation::Filter;
use crate::schema;

/// How long a process waits for others to let go of the database.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// To how many bytes the write-ahead log is cut once it is written back: an import can make it large.
const LARGEST_IDLE_WAL: i64 = 16 << 20;

/// Where the configuration and the operation journal live.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// What a transaction needs to survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut: it is on the disk when the call returns (one fsync).
    Power,
    /// The end of the process. A power cut may undo it, together with everything after it: enough for what says that
    /// nothing has happened yet, or that nothing remains to be done.
    Process,
}

impl Store {
    /// Opens the store in the directory `state`, and makes both where they are missing.
    pub fn open(state: &Path) -> Result<Self> {
        let path = state.join("store.db");
        make_directory(state).map_err(|error| StoreError::file(error, state))?;
        make_file(&path).map_err(|error| StoreError::file(error, &path))?;
        let mut connection = connect(&path).map_err(|error| StoreError::from(error).at(&path))?;
        if schema_version(&connection, &path)? < schema::LATEST {
            // One process at a time, as the version is read before the transaction that changes it.
            let directory = File::open(state).map_err(|error| StoreError::file(error, state))?;
            rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)
                .map_err(|error| StoreError::file(error.into(), state))?;
            migrate(&mut connection, &path)?;
        }
        Ok(Self {
            connection: Mutex::new(connection),
            path,
        })
    }

    /// A store that is gone when it is dropped.
    pub fn in_memory() -> Result<Self> {
        let path = PathBuf::from(":memory:");
        let mut connection = Connection::open_in_memory()?;
        configure(&connection)?;
        migrate(&mut connection, &path)?;
        Ok(Self {
            connection: Mutex::new(connection),
            path,
        })
    }

    /// The database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole database and reports what is damaged in it.
    pub fn check(&self) -> Result<()> {
        self.read(|connection| {
            let mut findings: Vec<String> = connection
                .prepare("PRAGMA integrity_check(5)")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            findings.retain(|finding| finding != "ok");
            if findings.is_empty() {
                findings = connection
                    .prepare("SELECT DISTINCT \"table\" || ' refers to a missing ' || parent FROM pragma_foreign_key_check")?
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
            }
            if findings.is_empty() {
                return Ok(());
            }
            Err(StoreError::Damaged {
                path: self.path.clone(),
                detail: findings.join("; "),
            })
        })?;
        self.groups()?;
        self.nodes()?;
        self.instances()?;
        self.disks()?;
        self.operations(Filter::All).map(drop)
    }

    /// A panic elsewhere has rolled its transaction back: the connection is good.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        read(&self.connection()).map_err(|error| error.at(&self.path))
    }

    /// Runs `write` in a transaction that no other process's comes between.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        write: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection();
        let run = || {
            set_durability(&connection, durability)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = write(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        let result = run();
        result.map_err(|error: StoreError| error.at(&self.path))
    }
}

/// Seconds since the epoch.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The new directory's own entry is made durable too.
fn make_directory(state: &Path) -> std::io::Result<()> {
    if state.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o750).create(state)?;
    match state.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// SQLite gives its other files the mode of this one.
fn make_file(path: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
        .map(drop)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", LARGEST_IDLE_WAL)
}

/// The database's schema version, if it is a store that this program knows.
fn schema_version(connection: &Connection, path: &Path) -> Result<i64> {
    let run = || -> Result<i64> {
        // One look, as another process may be making the tables.
        let look = connection.unchecked_transaction()?;
        let version = look.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let application: i32 = look.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let is_used = look.prepare("SELECT 1 FROM sqlite_schema")?.exists([])?;
        look.finish()?;
        if is_used && application != schema::APPLICATION_ID {
            return Err(StoreError::NotAStore {
                path: path.to_owned(),
            });
        }
        if version > schema::LATEST {
            return Err(StoreError::Newer {
                path: path.to_owned(),
                found: version,
                known: schema::LATEST,
            });
        }
        Ok(version)
    };
    run().map_err(|error| error.at(path))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let to_latest = |connection: &mut Connection| {
        connection.pragma_update(None, "journal_mode", "wal")?;
        schema::MIGRATIONS
            .to_latest(connection)
            .map_err(|error| match error {
                rusqlite_migration::Error::RusqliteError { err, .. } => StoreError::from(err),
                source => StoreError::Migration {
                    path: path.to_owned(),
                    source,
                },
            })
    };
    to_latest(connection).map_err(|error: StoreError| error.at(path))
}

fn set_durability(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let synchronous = match durability {
        Durability::Power => "full",
        Durability::Process => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}
