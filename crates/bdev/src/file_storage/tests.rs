use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gnt_process::{DryRun, System};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;

const SIZE: Mebibytes = Mebibytes(3);

/// `allowed`, and beside it `outside`, into which several links lead.
struct World {
    dir: TempDir,
    storage: FileStorage,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for directory in ["allowed/a/b", "outside/sub"] {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        fs::write(path.join("outside/victim"), "precious").unwrap();
        symlink("../outside", path.join("allowed/out")).unwrap();
        symlink(path.join("outside"), path.join("allowed/absolute")).unwrap();
        symlink("../../outside", path.join("allowed/a/out")).unwrap();
        symlink("../outside/victim", path.join("allowed/victim")).unwrap();
        symlink("/etc", path.join("allowed/etc")).unwrap();
        symlink("a", path.join("allowed/in")).unwrap();
        symlink("loop", path.join("allowed/loop")).unwrap();
        let storage = FileStorage::new(&[path.join("allowed")], None, Changes::Made);
        Self { dir, storage }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Everything that is not below `allowed`.
    fn outside(&self) -> BTreeMap<PathBuf, (u64, u64)> {
        fn walk(path: &Path, found: &mut BTreeMap<PathBuf, (u64, u64)>) {
            for entry in fs::read_dir(path).unwrap() {
                let (path, metadata) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
                if path.ends_with("allowed") {
                    continue;
                }
                if metadata.is_dir() {
                    walk(&path, found);
                }
                let size = if metadata.is_dir() { 0 } else { metadata.len() };
                found.insert(path, (metadata.ino(), size));
            }
        }
        let mut found = BTreeMap::new();
        walk(self.dir.path(), &mut found);
        found
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, FileStorageError>) -> Refusal {
    match result {
        Err(FileStorageError::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_file_lives_its_life_and_each_step_can_be_repeated() {
    let world = World::new();
    let (storage, path) = (&world.storage, world.path("allowed/a/disk"));
    assert_eq!(storage.size(&path).unwrap(), None);
    assert_eq!(storage.create(&path, SIZE).unwrap(), Change::Made);
    assert_eq!(storage.create(&path, SIZE).unwrap(), Change::AlreadyThere);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (3 << 20, 0));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);

    fs::write(&path, "data").unwrap();
    assert_eq!(storage.grow(&path, Mebibytes(5), true).unwrap(), Change::Made);
    assert_eq!(storage.size(&path).unwrap(), Some(4));
    assert_eq!(storage.grow(&path, Mebibytes(5), false).unwrap(), Change::Made);
    assert_eq!(
        storage.grow(&path, Mebibytes(5), false).unwrap(),
        Change::AlreadyThere
    );
    assert_eq!(
        storage.grow(&path, Mebibytes(4), false).unwrap(),
        Change::AlreadyThere
    );
    assert_eq!(storage.size(&path).unwrap(), Some(5 << 20));
    assert!(fs::read(&path).unwrap().starts_with(b"data\0"));

    let renamed = world.path("allowed/a/b/renamed");
    assert_eq!(storage.rename_file(&path, &renamed).unwrap(), Change::Made);
    assert_eq!(
        storage.rename_file(&path, &renamed).unwrap(),
        Change::AlreadyThere
    );
    assert_eq!(storage.remove(&renamed).unwrap(), Change::Made);
    assert_eq!(storage.remove(&renamed).unwrap(), Change::AlreadyThere);
    let error = storage.rename_file(&path, &renamed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_of_another_size_is_not_taken_over() {
    let world = World::new();
    let path = world.path("allowed/disk");
    fs::write(&path, "data").unwrap();
    let error = world.storage.create(&path, SIZE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(
        error.to_string().ends_with("is there already and has 4 bytes"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"data");
}

#[test]
fn what_a_killed_process_left_is_completed() {
    let world = World::new();
    let (old, new) = (world.path("allowed/old"), world.path("allowed/new"));
    fs::write(&old, "").unwrap();
    assert_eq!(world.storage.create(&old, SIZE).unwrap(), Change::Made);
    assert_eq!(world.storage.size(&old).unwrap(), Some(SIZE.bytes()));
    fs::hard_link(&old, &new).unwrap();
    assert_eq!(world.storage.rename_file(&old, &new).unwrap(), Change::Made);
    assert!(!old.exists() && new.exists());
}

#[test]
fn renaming_replaces_nothing() {
    let world = World::new();
    let (old, new) = (world.path("allowed/old"), world.path("allowed/new"));
    fs::write(&old, "old").unwrap();
    fs::write(&new, "new").unwrap();
    let error = world.storage.rename_file(&old, &new).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        (fs::read(&old).unwrap(), fs::read(&new).unwrap()),
        (b"old".to_vec(), b"new".to_vec())
    );
    // As on a file system that cannot rename without replacing.
    let spot = |path: &Path| world.storage.locate(path).unwrap().existing_spot().unwrap();
    assert_eq!(rename_by_link(&spot(&old), &spot(&new)), Err(Errno::EXIST));
    fs::remove_file(&new).unwrap();
    assert_eq!(rename_by_link(&spot(&old), &spot(&new)), Ok(()));
    assert!(!old.exists());
    let directory = (spot(&world.path("allowed/a")), spot(&world.path("allowed/c")));
    assert_eq!(rename_by_link(&directory.0, &directory.1), Ok(()));
    assert!(world.path("allowed/c/b").is_dir());
}

#[test]
fn directories_are_made_renamed_and_removed_when_empty() {
    let world = World::new();
    let storage = &world.storage;
    let (old, new) = (world.path("allowed/x/y/z"), world.path("allowed/x/y/w"));
    assert_eq!(storage.create_directory(&old).unwrap(), Change::Made);
    assert_eq!(storage.create_directory(&old).unwrap(), Change::AlreadyThere);
    let as_the_umask_lets = world.path("allowed/plain");
    DirBuilder::new().mode(0o750).create(&as_the_umask_lets).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&old), mode(&as_the_umask_lets));
    assert_eq!(storage.rename_directory(&old, &new).unwrap(), Change::Made);
    assert_eq!(
        storage.rename_directory(&old, &new).unwrap(),
        Change::AlreadyThere
    );
    storage.create_directory(&old).unwrap();
    let error = storage.rename_directory(&old, &new).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    fs::write(new.join("left"), "").unwrap();
    let error = storage.remove_directory(&new).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().ends_with("it has 'left'"), "{error}");
    fs::remove_file(new.join("left")).unwrap();
    assert_eq!(storage.remove_directory(&new).unwrap(), Change::Made);
    assert_eq!(storage.remove_directory(&new).unwrap(), Change::AlreadyThere);

    fs::write(world.path("allowed/file"), "").unwrap();
    for path in ["allowed/file", "allowed/file/below"] {
        let error = storage.create_directory(&world.path(path)).unwrap_err();
        assert!(
            matches!(error, FileStorageError::NotADirectory { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn the_storage_directory_itself_stays() {
    let world = World::new();
    let root = world.path("allowed");
    let (file, directory) = (world.storage.remove(&root), world.storage.remove_directory(&root));
    assert_eq!(refusal(file), Refusal::IsStorageDirectory);
    assert_eq!(refusal(directory), Refusal::IsStorageDirectory);
    let renamed = world.storage.rename_directory(&root, &world.path("allowed/x"));
    assert_eq!(refusal(renamed), Refusal::IsStorageDirectory);
    assert_eq!(
        world.storage.create_directory(&root).unwrap(),
        Change::AlreadyThere
    );
}

#[test]
fn every_way_out_is_refused() {
    let world = World::new();
    let before = world.outside();
    let outside = || Refusal::Outside(vec![world.path("allowed")]);
    let path = |relative: &str| world.path(relative).to_str().unwrap().to_owned();
    for (path, reason) in [
        (path("allowed/../x"), Refusal::DotDot),
        (path("allowed/a/../../outside/x"), Refusal::DotDot),
        (path("allowed/out/x"), Refusal::Escapes),
        (path("allowed/absolute/x"), Refusal::Escapes),
        (path("allowed/a/out/x"), Refusal::Escapes),
        (path("allowed/in/out/x"), Refusal::Escapes),
        (path("allowed/etc/x"), Refusal::Escapes),
        (path("allowedx/x"), outside()),
        (path("x"), outside()),
        ("/etc/foo".to_owned(), Refusal::Forbidden("/etc")),
        (
            "/usr/local/lib/x/y".to_owned(),
            Refusal::Forbidden("/usr/local/lib"),
        ),
        ("relative/x".to_owned(), Refusal::Relative),
        (String::new(), Refusal::Relative),
        (path("allowed/x\0y"), Refusal::Nul),
    ] {
        let path = Path::new(&path);
        let inside = world.path("allowed/inside");
        fs::write(&inside, "").unwrap();
        let storage = &world.storage;
        assert_eq!(refusal(storage.create(path, SIZE)), reason, "{path:?}");
        assert_eq!(refusal(storage.create_directory(path)), reason, "{path:?}");
        assert_eq!(refusal(storage.remove(path)), reason, "{path:?}");
        assert_eq!(refusal(storage.remove_directory(path)), reason, "{path:?}");
        assert_eq!(refusal(storage.size(path)), reason, "{path:?}");
        assert_eq!(refusal(storage.grow(path, SIZE, false)), reason, "{path:?}");
        assert_eq!(refusal(storage.set_attribute(path, b"x")), reason, "{path:?}");
        assert_eq!(refusal(storage.rename_file(&inside, path)), reason, "{path:?}");
        assert_eq!(refusal(storage.rename_file(path, &inside)), reason, "{path:?}");
        let directory = world.path("allowed/a");
        assert_eq!(
            refusal(storage.rename_directory(&directory, path)),
            reason,
            "{path:?}"
        );
    }
    assert_eq!(world.outside(), before);
}

#[test]
fn a_disk_is_a_regular_file_and_nothing_else() {
    let world = World::new();
    let before = world.outside();
    for path in ["allowed/victim", "allowed/in", "allowed/a"] {
        let path = world.path(path);
        let storage = &world.storage;
        for result in [
            storage.create(&path, SIZE),
            storage.grow(&path, SIZE, false),
            storage.remove(&path),
            storage.rename_file(&path, &world.path("allowed/new")),
            storage.set_attribute(&path, b"x").map(|_| Change::Made),
            storage.size(&path).map(|_| Change::Made),
        ] {
            assert!(
                matches!(result, Err(FileStorageError::NotAFile { .. })),
                "{path:?} {result:?}"
            );
        }
    }
    assert_eq!(world.outside(), before);
}

#[test]
fn links_that_stay_inside_are_followed() {
    let world = World::new();
    let path = world.path("allowed/in/b/disk");
    assert_eq!(world.storage.create(&path, SIZE).unwrap(), Change::Made);
    assert!(world.path("allowed/a/b/disk").is_file());
}

#[test]
fn allowed_directories_that_never_hold_disks_are_told_and_not_used() {
    let world = World::new();
    symlink("/etc", world.path("innocent")).unwrap();
    let directories = ["/etc/x", "/home", "relative", "/srv/../etc", "/"].map(PathBuf::from);
    let innocent = world.path("innocent");
    let all = [&directories[..], std::slice::from_ref(&innocent)].concat();
    let storage = FileStorage::new(&all, None, Changes::Made);
    let wrong: Vec<_> = storage
        .wrong_directories()
        .into_iter()
        .map(|(path, why)| (path.to_owned(), why))
        .collect();
    assert_eq!(
        wrong,
        [
            ("/etc/x".into(), Refusal::Forbidden("/etc")),
            ("/home".into(), Refusal::Forbidden("/home")),
            ("relative".into(), Refusal::Relative),
            ("/srv/../etc".into(), Refusal::DotDot),
        ]
    );
    // One that is a link, or that has a forbidden one below it, is found out when it is used.
    let path = innocent.join("gnt-disk-must-not-exist");
    assert_eq!(refusal(storage.create(&path, SIZE)), Refusal::Forbidden("/etc"));
    assert!(!Path::new("/etc/gnt-disk-must-not-exist").exists());
    let path = Path::new("/etc/x/y");
    assert_eq!(
        refusal(storage.create_directory(path)),
        Refusal::Forbidden("/etc")
    );
}

#[test]
fn a_missing_storage_directory_is_made_only_if_it_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (dir.path().join("state/files"), dir.path().join("mnt/files"));
    let allowed = [ours.clone(), other.clone()];
    let storage = FileStorage::new(&allowed, Some(&dir.path().join("state")), Changes::Made);
    assert_eq!(storage.size(&ours.join("i/disk")).unwrap(), None);
    assert_eq!(
        storage.remove(&ours.join("i/disk")).unwrap(),
        Change::AlreadyThere
    );
    let error = storage.create(&ours.join("i/disk"), SIZE).unwrap_err();
    assert!(matches!(error, FileStorageError::NoDirectory { .. }), "{error:?}");
    assert_eq!(storage.create_directory(&ours.join("i")).unwrap(), Change::Made);
    assert_eq!(storage.create(&ours.join("i/disk"), SIZE).unwrap(), Change::Made);

    for error in [
        storage.create_directory(&other.join("i")).unwrap_err(),
        storage.remove(&other.join("i/disk")).unwrap_err(),
        storage.size(&other.join("i/disk")).unwrap_err(),
    ] {
        assert!(
            matches!(error, FileStorageError::NoStorageDirectory { .. }),
            "{error:?}"
        );
        assert_eq!(
            error.hint().unwrap(),
            format!(
                "mount its file system, or make it: `mkdir -p {}`",
                other.display()
            )
        );
    }
    assert!(!dir.path().join("mnt").exists());
}

#[test]
fn a_storage_directory_of_ours_is_not_made_where_a_link_leads_to_a_forbidden_one() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/etc", dir.path().join("link")).unwrap();
    let root = dir.path().join("link/gnt-disk-must-not-exist/files");
    let storage = FileStorage::new(std::slice::from_ref(&root), Some(dir.path()), Changes::Made);
    let made = storage.create_directory(&root.join("i"));
    assert_eq!(refusal(made), Refusal::Forbidden("/etc"));
    assert!(!Path::new("/etc/gnt-disk-must-not-exist").exists());
}

#[test]
fn a_dry_run_notes_and_changes_nothing() {
    let world = World::new();
    let dry_run = Arc::new(DryRun::new(System));
    let storage = FileStorage::new(
        &[world.path("allowed")],
        None,
        Changes::Noted(Arc::clone(&dry_run)),
    );
    let there = world.path("allowed/there");
    world.storage.create(&there, SIZE).unwrap();
    let new = world.path("allowed/new");
    assert_eq!(storage.create(&new, SIZE).unwrap(), Change::Made);
    assert_eq!(storage.create(&there, SIZE).unwrap(), Change::AlreadyThere);
    assert_eq!(storage.grow(&there, Mebibytes(9), false).unwrap(), Change::Made);
    assert_eq!(storage.rename_file(&there, &new).unwrap(), Change::Made);
    storage.set_attribute(&there, b"x").unwrap();
    assert_eq!(storage.remove(&there).unwrap(), Change::Made);
    assert_eq!(storage.create_directory(&new).unwrap(), Change::Made);
    let b = world.path("allowed/a/b");
    assert_eq!(storage.rename_directory(&b, &new).unwrap(), Change::Made);
    assert_eq!(storage.remove_directory(&b).unwrap(), Change::Made);
    let (there, new, b) = (there.display(), new.display(), b.display());
    assert_eq!(
        dry_run.changes(),
        [
            format!("make the file {new} of 3M"),
            format!("enlarge the file {there} to 9M"),
            format!("rename {there} to {new}"),
            format!("set the attribute user.gnt-disk of {there}"),
            format!("remove the file {there}"),
            format!("make the directory {new}"),
            format!("rename {b} to {new}"),
            format!("remove the directory {b}"),
        ]
    );
    assert_eq!(
        world.storage.size(&world.path("allowed/there")).unwrap(),
        Some(SIZE.bytes())
    );
    assert_eq!(
        world.storage.attribute(&world.path("allowed/there")).unwrap(),
        None
    );
    assert!(world.path("allowed/a/b").is_dir() && !world.path("allowed/new").exists());
}

#[test]
fn attributes_stay_with_the_file() {
    let world = World::new();
    let (old, new) = (world.path("allowed/old"), world.path("allowed/new"));
    world.storage.create(&old, SIZE).unwrap();
    assert_eq!(world.storage.attribute(&old).unwrap(), None);
    world.storage.set_attribute(&old, b"first").unwrap();
    world.storage.set_attribute(&old, b"1st").unwrap();
    world.storage.rename_file(&old, &new).unwrap();
    assert_eq!(world.storage.attribute(&new).unwrap(), Some(b"1st".to_vec()));
}

/// A file system that has no extended attributes.
struct Ramfs(PathBuf);

impl Ramfs {
    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let status = Command::new("mount")
            .args(["-t", "ramfs", "none"])
            .arg(&path)
            .status();
        assert!(
            status.unwrap().success(),
            "this test mounts a file system: run it as root"
        );
        Self(path)
    }
}

impl Drop for Ramfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn where_a_file_system_has_no_attributes_they_are_beside_the_file() {
    let world = World::new();
    let mounted = Ramfs::at(world.path("allowed/ramfs"));
    let path = mounted.0.join("disk");
    world.storage.create(&path, SIZE).unwrap();
    assert_eq!(world.storage.attribute(&path).unwrap(), None);
    for value in [b"long value".as_slice(), b"x"] {
        world.storage.set_attribute(&path, value).unwrap();
        assert_eq!(world.storage.attribute(&path).unwrap().as_deref(), Some(value));
    }
    // They are no disks, and go where their file goes.
    let files = |name: &str| name.contains("disk");
    assert_eq!(world.storage.files(&files).unwrap().len(), 2);
    let renamed = mounted.0.join("renamed");
    world.storage.rename_file(&path, &renamed).unwrap();
    assert_eq!(
        world.storage.attribute(&renamed).unwrap().as_deref(),
        Some(b"x".as_slice())
    );
    world.storage.remove(&renamed).unwrap();
    assert_eq!(fs::read_dir(&mounted.0).unwrap().count(), 0);
    // What a killed process left goes when it is done again.
    fs::write(mounted.0.join(".renamed.gnt-disk"), "x").unwrap();
    assert_eq!(world.storage.remove(&renamed).unwrap(), Change::AlreadyThere);
    assert_eq!(fs::read_dir(&mounted.0).unwrap().count(), 0);
    world.storage.create(&path, SIZE).unwrap();
    let error = world
        .storage
        .rename_file(&path, &world.path("allowed/disk"))
        .unwrap_err();
    assert!(error.hint().unwrap().contains("same file system"), "{error:?}");
}

#[test]
fn files_are_found_at_any_depth_and_never_outside() {
    let world = World::new();
    for path in [
        "allowed/x.disk",
        "allowed/a/b/y.disk",
        "allowed/a/other",
        "outside/z.disk",
    ] {
        fs::write(world.path(path), "12").unwrap();
    }
    symlink("x.disk", world.path("allowed/link.disk")).unwrap();
    let nested = [
        world.path("allowed"),
        world.path("allowed/a"),
        world.path("missing"),
    ];
    let storage = FileStorage::new(&nested, None, Changes::Made);
    let found = storage.files(&|name| name.ends_with(".disk")).unwrap();
    let file = |path: &str| StoredFile {
        path: world.path(path),
        bytes: 2,
    };
    assert_eq!(found, [file("allowed/a/b/y.disk"), file("allowed/x.disk")]);
}

#[test]
fn the_room_is_that_of_the_directories_that_are_there_or_will_be() {
    let world = World::new();
    let ours = world.path("state/files/deep");
    let directories = [
        world.path("allowed"),
        world.path("missing"),
        ours.clone(),
        "/etc".into(),
    ];
    let storage = FileStorage::new(&directories, Some(&world.path("state")), Changes::Made);
    let space = storage.space().unwrap();
    let names: Vec<_> = space.iter().map(|space| PathBuf::from(&space.name)).collect();
    assert_eq!(names, [world.path("allowed"), ours]);
    for space in &space {
        assert!(
            Mebibytes(0) < space.free && space.free <= space.total,
            "{space:?}"
        );
    }
    assert!(!world.path("state").exists());
}

#[test]
fn no_room_is_told_apart() {
    let world = World::new();
    let path = world.path("allowed/huge");
    for size in [1 << 42, 1 << 43, u64::MAX] {
        let error = world.storage.create(&path, Mebibytes(size)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
        assert!(!path.exists());
    }
}

#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    let world = World::new();
    let before = world.outside();
    let (directory, spare) = (world.path("allowed/d"), world.path("allowed/spare"));
    fs::create_dir(&directory).unwrap();
    symlink("../outside", &spare).unwrap();
    let stop = AtomicBool::new(false);
    let (mut made, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sys::renameat_with(sys::CWD, &directory, sys::CWD, &spare, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // Until both outcomes were seen often; the limit is for a machine on which one of them never happens.
        for n in 0..200_000 {
            let path = directory.join(format!("f{n}"));
            match world.storage.create(&path, Mebibytes(1)) {
                Ok(_) => made += 1,
                Err(FileStorageError::Refused { reason, .. }) => {
                    assert_eq!(reason, Refusal::Escapes);
                    refused += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
            if made >= 50 && refused >= 50 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(made > 0 && refused > 0, "made {made}, refused {refused}");
    assert_eq!(world.outside(), before);
}

fn any_path() -> impl Strategy<Value = Vec<String>> {
    let known = prop::sample::select(vec![
        "allowed", "outside", "a", "b", "out", "absolute", "in", "loop", "victim", "etc", "sub", "..", ".",
        "", "proc", "self", "root", "cwd", "tmp",
    ]);
    let part = prop_oneof![4 => known.prop_map(str::to_owned), 1 => "[a-c.\\x00 é/]{0,4}"];
    prop::collection::vec(part, 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_outside_ever_changes(
        below in any_path(), absolute in any::<bool>(), in_allowed in any::<bool>(), slash in any::<bool>(),
    ) {
        let world = World::new();
        let before = world.outside();
        let mut path = below.join("/");
        if in_allowed {
            path = format!("{}/{path}", world.path("allowed").display());
        } else if absolute {
            path = format!("{}/{path}", world.dir.path().display());
        } else if slash {
            // Names that no system has, so that a failure of this test harms nobody.
            path = format!("/gnt-disk-{path}");
        }
        let path = Path::new(&path);
        let inside = world.path("allowed/inside");
        fs::write(&inside, "").unwrap();
        let storage = &world.storage;
        let really_inside = |result: Result<Change, FileStorageError>| {
            if result.is_ok_and(|change| change == Change::Made) {
                let real = fs::canonicalize(path.components().collect::<PathBuf>()).unwrap();
                assert!(real.starts_with(fs::canonicalize(world.path("allowed")).unwrap()), "{real:?}");
            }
        };
        really_inside(storage.create_directory(path));
        let _ = storage.remove_directory(path);
        really_inside(storage.create(path, SIZE));
        let _ = storage.set_attribute(path, b"x");
        let _ = storage.grow(path, Mebibytes(4), false);
        let _ = storage.remove(path);
        really_inside(storage.rename_file(&inside, path));
        let _ = storage.rename_directory(&world.path("allowed/a"), path);
        prop_assert_eq!(world.outside(), before);
    }
}
