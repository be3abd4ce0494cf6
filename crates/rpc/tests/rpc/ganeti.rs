//! What Ganeti's own client and node daemon said to each other, in both directions.

use std::fs;
use std::path::{Path, PathBuf};

use gnt_bdev::{
    Assembled, BlockDevice, Change, ListedVolume, LocalDiskStatus, Status, StorageUnit, SyncProgress,
    SyncStatus, Told,
};
use gnt_config::{LogicalId, Mebibytes};
use gnt_rpc::wire::{Call, Dialect, LogicalVolume, Procedure, Provider, Reply, Version, ganeti_payload};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{INSTANCE, World};

/// One recorded call.
#[derive(Deserialize)]
struct Sample {
    procedure: String,
    arguments: Vec<Value>,
    reply: (bool, Value),
}

fn samples() -> Vec<Sample> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/rpc");
    let read = |name| {
        let json = fs::read_to_string(dir.join(name)).unwrap();
        serde_json::from_str::<Vec<Sample>>(&json).unwrap()
    };
    ["file_ext.json", "plain_drbd.json", "direct.json"]
        .into_iter()
        .flat_map(read)
        .collect()
}

/// Calls that Ganeti's daemon refuses as we do: their arguments are wrong.
fn is_bad(sample: &Sample) -> bool {
    let Value::String(message) = &sample.reply.1 else {
        return false;
    };
    let refusals = [
        "can only concatenate list",
        "Received only 2 parameters",
        "takes no arguments",
    ];
    refusals.iter().any(|words| message.contains(words))
}

