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
    /// Its device on this node; only info says that.
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
