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
        let mut variables = BTreeMap::new();
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
                _ => {
                    names::provider_parameter(key)?;
                    params.own.insert(key.clone(), value.clone());
                }
            }
            if let Some(other) = variables.insert(environment_name(key), key) {
                return Err(ParamError::Clash {
                    keys: [other.clone(), key.clone()],
                });
            }
        }
        Ok(params)
    }
}

/// The environment variable in which a provider finds a parameter.
pub fn environment_name(key: &str) -> String {
    format!("EXTP_{}", key.to_ascii_uppercase())
}

/// A value as Ganeti writes it into the environment: Python's `str`.
pub fn python_str(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => python_float(float),
            _ => number.to_string(),
        },
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Python writes exponents with a sign and at least two digits; when it uses them is the same as in Rust.
fn python_float(number: f64) -> String {
    let text = format!("{number:?}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
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

    #[test]
    fn values_are_written_as_python_writes_them() {
        for (value, text) in [
            (json!(null), "None"),
            (json!(true), "True"),
            (json!(false), "False"),
            (json!(-7), "-7"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!("as it is"), "as it is"),
            (json!(1.0), "1.0"),
            (json!(0.1), "0.1"),
            (json!(1e16), "1e+16"),
            (json!(1.5e300), "1.5e+300"),
            (json!(123456789012345.0), "123456789012345.0"),
            (json!(0.0001), "0.0001"),
            (json!(0.00001), "1e-05"),
            (json!(-2.5e-10), "-2.5e-10"),
        ] {
            assert_eq!(python_str(&value), text);
        }
    }
}
