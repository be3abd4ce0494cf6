//! Requests that make no sense, and clients that take their time: one clear answer, no panic, nothing left behind.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use gnt_rpc::server::Limits;
use gnt_rpc::wire::{MAX_DATA, MAX_JSON, Procedure};
use proptest::prelude::*;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::World;

const OURS: &str = "gnt-disk: 1\r\n";

#[tokio::test]
async fn arguments_that_are_wrong_are_told_without_showing_them() {
    let world = World::new().await;
    let secret = "8416ab24ca9afa56196ce6b67e0cacb575f2ba62";
    let disk = json!({"dev_type": "drbd", "logical_id": ["a", "b", 1, 2, secret], "size": 1, "params": {}});
    let plain = json!({"dev_type": "plain", "logical_id": [secret], "size": 1, "params": {"x": secret}});
    let bodies = [
        String::new(),
        "[".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        "[1] x".to_owned(),
        format!("\"{secret}\""),
        format!("[\"{secret}\"]"),
        format!("[{secret}]"),
        json!([disk]).to_string(),
        json!([plain]).to_string(),
        json!([[disk, plain]]).to_string(),
        json!([secret, secret, secret, secret, secret, secret, secret, secret]).to_string(),
        "[".repeat(100_000),
        format!("[{}]", "[".repeat(200) + &"]".repeat(200)),
    ];
    for procedure in [
        "blockdev_find",
        "blockdev_create",
        "drbd_attach_net",
        "blockdev_grow",
        "blockdev_rename",
        "blockdev_convert",
        "blockdev_image",
        "storage_list",
        "storage_modify",
        "storage_execute",
        "node_volumes",
    ] {
        for body in &bodies {
            let answer = world.ganeti(procedure, body.as_bytes()).await;
            assert_eq!(answer[0], json!(false), "{procedure} {body:.100}");
            assert!(!answer.to_string().contains(secret), "{answer}");
            let (status, ours) = world
                .raw()
                .await
                .post(procedure, OURS, body.as_bytes())
                .await
                .unwrap();
            let ours: Value = serde_json::from_slice(&ours).unwrap();
            assert_eq!(
                (status, &ours[0]),
                (200, &json!(false)),
                "{procedure} {body:.100}"
            );
            assert!(!ours.to_string().contains(secret), "{ours}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_before_they_are_read() {
    let world = World::new().await;
    let mut raw = world.raw().await;
    let head = format!(
        "POST /version HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
        MAX_JSON + MAX_DATA + 1
    );
    raw.send(head.as_bytes()).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().0, 413);
    let mut raw = world.raw().await;
    raw.send(b"POST /version HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n")
        .await
        .unwrap();
    assert!([400, 411].contains(&raw.answer().await.unwrap().0));
    let large = format!("[\"{}\"]", "x".repeat(MAX_JSON));
    let answer = world.ganeti("lv_list", large.as_bytes()).await;
    assert_eq!(answer[0], json!(false));
    let header = format!("X-Long: {}\r\n", "x".repeat(20_000));
    let status = world.raw().await.post("version", &header, b"[]").await.unwrap().0;
    assert_eq!(status, 431);
    let many = "X-Many: 1\r\n".repeat(100);
    assert_eq!(
        world.raw().await.post("version", &many, b"[]").await.unwrap().0,
        431
    );
    let other = world
        .raw()
        .await
        .post("version", "gnt-disk: 2\r\n", b"[{}]")
        .await
        .unwrap()
        .1;
    assert!(
        String::from_utf8(other)
            .unwrap()
            .contains("install the same gnt-disk")
    );
    let operation = "gnt-disk-operation: a b\r\n";
    assert_eq!(
        world
            .raw()
            .await
            .post("version", operation, b"[]")
            .await
            .unwrap()
            .0,
        400
    );
}

#[tokio::test]
async fn who_takes_too_long_is_let_go() {
    let limits = Limits {
        handshake: Duration::from_millis(200),
        header: Duration::from_millis(200),
        body: Duration::from_millis(200),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    // Not even a handshake.
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let read = timeout(Duration::from_secs(5), silent.read(&mut [0; 16]))
        .await
        .unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    // A header that never ends.
    let mut slow = world.raw().await;
    slow.send(b"POST /version HTTP/1.1\r\n").await.unwrap();
    let answer = timeout(Duration::from_secs(5), slow.answer()).await.unwrap();
    assert!(
        answer.is_err() || answer.as_ref().is_ok_and(|(status, _)| *status == 408),
        "{answer:?}"
    );
    // A body that never comes.
    let mut slow = world.raw().await;
    slow.send(b"POST /version HTTP/1.1\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n[")
        .await
        .unwrap();
    let answer = timeout(Duration::from_secs(5), slow.answer()).await.unwrap();
    assert_eq!(answer.unwrap().0, 408);
    world.client().version().await.unwrap();
}

#[tokio::test]
async fn there_are_only_so_many_connections() {
    let limits = Limits {
        connections: 3,
        handshakes: 4,
        handshake: Duration::from_secs(60),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(world.raw().await);
    }
    // Each is really there when it has been answered.
    for raw in &mut held {
        raw.send(b"POST /version HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]")
            .await
            .unwrap();
        raw.some().await;
    }
    let refused = world.raw().await.post("version", "", b"[]").await;
    assert!(refused.is_err(), "{refused:?}");
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.client().version().await.unwrap();
    // Any number of clients that show no certificate hold up nobody else.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    let begun = Instant::now();
    world.client().version().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(silent);
}

#[tokio::test]
async fn what_waits_for_room_in_memory_waits_no_longer_than_needed() {
    let limits = Limits {
        body_bytes: 1 << 20,
        body: Duration::from_millis(300),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let mut hog = world.raw().await;
    hog.send(b"POST /lv_list HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n[")
        .await
        .unwrap();
    let begun = Instant::now();
    let body = format!("[[]]{}", " ".repeat(900_000));
    assert_eq!(world.ganeti("lv_list", body.as_bytes()).await[0], json!(true));
    assert!(begun.elapsed() > Duration::from_millis(100));
}

/// What panicked in this process. The server answers a call that did, so that nobody would notice.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The server of a property test lives as long as the process.
fn shared() -> &'static (tokio::runtime::Runtime, World) {
    static SHARED: OnceLock<(tokio::runtime::Runtime, World)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.lock().unwrap().push(panic.to_string());
            before(panic);
        }));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let world = runtime.block_on(World::new());
        (runtime, world)
    })
}

