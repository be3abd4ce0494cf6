//! Answers in the form that Ganeti's master understands.

use gnt_bdev::{ListedVolume, LocalDiskStatus, Status, StorageUnit, Told, UnitField};
use serde_json::{Value, json};

use super::reply::{LogicalVolume, Provider, Reply};

/// `constants.PROTOCOL_VERSION` of Ganeti 3.0.
const GANETI_PROTOCOL: u32 = 3_000_000;

/// The payload for Ganeti's master. What has no form there has no procedure there.
pub fn payload(reply: &Reply) -> Value {
    match reply {
        Reply::Version(_) => json!(GANETI_PROTOCOL),
        Reply::Sizes(sizes) => json!(sizes),
        Reply::LogicalVolumes(volumes) => volumes.iter().map(logical_volume).collect(),
        Reply::NodeVolumes(volumes) => volumes.iter().flat_map(pieces).collect(),
        Reply::Units(units, fields) => units.iter().map(|one| unit(one, fields)).collect(),
        Reply::Providers(providers) => providers.iter().map(provider).collect(),
        Reply::Text(text) => json!(text),
        Reply::Created(_, id) | Reply::Snapshot(_, id) => id.to_json(),
        Reply::Assembled(assembled) => match &assembled.device {
            None => json!([true, true]),
            Some(device) => {
                let path = |path: &Option<std::path::PathBuf>| {
                    path.as_ref().map(|path| path.to_string_lossy().into_owned())
                };
                json!([path(&device.path), path(&assembled.link), assembled.uri])
            }
        },
        Reply::Found(found) => found.as_ref().and_then(status).unwrap_or_default(),
        Reply::FoundAll(all) => {
            let one = |one: &Result<Option<Status>, Told>| match one {
                Ok(found) => match found.as_ref().and_then(status) {
                    Some(status) => json!([true, status]),
                    None => json!([false, "Can't find device"]),
                },
                Err(told) => json!([false, message(told)]),
            };
            all.iter().map(one).collect()
        }
        Reply::Mirrors(all) => all.iter().map(|one| status(one).unwrap_or_default()).collect(),
        Reply::Dimensions(all) => json!(all),
        Reply::Done(all) => {
            let one = |one: &Result<(), Told>| match one {
                Ok(()) => json!([true, null]),
                Err(told) => json!([false, message(told)]),
            };
            all.iter().map(one).collect()
        }
        Reply::Progress(progress) => json!([progress.done, number(progress.percent)]),
        Reply::Uuids(uuids) => json!(uuids),
        Reply::Nothing
        | Reply::Change(_)
        | Reply::AssembledAll(_)
        | Reply::Bytes(_)
        | Reply::Pieces(_)
        | Reply::Checksum(_)
        | Reply::Volumes(_)
        | Reply::Space(_)
        | Reply::Ids(..)
        | Reply::Minors(_)
        | Reply::Links(_) => Value::Null,
    }
}

/// The whole story in one line.
pub fn message(told: &Told) -> String {
    gnt_cmdlib::error::chain(told)
}

/// `objects.BlockDevStatus.ToDict`: what is none is left out. A device that is not active has no path, and is not found.
fn status(status: &Status) -> Option<Value> {
    let path = status.device.path.as_ref()?;
    let mut object = serde_json::Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(key.to_owned(), value);
        }
    };
    let (device, sync) = (&status.device, &status.sync);
    put("dev_path", Some(path.to_string_lossy().into()));
    put("major", device.major.map(Value::from));
    put("minor", device.minor.map(Value::from));
    put("sync_percent", sync.sync_percent.map(number));
    put("estimated_time", sync.estimated_time.map(Value::from));
    put("is_degraded", Some(sync.is_degraded.into()));
    put("ldisk_status", Some(local_disk(sync.ldisk_status).into()));
    Some(object.into())
}

/// `constants.LDS_*`.
fn local_disk(status: LocalDiskStatus) -> u8 {
    status as u8
}

/// A whole number is written as one.
fn number(number: f64) -> Value {
    let whole = number.trunc();
    if whole == number && whole.abs() < 1e15 {
        json!(whole as i64)
    } else {
        json!(number)
    }
}

/// `"VG/LV": [size in mebibytes, inactive, online]`.
fn logical_volume(volume: &LogicalVolume) -> (String, Value) {
    let size = mebibytes(volume.bytes);
    (volume.name.clone(), json!([size, !volume.active, volume.open]))
}

/// `backend.NodeVolumes`: a row for each piece of a volume, and one for a volume that is on nothing.
fn pieces(volume: &ListedVolume) -> Vec<Value> {
    let nothing = [String::new()];
    let pvs = match &volume.pvs[..] {
        [] => &nothing,
        pvs => pvs,
    };
    let piece = |pv| json!({"name": volume.lv, "size": mebibytes(volume.bytes), "dev": pv, "vg": volume.vg});
    pvs.iter().map(piece).collect()
}

/// What is wanted of a unit of storage, in mebibytes where it is a size.
fn unit(unit: &StorageUnit, fields: &[UnitField]) -> Value {
    let value = |field: &UnitField| match field {
        UnitField::Name => json!(unit.name),
        UnitField::Size => json!(unit.size),
        UnitField::Used => json!(unit.used),
        UnitField::Free => json!(unit.free),
        UnitField::Allocatable => json!(unit.allocatable),
    };
    fields.iter().map(value).collect()
}

/// As LVM writes them (`--units m --nosuffix`).
fn mebibytes(bytes: u64) -> String {
    const MEBIBYTE: f64 = 1_048_576.0;
    format!("{:.2}", bytes as f64 / MEBIBYTE)
}

fn provider(provider: &Provider) -> Value {
    let Provider {
        name,
        path,
        usable,
        diagnose,
        parameters,
    } = provider;
    json!([name, path, usable, diagnose, parameters])
}
