//! Values of disk parameters, and the macro that makes a typed struct of a list of parameters.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{Display, EnumString, IntoStaticStr};

use crate::names::{self, NameError};

/// The type of a parameter's value, in Ganeti's words (`constants.VTYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// Text.
    String,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Configuration or wire: each value has its type.
    Config,
    /// A user: what `utils.ForceDictType` takes, such as `"5"` for a number and `"true"` for a truth value.
    User,
}

/// What a parameter can be set to.
pub trait ParameterValue: Sized {
    /// The type of its JSON.
    const KIND: Kind;
    /// What the value may be.
    const EXPECTED: &'static str;

    /// Reads a value; none if it is not one.
    fn from_json(value: &Value) -> Option<Self>;

    /// Writes the value; null for one that is not set.
    fn to_json(&self) -> Value;

    /// Reads what a user gave. Other than Ganeti, a fraction or a truth value is no number.
    fn from_user(value: &Value) -> Option<Self> {
        let converted = match (Self::KIND, value) {
            (Kind::Int, Value::String(text)) => Value::from(i64::from_str(text.trim()).ok()?),
            (Kind::Bool, Value::String(text)) if text.is_empty() => Value::Bool(false),
            (Kind::Bool, Value::String(text)) => bool::from_str(&text.to_ascii_lowercase()).ok()?.into(),
            (Kind::Bool, Value::Null) => Value::Bool(false),
            (Kind::Bool, Value::Number(number)) => Value::Bool(number.as_f64() != Some(0.0)),
            (Kind::String, Value::Bool(false)) => Value::String(String::new()),
            _ => return Self::from_json(value),
        };
        Self::from_json(&converted)
    }
}

impl ParameterValue for u64 {
    const KIND: Kind = Kind::Int;
    const EXPECTED: &'static str = "a whole number, 0 or more";

    fn from_json(value: &Value) -> Option<Self> {
        value.as_u64()
    }

    fn to_json(&self) -> Value {
        (*self).into()
    }
}

/// A number of stripes.
impl ParameterValue for NonZeroU32 {
    const KIND: Kind = Kind::Int;
    const EXPECTED: &'static str = "a whole number, 1 or more";

    fn from_json(value: &Value) -> Option<Self> {
        Self::new(value.as_u64()?.try_into().ok()?)
    }

    fn to_json(&self) -> Value {
        self.get().into()
    }
}

/// A TCP port.
impl ParameterValue for NonZeroU16 {
    const KIND: Kind = Kind::Int;
    const EXPECTED: &'static str = "a port, 1 to 65535";

    fn from_json(value: &Value) -> Option<Self> {
        Self::new(value.as_u64()?.try_into().ok()?)
    }

    fn to_json(&self) -> Value {
        self.get().into()
    }
}

impl ParameterValue for bool {
    const KIND: Kind = Kind::Bool;
    const EXPECTED: &'static str = "true or false";

    fn from_json(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn to_json(&self) -> Value {
        (*self).into()
    }
}

impl ParameterValue for String {
    const KIND: Kind = Kind::String;
    const EXPECTED: &'static str = "text";

    fn from_json(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn to_json(&self) -> Value {
        self.as_str().into()
    }
}

/// A value that may be left empty.
impl<T: ParameterValue> ParameterValue for Option<T> {
    const KIND: Kind = T::KIND;
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_json(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("") => Some(None),
            _ => T::from_json(value).map(Some),
        }
    }

    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }
}

/// Implements [`ParameterValue`] for a type that has `FromStr` and `Display`.
macro_rules! text_value {
    ($type:ty, $expected:literal) => {
        impl $crate::params::ParameterValue for $type {
            const KIND: $crate::params::Kind = $crate::params::Kind::String;
            const EXPECTED: &'static str = $expected;

            fn from_json(value: &serde_json::Value) -> Option<Self> {
                value.as_str()?.parse().ok()
            }

            fn to_json(&self) -> serde_json::Value {
                self.to_string().into()
            }
        }
    };
}

pub(crate) use text_value;

/// How a hypervisor reaches a disk (`constants.DISK_VALID_ACCESS_MODES`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    Display,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Access {
    /// Through a block device of the node.
    #[default]
    Kernelspace,
    /// By itself, over the network.
    Userspace,
}

text_value!(Access, "kernelspace or userspace");

/// Makes a type of names that are checked.
macro_rules! name_value {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A name that needs no check.
            pub(super) fn from_static(name: &'static str) -> Self {
                Self(name.to_owned())
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(name).map(|()| Self(name.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        text_value!($name, $expected);
    };
}

name_value!(
    /// A volume group, or empty: clusters without LVM have `""` (`bootstrap.InitCluster`).
    VolumeGroupName,
    "a volume group name",
    |name| if name.is_empty() { Ok(()) } else { names::volume_group(name) }
);

name_value!(
    /// A pool, a Gluster volume, a Ceph user.
    VolumeName,
    "a name of letters, digits, '.', '_', '+', ':' and '-'",
    names::volume
);

name_value!(
    /// A host name or an address.
    HostName,
    "a host name or an IP address",
    names::host
);