#[test]
fn recorded_calls_are_read_and_written_again() {
    let mut seen = std::collections::BTreeSet::new();
    for sample in samples() {
        let procedure: Procedure = sample.procedure.parse().unwrap();
        let read = Call::decode(procedure, sample.arguments.clone(), Dialect::Ganeti, &[]);
        if is_bad(&sample) {
            read.unwrap_err();
            continue;
        }
        seen.insert(procedure.name());
        let call = read.unwrap_or_else(|error| panic!("{procedure}: {error}"));
        assert_eq!(call.procedure(), procedure);
        assert_eq!(
            json!(call.encode(Dialect::Ganeti)),
            json!(sample.arguments),
            "{procedure}"
        );
        let ours = call.encode(Dialect::Ours);
        let again = Call::decode(procedure, ours, Dialect::Ours, &[]).unwrap();
        assert_eq!(
            json!(again.encode(Dialect::Ganeti)),
            json!(sample.arguments),
            "{procedure}"
        );
        let instances = |call: &Call| {
            call.disks()
                .iter()
                .map(|disk| disk.instance.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(instances(&again), instances(&call), "{procedure}");
        assert!(
            !format!("{call:?}").contains("8416ab24ca9afa56196ce6b67e0cacb575f2ba62"),
            "{procedure}"
        );
    }
    assert_eq!(seen.len(), 37, "{seen:?}");
}

#[test]
fn recorded_answers_are_given_as_they_were() {
    let mut given = 0;
    for sample in samples().into_iter().filter(|sample| sample.reply.0) {
        let procedure: Procedure = sample.procedure.parse().unwrap();
        let call = Call::decode(procedure, sample.arguments.clone(), Dialect::Ganeti, &[]).unwrap();
        let reply = reply(&call, &sample.reply.1);
        let payload = ganeti_payload(&reply);
        match call {
            // The message is our own.
            Call::BlockdevGetmirrorstatusMulti { .. }
                if sample.procedure == "blockdev_getmirrorstatus_multi" =>
            {
                let told = |row: &Value| json!([row[0], row[0].as_bool().unwrap().then(|| row[1].clone())]);
                let rows = |rows: &Value| rows.as_array().unwrap().iter().map(told).collect::<Vec<_>>();
                assert_eq!(rows(&payload), rows(&sample.reply.1));
            }
            _ => assert_eq!(payload, sample.reply.1, "{procedure}"),
        }
        given += 1;
    }
    assert!(given > 50, "{given}");
}

/// What our node would have to say to give this payload.
fn reply(call: &Call, payload: &Value) -> Reply {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    match call {
        Call::Version => Reply::Version(Version {
            protocol: 1,
            version: String::new(),
            node: String::new(),
        }),
        Call::BdevSizes { .. } | Call::VgList => {
            Reply::Sizes(serde_json::from_value(payload.clone()).unwrap())
        }
        Call::LvList { .. } => {
            let row = |(name, row): (&String, &Value)| LogicalVolume {
                name: name.clone(),
                bytes: (text(&row[0]).parse::<f64>().unwrap() * 1_048_576.0) as u64,
                active: !row[1].as_bool().unwrap(),
                open: row[2].as_bool().unwrap(),
            };
            Reply::LogicalVolumes(payload.as_object().unwrap().iter().map(row).collect())
        }
        Call::NodeVolumes => {
            let row = |row: &Value| ListedVolume {
                vg: text(&row["vg"]),
                lv: text(&row["name"]),
                bytes: (text(&row["size"]).parse::<f64>().unwrap() * 1_048_576.0) as u64,
                active: false,
                open: false,
                pvs: vec![text(&row["dev"])],
            };
            Reply::NodeVolumes(list(payload).iter().map(row).collect())
        }
        Call::StorageList { fields, .. } => {
            let row = |row: Value| {
                let (name, size, used, free, allocatable) = serde_json::from_value(row).unwrap();
                StorageUnit {
                    name,
                    size,
                    free,
                    used: Some(used),
                    allocatable,
                }
            };
            Reply::Units(list(payload).into_iter().map(row).collect(), fields.clone())
        }
        Call::ExtstorageDiagnose => {
            let row = |row: Value| {
                let (name, path, usable, diagnose, parameters) = serde_json::from_value(row).unwrap();
                Provider {
                    name,
                    path,
                    usable,
                    diagnose,
                    parameters,
                }
            };
            Reply::Providers(list(payload).into_iter().map(row).collect())
        }
        Call::BlockdevCreate { disk, .. } => Reply::Created(Change::Made, disk.disk.logical_id.clone()),
        Call::BlockdevSnapshot { disk, .. } => {
            let device = disk.disk.dev_type;
            Reply::Snapshot(device, LogicalId::from_json(device, payload).unwrap())
        }
        Call::BlockdevAssemble { .. } => Reply::Assembled(Assembled {
            device: Some(BlockDevice {
                path: Some(PathBuf::from(text(&payload[0]))),
                ..BlockDevice::default()
            }),
            link: Some(PathBuf::from(text(&payload[1]))),
            ..Assembled::default()
        }),
        Call::BlockdevFind { .. } => Reply::Found((!payload.is_null()).then(|| status(payload))),
        Call::BlockdevGetmirrorstatus { .. } => Reply::Mirrors(list(payload).iter().map(status).collect()),
        Call::BlockdevGetmirrorstatusMulti { .. } => {
            let one = |row: Value| match row[0].as_bool().unwrap() {
                true => Ok(Some(status(&row[1]))),
                false => Err(told()),
            };
            Reply::FoundAll(list(payload).into_iter().map(one).collect())
        }
        Call::BlockdevGetdimensions { .. } => {
            Reply::Dimensions(serde_json::from_value(payload.clone()).unwrap())
        }
        Call::BlockdevPauseResumeSync { disks, .. } => Reply::Done(disks.iter().map(|_| Ok(())).collect()),
        Call::DrbdWaitSync { .. } => Reply::Progress(SyncProgress {
            done: true,
            percent: 100.0,
        }),
        Call::DrbdNeedsActivation { .. } => Reply::Uuids(serde_json::from_value(payload.clone()).unwrap()),
        _ => Reply::Change(Change::Made),
    }
}

fn status(object: &Value) -> Status {
    let number = |key: &str| {
        object
            .get(key)
            .map(|value| u32::try_from(value.as_u64().unwrap()).unwrap())
    };
    Status {
        device: BlockDevice {
            path: Some(PathBuf::from(object["dev_path"].as_str().unwrap())),
            major: number("major"),
            minor: number("minor"),
            ..BlockDevice::default()
        },
        sync: SyncStatus {
            sync_percent: object.get("sync_percent").and_then(Value::as_f64),
            estimated_time: object.get("estimated_time").and_then(Value::as_u64),
            is_degraded: object["is_degraded"].as_bool().unwrap(),
            ldisk_status: match object["ldisk_status"].as_u64().unwrap() {
                1 => LocalDiskStatus::Okay,
                2 => LocalDiskStatus::Sync,
                3 => LocalDiskStatus::Unknown,
                _ => LocalDiskStatus::Faulty,
            },
        },
    }
}

fn told() -> Told {
    Told {
        message: "no".to_owned(),
        kind: gnt_bdev::ErrorKind::Other,
        hint: None,
        snapshots: None,
        cause: None,
    }
}

#[test]
fn what_is_not_active_is_not_there_and_what_is_none_is_left_out() {
    let mut status = Status {
        device: BlockDevice::default(),
        sync: SyncStatus {
            sync_percent: Some(45.5),
            estimated_time: Some(12),
            is_degraded: true,
            ldisk_status: LocalDiskStatus::Faulty,
        },
    };
    assert_eq!(ganeti_payload(&Reply::Found(Some(status.clone()))), Value::Null);
    status.device.path = Some("/dev/drbd0".into());
    status.device.minor = Some(0);
    assert_eq!(
        ganeti_payload(&Reply::Found(Some(status))),
        json!({
            "dev_path": "/dev/drbd0", "minor": 0, "sync_percent": 45.5, "estimated_time": 12, "is_degraded": true,
            "ldisk_status": 4,
        })
    );
    assert_eq!(
        ganeti_payload(&Reply::Assembled(Assembled::default())),
        json!([true, true])
    );
}

/// `gnt-instance add -t file`, `activate-disks`, `grow-disk`, `remove`, as its calls come to a node.
#[tokio::test]
async fn ganetis_master_is_answered_as_by_its_own_daemon() {
    let world = World::new().await;
    let call = async |procedure: &str, arguments: Value| {
        // With a newline at the end, as its job processes send it.
        world.ganeti(procedure, format!("{arguments}\n").as_bytes()).await
    };
    let nothing = json!([true, null]);
    assert_eq!(call("version", json!([])).await, json!([true, 3_000_000]));
    let directory = world.state().join("file-storage").join(INSTANCE);
    assert_eq!(call("file_storage_dir_create", json!([directory])).await, nothing);
    let mut disk = world.disk(gnt_config::LogicalDevice::File, 0, Mebibytes(8));
    let path = disk.logical_id.volume().into_owned();
    let id = disk.logical_id.to_json();
    let created = call(
        "blockdev_create",
        json!([disk, 8, INSTANCE, true, "originstname+web", false]),
    )
    .await;
    assert_eq!(created, json!([true, id]));
    let owner = json!({"name": INSTANCE, "disks_info": [disk], "hvparams": {}});
    let assembled = call("blockdev_assemble", json!([disk, owner, true, 0])).await;
    let link = world.state().join("instance-disks").join(format!("{INSTANCE}:0"));
    assert_eq!(assembled, json!([true, [path, link, null]]));
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(&path));
    let found = json!({"dev_path": path, "is_degraded": false, "ldisk_status": 1});
    assert_eq!(call("blockdev_find", json!([disk])).await, json!([true, found]));
    assert_eq!(
        call("blockdev_getmirrorstatus", json!([[disk]])).await,
        json!([true, [found]])
    );
    let multi = call("blockdev_getmirrorstatus_multi", json!([[disk]])).await;
    assert_eq!(multi, json!([true, [[true, found]]]));
    let grown = call("blockdev_grow", json!([disk, 4, false, true, false])).await;
    assert_eq!(grown, nothing);
    disk.size = Mebibytes(12);
    let sizes = call("blockdev_getdimensions", json!([[disk]])).await;
    assert_eq!(sizes, json!([true, [[12 << 20, null]]]));
    assert_eq!(call("blockdev_close", json!([INSTANCE, [disk]])).await, nothing);
    assert!(!link.exists());
    assert_eq!(
        call("blockdev_open", json!([INSTANCE, [disk], true])).await,
        nothing
    );
    assert!(link.exists());
    // This call does not tell the instance.
    assert_eq!(call("blockdev_shutdown", json!([disk])).await, nothing);
    assert!(!link.is_symlink());
    assert_eq!(call("blockdev_remove", json!([disk])).await, nothing);
    assert_eq!(call("blockdev_find", json!([disk])).await, nothing);
    assert_eq!(
        call("blockdev_getdimensions", json!([[disk]])).await,
        json!([true, [null]])
    );
    assert_eq!(call("file_storage_dir_remove", json!([directory])).await, nothing);

    let refused = call("blockdev_getmirrorstatus", json!([[disk]])).await;
    assert_eq!(refused, json!([false, format!("{disk} is not there")]));
    let outside = call("file_storage_dir_create", json!(["/etc/foo"])).await;
    assert_eq!(outside[0], json!(false));
    assert!(!Path::new("/etc/foo").exists());
    let sizes = call("bdev_sizes", json!([["/dev/nope", "/etc/hostname"]])).await;
    assert_eq!(sizes, json!([true, {}]));
    let providers = call("extstorage_diagnose", json!([])).await;
    let rows = providers[1].as_array().unwrap();
    let ext = rows.iter().find(|row| row[0] == "ext").unwrap();
    assert_eq!(ext[2], json!(true), "{ext}");
    assert!(
        ext[4]
            .as_array()
            .unwrap()
            .iter()
            .all(|parameter| parameter.as_array().unwrap().len() == 2)
    );
}

#[tokio::test]
async fn what_is_no_call_of_ganetis_is_refused_in_words_of_http() {
    let world = World::new().await;
    for (path, status) in [
        ("instance_start", 404),
        ("", 404),
        ("gnt_links", 404),
        ("version/x", 404),
    ] {
        assert_eq!(
            world.raw().await.post(path, "", b"[]").await.unwrap().0,
            status,
            "{path}"
        );
    }
    let mut raw = world.raw().await;
    raw.send(b"GET /version HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(raw.answer().await.unwrap().0, 405);
    let mut raw = world.raw().await;
    let chunked = b"POST /version HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
    raw.send(chunked).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().0, 411);
    let mut raw = world.raw().await;
    raw.send(b"POST /version HTTP/1.0\r\nContent-Length: 2\r\n\r\n[]")
        .await
        .unwrap();
    assert_eq!(raw.answer().await.unwrap(), (200, b"[true,3000000]\n".to_vec()));
}

#[tokio::test]
async fn the_mirror_of_a_disk_that_does_not_run_is_missing() {
    let world = World::new().await;
    let call = async |procedure: &str, arguments: Value| {
        world.ganeti(procedure, arguments.to_string().as_bytes()).await
    };
    let disk = |index| world.disk(gnt_config::LogicalDevice::Ext, index, Mebibytes(8));
    let disks = [disk(0), disk(1)];
    for disk in &disks {
        let created = call("blockdev_create", json!([disk, 8, INSTANCE, true, "", false])).await;
        assert_eq!(created[0], json!(true), "{created}");
    }
    let both = call("blockdev_getmirrorstatus", json!([disks])).await;
    assert_eq!(both[1].as_array().map(Vec::len), Some(2), "{both}");
    assert_eq!(call("blockdev_shutdown", json!([disks[0]])).await[0], json!(true));
    let missing = call("blockdev_getmirrorstatus", json!([disks])).await;
    assert_eq!(missing, json!([false, format!("{} is not there", disks[0])]));
    let multi = call("blockdev_getmirrorstatus_multi", json!([disks])).await;
    assert_eq!(
        [&multi[1][0][0], &multi[1][1][0]],
        [&json!(false), &json!(true)],
        "{multi}"
    );
    for disk in &disks {
        assert_eq!(call("blockdev_remove", json!([disk])).await, json!([true, null]));
    }
}

#[tokio::test]
async fn of_many_disks_all_are_closed_or_renamed_whatever_fails() {
    let world = World::new().await;
    let call = async |procedure: &str, arguments: Value| {
        world.ganeti(procedure, arguments.to_string().as_bytes()).await
    };
    let bad = world.odd_disk("exits-3", "on", "close");
    let good = world.disk(gnt_config::LogicalDevice::Ext, 1, Mebibytes(8));
    for (index, disk) in [&bad, &good].into_iter().enumerate() {
        let created = call("blockdev_create", json!([disk, 8, INSTANCE, false, "", false])).await;
        assert_eq!(created[0], json!(true), "{created}");
        let owner = json!({"name": INSTANCE});
        let assembled = call("blockdev_assemble", json!([disk, owner, true, index])).await;
        assert_eq!(assembled[0], json!(true), "{assembled}");
    }
    let closed = call("blockdev_close", json!([INSTANCE, [bad, good]])).await;
    let message = closed[1].as_str().unwrap();
    assert!(
        closed[0] == json!(false) && message.contains(&bad.to_string()),
        "{closed}"
    );
    assert!(!message.contains(&good.to_string()), "{closed}");
    let link = |index| {
        world
            .state()
            .join("instance-disks")
            .join(format!("{INSTANCE}:{index}"))
    };
    assert_eq!([link(0), link(1)].map(|link| link.is_symlink()), [true, false]);
    // No provider can.
    let pairs = json!([[bad, bad.logical_id.to_json()], [good, good.logical_id.to_json()]]);
    let renamed = call("blockdev_rename", json!([pairs])).await;
    let message = renamed[1].as_str().unwrap();
    assert_eq!(message.lines().count(), 2, "{renamed}");
    for disk in [&bad, &good] {
        assert_eq!(call("blockdev_shutdown", json!([disk])).await[0], json!(true));
        assert_eq!(call("blockdev_remove", json!([disk])).await[0], json!(true));
    }
}
