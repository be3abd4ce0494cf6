//! What a script finds in its environment.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use thiserror::Error;

use crate::volume::Volume;

/// The variable that names the state directory of this cluster: providers keep by default below it what they
/// keep on the node.
pub const STATE_VARIABLE: &str = "GNT_DISK_STATE";

/// What stands before a parameter's name, in capitals, in the name of its variable.
pub(crate) const PARAMETER_PREFIX: &str = "EXTP_";

/// What only some actions are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arguments<'a> {
    /// For create the size to make, for grow the size before; in MiB.
    pub size_mib: Option<u64>,
    /// For grow the size after, in MiB.
    pub new_size_mib: Option<u64>,
    /// For setinfo the text, see [`sanitize_metadata`].
    pub metadata: Option<&'a str>,
    /// For setinfo what the configuration can be rebuilt from.
    pub keep: Option<&'a str>,
    /// For snapshot the name of the copy.
    pub snapshot_name: Option<&'a str>,
    /// For snapshot the size of the copy, in MiB.
    pub snapshot_mib: Option<u64>,
    /// For open whether other nodes may not have it open too.
    pub exclusive: Option<bool>,
    /// For open the name of a node that died with the volume open, which counts no more.
    pub dead_node: Option<&'a str>,
}

/// A value that cannot be passed in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvironmentError {
    /// A parameter without a name.
    #[error("a parameter's name cannot be empty")]
    EmptyParameterName,
    /// A parameter whose name cannot be part of a variable's.
    #[error("the parameter {name:?} cannot be passed: its name contains {forbidden:?}")]
    ParameterName {
        /// The parameter.
        name: String,
        /// `=` or NUL.
        forbidden: char,
    },
    /// Two parameters that differ only in case would be the same variable.
    #[error("the parameters {first:?} and {second:?} cannot both be passed: both would be {variable}")]
    SameVariable {
        /// One parameter.
        first: String,
        /// The other.
        second: String,
        /// The variable.
        variable: String,
    },
    /// A parameter that is a list or an object.
    #[error("the parameter {name:?} cannot be passed: it is a {kind}, not text, a number or a truth value")]
    ParameterKind {
        /// The parameter.
        name: String,
        /// `list` or `object`.
        kind: &'static str,
    },
    /// A value with a NUL character.
    #[error("{variable} cannot be passed: it contains a NUL character")]
    Nul {
        /// The variable.
        variable: String,
    },
}

/// The environment of a script, as Ganeti's `_ExtStorageEnvironment` makes it, and `EXTP_PROVIDER`,
/// `VOL_INSTANCE`, `VOL_INDEX`, `VOL_KEEP` and, of a node that died, `VOL_OPEN_DEAD_NODE`. A volume's own parameters are `params`.
///
/// # Errors
/// When a value cannot be passed.
pub fn environment(
    provider: &str,
    params: &Map<String, Value>,
    volume: Option<&Volume<'_>>,
    arguments: &Arguments<'_>,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut variables = parameter_variables(params)?;
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            variables.insert(name.to_owned(), value);
        }
    };
    set("EXTP_PROVIDER", Some(provider.to_owned()));
    if let Some(volume) = volume {
        set("VOL_NAME", Some(volume.name.to_owned()));
        set("VOL_UUID", volume.uuid.map(str::to_owned));
        set("VOL_CNAME", volume.cname.map(str::to_owned));
        set("VOL_INSTANCE", volume.instance.map(str::to_owned));
        set("VOL_INDEX", volume.index.map(|index| index.to_string()));
    }
    set("VOL_SIZE", arguments.size_mib.map(|size| size.to_string()));
    set(
        "VOL_NEW_SIZE",
        arguments.new_size_mib.map(|size| size.to_string()),
    );
    set("VOL_METADATA", arguments.metadata.map(str::to_owned));
    set("VOL_KEEP", arguments.keep.map(str::to_owned));
    set("VOL_SNAPSHOT_NAME", arguments.snapshot_name.map(str::to_owned));
    set(
        "VOL_SNAPSHOT_SIZE",
        arguments.snapshot_mib.map(|size| size.to_string()),
    );
    let exclusive = arguments
        .exclusive
        .map(|exclusive| python_bool(exclusive).to_owned());
    set("VOL_OPEN_EXCLUSIVE", exclusive);
    set("VOL_OPEN_DEAD_NODE", arguments.dead_node.map(str::to_owned));

    match variables.iter().find(|(_, value)| value.contains('\0')) {
        Some((variable, _)) => Err(EnvironmentError::Nul {
            variable: variable.clone(),
        }),
        None => Ok(variables),
    }
}

/// The metadata that setinfo passes: as Ganeti's `ExtStorageDevice.SetInfo` makes it of any text. At most 128
/// characters out of `A-Z a-z 0-9 _ + . -`, the first not `-`; every other becomes `_`.
pub fn sanitize_metadata(text: &str) -> String {
    let allowed = |at, c: char| c.is_ascii_alphanumeric() || "_+.".contains(c) || (c == '-' && at > 0);
    let characters = text.chars().take(128).enumerate();
    characters
        .map(|(at, c)| if allowed(at, c) { c } else { '_' })
        .collect()
}

fn parameter_variable(name: &str) -> String {
    format!("{PARAMETER_PREFIX}{}", name.to_uppercase())
}

