//! What scripts are told, what is asked of them in which order, and what is kept of their answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gnt_extstorage::{Action, Error, ExtStorage, Performed, Reason, SearchPath, Volume, VolumeInfo};
use gnt_process::{Command, DryRun, Output, Runner, Scripted, Status, System};
use gnt_tests::place::private_dir;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// One provider, `nas`, in a directory of its own.
struct Nas {
    temp: TempDir,
    params: Map<String, Value>,
}

impl Nas {
    /// Every script is this shell script.
    fn new(script: &str, more: &[Action]) -> Nas {
        let temp = private_dir().unwrap();
        let dir = temp.path().join("nas");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        for action in Action::REQUIRED.iter().chain(more.iter().copied()) {
            let file = dir.join(action.script());
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        }
        let list = dir.join("parameters.list");
        fs::write(&list, "").unwrap();
        fs::set_permissions(&list, Permissions::from_mode(0o644)).unwrap();
        let params = json!({"pool": "fast", "password": "hunter2 & co"});
        Nas {
            temp,
            params: params.as_object().unwrap().clone(),
        }
    }

    fn storage(&self, runner: Arc<dyn Runner>) -> ExtStorage {
        let (log, state) = (self.temp.path().join("log"), self.temp.path().join("state"));
        ExtStorage::new(runner, SearchPath::new([self.temp.path()]), log, state)
    }

    fn volume(&self) -> Volume<'_> {
        Volume {
            provider: "nas",
            name: "u.ext.disk0",
            uuid: Some("u"),
            cname: Some("data"),
            instance: Some("web1"),
            index: Some(0),
            size_mib: 64,
            params: &self.params,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.temp.path().join("log/nas.log")).unwrap()
    }
}

fn reason(error: &Error) -> &Reason {
    error.reason().unwrap()
}

