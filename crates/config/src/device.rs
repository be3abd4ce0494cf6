//! Device types and the logical ids that name a device.

use std::borrow::Cow;

use enumset::EnumSetType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

use crate::secret::Secret;
use crate::size::Mebibytes;
use crate::template::DiskTemplate;

/// Size of the metadata volume of a drbd disk (`constants.DRBD_META_SIZE`).
pub const DRBD_META_SIZE: Mebibytes = Mebibytes(128);
/// First part of a blockdev disk's logical id (`constants.BLOCKDEV_DRIVER_MANUAL`).
pub const BLOCKDEV_DRIVER_MANUAL: &str = "manual";
/// First part of an rbd disk's logical id.
pub const RBD_DRIVER: &str = "rbd";
/// The provider of an ext disk for which none was named.
pub const DEFAULT_PROVIDER: &str = "ext";

/// The type of one device in a disk's tree: what a driver drives (`Disk.dev_type`).
#[derive(
    Debug,
    Hash,
    PartialOrd,
    Ord,
    EnumSetType,
    EnumIter,
    EnumString,
    Display,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum LogicalDevice {
    /// A file.
    File,
    /// A file on a shared file system.
    SharedFile,
    /// A logical volume.
    Plain,
    /// A block device known by its path.
    Blockdev,
    /// A DRBD 8.4 device.
    Drbd,
    /// A Ceph image.
    Rbd,
    /// A file on a Gluster volume.
    Gluster,
    /// A volume of an External Storage provider.
    Ext,
}

impl LogicalDevice {
    /// The device type of a top-level disk of `template`; none for diskless.
    pub fn of(template: DiskTemplate) -> Option<Self> {
        Some(match template {
            DiskTemplate::Diskless => return None,
            DiskTemplate::File => Self::File,
            DiskTemplate::SharedFile => Self::SharedFile,
            DiskTemplate::Plain => Self::Plain,
            DiskTemplate::Blockdev => Self::Blockdev,
            DiskTemplate::Drbd => Self::Drbd,
            DiskTemplate::Rbd => Self::Rbd,
            DiskTemplate::Gluster => Self::Gluster,
            DiskTemplate::Ext => Self::Ext,
        })
    }

    /// The template whose disks are of this type; what the named template sets are asked with.
    pub fn template(self) -> DiskTemplate {
        match self {
            Self::File => DiskTemplate::File,
            Self::SharedFile => DiskTemplate::SharedFile,
            Self::Plain => DiskTemplate::Plain,
            Self::Blockdev => DiskTemplate::Blockdev,
            Self::Drbd => DiskTemplate::Drbd,
            Self::Rbd => DiskTemplate::Rbd,
            Self::Gluster => DiskTemplate::Gluster,
            Self::Ext => DiskTemplate::Ext,
        }
    }
}

/// How files of file-based disks are presented to the hypervisor (`constants.FD_*`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, Display, IntoStaticStr, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum FileDriver {
    /// A loop device in the hypervisor's hands.
    Loop,
    /// Xen's blktap.
    Blktap,
    /// Xen's blktap2.
    Blktap2,
}

/// What names a device. On the wire and in `config.data` it is a tuple whose form depends on the device type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogicalId {
    /// `(vg, lv)`.
    Lv {
        /// Volume group.
        vg: String,
        /// Logical volume.
        lv: String,
    },
    /// `(node A, node B, port, minor on A, minor on B, secret)`.
    Drbd8 {
        /// UUIDs of the two nodes; the first was the primary when the disk was made.
        nodes: [String; 2],
        /// TCP port of the replication link; none while it has no network.
        port: Option<u16>,
        /// Minor numbers on the two nodes, in the order of `nodes`. 0 is a minor like any other.
        minors: [u32; 2],
        /// Shared secret of the replication link.
        secret: Secret,
    },
    /// `(file driver, path)`: file and sharedfile.
    File {
        /// How the file is presented.
        driver: FileDriver,
        /// Absolute path.
        path: String,
    },
    /// `("manual", path)`.
    BlockDev {
        /// Path under `/dev`.
        path: String,
    },
    /// `("rbd", image)`; the pool is a disk parameter.
    Rbd {
        /// Image name.
        volume: String,
    },
    /// `(provider, volume)`.
    Ext {
        /// Provider name, `ext` by default.
        provider: String,
        /// Volume name, `UUID.ext.diskN`.
        volume: String,
    },
    /// `(file driver, path)`, the path being relative to the Gluster volume.
    Gluster {
        /// How the file is presented.
        driver: FileDriver,
        /// Path inside the volume.
        path: String,
    },
}

/// A logical id that does not have the form of its device type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("logical_id of a {device} device must be {expected}, found {found}")]
pub struct LogicalIdError {
    /// The device type.
    pub device: LogicalDevice,
    /// The form expected.
    pub expected: &'static str,
    /// The JSON found; of anything but a pair, strings are left out, as they could be secrets.
    pub found: String,
}

