//! Reads what Ganeti answers, as it was recorded: from `$ORACLE_DIR`, else from `fixtures/oracle/`.
//!
//! Another recording must do without a change of code, so nothing here or in a test may depend on the number of cases or
//! on particular ones, and nothing in a file may go unnoticed: files without cases, unknown fields, fields of the wrong
//! type are errors.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One question that Ganeti was asked, and its answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Record")]
pub struct Case {
    /// Names the case, for messages.
    pub name: String,
    /// The arguments; null if there are none.
    pub input: Value,
    /// Ganeti's answer, nulls, times and serial numbers left out.
    pub answer: Answer,
}

/// What Ganeti answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A result.
    Output(Value),
    /// An error.
    Error(Refusal),
}

/// An error that Ganeti answered with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Whose mistake it was.
    pub kind: Mistake,
    /// Ganeti's words.
    pub message: String,
    /// Ganeti's class of mistake (`errors.ECODE_*`), which not every error has.
    pub code: Option<String>,
}

/// Whose mistake an error was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mistake {
    /// The user's (`OpPrereqError`).
    Prereq,
    /// The caller's (`ProgrammerError`).
    Programmer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    case: String,
    #[serde(default)]
    input: Value,
    #[serde(default, deserialize_with = "even_null")]
    output: Option<Value>,
    error: Option<Refusal>,
}

/// A null that is there is an output like any other.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl TryFrom<Record> for Case {
    type Error = String;

    fn try_from(record: Record) -> Result<Self, String> {
        let answer = match (record.output, record.error) {
            (Some(output), None) => Answer::Output(output),
            (None, Some(error)) => Answer::Error(error),
            _ => {
                return Err(format!(
                    "{}: exactly one of output and error is expected",
                    record.case
                ));
            }
        };
        Ok(Self {
            name: record.case,
            input: record.input,
            answer,
        })
    }
}

/// A recording that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The file is not there.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a list of cases.
    #[error("{} is not a list of cases", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file has no cases: a test over it would say nothing.
    #[error("{} has no cases", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A case has fields that the test does not know, lacks some, or has them in other types.
    #[error("{case}: {part} is not what the test expects")]
    Unexpected {
        /// The case.
        case: String,
        /// Input or output.
        part: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Ganeti answered with an error, the test expects a result.
    #[error("{case}: recorded as an error: {message}")]
    Refused {
        /// The case.
        case: String,
        /// Ganeti's words.
        message: String,
    },
}

/// The cases of `FILE.json`.
pub fn cases(file: &str) -> Result<Vec<Case>, OracleError> {
    let folder = match std::env::var_os("ORACLE_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/oracle"),
    };
    let path = folder.join(file).with_extension("json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(OracleError::Read { path, source }),
    };
    match serde_json::from_slice::<Vec<Case>>(&text) {
        Ok(cases) if cases.is_empty() => Err(OracleError::Empty { path }),
        Ok(cases) => Ok(cases),
        Err(source) => Err(OracleError::Form { path, source }),
    }
}

impl Case {
    /// The input in the test's own type, which should deny unknown fields.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, OracleError> {
        self.read(&self.input, "input")
    }

    /// The output, where no case may be an error.
    pub fn output(&self) -> Result<&Value, OracleError> {
        match &self.answer {
            Answer::Output(output) => Ok(output),
            Answer::Error(refusal) => Err(OracleError::Refused {
                case: self.name.clone(),
                message: refusal.message.clone(),
            }),
        }
    }

    /// The output in the test's own type, which should deny unknown fields.
    pub fn output_as<T: DeserializeOwned>(&self) -> Result<T, OracleError> {
        self.read(self.output()?, "output")
    }

    fn read<T: DeserializeOwned>(&self, value: &Value, part: &'static str) -> Result<T, OracleError> {
        T::deserialize(value).map_err(|source| OracleError::Unexpected {
            case: self.name.clone(),
            part,
            source,
        })
    }
}

/// `value` without what recordings leave out: nulls, times and serial numbers, at any depth.
pub fn normalized(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, value)| {
                !value.is_null() && !["ctime", "mtime", "serial_no"].contains(&key.as_str())
            })
            .map(|(key, value)| (key, normalized(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(normalized).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(record: Value) -> Result<Case, serde_json::Error> {
        serde_json::from_value(record)
    }

    #[test]
    fn a_case_has_one_answer_and_nothing_else() {
        let null = case(json!({"case": "c", "output": null})).unwrap();
        assert_eq!(
            (null.input, null.answer),
            (Value::Null, Answer::Output(Value::Null))
        );
        let refused = json!({"case": "c", "input": 1, "error": {"kind": "prereq", "message": "no"}});
        let refused = case(refused).unwrap();
        assert!(matches!(
            refused.answer,
            Answer::Error(Refusal {
                kind: Mistake::Prereq,
                ..
            })
        ));
        assert!(matches!(refused.output(), Err(OracleError::Refused { .. })));

        for record in [
            json!({"case": "c"}),
            json!({"input": 1, "output": 1}),
            json!({"case": "c", "output": 1, "note": "new"}),
            json!({"case": "c", "output": 1, "error": {"kind": "prereq", "message": "no"}}),
            json!({"case": "c", "error": {"kind": "cosmic", "message": "no"}}),
        ] {
            assert!(case(record.clone()).is_err(), "{record}");
        }
    }

    #[test]
    fn what_recordings_leave_out_is_left_out() {
        let value = json!({"a": null, "b": [{"ctime": 1.5, "c": null, "d": 0}], "mtime": 2, "serial_no": 3});
        assert_eq!(normalized(value), json!({"b": [{"d": 0}]}));
    }
}
