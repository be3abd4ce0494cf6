//! What attach prints.

use std::path::PathBuf;

use thiserror::Error;

use crate::text::quote;

/// What an attach script printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachOutput {
    /// The device, if the volume has one on this node.
    pub device: Option<PathBuf>,
    /// Hypervisors (in lower case) and the URI by which each reaches the volume without a device.
    pub uris: Vec<(String, String)>,
}

/// An attach script did not print what it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AttachOutputError {
    /// Nothing, or nothing but white space.
    #[error("it printed neither a device nor a URI")]
    Nothing,
    /// Something that is not text.
    #[error("it printed something that is not UTF-8: {0}")]
    NotText(String),
    /// Something else before the path. The first line must be the path of the device, or empty.
    #[error("its first line is not the absolute path of a device: {0}")]
    NotAPath(String),
    /// Something else after the path.
    #[error("its line {line} is not a `hypervisor:uri`: {text}")]
    NotAUri {
        /// Which line, from 1.
        line: usize,
        /// The line, quoted and escaped.
        text: String,
    },
}

impl AttachOutputError {
    /// What the provider's author can do about it.
    pub fn hint(&self) -> &'static str {
        "attach prints the path of the device and nothing else before it; messages belong on standard error"
    }
}

/// Parses what an attach script printed: the path of the device or an empty line, then any number of lines
/// `hypervisor:uri`. The last newline need not be there, and empty lines between URIs count as none, as in Ganeti.
///
/// # Errors
/// When there is neither a path nor a URI, or anything else.
pub fn parse_attach_output(output: &[u8]) -> Result<AttachOutput, AttachOutputError> {
    let text = str::from_utf8(output).map_err(|_| AttachOutputError::NotText(quote(output)))?;
    if text.trim().is_empty() {
        return Err(AttachOutputError::Nothing);
    }
    let mut lines = text.split('\n').enumerate();
    let device = match lines.next() {
        None | Some((_, "")) => None,
        Some((_, path)) if is_path(path) => Some(PathBuf::from(path)),
        Some((_, other)) => return Err(AttachOutputError::NotAPath(quote(other.as_bytes()))),
    };
    let uris = lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| {
            parse_uri(line).ok_or_else(|| AttachOutputError::NotAUri {
                line: at + 1,
                text: quote(line.as_bytes()),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(AttachOutput { device, uris })
}

fn is_path(line: &str) -> bool {
    line.starts_with('/') && !line.contains(char::is_control)
}

/// A URI has no white space, so `WARNING: disk is slow` is none.
fn parse_uri(line: &str) -> Option<(String, String)> {
    let (hypervisor, uri) = line.split_once(':')?;
    let named = !hypervisor.is_empty() && hypervisor.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let sane = !uri.is_empty() && !uri.contains(|c: char| c.is_control() || c.is_whitespace());
    (named && sane).then(|| (hypervisor.to_ascii_lowercase(), uri.to_owned()))
}