impl LogicalId {
    /// Reads Ganeti's tuple for a device of type `device`.
    pub fn from_json(device: LogicalDevice, value: &Value) -> Result<Self, LogicalIdError> {
        let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let id = match device {
            LogicalDevice::Drbd => drbd_from_json(parts),
            _ => pair(parts).and_then(|(first, second)| Self::from_pair(device, first, second)),
        };
        id.ok_or_else(|| LogicalIdError {
            device,
            expected: expected_form(device),
            found: shape(value),
        })
    }

    fn from_pair(device: LogicalDevice, first: &str, second: &str) -> Option<Self> {
        let (left, right) = (first.to_owned(), second.to_owned());
        Some(match device {
            LogicalDevice::Plain => Self::Lv { vg: left, lv: right },
            LogicalDevice::Ext => Self::Ext {
                provider: left,
                volume: right,
            },
            LogicalDevice::File | LogicalDevice::SharedFile => Self::File {
                driver: first.parse().ok()?,
                path: right,
            },
            LogicalDevice::Gluster => Self::Gluster {
                driver: first.parse().ok()?,
                path: right,
            },
            LogicalDevice::Blockdev if first == BLOCKDEV_DRIVER_MANUAL => Self::BlockDev { path: right },
            LogicalDevice::Rbd if first == RBD_DRIVER => Self::Rbd { volume: right },
            LogicalDevice::Blockdev | LogicalDevice::Rbd | LogicalDevice::Drbd => return None,
        })
    }

    /// Ganeti's tuple, secrets included: for the wire and the store only.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Lv { vg, lv } => json!([vg, lv]),
            Self::Drbd8 {
                nodes: [a, b],
                port,
                minors: [ma, mb],
                secret,
            } => {
                json!([a, b, port, ma, mb, secret.expose()])
            }
            Self::File { driver, path } | Self::Gluster { driver, path } => json!([driver, path]),
            Self::BlockDev { path } => json!([BLOCKDEV_DRIVER_MANUAL, path]),
            Self::Rbd { volume } => json!([RBD_DRIVER, volume]),
            Self::Ext { provider, volume } => json!([provider, volume]),
        }
    }

    /// Ganeti's tuple for people: as [`to_json`](Self::to_json) with secrets replaced by `<redacted>`.
    pub fn to_display_json(&self) -> Value {
        match self {
            Self::Drbd8 {
                nodes: [a, b],
                port,
                minors: [ma, mb],
                secret,
            } => {
                json!([a, b, port, ma, mb, secret.to_string()])
            }
            other => other.to_json(),
        }
    }

    /// The part that names the volume: logical volume, image, path; for drbd the first minor.
    pub fn volume(&self) -> Cow<'_, str> {
        match self {
            Self::Lv { lv: name, .. }
            | Self::File { path: name, .. }
            | Self::BlockDev { path: name }
            | Self::Rbd { volume: name }
            | Self::Ext { volume: name, .. }
            | Self::Gluster { path: name, .. } => name.into(),
            Self::Drbd8 {
                minors: [minor, _], ..
            } => minor.to_string().into(),
        }
    }

    /// The id of another volume beside this one: in the same volume group, pool, provider; `name` is the part that
    /// [`volume`](Self::volume) gives. Drbd devices have no name to change.
    pub fn with_volume(&self, name: String) -> Self {
        let mut other = self.clone();
        match &mut other {
            Self::Lv { lv: volume, .. }
            | Self::File { path: volume, .. }
            | Self::BlockDev { path: volume }
            | Self::Rbd { volume }
            | Self::Ext { volume, .. }
            | Self::Gluster { path: volume, .. } => *volume = name,
            Self::Drbd8 { .. } => {}
        }
        other
    }

    /// Whether a device of type `device` is named by an id of this form.
    pub fn fits(&self, device: LogicalDevice) -> bool {
        match self {
            Self::Lv { .. } => device == LogicalDevice::Plain,
            Self::Drbd8 { .. } => device == LogicalDevice::Drbd,
            Self::File { .. } => matches!(device, LogicalDevice::File | LogicalDevice::SharedFile),
            Self::BlockDev { .. } => device == LogicalDevice::Blockdev,
            Self::Rbd { .. } => device == LogicalDevice::Rbd,
            Self::Ext { .. } => device == LogicalDevice::Ext,
            Self::Gluster { .. } => device == LogicalDevice::Gluster,
        }
    }
}

