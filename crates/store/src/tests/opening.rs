//! Opening a store, and what may be in the way.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::tests::child;
use crate::tests::objects::{ext, three_nodes};
use crate::{Change, Result, Store, StoreError};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn filled(state: &Path) -> Store {
    let store = Store::open(state).unwrap();
    store.commit(&three_nodes()).unwrap();
    store
}

fn error<T>(result: Result<T>) -> StoreError {
    result.map(|_| ()).unwrap_err()
}

#[test]
fn a_new_store_is_made_with_its_directory_and_kept() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("a/state");
    let store = Store::open(&state).unwrap();
    assert!(!store.is_initialised().unwrap());
    assert!(matches!(store.cluster(), Err(StoreError::NotInitialised { .. })));
    store.commit(&three_nodes()).unwrap();
    // A umask may take some of it away.
    assert_eq!(mode(&state) | 0o050, 0o750);
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        assert_eq!(mode(&state.join(file)) | 0o040, 0o640, "{file}");
    }
    drop(store);
    // The last to leave brings everything into the one file.
    let files: Vec<_> = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files, ["store.db"]);
    let store = Store::open(&state).unwrap();
    assert_eq!(store.nodes().unwrap().len(), 3);
    store.check().unwrap();
}

#[test]
fn a_store_can_be_shared_by_threads() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&Store::in_memory().unwrap());
}

#[test]
fn many_may_open_a_new_store_at_once() {
    for _ in 0..20 {
        let directory = TempDir::new().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    Store::open(directory.path())
                        .unwrap()
                        .commit(&three_nodes())
                        .unwrap()
                });
            }
        });
        assert_eq!(
            Store::open(directory.path())
                .unwrap()
                .revision()
                .unwrap()
                .serial_no,
            8
        );
    }
}

