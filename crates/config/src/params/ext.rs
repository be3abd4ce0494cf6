//! Parameters of ext disks.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Access, ParamError, Source, parameters, read_value};
use crate::json::Object;
use crate::names;
use crate::template::DiskTemplate;

parameters! {
    /// Parameters of the template (`ext`): what is set for a cluster or a group.
    ExtParams of Ext {
        /// How the hypervisor reaches the disk.
        "access" access: Access = Access::Kernelspace,
    }
}

/// The key of a disk's parameters that names its provider.
pub const PROVIDER: &str = "provider";

/// Parameters of one ext volume: those of the template, and whatever its provider understands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExtVolumeParams {
    /// How the hypervisor reaches the disk.
    pub access: Access,
    /// The provider; in disks made by Ganeti the same as in the logical id.
    pub provider: Option<String>,
    /// The provider's own parameters: texts, numbers, truth values, nulls.
    pub own: BTreeMap<String, Value>,
}

impl ExtVolumeParams {
    /// Reads the parameters of a disk.
    pub fn from_object(object: &Object) -> Result<Self, ParamError> {
        let mut params = Self::default();
        let mut in_upper_case = BTreeMap::new();
        for (key, value) in object {
            let invalid = |expected| ParamError::invalid(DiskTemplate::Ext, key, expected, value);
            match key.as_str() {
                "access" => params.access = read_value(DiskTemplate::Ext, key, value, Source::Config)?,
                PROVIDER => {
                    let provider = value.as_str().filter(|name| names::provider(name).is_ok());
                    params.provider = Some(provider.ok_or_else(|| invalid("a provider's name"))?.to_owned());
                }
                _ if value.is_array() || value.is_object() => {
                    return Err(invalid("text, a number, true, false or null"));
                }
                _ if value.as_str().is_some_and(|text| text.contains('\0')) => {
                    return Err(invalid("text without NUL"));
                }
                _ => {
                    names::provider_parameter(key)?;
                    params.own.insert(key.clone(), value.clone());
                }
            }
            if let Some(other) = in_upper_case.insert(key.to_ascii_uppercase(), key) {
                return Err(ParamError::Clash {
                    keys: [other.clone(), key.clone()],
                });
            }
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<ExtVolumeParams, ParamError> {
        ExtVolumeParams::from_object(value.as_object().unwrap())
    }

    #[test]
    fn what_the_provider_understands_is_kept() {
        let params =
            read(json!({"provider": "san", "access": "userspace", "1pr": 5, "wwn": "a b", "x": null}))
                .unwrap();
        assert_eq!(
            (params.access, params.provider.as_deref()),
            (Access::Userspace, Some("san"))
        );
        assert_eq!(json!(params.own), json!({"1pr": 5, "wwn": "a b", "x": null}));
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused() {
        for (params, words) in [
            (
                json!({"access": "user"}),
                "kernelspace or userspace, not \"user\"",
            ),
            (json!({"provider": "../x"}), "a provider's name"),
            (json!({"x": [1]}), "not a list"),
            (json!({"x": "a\0b"}), "text without NUL"),
            (json!({"a=b": 1}), "cannot be passed"),
            (json!({"Foo": 1, "foo": 1}), "\"Foo\" and \"foo\""),
            (
                json!({"Provider": "x", "provider": "x"}),
                "\"Provider\" and \"provider\"",
            ),
        ] {
            let error = read(params).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