impl std::fmt::Display for LogicalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lv { vg, lv } => write!(f, "{vg}/{lv}"),
            Self::Drbd8 {
                minors: [a, b],
                port: Some(port),
                ..
            } => write!(f, "drbd{a}/{b} port {port}"),
            Self::Drbd8 {
                minors: [a, b],
                port: None,
                ..
            } => write!(f, "drbd{a}/{b} without network"),
            Self::File { path, .. } | Self::BlockDev { path } | Self::Gluster { path, .. } => {
                f.write_str(path)
            }
            Self::Rbd { volume } => write!(f, "rbd/{volume}"),
            Self::Ext { provider, volume } => write!(f, "{provider}/{volume}"),
        }
    }
}

fn pair(parts: &[Value]) -> Option<(&str, &str)> {
    match parts {
        [Value::String(first), Value::String(second)] => Some((first, second)),
        _ => None,
    }
}

fn drbd_from_json(parts: &[Value]) -> Option<LogicalId> {
    let [
        Value::String(a),
        Value::String(b),
        port,
        minor_a,
        minor_b,
        Value::String(secret),
    ] = parts
    else {
        return None;
    };
    let port = match port {
        Value::Null => None,
        number => Some(number.as_u64()?.try_into().ok()?),
    };
    let minors = [
        minor_a.as_u64()?.try_into().ok()?,
        minor_b.as_u64()?.try_into().ok()?,
    ];
    Some(LogicalId::Drbd8 {
        nodes: [a.clone(), b.clone()],
        port,
        minors,
        secret: Secret::new(secret),
    })
}

fn expected_form(device: LogicalDevice) -> &'static str {
    match device {
        LogicalDevice::Plain => "[volume group, logical volume]",
        LogicalDevice::Drbd => "[node, node, port, minor, minor, secret]",
        LogicalDevice::File | LogicalDevice::SharedFile | LogicalDevice::Gluster => {
            "[\"loop\" | \"blktap\" | \"blktap2\", path]"
        }
        LogicalDevice::Blockdev => "[\"manual\", path]",
        LogicalDevice::Rbd => "[\"rbd\", image]",
        LogicalDevice::Ext => "[provider, volume]",
    }
}

/// The JSON, without strings that could be a drbd secret: only a pair is shown as it is.
fn shape(value: &Value) -> String {
    let kind = |value: &Value| match value {
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
        number_or_null => number_or_null.to_string(),
    };
    match value {
        Value::Array(parts) if parts.len() == 2 => value.to_string(),
        Value::Array(parts) => format!("[{}]", parts.iter().map(kind).collect::<Vec<_>>().join(", ")),
        other => kind(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_the_wrong_form_are_refused_without_showing_strings_that_may_be_secret() {
        for (device, value, message) in [
            (
                LogicalDevice::Plain,
                json!(["vg"]),
                "a plain device must be [volume group, logical volume], found [string]",
            ),
            (
                LogicalDevice::Plain,
                json!("vg/lv"),
                "[volume group, logical volume], found string",
            ),
            (
                LogicalDevice::Plain,
                json!(["vg", 1]),
                r#"[volume group, logical volume], found ["vg",1]"#,
            ),
            (
                LogicalDevice::File,
                json!(["lop", "/x"]),
                r#"path], found ["lop","/x"]"#,
            ),
            (
                LogicalDevice::Blockdev,
                json!(["auto", "/dev/x"]),
                r#"["manual", path], found ["auto","/dev/x"]"#,
            ),
            (
                LogicalDevice::Rbd,
                json!(["ceph", "x"]),
                r#"["rbd", image], found ["ceph","x"]"#,
            ),
            (
                LogicalDevice::Ext,
                json!({"a": "sekrit"}),
                "[provider, volume], found object",
            ),
            (
                LogicalDevice::Drbd,
                json!(["a", "b", 1, 2, "sekrit"]),
                "[node, node, port, minor, minor, secret], found [string, string, 1, 2, string]",
            ),
            (
                LogicalDevice::Drbd,
                json!(["a", "b", 70000, 0, 0, "sekrit"]),
                "found [string, string, 70000, 0, 0, string]",
            ),
            (
                LogicalDevice::Drbd,
                json!(["a", "b", 1, -1, 0, "sekrit"]),
                "found [string, string, 1, -1, 0, string]",
            ),
            (
                LogicalDevice::Drbd,
                json!(["a", "b", 1, null, 0, ["sekrit"]]),
                "[string, string, 1, null, 0, array]",
            ),
        ] {
            let error = LogicalId::from_json(device, &value).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains("sekrit"), "{error}");
        }
    }

    #[test]
    fn a_minor_of_zero_and_a_missing_port_are_ids() {
        let id = LogicalId::from_json(LogicalDevice::Drbd, &json!(["a", "b", null, 0, 0, "s"])).unwrap();
        assert_eq!(id.to_json(), json!(["a", "b", null, 0, 0, "s"]));
        assert_eq!(id.to_string(), "drbd0/0 without network");
    }
}
