//! Parameters that are not for everybody's eyes.

use std::borrow::Cow;

use gnt_process::Captured;
use serde_json::{Map, Value};

use crate::environment::python_str;
use crate::text::{abridge, escape};

/// Whether the value of a parameter, or of the variable made of it, is shown nowhere: its name says that it is a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["secret", "password", "passwd", "token", "key"]
        .iter()
        .any(|word| name.contains(word))
}

/// The values that must not be shown.
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Those among the parameters. What is shorter than four characters, or a truth value, keeps no secret but occurs in
    /// every output.
    pub(crate) fn among(params: &Map<String, Value>) -> Secrets {
        let mut secrets: Vec<String> = params
            .iter()
            .filter(|(name, value)| is_secret(name) && (value.is_string() || value.is_number()))
            .filter_map(|(_, value)| python_str(value).ok())
            .filter(|text| text.chars().count() >= 4)
            .collect();
        // One may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Secrets(secrets)
    }

    /// What was kept of an output, without the secrets, at most about `limit` bytes of it, escaped.
    pub(crate) fn shown(&self, captured: &Captured, limit: usize) -> String {
        escape(&abridge(&self.redact(&captured.text()), limit))
    }

    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let replace = |text: Cow<'a, str>, secret: &String| match text.contains(secret.as_str()) {
            true => Cow::Owned(text.replace(secret.as_str(), "<redacted>")),
            false => text,
        };
        self.0.iter().fold(Cow::Borrowed(text), replace)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_say_secret() {
        for name in ["password", "EXTP_API_TOKEN", "cephx_key", "chapSecret", "passwd"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["dir", "EXTP_PROVIDER", "pool", "pass_through"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn secrets_are_replaced_in_output() {
        let params = json!({"password": "hunter2", "key": "hunter2-longer", "pin_token": 12345, "use_key": true,
            "key2": "", "dir": "plain", "pem_key": "two\nlines"});
        let secrets = Secrets::among(params.as_object().unwrap());
        let captured = Captured::from(b"hunter2-longer hunter2 12345 True plain two\nlines\x07".to_vec());
        assert_eq!(
            secrets.shown(&captured, 1000),
            "<redacted> <redacted> <redacted> True plain <redacted>\\u{7}"
        );
    }
}
