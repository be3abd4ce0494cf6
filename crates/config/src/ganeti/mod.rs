//! Ganeti's configuration file, `config.data`, of versions 3.0 and 3.1.
//!
//! [`Config`] reads and writes it; what has no field here is kept, so that writing what was read gives the same JSON value.
//! Reading checks the form of each object, [`Config::validate`] that they fit together.

mod validate;

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

pub use validate::{Inconsistent, Problem, Unique};

use crate::disk::Disk;
use crate::json::{JsonError, Object, Origin};
use crate::objects::{Cluster, Instance, Node, NodeGroup};

/// A version of the configuration. Ganeti counts its own major and minor version in it and always writes revision 0, as
/// the form does not change within a minor version (`constants.CONFIG_REVISION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u64,
    minor: u64,
    revision: u64,
}

impl Version {
    /// Ganeti 3.0.
    pub const V3_0: Self = Self::new(3, 0);
    /// Ganeti 3.1.
    pub const V3_1: Self = Self::new(3, 1);
    /// The versions that can be read.
    pub const SUPPORTED: [Self; 2] = [Self::V3_0, Self::V3_1];

    const fn new(major: u64, minor: u64) -> Self {
        Self {
            major,
            minor,
            revision: 0,
        }
    }

    /// Takes the number in a file apart (`version.SplitVersion`).
    pub fn from_number(number: u64) -> Self {
        Self {
            major: number / 1_000_000,
            minor: number / 10_000 % 100,
            revision: number % 10_000,
        }
    }

    /// The number in a file (`version.BuildVersion`).
    pub fn number(self) -> u64 {
        self.major * 1_000_000 + self.minor * 10_000 + self.revision
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision {
            0 => write!(f, "{}.{}", self.major, self.minor),
            revision => write!(f, "{}.{}.{revision}", self.major, self.minor),
        }
    }
}

/// A file that is no configuration that can be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file ends too early.
    #[error("the configuration is cut off after line {line}, column {column}")]
    Truncated {
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
    },
    /// The file is not JSON.
    #[error("the configuration is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// Another version of Ganeti wrote it.
    #[error("the configuration is that of Ganeti {0}, and only those of 3.0 and 3.1 can be read")]
    Version(Version),
    /// Something in it does not have the right form.
    #[error("the configuration is damaged")]
    Form(#[from] JsonError),
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Version(version) => Some(match (version.major, version.minor) {
                (3, 0 | 1) => "no Ganeti writes this version: has the file been edited?",
                (..3, _) => "upgrade the cluster to Ganeti 3.0 or 3.1 first (gnt-cluster upgrade)",
                _ => "downgrade a copy of the configuration with Ganeti's own cfgupgrade --downgrade",
            }),
            Self::Truncated { .. } | Self::Syntax(_) | Self::Form(_) => {
                Some("each master candidate has a copy of the configuration")
            }
        }
    }
}

/// The configuration of a cluster (`objects.ConfigData`), its objects by UUID.
#[derive(Debug, Clone)]
pub struct Config {
    /// The form that it has.
    pub version: Version,
    /// Settings of the whole cluster.
    pub cluster: Cluster,
    /// The machines.
    pub nodes: BTreeMap<String, Node>,
    /// The groups that they are in.
    pub nodegroups: BTreeMap<String, NodeGroup>,
    /// The virtual machines.
    pub instances: BTreeMap<String, Instance>,
    /// Disks of instances, and detached ones.
    pub disks: BTreeMap<String, Disk>,
    /// The rest of the file: networks, filters, serial number, times, whatever else.
    pub origin: Origin,
}

impl Config {
    /// Reads the text of a `config.data`.
    pub fn from_slice(text: &[u8]) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_slice(text).map_err(|error| match error.is_eof() {
            true => ConfigError::Truncated {
                line: error.line(),
                column: error.column(),
            },
            false => ConfigError::Syntax(error),
        })?;
        match value {
            Value::Object(object) => Self::from_object(object),
            _ => Err(JsonError::at("", "expected an object").into()),
        }
    }

    /// Reads the JSON object of a `config.data`.
    pub fn from_object(mut object: Object) -> Result<Self, ConfigError> {
        let number = take(&mut object, "version")?;
        let number = number
            .as_u64()
            .ok_or_else(|| JsonError::at("version", "expected a whole number"))?;
        let version = Version::from_number(number);
        if !Version::SUPPORTED.contains(&version) {
            return Err(ConfigError::Version(version));
        }
        let cluster = take_object(&mut object, "cluster")?;
        Ok(Self {
            version,
            cluster: Cluster::from_object(cluster).map_err(|error| error.below("cluster"))?,
            nodes: take_all(&mut object, "nodes", Node::from_object)?,
            nodegroups: take_all(&mut object, "nodegroups", NodeGroup::from_object)?,
            instances: take_all(&mut object, "instances", Instance::from_object)?,
            disks: take_all(&mut object, "disks", Disk::from_object)?,
            origin: Origin::new(object),
        })
    }
}

fn take(object: &mut Object, key: &str) -> Result<Value, JsonError> {
    object
        .remove(key)
        .ok_or_else(|| JsonError::at("", format_args!("there is no {key:?}")))
}

fn take_object(object: &mut Object, key: &str) -> Result<Object, JsonError> {
    match take(object, key)? {
        Value::Object(object) => Ok(object),
        _ => Err(JsonError::at(key, "expected an object")),
    }
}

fn take_all<T>(
    object: &mut Object,
    key: &str,
    read: fn(Object) -> Result<T, JsonError>,
) -> Result<BTreeMap<String, T>, JsonError> {
    let read_one = |(uuid, value)| match value {
        Value::Object(object) => match read(object) {
            Ok(item) => Ok((uuid, item)),
            Err(error) => Err(error.below(format_args!("{key}/{uuid}"))),
        },
        _ => Err(JsonError::at(&format!("{key}/{uuid}"), "expected an object")),
    };
    take_object(object, key)?.into_iter().map(read_one).collect()
}

/// As Ganeti writes it, secrets included.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &self.version.number())?;
        map.serialize_entry("cluster", &self.cluster)?;
        map.serialize_entry("nodes", &self.nodes)?;
        map.serialize_entry("nodegroups", &self.nodegroups)?;
        map.serialize_entry("instances", &self.instances)?;
        map.serialize_entry("disks", &self.disks)?;
        for (key, value) in self.origin.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