fn parameter_variables(params: &Map<String, Value>) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut variables = BTreeMap::new();
    for (name, value) in params {
        if name.is_empty() {
            return Err(EnvironmentError::EmptyParameterName);
        }
        if let Some(forbidden) = name.chars().find(|c| ['=', '\0'].contains(c)) {
            return Err(EnvironmentError::ParameterName {
                name: name.clone(),
                forbidden,
            });
        }
        let value = python_str(value).map_err(|kind| EnvironmentError::ParameterKind {
            name: name.clone(),
            kind,
        })?;
        let variable = parameter_variable(name);
        if variables.contains_key(&variable) {
            return Err(same_variable(params, variable, name));
        }
        variables.insert(variable, value);
    }
    Ok(variables)
}

fn same_variable(params: &Map<String, Value>, variable: String, second: &str) -> EnvironmentError {
    let mut names = params.keys().filter(|name| parameter_variable(name) == variable);
    EnvironmentError::SameVariable {
        first: names.next().map_or(second, String::as_str).to_owned(),
        second: second.to_owned(),
        variable,
    }
}

fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// What Python's `str()` makes of the value; the kind of it if that would not be for a shell script.
pub(crate) fn python_str(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::Null => Ok("None".to_owned()),
        Value::Bool(value) => Ok(python_bool(*value).to_owned()),
        Value::Number(number) => Ok(python_number(number)),
        Value::String(text) => Ok(text.clone()),
        Value::Array(_) => Err("list"),
        Value::Object(_) => Err("object"),
    }
}

/// Integers as they are; other numbers as `repr(float)`: the shortest digits that mean this number, with an
/// exponent below 1e-4 and from 1e16 on.
fn python_number(number: &Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if !(1e-4..1e16).contains(&value.abs()) && value != 0.0 => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn volume<'a>(params: &'a Map<String, Value>) -> Volume<'a> {
        Volume {
            provider: "pvdr",
            name: "u.ext.disk3",
            uuid: Some("u"),
            cname: Some("data"),
            instance: Some("web1"),
            index: Some(3),
            size_mib: 10,
            params,
        }
    }

    #[test]
    fn all_that_is_known_of_the_volume_is_passed() {
        let params = params(json!({"nas_ip": "1.2.3.4"}));
        let made = environment("pvdr", &params, Some(&volume(&params)), &Arguments::default()).unwrap();
        let expected = [
            ("EXTP_NAS_IP", "1.2.3.4"),
            ("EXTP_PROVIDER", "pvdr"),
            ("VOL_CNAME", "data"),
            ("VOL_INDEX", "3"),
            ("VOL_INSTANCE", "web1"),
            ("VOL_NAME", "u.ext.disk3"),
            ("VOL_UUID", "u"),
        ];
        let made: Vec<(&str, &str)> = made.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(made, expected);
    }

    #[test]
    fn the_provider_that_runs_is_the_one_named() {
        let params = params(json!({"provider": "other"}));
        let made = environment("pvdr", &params, None, &Arguments::default()).unwrap();
        assert_eq!(made["EXTP_PROVIDER"], "pvdr");
    }

    #[test]
    fn values_as_python_writes_them() {
        for (value, text) in [
            (json!(true), "True"),
            (json!(false), "False"),
            (json!(null), "None"),
            (json!(""), ""),
            (json!("a b"), "a b"),
            (json!(-7), "-7"),
            (json!(18446744073709551615_u64), "18446744073709551615"),
            (json!(1.0), "1.0"),
            (json!(-0.0), "-0.0"),
            (json!(0.1), "0.1"),
            (json!(0.0001), "0.0001"),
            (json!(0.00001), "1e-05"),
            (json!(1.5e-7), "1.5e-07"),
            (json!(1e15), "1000000000000000.0"),
            (json!(9999999999999998.0), "9999999999999998.0"),
            (json!(1e16), "1e+16"),
            (json!(-1.25e100), "-1.25e+100"),
        ] {
            assert_eq!(python_str(&value).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_cannot_be_passed_is_named() {
        let fails = |value| environment("p", &params(value), None, &Arguments::default()).unwrap_err();
        assert_eq!(fails(json!({"": 1})), EnvironmentError::EmptyParameterName);
        assert_eq!(
            fails(json!({"a=b": 1})).to_string(),
            r#"the parameter "a=b" cannot be passed: its name contains '='"#
        );
        assert!(matches!(
            fails(json!({"a\0b": 1})),
            EnvironmentError::ParameterName { forbidden: '\0', .. }
        ));
        assert_eq!(
            fails(json!({"a": "x\0y"})),
            EnvironmentError::Nul {
                variable: "EXTP_A".to_owned()
            }
        );
        assert_eq!(
            fails(json!({"a": [1]})),
            EnvironmentError::ParameterKind {
                name: "a".to_owned(),
                kind: "list"
            }
        );
        assert_eq!(
            fails(json!({"Dir": 1, "dir": 2})),
            EnvironmentError::SameVariable {
                first: "Dir".to_owned(),
                second: "dir".to_owned(),
                variable: "EXTP_DIR".to_owned()
            }
        );
    }

    #[test]
    fn a_nul_anywhere_is_refused() {
        let none = Map::new();
        let volume = Volume {
            name: "a\0b",
            ..volume(&none)
        };
        assert_eq!(
            environment("p", &none, Some(&volume), &Arguments::default()),
            Err(EnvironmentError::Nul {
                variable: "VOL_NAME".to_owned()
            })
        );
    }

    #[test]
    fn metadata_as_ganeti_cleans_it() {
        for (text, clean) in [
            ("originstname+web1.example.com", "originstname+web1.example.com"),
            ("-a-b", "_a-b"),
            ("a b\nc", "a_b_c"),
            ("ü=1", "__1"),
            ("", ""),
        ] {
            assert_eq!(sanitize_metadata(text), clean);
        }
        assert_eq!(sanitize_metadata(&"x".repeat(200)).len(), 128);
        assert_eq!(sanitize_metadata(&"é".repeat(200)).len(), 128);
    }
}
