//! What SQLite's errors mean for whoever meets them.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rustix::fs::Access;

use crate::error::StoreError;
use crate::store::BUSY_TIMEOUT;

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Database {
            path: PathBuf::new(),
            source,
        }
    }
}

pub(crate) fn classify(source: rusqlite::Error, path: &Path) -> StoreError {
    let location = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::DiskFull { path: location },
        Some(ErrorCode::NotADatabase) => StoreError::NotAStore { path: location },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            path: location,
            detail: source.to_string(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy {
            path: location,
            seconds: BUSY_TIMEOUT.as_secs(),
        },
        Some(
            ErrorCode::PermissionDenied
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure,
        ) => obstacle(path).unwrap_or(StoreError::Database {
            path: location,
            source,
        }),
        _ => StoreError::Database {
            path: location,
            source,
        },
    }
}

/// Why files beside `path` can't be written: SQLite does not tell what the system said.
fn obstacle(path: &Path) -> Option<StoreError> {
    let directory = path.parent()?;
    let writable = rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)
        .and_then(|()| rustix::fs::access(path, Access::WRITE_OK));
    if let Err(error) = writable {
        return Some(StoreError::file(error.into(), path));
    }
    let file_system = rustix::fs::statvfs(directory).ok()?;
    let is_full = file_system.f_bavail == 0 || (file_system.f_files > 0 && file_system.f_favail == 0);
    is_full.then(|| StoreError::DiskFull {
        path: path.to_owned(),
    })
}
