//! Node parameters (`ndparams`), as the cluster, a group or a node sets them.

use serde_json::Value;

use crate::json::Object;
use crate::objects::EXCLUSIVE_STORAGE;

/// Where a node parameter is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For all nodes of the cluster, or of a group.
    Group,
    /// For one node.
    Node,
}

/// A node parameter that cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeParamError {
    /// There is no such parameter.
    #[error("there is no node parameter {key:?}")]
    Unknown {
        /// What was asked for.
        key: String,
    },
    /// It has another type.
    #[error("node parameter {key} must be {expected}, not {value}")]
    Value {
        /// The parameter.
        key: &'static str,
        /// What it can be.
        expected: &'static str,
        /// What was asked for.
        value: Value,
    },
    /// All nodes of a group have the same.
    #[error("node parameter {key} cannot be set for one node")]
    NotForOneNode {
        /// The parameter.
        key: &'static str,
    },
}

impl NodeParamError {
    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
                format!("the node parameters are {}", names.join(", "))
            }
            Self::Value { .. } => "the value 'default' unsets it".to_owned(),
            Self::NotForOneNode { .. } => "set it for the node's group".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Type {
    Flag,
    Number { least: u64, most: u64 },
    Text,
    Speed,
}

/// `constants.NDS_PARAMETER_TYPES`.
const KNOWN: [(&str, Type); 8] = [
    ("cpu_speed", Type::Speed),
    (EXCLUSIVE_STORAGE, Type::Flag),
    ("oob_program", Type::Text),
    ("ovs", Type::Flag),
    ("ovs_link", Type::Text),
    ("ovs_name", Type::Text),
    (
        "spindle_count",
        Type::Number {
            least: 0,
            most: u32::MAX as u64,
        },
    ),
    (
        SSH_PORT,
        Type::Number {
            least: 1,
            most: 65535,
        },
    ),
];

/// Node parameter: where its ssh listens (`constants.ND_SSH_PORT`).
pub const SSH_PORT: &str = "ssh_port";

/// The parameters that are `set`, with a user's `changes`; `"default"` or null takes one out (`GetUpdatedParams`). Whether volumes have disks
/// for themselves is the same for all nodes of a group (`NDC_GLOBALS`).
///
/// # Errors
/// For what is no node parameter, or has another type.
pub fn update(level: Level, set: &Object, changes: &Object) -> Result<Object, NodeParamError> {
    let mut updated = set.clone();
    for (key, value) in changes {
        let Some((key, kind)) = KNOWN.iter().find(|(known, _)| known == key) else {
            return Err(NodeParamError::Unknown { key: key.clone() });
        };
        if value.is_null() || value == "default" {
            updated.remove(*key);
            continue;
        }
        if level == Level::Node && *key == EXCLUSIVE_STORAGE {
            return Err(NodeParamError::NotForOneNode { key });
        }
        let (typed, expected) = kind.read(value);
        let typed = typed.ok_or_else(|| NodeParamError::Value {
            key,
            expected,
            value: value.clone(),
        })?;
        updated.insert((*key).to_owned(), typed);
    }
    Ok(updated)
}

impl Type {
    /// The value, which on a command line is text, if it is one; and what it can be.
    fn read(self, value: &Value) -> (Option<Value>, &'static str) {
        let parsed = match value {
            Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            other => other.clone(),
        };
        match self {
            Self::Flag => (parsed.as_bool().map(Value::from), "true or false"),
            Self::Number { least, most } => {
                let number = parsed.as_u64().filter(|number| (least..=most).contains(number));
                (number.map(Value::from), "a whole number in range")
            }
            Self::Text => (value.as_str().map(Value::from), "text"),
            Self::Speed => {
                let speed = parsed.as_f64().filter(|speed| *speed > 0.0);
                (speed.map(|_| parsed.clone()), "a number above 0")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(level: Level, changes: Value) -> Result<Value, NodeParamError> {
        let set = json!({"ovs_name": "switch1", "custom": 1});
        super::update(level, set.as_object().unwrap(), changes.as_object().unwrap()).map(Value::from)
    }

    #[test]
    fn values_are_typed_and_what_is_not_named_stays() {
        let changes =
            json!({"exclusive_storage": "true", "ssh_port": "2222", "ovs_name": "default", "cpu_speed": 1.5});
        assert_eq!(
            update(Level::Group, changes).unwrap(),
            json!({"custom": 1, "exclusive_storage": true, "ssh_port": 2222, "cpu_speed": 1.5})
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (level, changes) in [
            (Level::Group, json!({"nonsense": "1"})),
            (Level::Group, json!({"exclusive_storage": "maybe"})),
            (Level::Group, json!({"ssh_port": "0"})),
            (Level::Group, json!({"ssh_port": 65536})),
            (Level::Group, json!({"oob_program": 5})),
            (Level::Node, json!({"exclusive_storage": true})),
        ] {
            let error = update(level, changes).unwrap_err();
            assert!(!error.hint().is_empty());
        }
        // What an imported node has of its own can be taken from it.
        update(Level::Node, json!({"exclusive_storage": "default"})).unwrap();
    }
}