#[test]
fn what_each_script_is_told() {
    let nas = Nas::new(
        r#"{ echo "${0##*/} $# $PWD"; env | grep -Ev '^(PWD|OLDPWD|SHLVL|_)=' | sort; } >>"$GNT_DISK_STATE"; ! read -r line"#,
        &[Action::Snapshot, Action::Open, Action::Close],
    );
    let storage = nas.storage(Arc::new(System)).with_operation("17");
    let volume = nas.volume();
    let told = |action: &dyn Fn()| -> Vec<String> {
        action();
        let state = nas.temp.path().join("state");
        let text = fs::read_to_string(&state).unwrap();
        fs::remove_file(state).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let expected = |action: &str, more: &[&str]| -> Vec<String> {
        let mut variables: Vec<String> = [
            "EXTP_PASSWORD=hunter2 & co",
            "EXTP_POOL=fast",
            "EXTP_PROVIDER=nas",
            "GNT_DISK_OPERATION=17",
            "HOME=/root",
            "LC_ALL=C",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "VOL_CNAME=data",
            "VOL_INDEX=0",
            "VOL_INSTANCE=web1",
            "VOL_NAME=u.ext.disk0",
            "VOL_UUID=u",
        ]
        .into_iter()
        .chain(more.iter().copied())
        .map(str::to_owned)
        .collect();
        variables.push(format!("GNT_DISK_STATE={}/state", nas.temp.path().display()));
        variables.sort();
        variables.insert(0, format!("{action} 0 {}/nas", nas.temp.path().display()));
        variables
    };
    // Nothing is attached, so create and grow end there.
    let attach = expected("attach", &[]);
    let with_attach = |mut told: Vec<String>| {
        told.extend(attach.clone());
        told
    };
    assert_eq!(told(&|| drop(storage.attach(&volume).unwrap_err())), attach);
    assert_eq!(
        told(&|| drop(storage.grow(&volume, 96).unwrap_err())),
        with_attach(expected("grow", &["VOL_SIZE=64", "VOL_NEW_SIZE=96"]))
    );
    let mut creating = with_attach(expected("create", &["VOL_SIZE=64"]));
    creating.extend(expected("detach", &[]));
    assert_eq!(told(&|| drop(storage.create(&volume).unwrap_err())), creating);
    assert_eq!(
        told(&|| storage.detach(&volume, None).unwrap()),
        expected("detach", &[])
    );
    assert_eq!(
        told(&|| storage.remove(&volume).unwrap()),
        expected("remove", &[])
    );
    assert_eq!(
        told(&|| storage.setinfo(&volume, "originstname+web 1", None).unwrap()),
        expected("setinfo", &["VOL_METADATA=originstname+web_1"])
    );
    assert_eq!(
        told(&|| storage.snapshot(&volume, "u.snap", 32).unwrap()),
        expected("snapshot", &["VOL_SNAPSHOT_NAME=u.snap", "VOL_SNAPSHOT_SIZE=32"])
    );
    assert_eq!(
        told(&|| assert_eq!(storage.open(&volume, true).unwrap(), Performed::Done)),
        expected("open", &["VOL_OPEN_EXCLUSIVE=True"])
    );
    assert_eq!(
        told(&|| assert_eq!(storage.open(&volume, false).unwrap(), Performed::Done)),
        expected("open", &["VOL_OPEN_EXCLUSIVE=False"])
    );
    assert_eq!(
        told(&|| assert_eq!(storage.take_over(&volume, "node2").unwrap(), Performed::Done)),
        expected("open", &["VOL_OPEN_DEAD_NODE=node2", "VOL_OPEN_EXCLUSIVE=True"])
    );
    assert_eq!(
        told(&|| assert_eq!(storage.close(&volume).unwrap(), Performed::Done)),
        expected("close", &[])
    );
    let mut verify = expected("verify", &[]);
    verify.retain(|line| !line.starts_with("VOL_"));
    assert_eq!(told(&|| storage.verify("nas", &nas.params).unwrap()), verify);
}

#[test]
fn what_others_could_change_since_the_last_action_is_not_run() {
    let nas = Nas::new(r#"echo ran >>"$GNT_DISK_STATE""#, &[]);
    let storage = nas.storage(Arc::new(System));
    let setinfo = || storage.setinfo(&nas.volume(), "x", None);
    let runs = || {
        fs::read_to_string(nas.temp.path().join("state"))
            .unwrap()
            .lines()
            .count()
    };
    setinfo().unwrap();
    assert_eq!(runs(), 1);
    let dir = nas.temp.path().join("nas");
    for (i, path) in [dir.join("setinfo"), dir, nas.temp.path().to_owned()]
        .iter()
        .enumerate()
    {
        let chmod = |mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        chmod(0o777);
        let error = setinfo().unwrap_err();
        assert!(matches!(error, Error::Provider(_)), "{error}");
        let expected = format!("{} can be changed by everybody", path.display());
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(runs(), i + 1, "it was run");
        chmod(0o755);
        setinfo().unwrap();
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    let nas = Nas::new(
        r#"echo "trying $EXTP_PASSWORD"; echo "$EXTP_PASSWORD is wrong" >&2; exit "${FAIL:-1}""#,
        &[],
    );
    let storage = nas.storage(Arc::new(System));
    let error = storage.attach(&nas.volume()).unwrap_err();
    let shown = format!("{error} {error:?} {}", nas.log());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        error
            .to_string()
            .contains("\n    trying <redacted>\n    <redacted> is wrong\n"),
        "{error}"
    );
    assert!(
        nas.log().contains("EXTP_PASSWORD=<redacted> EXTP_POOL=fast"),
        "{}",
        nas.log()
    );

    let nas = Nas::new(r#"echo "trying $EXTP_PASSWORD""#, &[Action::Info]);
    let storage = nas.storage(Arc::new(System));
    for error in [
        storage.attach(&nas.volume()).unwrap_err(),
        storage.info(&nas.volume()).unwrap_err(),
    ] {
        let shown = format!("{error} {error:?} {}", nas.log());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(error.to_string().contains("\"trying <redacted>\""), "{error}");
    }
}

#[test]
fn a_log_that_cannot_be_written_keeps_nothing_from_being_done() {
    let nas = Nas::new("", &[]);
    fs::write(nas.temp.path().join("log"), "a file").unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let storage = nas.storage(Arc::new(System)).on_log_error({
        let told = Arc::clone(&told);
        move |error| told.lock().unwrap().push(error.to_string())
    });
    storage.setinfo(&nas.volume(), "x", None).unwrap();
    let path = nas.temp.path().join("log/nas.log").display().to_string();
    assert_eq!(*told.lock().unwrap(), [format!("cannot write to the log {path}")]);
}

#[test]
fn a_dry_run_records_changes_and_verifies_nothing() {
    let nas = Nas::new("exit 1", &[Action::Info, Action::List]);
    let runner = Arc::new(DryRun::new(System));
    let storage = nas
        .storage(Arc::clone(&runner) as Arc<dyn Runner>)
        .with_dry_run(true);
    let volume = nas.volume();
    storage.create(&volume).unwrap();
    assert_eq!(storage.attach(&volume).unwrap().device, None);
    storage.grow(&volume, 96).unwrap();
    storage.detach(&volume, Some("/dev/loop0".as_ref())).unwrap();
    storage.remove(&volume).unwrap();
    let scripts: Vec<String> = runner
        .changes()
        .iter()
        .map(|line| {
            PathBuf::from(line)
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        scripts,
        ["create", "attach", "grow", "attach", "detach", "remove"]
    );
    let create = &runner.changes()[0];
    assert!(
        create.contains("VOL_SIZE=64") && !create.contains("hunter2"),
        "{create}"
    );
    assert!(!nas.temp.path().join("log").exists());

    assert!(
        storage.list("nas", &nas.params).is_err(),
        "queries are really made"
    );
}

#[test]
fn a_volume_that_is_still_there_was_not_removed() {
    let describe = r#"{"name":"u.ext.disk0"}"#;
    let nas = Nas::new("", &[Action::Info, Action::List]);
    let script = Scripted::new().expect("*/remove", "").expect("*/info", describe);
    let error = nas.storage(Arc::new(script)).remove(&nas.volume()).unwrap_err();
    assert!(matches!(reason(&error), Reason::StillThere));
    assert!(
        nas.log()
            .ends_with(": the script succeeded, but the provider still has the volume\n")
    );

    for gone in [
        Output::from(""),
        Output::new(Status::Exited(1)),
        Output::from("usage: info VOLUME"),
    ] {
        let script = Scripted::new().expect("*/remove", "").expect("*/info", gone);
        nas.storage(Arc::new(script)).remove(&nas.volume()).unwrap();
    }

    let nas = Nas::new("", &[Action::List]);
    let both = "{\"name\":\"other\"}\n{\"name\":\"u.ext.disk0\"}\n";
    let script = Scripted::new().expect("*/remove", "").expect("*/list", both);
    let error = nas.storage(Arc::new(script)).remove(&nas.volume()).unwrap_err();
    assert!(matches!(reason(&error), Reason::StillThere));
    for gone in [
        Output::from("{\"name\":\"other\"}\n"),
        Output::new(Status::Exited(1)),
    ] {
        let script = Scripted::new().expect("*/remove", "").expect("*/list", gone);
        nas.storage(Arc::new(script)).remove(&nas.volume()).unwrap();
    }
}

#[test]
fn what_list_and_info_print() {
    let nas = Nas::new("", &[Action::Info, Action::List]);
    let list = |output: &str| {
        let script = Scripted::new().expect("*/list", output);
        nas.storage(Arc::new(script)).list("nas", &nas.params)
    };
    let info = |output: &str| {
        let script = Scripted::new().expect("*/info", output);
        nas.storage(Arc::new(script)).info(&nas.volume())
    };
    let names = |volumes: Vec<VolumeInfo>| volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>();
    assert_eq!(
        names(list("{\"name\":\"a\"}\n{\"name\":\"b\"}\n").unwrap().unwrap()),
        ["a", "b"]
    );
    assert_eq!(list("").unwrap(), Some(vec![]));
    assert!(
        matches!(reason(&list("{\"name\":\"a\"}\nb").unwrap_err()), Reason::Listing(error) if error.line == 2)
    );

    assert_eq!(info("").unwrap(), Some(None));
    assert_eq!(
        info(r#"{"name":"u.ext.disk0","size":64}"#)
            .unwrap()
            .unwrap()
            .unwrap()
            .size_mib,
        Some(64)
    );
    let error = info(r#"{"name":"other"}"#).unwrap_err();
    assert!(matches!(reason(&error), Reason::OtherVolume(name) if name == "other"));
}

#[test]
fn a_list_may_be_long() {
    let nas = Nas::new(
        r#"seq 100000 | sed 's/.*/{"name":"&.ext.disk0","size":1024,"instance":"web&"}/'"#,
        &[Action::List],
    );
    let storage = nas.storage(Arc::new(System));
    assert_eq!(storage.list("nas", &nas.params).unwrap().unwrap().len(), 100_000);
    assert!(nas.log().len() < 20 << 10, "{}", nas.log().len());
}

#[test]
fn how_a_script_is_run() {
    let nas = Nas::new("", &[Action::List]);
    let script = Arc::new(
        Scripted::new()
            .allow("*", "")
            .allow_with("*/attach", |_| Ok(Output::from("\nkvm:x:y"))),
    );
    let storage = nas
        .storage(Arc::clone(&script) as Arc<dyn Runner>)
        .with_timeout(Duration::from_secs(7))
        .with_operation("17");
    storage.list("nas", &nas.params).unwrap();
    storage.setinfo(&nas.volume(), "", None).unwrap();
    for call in script.calls() {
        assert_eq!(call.get_timeout(), Duration::from_secs(7));
        assert_eq!(call.get_cwd(), Some(nas.temp.path().join("nas").as_path()));
        assert_eq!(call.get_args().len(), 0);
        assert_eq!(call.get_env("GNT_DISK_OPERATION").unwrap(), "17");
    }
    let effects: Vec<_> = script.calls().iter().map(Command::effect).collect();
    assert_eq!(effects, [Action::List.effect(), Action::Setinfo.effect()]);
}

#[test]
fn what_cannot_be_run_says_why() {
    let nas = Nas::new("", &[]);
    let storage = nas.storage(Arc::new(System));
    let attach = nas.temp.path().join("nas/attach");
    fs::write(&attach, "#!/usr/bin/no-such-interpreter\n").unwrap();
    let error = storage.attach(&nas.volume()).unwrap_err();
    assert!(matches!(reason(&error), Reason::NotRun(_)));
    assert!(error.hint().unwrap().contains("first line"), "{:?}", error.hint());
    assert!(nas.log().contains("no-such-interpreter"), "{}", nas.log());

    let mut params = nas.params.clone();
    params.insert("a=b".to_owned(), "x".into());
    let volume = Volume {
        params: &params,
        ..nas.volume()
    };
    let error = storage.attach(&volume).unwrap_err();
    assert_eq!(
        error.to_string(),
        "attach of the provider nas cannot be run on the volume u.ext.disk0"
    );
    assert!(matches!(
        error,
        Error::Environment {
            action: Action::Attach,
            ..
        }
    ));
}
