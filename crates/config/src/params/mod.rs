//! Disk parameters: what is set for the cluster, overridden for a node group, overridden for a disk.
//!
//! Per template there is one set of parameters, which clusters and groups have (Ganeti's `dt` parameters). A device has its
//! own set, which a node gets with it (`ld` parameters); other than for drbd the two are alike.

mod drbd;
mod ext;
mod gluster;
mod hierarchy;
mod lvm;
pub mod node;
mod rbd;
mod value;

use serde_json::Value;

pub use drbd::{Barriers, BarriersError, DrbdDeviceParams, DrbdParams, Protocol};
pub use ext::{ExtParams, ExtVolumeParams, PROVIDER};
pub use gluster::GlusterParams;
pub use hierarchy::{DiskParams, annotate_disk_params, check_device, update};
pub use lvm::LvmParams;
pub use rbd::RbdParams;
pub use value::{Access, HostName, Kind, ParameterValue, Source, VolumeGroupName, VolumeName};

use crate::json::Object;
use crate::names::NameError;
use crate::template::DiskTemplate;

/// A disk parameter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// The template has no such parameter.
    #[error("disk template {template} has no parameter {key:?}")]
    Unknown {
        /// The template.
        template: DiskTemplate,
        /// The parameter.
        key: String,
        /// The parameters that there are.
        known: Vec<&'static str>,
    },
    /// The value has the wrong type or is not allowed.
    #[error("parameter {key:?} of disk template {template} must be {expected}, not {found}")]
    Invalid {
        /// The template.
        template: DiskTemplate,
        /// The parameter.
        key: String,
        /// What it may be.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// The parameter's name cannot be passed to a provider.
    #[error("parameter cannot be passed to a provider")]
    Name(#[from] NameError),
    /// A provider could not tell two parameters apart, as it gets their names in upper case.
    #[error("parameters {:?} and {:?} are the same for a provider", keys[0], keys[1])]
    Clash {
        /// The parameters.
        keys: [String; 2],
    },
    /// A drbd disk without its data and metadata volume.
    #[error("{disk} must have two volumes below it, data and metadata, not {found}")]
    Children {
        /// The disk.
        disk: String,
        /// Number of volumes there are.
        found: usize,
    },
}

impl ParamError {
    fn invalid(template: DiskTemplate, key: &str, expected: &'static str, value: &Value) -> Self {
        let found = match value {
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            scalar => scalar.to_string(),
        };
        Self::Invalid {
            template,
            key: key.to_owned(),
            expected,
            found,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { template, known, .. } if known.is_empty() => {
                Some(format!("disk template {template} has no parameters"))
            }
            Self::Unknown { known, .. } => Some(format!("known parameters: {}", known.join(", "))),
            _ => None,
        }
    }
}

/// One parameter of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// What it may be.
    pub expected: &'static str,
}

/// A typed set of parameters.
pub trait Parameters {
    /// The template whose disks have them.
    fn template(&self) -> DiskTemplate;

    /// The parameters, in order of their names.
    fn keys(&self) -> &'static [Key];

    /// Sets one parameter.
    fn set(&mut self, key: &str, value: &Value, source: Source) -> Result<(), ParamError>;

    /// One parameter as JSON: null where it is not set, none where there is no such parameter.
    fn get(&self, key: &str) -> Option<Value>;

    /// Sets the parameters in `object` and leaves the others.
    fn apply(&mut self, object: &Object) -> Result<(), ParamError> {
        object
            .iter()
            .try_for_each(|(key, value)| self.set(key, value, Source::Config))
    }

    /// The defaults, overridden by the parameters in `object`.
    fn from_object(object: &Object) -> Result<Self, ParamError>
    where
        Self: Default,
    {
        let mut params = Self::default();
        params.apply(object)?;
        Ok(params)
    }

    /// All parameters that are set.
    fn to_object(&self) -> Object {
        let is_set = |key: &Key| Some((key.name.to_owned(), self.get(key.name).filter(|v| !v.is_null())?));
        self.keys().iter().filter_map(is_set).collect()
    }

    /// The error for a parameter that there is not.
    fn unknown(&self, key: &str) -> ParamError {
        ParamError::Unknown {
            template: self.template(),
            key: key.to_owned(),
            known: self.keys().iter().map(|key| key.name).collect(),
        }
    }
}

fn read_value<T: ParameterValue>(
    template: DiskTemplate,
    key: &str,
    value: &Value,
    source: Source,
) -> Result<T, ParamError> {
    let read = match source {
        Source::Config => T::from_json(value),
        Source::User => T::from_user(value),
    };
    read.ok_or_else(|| ParamError::invalid(template, key, T::EXPECTED, value))
}

/// Makes a struct of typed parameters of a list `"key" field: Type = default`.
macro_rules! parameters {
    (
        $(#[$doc:meta])*
        $name:ident of $template:ident {
            $($(#[$field_doc:meta])* $key:literal $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::params::Parameters for $name {
            fn template(&self) -> $crate::template::DiskTemplate {
                $crate::template::DiskTemplate::$template
            }

            fn keys(&self) -> &'static [$crate::params::Key] {
                &[$($crate::params::Key {
                    name: $key,
                    kind: <$type as $crate::params::ParameterValue>::KIND,
                    expected: <$type as $crate::params::ParameterValue>::EXPECTED,
                },)*]
            }

            fn set(
                &mut self,
                key: &str,
                value: &serde_json::Value,
                source: $crate::params::Source,
            ) -> Result<(), $crate::params::ParamError> {
                match key {
                    $($key => self.$field = $crate::params::read_value(self.template(), key, value, source)?,)*
                    _ => return Err(self.unknown(key)),
                }
                Ok(())
            }

            fn get(&self, key: &str) -> Option<serde_json::Value> {
                match key {
                    $($key => Some($crate::params::ParameterValue::to_json(&self.$field)),)*
                    _ => None,
                }
            }
        }
    };
}

use parameters;
