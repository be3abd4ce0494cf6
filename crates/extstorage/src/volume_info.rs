//! What list and info print.

use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use crate::text::quote;

/// A volume as its provider knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Its size in MiB.
    #[serde(rename = "size")]
    pub size_mib: Option<u64>,
    /// The disk's uuid.
    pub uuid: Option<String>,
    /// The disk's name.
    pub cname: Option<String>,
    /// The instance whose disk it is.
    pub instance: Option<String>,
    /// Which of the instance's disks it is.
    pub index: Option<u32>,
    /// What setinfo had it keep.
    pub metadata: Option<String>,
    /// What setinfo had it keep for us, as it was.
    pub kept: Option<String>,
    /// Its device on this node; info says that, and list may.
    pub device: Option<PathBuf>,
}

/// A line that does not describe a volume.
#[derive(Debug, Error)]
#[error("its line {line} does not describe a volume: {text}")]
pub struct VolumeInfoError {
    /// Which line, from 1.
    pub line: usize,
    /// The line, quoted and escaped.
    pub text: String,
    /// What is wrong with it.
    #[source]
    pub source: VolumeInfoFault,
}

/// What is wrong with a line that should describe a volume.
#[derive(Debug, Error)]
pub enum VolumeInfoFault {
    /// Not JSON, or not with the keys and types that it should have.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Info describes one volume.
    #[error("only one volume was asked for")]
    Second,
}

/// Parses what list prints: one JSON object a line, with at least a `name`; unknown keys are ignored.
///
/// # Errors
/// When a line is anything else.
pub fn parse_list(output: &[u8]) -> Result<Vec<VolumeInfo>, VolumeInfoError> {
    lines(output).map(|(line, text)| parse_line(line, text)).collect()
}

/// Parses what info prints: one line as list prints it, or nothing if there is no such volume.
///
/// # Errors
/// When it is anything else.
pub fn parse_info(output: &[u8]) -> Result<Option<VolumeInfo>, VolumeInfoError> {
    let mut lines = lines(output);
    let Some((line, text)) = lines.next() else {
        return Ok(None);
    };
    let info = parse_line(line, text)?;
    match lines.next() {
        None => Ok(Some(info)),
        Some((line, text)) => Err(VolumeInfoError {
            line,
            text: quote(text),
            source: VolumeInfoFault::Second,
        }),
    }
}

fn lines(output: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = output.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let numbered = lines.enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter(|(_, line)| !line.is_empty())
}

fn parse_line(line: usize, text: &[u8]) -> Result<VolumeInfo, VolumeInfoError> {
    serde_json::from_slice(text).map_err(|error| VolumeInfoError {
        line,
        text: quote(text),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_line_of_the_provider_ext() {
        let line = br#"{"name":"u.ext.disk0","size":64,"uuid":"u","instance":"web","index":0,"cname":null,"metadata":"originstname+web","kept":"{\"uuid\":\"u\"}","created":"2026-01-02T03:04:05Z","snapshot_of":null,"device":"/dev/loop0"}"#;
        let expected = VolumeInfo {
            name: "u.ext.disk0".to_owned(),
            size_mib: Some(64),
            uuid: Some("u".to_owned()),
            cname: None,
            instance: Some("web".to_owned()),
            index: Some(0),
            metadata: Some("originstname+web".to_owned()),
            kept: Some(r#"{"uuid":"u"}"#.to_owned()),
            device: Some("/dev/loop0".into()),
        };
        assert_eq!(parse_info(line).unwrap(), Some(expected.clone()));
        assert_eq!(parse_list(line).unwrap(), [expected]);
    }

    #[test]
    fn only_the_name_is_needed() {
        let volumes = parse_list(b"{\"name\":\"a\"}\n\n  {\"name\": \"b\", \"odd\": [1]}\r\n").unwrap();
        let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn nothing_is_no_volume() {
        assert_eq!(parse_list(b"").unwrap(), []);
        assert_eq!(parse_info(b"").unwrap(), None);
        assert_eq!(parse_info(b" \n\n").unwrap(), None);
    }

    #[test]
    fn errors_name_the_line() {
        let error = parse_list(b"{\"name\":\"a\"}\n\nWARNING: slow\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"its line 3 does not describe a volume: "WARNING: slow""#
        );
        for (text, cause) in [
            ("{}", "missing field `name`"),
            (r#"{"name":7}"#, "invalid type: integer `7`, expected a string"),
            (
                r#"{"name":"a","size":-1}"#,
                "invalid value: integer `-1`, expected u64",
            ),
            (
                r#"{"name":"a","size":1.5}"#,
                "invalid type: floating point `1.5`, expected u64",
            ),
            (r#"{"name":"a"} {"name":"b"}"#, "trailing characters"),
            ("[]", "invalid length 0"),
        ] {
            let error = parse_list(text.as_bytes()).unwrap_err();
            let source = error.source().unwrap().to_string();
            assert!(source.starts_with(cause), "{text}: {source}");
        }
        assert!(parse_list(b"\xff\n").is_err());
    }

    #[test]
    fn info_describes_one_volume() {
        let error = parse_info(b"{\"name\":\"a\"}\n{\"name\":\"b\"}\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(matches!(error.source, VolumeInfoFault::Second));
    }
}
