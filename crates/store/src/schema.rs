//! The tables. A migration that was released is never changed; a new one is added below it.
//!
//! Each object is one row: its JSON, and beside it the keys by which it is found. What may exist only once has a table
//! with that key as primary key, so that the database itself refuses a second one.

use rusqlite_migration::{M, Migrations};

/// Marks our databases (`PRAGMA application_id`): "gntd".
pub(crate) const APPLICATION_ID: i32 = 0x676e_7464;

/// Every migration so far; the schema version of a database is the number of those that were applied to it.
const STEPS: &[M] = &[M::up(VERSION_1), M::up(SHARED_LOCKS), M::up(STEP_PROGRESS)];

pub(crate) const MIGRATIONS: Migrations = Migrations::from_slice(STEPS);

/// The newest schema version that this program knows.
pub(crate) const LATEST: i64 = STEPS.len() as i64;

/// Names are null only inside a commit, between the old owner's and the new owner's.
const VERSION_1: &str = "
PRAGMA application_id = 0x676e7464;

CREATE TABLE singleton (
    key  TEXT PRIMARY KEY,  -- cluster, settings, revision, file
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE node_group (
    uuid TEXT NOT NULL PRIMARY KEY,
    name TEXT UNIQUE,
    data TEXT NOT NULL
) STRICT;

CREATE TABLE node (
    uuid       TEXT NOT NULL PRIMARY KEY,
    name       TEXT UNIQUE,
    node_group TEXT NOT NULL REFERENCES node_group DEFERRABLE INITIALLY DEFERRED,
    data       TEXT NOT NULL
) STRICT;
CREATE INDEX node_of_group ON node (node_group);

CREATE TABLE instance (
    uuid         TEXT NOT NULL PRIMARY KEY,
    name         TEXT UNIQUE,
    primary_node TEXT REFERENCES node DEFERRABLE INITIALLY DEFERRED,
    data         TEXT NOT NULL
) STRICT;
CREATE INDEX instance_on_node ON instance (primary_node);

CREATE TABLE disk (
    uuid TEXT NOT NULL PRIMARY KEY,
    data TEXT NOT NULL
) STRICT;

-- A disk is attached to at most one instance.
CREATE TABLE attachment (
    disk     TEXT PRIMARY KEY REFERENCES disk DEFERRABLE INITIALLY DEFERRED,
    instance TEXT NOT NULL REFERENCES instance ON DELETE CASCADE,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX attachment_of_instance ON attachment (instance, position);

CREATE TABLE disk_node (
    node TEXT NOT NULL,
    disk TEXT NOT NULL REFERENCES disk ON DELETE CASCADE,
    PRIMARY KEY (node, disk)
) STRICT, WITHOUT ROWID;
CREATE INDEX disk_node_of_disk ON disk_node (disk);

CREATE TABLE volume (
    key  TEXT PRIMARY KEY,
    disk TEXT NOT NULL REFERENCES disk ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_of_disk ON volume (disk);

CREATE TABLE operation (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    instance   TEXT NOT NULL,
    state      TEXT NOT NULL,
    started    REAL NOT NULL,  -- seconds since the epoch
    finished   REAL,
    owner      TEXT NOT NULL,
    abandoned  INTEGER NOT NULL DEFAULT 0,
    reason     TEXT,           -- why it is unwound
    message    TEXT            -- what went wrong in the end
) STRICT;
CREATE INDEX operation_unfinished ON operation (seq) WHERE finished IS NULL;
CREATE INDEX operation_finished ON operation (finished, seq) WHERE finished IS NOT NULL;

CREATE TABLE step (
    operation TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    name      TEXT NOT NULL,
    state     TEXT NOT NULL,
    data      TEXT NOT NULL,
    PRIMARY KEY (operation, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE lock (
    name      TEXT PRIMARY KEY,
    operation TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX lock_of_operation ON lock (operation);

-- A minor and a port belong to an object, or are reserved by an operation for a disk that is not there yet.
CREATE TABLE drbd_minor (
    node         TEXT NOT NULL,
    minor        INTEGER NOT NULL,
    disk         TEXT REFERENCES disk ON DELETE CASCADE,
    operation    TEXT REFERENCES operation (id) ON DELETE CASCADE,
    reserved_for TEXT,
    PRIMARY KEY (node, minor),
    CHECK ((disk IS NULL) = (operation IS NOT NULL) AND (operation IS NULL) = (reserved_for IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX drbd_minor_of_disk ON drbd_minor (disk) WHERE disk IS NOT NULL;
CREATE INDEX drbd_minor_reserved ON drbd_minor (operation) WHERE operation IS NOT NULL;

CREATE TABLE port (
    port         INTEGER PRIMARY KEY,
    disk         TEXT REFERENCES disk ON DELETE CASCADE,
    instance     TEXT REFERENCES instance ON DELETE CASCADE,
    operation    TEXT REFERENCES operation (id) ON DELETE CASCADE,
    reserved_for TEXT,
    CHECK ((disk IS NOT NULL) + (instance IS NOT NULL) + (operation IS NOT NULL) = 1
           AND (operation IS NULL) = (reserved_for IS NULL))
) STRICT;
CREATE INDEX port_of_disk ON port (disk) WHERE disk IS NOT NULL;
CREATE INDEX port_of_instance ON port (instance) WHERE instance IS NOT NULL;
CREATE INDEX port_reserved ON port (operation) WHERE operation IS NOT NULL;
";

/// A lock may have several holders, of which none has it alone.
const SHARED_LOCKS: &str = "
CREATE TABLE shared_lock (
    name      TEXT NOT NULL,
    operation TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    exclusive INTEGER NOT NULL,
    PRIMARY KEY (name, operation)
) STRICT, WITHOUT ROWID;
INSERT INTO shared_lock SELECT name, operation, TRUE FROM lock;
DROP TABLE lock;
ALTER TABLE shared_lock RENAME TO lock;
CREATE INDEX lock_of_operation ON lock (operation);
CREATE UNIQUE INDEX lock_alone ON lock (name) WHERE exclusive;
";
/// How far a step that takes long has come.
const STEP_PROGRESS: &str = "ALTER TABLE step ADD COLUMN progress TEXT;";
