//! How typed objects keep what they do not know: `config.data` and the wire carry keys that we have no use for, and
//! writing an object back must give the same JSON value.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment, Track};

/// A JSON object.
pub type Object = Map<String, Value>;

/// What an object was read from, kept so that unknown keys, explicit nulls and left-out defaults survive writing.
/// Empty for an object that was made here.
#[derive(Clone, Default)]
pub struct Origin {
    raw: Object,
    /// The typed fields when they were read, where writing them would not give what was read: defaults, mostly.
    as_read: Object,
}

impl Origin {
    /// Remembers `object`.
    pub fn new(object: Object) -> Self {
        Self {
            raw: object,
            as_read: Object::new(),
        }
    }

    /// Remembers `object`, which was read as `typed`.
    pub(crate) fn read_as(object: Object, typed: Object) -> Self {
        let written_alike = |key: &str, value: &Value| object.get(key).unwrap_or(&Value::Null) == value;
        let as_read = typed
            .into_iter()
            .filter(|(key, value)| !written_alike(key, value));
        Self {
            as_read: as_read.collect(),
            raw: object,
        }
    }

    /// A key that has no typed field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.raw.get(key)
    }

    /// What was read, in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.raw.iter()
    }

    /// Sets a key that has no typed field.
    pub fn set(&mut self, key: &str, value: Value) {
        self.raw.insert(key.to_owned(), value);
    }

    /// The object to write: `typed`, laid over what was read. A typed value that is still what was read leaves the key as
    /// it was, absent or null or written in another way; a null removes its key, as Ganeti writes none.
    pub fn overlay(&self, typed: Object) -> Object {
        let mut object = self.raw.clone();
        for (key, value) in typed {
            if self.as_read.get(&key).or(self.raw.get(&key)) == Some(&value) {
                continue;
            }
            match value {
                Value::Null => object.remove(&key),
                value => object.insert(key, value),
            };
        }
        object
    }

    /// Marks a change, as Ganeti does: `serial_no` goes up by one, `mtime` becomes `now` (seconds since the epoch);
    /// a new object gets `ctime` too.
    pub fn touch(&mut self, now: f64) {
        let serial = self.raw.get("serial_no").and_then(Value::as_u64).unwrap_or(0);
        self.set("serial_no", (serial + 1).into());
        self.set("mtime", now.into());
        self.raw.entry("ctime").or_insert_with(|| now.into());
    }
}

/// The names of the keys only: values may be secret.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.raw.keys()).finish()
    }
}

/// A JSON object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct JsonError {
    /// Where, from the object that was read: keys and indexes, such as `children/0/size`.
    pub path: String,
    /// What is there and what should be.
    pub problem: String,
}

