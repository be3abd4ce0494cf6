//! How typed objects keep what they do not know: `config.data` and the wire carry keys that we have no use for, and
//! writing an object back must give the same JSON value.

use serde_json::{Map, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

/// What an object was read from, kept so that unknown keys, explicit nulls and left-out defaults survive writing.
/// Empty for an object that was made here.
#[derive(Debug, Clone, Default)]
pub struct Origin(Object);

impl Origin {
    /// Remembers `object`.
    pub fn new(object: Object) -> Self {
        Self(object)
    }

    /// A key that has no typed field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Sets a key that has no typed field.
    pub fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// The object to write: `typed`, laid over what was read. A typed value that is still as empty as what was read
    /// (absent, null, `[]`, `{}`, `""` alike) leaves it as it was; nulls are never added.
    pub fn overlay(&self, typed: Object) -> Object {
        let made_here = self.0.is_empty();
        let mut object = self.0.clone();
        for (key, value) in typed {
            let unchanged = match object.get(&key) {
                Some(old) => is_empty(old) && is_empty(&value),
                None => value.is_null() || (!made_here && is_empty(&value)),
            };
            if !unchanged {
                object.insert(key, value);
            }
        }
        object
    }

    /// Marks a change, as Ganeti does: `serial_no` goes up by one, `mtime` becomes `now` (seconds since the epoch);
    /// a new object gets `ctime` too.
    pub fn touch(&mut self, now: f64) {
        let serial = self.0.get("serial_no").and_then(Value::as_u64).unwrap_or(0);
        self.0.insert("serial_no".to_owned(), (serial + 1).into());
        self.0.insert("mtime".to_owned(), now.into());
        self.0.entry("ctime").or_insert_with(|| now.into());
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Implements `Serialize`, `Deserialize` and `PartialEq` for a struct that derives serde's traits with
/// `#[serde(remote = "Self")]` and has a field `#[serde(skip)] origin: Origin`.
macro_rules! json_object {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::Error;
                match <$type>::serialize(self, serde_json::value::Serializer).map_err(S::Error::custom)? {
                    serde_json::Value::Object(typed) => self.origin.overlay(typed).serialize(serializer),
                    _ => Err(S::Error::custom("a struct is written as an object")),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error;
                let object = $crate::json::Object::deserialize(deserializer)?;
                let origin = $crate::json::Origin::new(object.clone());
                let mut read =
                    <$type>::deserialize(serde_json::Value::Object(object)).map_err(D::Error::custom)?;
                read.origin = origin;
                Ok(read)
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
