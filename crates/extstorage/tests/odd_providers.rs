//! Providers as they are in the world, `fixtures/providers`, on real loop devices.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::World;
use gnt_extstorage::{Action, Error, Performed, Reason, SearchPath, diagnose};
use serde_json::Value;

const FINE: &str = "";
/// Long enough for a script on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The same, and short enough to wait for one that hangs.
const SHORT_TIMEOUT: Duration = Duration::from_secs(2);

/// What comes of create, attach, grow and detach, in this order: nothing, or an error that contains this.
struct Row(&'static str, &'static str, [&'static str; 4]);

const CHATTER: &str =
    r#"its first line is not the absolute path of a device: "Connecting to array 10.0.0.1 ...""#;
const NO_VOLUME: &str = "no such volume";
const NOTHING: &str = "it printed neither a device nor a URI";
const NO_DEVICE: &str = "is not a block device but a regular file";
const MISSING: &str = "does not exist";
const EXIT_3: &str = "failed (provider exits-3): exit status 3";
const KILLED: &str = "failed (provider killed): killed by signal 9 (SIGKILL)";
const TIMED_OUT: &str = "failed (provider hangs): timed out after 2s";
const FLOOD: &str = "it printed 1073741824 bytes on standard output";
const BINARY: &str = r"�(\u{1b}[2J\u{7}";
const UNREACHABLE: &str = ": array unreachable";
const STILL_THERE: &str = "is still attached";
const NO_LIST: &str = "cannot be used: parameters.list: missing";
const NOT_EXECUTABLE: &str = "cannot be used: attach: not executable (mode 0644)";
const WORLD_WRITABLE: &str = "world-writable can be changed by everybody (mode 0777)";

const TABLE: &[Row] = &[
    Row("path-with-newline", "", [FINE; 4]),
    Row("path-without-newline", "", [FINE; 4]),
    Row("uris-with-path", "", [FINE; 4]),
    Row("uris-without-path", "", [FINE; 4]),
    Row("argv0", "", [FINE; 4]),
    Row("no-optional", "", [FINE; 4]),
    Row("slow", "", [FINE; 4]),
    Row("chatter-before-path", "", [CHATTER, CHATTER, CHATTER, FINE]),
    Row("prints-nothing", "", [NOTHING, NOTHING, NOTHING, FINE]),
    Row("path-no-device", "", [NO_DEVICE, NO_DEVICE, NO_DEVICE, FINE]),
    Row("path-missing", "", [MISSING, MISSING, MISSING, FINE]),
    Row("lies", "", [NOTHING, NOTHING, NOTHING, FINE]),
    Row("exits-3", "create", [EXIT_3, NO_VOLUME, NO_VOLUME, FINE]),
    Row("exits-3", "attach", [EXIT_3, EXIT_3, EXIT_3, FINE]),
    Row("exits-3", "grow", [FINE, FINE, EXIT_3, FINE]),
    Row("exits-3", "detach", [EXIT_3, FINE, FINE, EXIT_3]),
    Row("killed", "create", [KILLED, NO_VOLUME, NO_VOLUME, FINE]),
    Row("killed", "attach", [KILLED, KILLED, KILLED, FINE]),
    Row("hangs", "create", [TIMED_OUT, NO_VOLUME, NO_VOLUME, FINE]),
    Row("hangs", "attach", [TIMED_OUT, TIMED_OUT, TIMED_OUT, FINE]),
    Row("hangs-in-child", "attach", [FINE; 4]),
    Row("hangs-in-child", "create", [FINE; 4]),
    Row("floods", "create", [NO_VOLUME, NO_VOLUME, NO_VOLUME, FINE]),
    Row("floods", "attach", [FLOOD, FLOOD, FLOOD, FINE]),
    Row("binary-output", "create", [BINARY, NO_VOLUME, NO_VOLUME, FINE]),
    Row("binary-output", "attach", [BINARY, BINARY, BINARY, FINE]),
    Row(
        "errors-on-stdout",
        "create",
        ["ERROR: could not create", NO_VOLUME, NO_VOLUME, FINE],
    ),
    Row(
        "errors-on-stdout",
        "attach",
        [UNREACHABLE, UNREACHABLE, UNREACHABLE, FINE],
    ),
    Row(
        "errors-on-stdout",
        "grow",
        [FINE, FINE, "ERROR: could not grow", FINE],
    ),
    Row(
        "errors-on-stdout",
        "detach",
        ["ERROR: could not detach", FINE, FINE, "ERROR: could not detach"],
    ),
    Row(
        "grow-noop",
        "",
        [
            FINE,
            FINE,
            "has 67108864 bytes, fewer than the 96 MiB asked for",
            FINE,
        ],
    ),
    Row(
        "small-volume",
        "",
        [
            "has 33554432 bytes, fewer than the 64 MiB asked for",
            FINE,
            FINE,
            FINE,
        ],
    ),
    Row(
        "create-fails-after-making",
        "",
        [
            "failed (provider create-fails-after-making): exit status 1",
            FINE,
            FINE,
            FINE,
        ],
    ),
    Row("detach-noop", "", [STILL_THERE, FINE, FINE, STILL_THERE]),
    Row("no-parameters-list", "", [NO_LIST; 4]),
    Row("not-executable", "", [NOT_EXECUTABLE; 4]),
    Row("world-writable", "", [WORLD_WRITABLE; 4]),
    Row(
        "../providers/slow",
        "",
        [r#""../providers/slow" cannot be the name of a provider"#; 4],
    ),
];

#[test]
fn every_oddity_ends_as_it_should() {
    let rows = Mutex::new(TABLE.iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let Some(row) = rows.lock().unwrap().next() else {
                        break;
                    };
                    let found = try_row(row);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn try_row(Row(provider, on, expected): &Row) -> Vec<String> {
    let mut world = World::with("fixtures/providers").unwrap();
    world.params.insert("on".to_owned(), Value::from(*on));
    world.params.insert("sleep".to_owned(), Value::from(0.1));
    open_to_everybody(&world.providers().join("world-writable"));
    let storage = world.storage(if *provider == "hangs" {
        SHORT_TIMEOUT
    } else {
        TIMEOUT
    });
    let volume = world.volume(provider, "u.ext.disk0");

    let created = storage.create(&volume);
    let attached = storage.attach(&volume);
    let device = attached
        .as_ref()
        .ok()
        .and_then(|attachment| attachment.device.clone());
    let grown = storage.grow(&volume, 96);
    let detached = storage.detach(&volume, device.as_ref().map(|device| device.path.as_path()));

    let outcomes = [created.err(), attached.err(), grown.err(), detached.err()];
    outcomes
        .into_iter()
        .map(|error| error.map(|error| chain(&error)).unwrap_or_default())
        .zip(expected)
        .zip(["create", "attach", "grow", "detach"])
        .filter(|((told, expected), _)| told.is_empty() != expected.is_empty() || !told.contains(**expected))
        .map(|((told, expected), action)| {
            format!("{provider}/{on}: {action}: expected {expected:?}, got {told:?}")
        })
        .collect()
}

/// An error and its causes, as the command line shows them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[test]
fn uris_are_told_with_and_without_a_device() {
    let world = World::with("fixtures/providers").unwrap();
    let storage = world.storage(TIMEOUT);
    let file = world.volumes().join("u.ext.disk0.img").display().to_string();

    let volume = world.volume("uris-with-path", "u.ext.disk0");
    storage.create(&volume).unwrap();
    let attachment = storage.attach(&volume).unwrap();
    let device = attachment.device.clone().unwrap();
    assert_eq!((device.major, device.size), (7, 64 << 20));
    assert_eq!(attachment.uri("KVM"), Some(format!("file:{file}").as_str()));
    assert_eq!(attachment.uri("xen-hvm"), Some(format!("file:{file}").as_str()));
    assert_eq!(attachment.uri("xen-pvm"), None);
    assert_eq!(
        storage.attach(&volume).unwrap(),
        attachment,
        "attach is idempotent"
    );
    storage.detach(&volume, Some(&device.path)).unwrap();
    storage.detach(&volume, Some(&device.path)).unwrap();
    storage.remove(&volume).unwrap();

    let volume = world.volume("uris-without-path", "u.ext.disk0");
    storage.create(&volume).unwrap();
    let attachment = storage.attach(&volume).unwrap();
    assert_eq!(attachment.device, None);
    assert_eq!(attachment.uris, [("kvm".to_owned(), format!("file:{file}"))]);
    storage.remove(&volume).unwrap();
}

#[test]
fn what_a_provider_lacks_is_told() {
    let world = World::with("fixtures/providers").unwrap();
    let storage = world.storage(TIMEOUT);
    let volume = world.volume("no-optional", "u.ext.disk0");
    storage.create(&volume).unwrap();
    assert_eq!(storage.open(&volume, true).unwrap(), Performed::NotSupported);
    assert_eq!(storage.close(&volume).unwrap(), Performed::NotSupported);
    assert!(storage.list("no-optional", &world.params).unwrap().is_none());
    assert!(storage.info(&volume).unwrap().is_none());
    let error = storage.snapshot(&volume, "u.ext.disk0.snap", 64).unwrap_err();
    assert!(matches!(
        &error,
        Error::Unsupported {
            action: Action::Snapshot,
            ..
        }
    ));
    assert_eq!(
        error.to_string(),
        "the provider no-optional cannot snapshot: it has no script for that"
    );
    storage.remove(&volume).unwrap();
}

#[test]
fn an_error_says_all_that_is_known() {
    let mut world = World::with("fixtures/providers").unwrap();
    world.params.insert("on".to_owned(), "grow".into());
    let storage = world.storage(TIMEOUT).with_operation("17");
    let volume = world.volume("exits-3", "u.ext.disk0");
    storage.create(&volume).unwrap();
    let error = storage.grow(&volume, 128).unwrap_err();
    let log = storage.log_path("exits-3");
    assert_eq!(
        error.to_string().lines().map(str::trim_end).collect::<Vec<_>>(),
        [
            "grow of the volume u.ext.disk0 of web1 failed (provider exits-3): exit status 3".to_owned(),
            "  the last it printed:".to_owned(),
            "    array says: LUN limit reached".to_owned(),
            format!("  log: {}", log.display()),
        ]
    );
    assert!(
        matches!(&error, Error::Failed(failure) if failure.action == Action::Grow && failure.output.len() == 1)
    );
    assert!(
        error
            .hint()
            .unwrap()
            .contains("gnt-disk provider diagnose exits-3")
    );

    let log = fs::read_to_string(log).unwrap();
    let entries: Vec<&str> = log.lines().filter(|line| !line.starts_with(' ')).collect();
    let fields: Vec<Vec<&str>> = entries.iter().map(|line| line.split(' ').collect()).collect();
    let actions: Vec<&str> = fields.iter().map(|fields| fields[1]).collect();
    assert_eq!(actions, ["create", "attach", "detach", "grow"]);
    for fields in &fields {
        assert_eq!(
            fields[2..5],
            ["volume=u.ext.disk0", "instance=web1", "operation=17"]
        );
        assert!(fields[5].starts_with("took="));
    }
    assert!(entries[3].ends_with(": exit status 3"), "{}", entries[3]);
    assert!(log.contains("VOL_NEW_SIZE=128 VOL_SIZE=64"), "{log}");
    assert!(log.contains("    stdout| /dev/loop"), "{log}");
    storage.remove(&volume).unwrap();
}

#[test]
fn nothing_that_hangs_is_left_behind() {
    let world = World::with("fixtures/providers").unwrap();
    let operation = format!("test-{}", world.volumes().display());
    let storage = world.storage(SHORT_TIMEOUT).with_operation(&operation);
    for provider in ["hangs", "hangs-in-child"] {
        let volume = world.volume(provider, "u.ext.disk0");
        let start = Instant::now();
        let ended = storage.create(&volume);
        assert_eq!(ended.is_ok(), provider == "hangs-in-child", "{ended:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(processes_of(&operation), 0);
        storage.remove(&volume).unwrap();
    }
}

fn processes_of(operation: &str) -> usize {
    let mark = format!("GNT_DISK_OPERATION={operation}\0");
    let environments = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("environ")).ok());
    environments
        .filter(|environment| String::from_utf8_lossy(environment).contains(&mark))
        .count()
}

#[test]
fn a_device_that_a_caller_only_believes_to_be_the_volumes_is_left_alone() {
    let world = World::with("fixtures/providers").unwrap();
    let storage = world.storage(TIMEOUT);
    let mine = world.volume("path-with-newline", "mine");
    let other = world.volume("path-with-newline", "other");
    storage.create(&mine).unwrap();
    storage.create(&other).unwrap();
    let others = storage.attach(&other).unwrap().device.unwrap();
    storage.attach(&mine).unwrap();

    storage.detach(&mine, Some(&others.path)).unwrap();
    assert_eq!(attached(&world), ["other.img"]);
    storage.detach(&other, Some(&others.path)).unwrap();
    assert_eq!(attached(&world), [""; 0]);
}

/// The volumes that have a loop device.
fn attached(world: &World) -> Vec<String> {
    let mut volumes: Vec<String> = fs::read_dir("/sys/block")
        .unwrap()
        .filter_map(|device| fs::read_to_string(device.unwrap().path().join("loop/backing_file")).ok())
        .filter_map(|file| {
            Some(
                Path::new(file.trim_end())
                    .strip_prefix(world.volumes())
                    .ok()?
                    .display()
                    .to_string(),
            )
        })
        .collect();
    volumes.sort();
    volumes
}

#[test]
fn a_volume_that_is_created_is_not_attached_whatever_went_wrong() {
    for provider in [
        "path-with-newline",
        "small-volume",
        "chatter-before-path",
        "prints-nothing",
        "path-no-device",
    ] {
        let world = World::with("fixtures/providers").unwrap();
        let created = world
            .storage(TIMEOUT)
            .create(&world.volume(provider, "u.ext.disk0"));
        assert_eq!(
            created.is_ok(),
            provider == "path-with-newline",
            "{provider}: {created:?}"
        );
        assert_eq!(attached(&world), [""; 0], "{provider}");
    }
}

#[test]
fn growing_to_the_size_it_has_is_fine() {
    let world = World::with("fixtures/providers").unwrap();
    let storage = world.storage(TIMEOUT);
    let volume = world.volume("grow-noop", "u.ext.disk0");
    storage.create(&volume).unwrap();
    assert_eq!(storage.grow(&volume, 64).unwrap().device.unwrap().size, 64 << 20);
    let error = storage.grow(&volume, 65).unwrap_err();
    assert!(matches!(
        error.reason(),
        Some(Reason::TooSmall {
            asked_mib: 65,
            size: 0x400_0000,
            ..
        })
    ));
    let log = fs::read_to_string(storage.log_path("grow-noop")).unwrap();
    assert!(log.contains("fewer than the 65 MiB asked for"), "{log}");
    storage.remove(&volume).unwrap();
}

#[test]
fn diagnosis_of_all() {
    let world = World::with("fixtures/providers").unwrap();
    open_to_everybody(&world.providers().join("world-writable"));
    let diagnoses = diagnose(&SearchPath::new([world.providers()]));
    let unusable: Vec<&str> = diagnoses
        .iter()
        .filter(|d| !d.is_usable())
        .map(|d| d.name.as_str())
        .collect();
    // Files beside them are none.
    assert_eq!(
        unusable,
        ["no-parameters-list", "not-executable", "world-writable"]
    );
}

fn open_to_everybody(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
}
