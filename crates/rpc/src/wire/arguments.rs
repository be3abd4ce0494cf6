//! Positional arguments.

use gnt_cmdlib::node::Role;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Dialect;

/// A call that makes no sense. What it says of arguments never quotes them: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// The caller is of another time.
    #[error(
        "this node speaks version {} of the protocol, and the caller another: install the same gnt-disk on all nodes",
        super::PROTOCOL
    )]
    Protocol,
    /// The body is no JSON array of arguments.
    #[error("the arguments are no JSON array: {problem} at line {line} column {column}")]
    Json {
        /// What it is instead.
        problem: &'static str,
        /// Where.
        line: usize,
        /// Where in it.
        column: usize,
    },
    /// One is missing.
    #[error("{procedure} got {count} arguments, and needs {name}")]
    Missing {
        /// The procedure.
        procedure: &'static str,
        /// How many it got.
        count: usize,
        /// The one that it lacks.
        name: &'static str,
    },
    /// There are too many.
    #[error("{procedure} got {count} arguments, and takes {taken}")]
    TooMany {
        /// The procedure.
        procedure: &'static str,
        /// How many it got.
        count: usize,
        /// How many it takes.
        taken: usize,
    },
    /// One is something else than it should be.
    #[error("argument {name} of {procedure} is wrong{}", .problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default())]
    Argument {
        /// The procedure.
        procedure: &'static str,
        /// The argument.
        name: &'static str,
        /// What is wrong with it, where that can be told without showing it.
        problem: Option<String>,
    },
    /// The bytes after the arguments are not those that the arguments tell of.
    #[error(transparent)]
    Data(#[from] super::BadPieces),
}

/// What Ganeti's arguments have no room for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct More {
    /// The instance of each disk, in the order of the call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) instances: Vec<String>,
    /// What the node is to the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<Role>,
    /// Offset and length in bytes, where Ganeti has mebibytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<(u64, u64)>,
}

/// Takes the arguments of a call one after the other.
pub(super) struct Arguments {
    procedure: &'static str,
    count: usize,
    rest: std::vec::IntoIter<Value>,
    more: More,
    instances: std::vec::IntoIter<String>,
}

impl Arguments {
    pub(super) fn new(
        procedure: &'static str,
        mut arguments: Vec<Value>,
        dialect: Dialect,
    ) -> Result<Self, BadCall> {
        let more = match (dialect, arguments.pop()) {
            (Dialect::Ours, Some(last)) => serde_json::from_value(last).map_err(|_| BadCall::Argument {
                procedure,
                name: "more",
                problem: None,
            })?,
            (Dialect::Ganeti, Some(last)) => {
                arguments.push(last);
                More::default()
            }
            (_, None) => More::default(),
        };
        let mut more: More = more;
        Ok(Self {
            procedure,
            count: arguments.len(),
            rest: arguments.into_iter(),
            instances: std::mem::take(&mut more.instances).into_iter(),
            more,
        })
    }

    /// The next argument as it is.
    pub(super) fn value(&mut self, name: &'static str) -> Result<Value, BadCall> {
        self.rest.next().ok_or(BadCall::Missing {
            procedure: self.procedure,
            count: self.count,
            name,
        })
    }

    /// The next argument.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, BadCall> {
        let value = self.value(name)?;
        serde_json::from_value(value).map_err(|_| self.wrong(name, None))
    }

    /// The instance of the next disk; Ganeti does not always tell.
    pub(super) fn instance(&mut self) -> String {
        self.instances.next().unwrap_or_default()
    }

    pub(super) fn more(&self) -> &More {
        &self.more
    }

    pub(super) fn wrong(&self, name: &'static str, problem: Option<String>) -> BadCall {
        BadCall::Argument {
            procedure: self.procedure,
            name,
            problem,
        }
    }

    /// There must be no more.
    pub(super) fn finish(self) -> Result<(), BadCall> {
        let left = self.rest.len();
        match left {
            0 => Ok(()),
            _ => Err(BadCall::TooMany {
                procedure: self.procedure,
                count: self.count,
                taken: self.count - left,
            }),
        }
    }
}