impl JsonError {
    /// A problem with the value of `key`.
    pub(crate) fn at(key: &str, problem: impl fmt::Display) -> Self {
        Self {
            path: key.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// The same error, seen from the object that has the failed one at `key`.
    pub(crate) fn below(self, key: impl fmt::Display) -> Self {
        let path = match self.path.as_str() {
            "" => key.to_string(),
            path => format!("{key}/{path}"),
        };
        Self { path, ..self }
    }
}

/// Runs serde's `deserialize` over `object`; an error says at which key.
pub(crate) fn read<'a, T>(
    object: &'a Object,
    deserialize: impl FnOnce(serde_path_to_error::Deserializer<'_, '_, &'a Object>) -> serde_json::Result<T>,
) -> Result<T, JsonError> {
    let mut track = Track::new();
    deserialize(serde_path_to_error::Deserializer::new(object, &mut track)).map_err(|error| JsonError {
        path: slashed(&track.path()),
        problem: error.to_string(),
    })
}

fn slashed(path: &Path) -> String {
    let segments = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Null is as good as absent: both give the default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Makes a JSON object of a struct that derives serde's traits with `#[serde(remote = "Self")]` and has a field
/// `#[serde(skip)] origin: Origin`: `Serialize`, `Deserialize`, `PartialEq` and `from_object`. `read:` names a function
/// to read the typed fields with, where serde's own would lose the place of an error.
macro_rules! json_object {
    ($type:ty) => {
        json_object!($type, read: |object| $crate::json::read(object, |d| <$type>::deserialize(d)));
    };
    ($type:ty, read: $read:expr) => {
        impl $type {
            /// Reads the object; an error says at which key.
            pub fn from_object(object: $crate::json::Object) -> Result<Self, $crate::json::JsonError> {
                let read: fn(&$crate::json::Object) -> Result<Self, $crate::json::JsonError> = $read;
                let mut this = read(&object)?;
                let typed = this.typed().map_err(|error| $crate::json::JsonError::at("", error))?;
                this.origin = $crate::json::Origin::read_as(object, typed);
                Ok(this)
            }

            /// The typed fields alone.
            fn typed(&self) -> Result<$crate::json::Object, serde_json::Error> {
                use serde::ser::Error;
                match <$type>::serialize(self, serde_json::value::Serializer)? {
                    serde_json::Value::Object(typed) => Ok(typed),
                    _ => Err(serde_json::Error::custom("a struct is written as an object")),
                }
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let typed = self.typed().map_err(serde::ser::Error::custom)?;
                self.origin.overlay(typed).serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let object = $crate::json::Object::deserialize(deserializer)?;
                Self::from_object(object).map_err(serde::de::Error::custom)
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                serde_json::to_value(self).ok() == serde_json::to_value(other).ok()
            }
        }
    };
}

pub(crate) use json_object;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::objects::Instance;

    fn instance(value: Value) -> Instance {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_was_read_is_written_whatever_its_form() {
        for value in [
            json!({"uuid": "u", "name": "n"}),
            json!({"uuid": "u", "name": "n", "primary_node": null, "disks": null, "disks_active": null}),
            json!({"uuid": "u", "name": "n", "disks": [], "disks_active": false, "nics": [{"x": null}], "ctime": 0.0}),
        ] {
            assert_eq!(serde_json::to_value(instance(value.clone())).unwrap(), value);
        }
    }

    #[test]
    fn a_change_is_written_and_nothing_else() {
        let mut read =
            instance(json!({"uuid": "u", "name": "n", "primary_node": "p", "disks": null, "os": "x"}));
        read.primary_node = None;
        read.disks_active = true;
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(
            written,
            json!({"uuid": "u", "name": "n", "disks": null, "os": "x", "disks_active": true})
        );
    }

    #[test]
    fn a_change_back_to_the_default_is_written() {
        let mut read = instance(json!({"uuid": "u", "name": "n", "disks_active": true, "disks": ["d"]}));
        read.disks_active = false;
        read.disks.clear();
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(
            written,
            json!({"uuid": "u", "name": "n", "disks_active": false, "disks": []})
        );
    }

    #[test]
    fn touching_counts_and_keeps_the_time_of_creation() {
        let mut read =
            instance(json!({"uuid": "u", "name": "n", "serial_no": 4, "ctime": 1.5, "mtime": 1.5}));
        read.origin.touch(3.25);
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(
            written,
            json!({"uuid": "u", "name": "n", "serial_no": 5, "ctime": 1.5, "mtime": 3.25})
        );
    }

    #[test]
    fn debug_output_shows_no_values() {
        let read = instance(json!({"uuid": "u", "name": "n", "osparams_private": {"password": "hidden"}}));
        assert!(!format!("{read:?}").contains("hidden"));
    }

    #[test]
    fn errors_say_at_which_key() {
        let object = json!({"uuid": "u", "name": "n", "disks": ["a", 3]});
        let error = serde_json::from_value::<Instance>(object).unwrap_err();
        assert!(error.to_string().starts_with("disks/1: invalid type"), "{error}");
    }
}