#[test]
fn what_is_no_store_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.db");
    let text = "this is a text file, and quite a long one: ".repeat(100);
    fs::write(&path, &text).unwrap();
    let refused = error(Store::open(directory.path()));
    assert!(matches!(refused, StoreError::NotAStore { .. }), "{refused:?}");
    assert!(refused.hint().unwrap().contains("--state"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let refused = error(Store::open(directory.path()));
    assert!(matches!(refused, StoreError::NotAStore { .. }), "{refused:?}");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let refused = error(Store::open(directory.path()));
    assert!(matches!(refused, StoreError::Open { .. }), "{refused:?}");

    let refused = error(Store::open(&directory.path().join("store.db/x\0y")));
    assert!(matches!(refused, StoreError::Open { .. }), "{refused:?}");
}

#[test]
fn a_newer_store_is_left_alone() {
    let directory = TempDir::new().unwrap();
    drop(filled(directory.path()));
    let path = directory.path().join("store.db");
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 1000).unwrap();
    let refused = error(Store::open(directory.path()));
    assert!(
        matches!(refused, StoreError::Newer { found: 1000, .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("schema version 1000"), "{refused}");
    assert!(refused.hint().is_some());
}

/// Whatever is overwritten, nothing worse happens than an error that says so.
#[test]
fn damage_is_reported() {
    let directory = TempDir::new().unwrap();
    let store = filled(directory.path());
    let disks: Vec<_> = (0..500)
        .map(|n| Change::Disk(ext(&format!("d{n}"), &format!("v{n}"))))
        .collect();
    store.commit(&disks).unwrap();
    drop(store);
    let path = directory.path().join("store.db");
    let intact = fs::read(&path).unwrap();
    let page = 4096;
    let look = || -> Result<()> {
        let store = Store::open(directory.path())?;
        store.disks()?;
        store.check()
    };
    look().unwrap();
    let mut found = 0;
    for start in (page..intact.len()).step_by(page) {
        let mut damaged = intact.clone();
        damaged[start..start + page].fill(0x5a);
        fs::write(&path, &damaged).unwrap();
        // A page on the free list may say anything.
        if let Err(refused) = look() {
            assert!(
                matches!(refused, StoreError::Damaged { .. }),
                "page {}: {refused:?}",
                start / page
            );
            assert!(refused.hint().unwrap().contains("from a backup"));
            found += 1;
        }
    }
    assert!(
        found * 10 >= (intact.len() / page) * 9,
        "{found} of {}",
        intact.len() / page
    );
    fs::write(&path, &intact[..intact.len() / 2]).unwrap();
    let refused = look().unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused:?}");
    fs::write(&path, &intact).unwrap();
    look().unwrap();
}

#[test]
fn a_missing_object_is_damage() {
    let directory = TempDir::new().unwrap();
    let store = filled(directory.path());
    store.check().unwrap();
    let other = Connection::open(store.path()).unwrap();
    other
        .execute_batch("PRAGMA foreign_keys = off; DELETE FROM node_group")
        .unwrap();
    let refused = error(store.check());
    assert!(
        refused
            .to_string()
            .ends_with("is damaged: node refers to a missing node_group"),
        "{refused}"
    );
}

#[test]
fn an_object_of_unknown_form_is_named() {
    let directory = TempDir::new().unwrap();
    let store = filled(directory.path());
    let other = Connection::open(store.path()).unwrap();
    other
        .execute("UPDATE node SET data = '{\"uuid\": 5}' WHERE name = 'b'", [])
        .unwrap();
    let refused = error(store.nodes());
    assert_eq!(refused.to_string(), "the stored node node-b cannot be read");
    assert!(matches!(store.check(), Err(StoreError::BadObject { .. })));
    assert!(store.node("a").unwrap().is_some());
}

/// In a mount namespace of its own, where `prepare` has done something to the state directory `$STATE`.
fn in_namespace(child: &str, prepare: &str) {
    let directory = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    let script = format!("{prepare} && exec \"$0\" \"$@\"");
    command
        .args(["--mount", "sh", "-ec", &script])
        .arg(std::env::current_exe().unwrap());
    child::run(command, child, directory.path());
}

#[test]
fn a_full_disk_loses_nothing() {
    in_namespace(
        "opening::child_on_a_full_disk",
        "mount -t tmpfs -o size=1m none $STATE",
    );
}

#[test]
#[ignore = "a child of another test"]
fn child_on_a_full_disk() {
    let state = child::state();
    drop(filled(&state));
    // Filled by others to the last byte: not even what a reader needs fits in.
    let ballast = state.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write(&[0; 4096]).is_ok() {}
    let refused = error(Store::open(&state));
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused:?}");
    fs::remove_file(ballast).unwrap();
    drop(file);
    // Filled by ourselves.
    let store = Store::open(&state).unwrap();
    let many = |from: usize| -> Vec<_> {
        let disk = |n| Change::Disk(ext(&format!("d{n}"), &format!("v{n}")));
        (from..from + 500).map(disk).collect()
    };
    let mut stored = 0;
    let refused = loop {
        match store.commit(&many(stored)) {
            Ok(()) => stored += 500,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused:?}");
    assert!(refused.hint().unwrap().contains("space"));
    assert_eq!(store.disks().unwrap().len(), stored);
    store.check().unwrap();
}

#[test]
fn a_read_only_file_system_is_named() {
    in_namespace(
        "opening::child_on_a_read_only_file_system",
        "touch $STATE/store.db; mount --bind $STATE $STATE; mount -o remount,ro,bind $STATE",
    );
}

#[test]
#[ignore = "a child of another test"]
fn child_on_a_read_only_file_system() {
    for state in [child::state(), child::state().join("new")] {
        let refused = error(Store::open(&state));
        assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
        assert!(refused.hint().unwrap().contains("read-only"));
    }
}

#[test]
fn without_permission_nothing_is_opened() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    drop(filled(&state));
    // The test runs as root; its child as nobody, who has to reach the program.
    let program = directory.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.uid(65534).gid(65534);
    child::run(command, "opening::child_without_permission", &state);
}

#[test]
#[ignore = "a child of another test"]
fn child_without_permission() {
    let refused = error(Store::open(&child::state()));
    assert!(matches!(refused, StoreError::Permission { .. }), "{refused:?}");
    assert!(refused.hint().unwrap().contains("root"));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = TempDir::new().unwrap();
    let store = filled(directory.path());
    drop(store);
    let program = TempDir::new().unwrap();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(std::env::current_exe().unwrap(), program.path().join("test")).unwrap();
    // The file may be written, but none beside it.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(
        directory.path().join("store.db"),
        fs::Permissions::from_mode(0o666),
    )
    .unwrap();
    let mut command = Command::new(program.path().join("test"));
    command.uid(65534).gid(65534);
    child::run(command, "opening::child_without_permission", directory.path());
}