/// Values as arguments have them, and some that have the form of a disk.
fn argument() -> impl Strategy<Value = Value> {
    let id = prop_oneof![
        Just(json!(["xenvg", "gnt-disk-no-such-volume"])),
        Just(json!(["loop", "/nonexistent/../x"])),
        Just(json!(["ext", "../x"])),
        Just(json!(["rbd", "x"])),
        Just(json!(["a", "b", 11000, 0, 0, "s"])),
        Just(json!(["a", "b", 70000, -1, 0, "s"])),
        Just(json!([])),
    ];
    let device = prop_oneof![
        Just("plain"),
        Just("file"),
        Just("sharedfile"),
        Just("ext"),
        Just("blockdev"),
        Just("drbd"),
        Just("no"),
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n))
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number.clone(),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(Value::from),
        Just(json!("primary")),
        Just(json!("plain")),
        prop::sample::select(vec!["file", "lvm-pv", "lvm-vg", "fix-consistency", "/etc"])
            .prop_map(Value::from),
        Just(json!([["name", "used"]])),
        Just(json!({"allocatable": false})),
        Just(json!({"instances": ["", "a/b", "web"], "bytes": [18_446_744_073_709_551_615_u64, 1]})),
    ];
    let disk = (device, id, number, any::<bool>()).prop_map(|(device, id, size, dynamic)| {
        let mut disk = json!({"dev_type": device, "logical_id": id, "size": size, "params": {}, "iv_name": "disk/0"});
        if dynamic {
            disk["dynamic_params"] =
                json!({"local-ip": "x", "remote-ip": "y", "local-minor": 0, "remote-minor": 4_000_000_000_u64});
        }
        disk
    });
    prop_oneof![leaf, disk].prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,8}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn procedure() -> impl Strategy<Value = Procedure> {
    prop::sample::select(Procedure::iter().collect::<Vec<_>>())
}

fn ask(procedure: Procedure, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let (runtime, world) = shared();
    runtime.block_on(async {
        let asked = async {
            world
                .raw()
                .await
                .post(procedure.name(), headers, body)
                .await
                .unwrap()
        };
        let answer = timeout(Duration::from_secs(60), asked).await.unwrap();
        assert_eq!(*PANICS.lock().unwrap(), [""; 0], "{}", procedure.name());
        answer
    })
}

/// What is only ours nobody else can ask.
fn is_asked(procedure: Procedure, headers: &str) -> bool {
    headers.contains(OURS) || !procedure.name().starts_with("gnt_")
}

/// As our client asks, and as Ganeti's. Nobody may see commands run for random arguments: only what a node would do is asked.
fn dry_run() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("gnt-disk: 1\r\ngnt-disk-dry-run: 1\r\n"),
        Just("gnt-disk-dry-run: 1\r\n"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_arguments_get_an_answer(
        procedure in procedure(),
        headers in dry_run(),
        arguments in prop::collection::vec(argument(), 0..7),
        data in prop::collection::vec(any::<u8>(), 0..64),
        with_data in any::<bool>(),
    ) {
        let mut body = json!(arguments).to_string().into_bytes();
        if with_data {
            body.push(b'\n');
            body.extend(data);
        }
        let (status, answer) = ask(procedure, headers, &body);
        prop_assert_eq!(status == 200, is_asked(procedure, headers));
        if status != 200 {
            return Ok(());
        }
        let end = answer.iter().position(|byte| *byte == b'\n').unwrap_or(answer.len());
        let answer: Value = serde_json::from_slice(&answer[..end]).unwrap();
        prop_assert!(answer[0].is_boolean(), "{}", answer);
    }

    #[test]
    fn random_bytes_get_an_answer(
        procedure in procedure(),
        headers in dry_run(),
        body in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        let (status, answer) = ask(procedure, headers, &body);
        prop_assert_eq!(status == 200, is_asked(procedure, headers));
        prop_assert!(status != 200 || answer.starts_with(b"["));
    }
}
