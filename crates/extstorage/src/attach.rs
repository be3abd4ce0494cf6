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
/// `hypervisor:uri`. The last newline need not be there, and empty lines between URIs count as none, as in
/// Ganeti.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Option<String>, Vec<String>), String> {
        let output = parse_attach_output(text.as_bytes()).map_err(|error| error.to_string())?;
        let device = output.device.map(|path| path.display().to_string());
        let uris = output.uris.iter().map(|(h, uri)| format!("{h} {uri}")).collect();
        Ok((device, uris))
    }

    #[test]
    fn a_path_with_and_without_newline() {
        for text in ["/dev/loop0", "/dev/loop0\n", "/dev/loop0\n\n"] {
            assert_eq!(parsed(text), Ok((Some("/dev/loop0".to_owned()), vec![])));
        }
        let spaces = parsed("/dev/disk/by-id/with space\n").unwrap();
        assert_eq!(spaces.0.as_deref(), Some("/dev/disk/by-id/with space"));
    }

    #[test]
    fn uris_with_and_without_a_path() {
        let both = parsed("/dev/rbd1\nkvm:rbd:pool/volume\nXEN-HVM:rbd:pool/volume").unwrap();
        assert_eq!(both.0.as_deref(), Some("/dev/rbd1"));
        assert_eq!(both.1, ["kvm rbd:pool/volume", "xen-hvm rbd:pool/volume"]);
        for text in ["\nkvm:rbd:p/v", "\nkvm:rbd:p/v\n", "\n\nkvm:rbd:p/v\n"] {
            assert_eq!(parsed(text), Ok((None, vec!["kvm rbd:p/v".to_owned()])));
        }
    }

    #[test]
    fn nothing_is_no_answer() {
        for text in ["", "\n", " \n\t\n"] {
            assert_eq!(
                parse_attach_output(text.as_bytes()),
                Err(AttachOutputError::Nothing),
                "{text:?}"
            );
        }
    }

    #[test]
    fn anything_else_is_an_error_that_quotes_it() {
        for (text, message) in [
            (
                "Mapping it's slow\n/dev/loop0\n",
                r#"its first line is not the absolute path of a device: "Mapping it's slow""#,
            ),
            (
                "kvm:rbd:p/v\n",
                r#"its first line is not the absolute path of a device: "kvm:rbd:p/v""#,
            ),
            (
                "dev/loop0\n",
                r#"its first line is not the absolute path of a device: "dev/loop0""#,
            ),
            (
                " /dev/loop0\n",
                r#"its first line is not the absolute path of a device: " /dev/loop0""#,
            ),
            (
                "/dev/loop0\r\n",
                r#"its first line is not the absolute path of a device: "/dev/loop0\r""#,
            ),
            (
                "/dev/loop0\x1b[2J",
                r#"its first line is not the absolute path of a device: "/dev/loop0\u{1b}[2J""#,
            ),
            (
                "\n/dev/loop0\n",
                r#"its line 2 is not a `hypervisor:uri`: "/dev/loop0""#,
            ),
            (
                "/dev/loop0\nkvm:u\nWARNING: slow\n",
                r#"its line 3 is not a `hypervisor:uri`: "WARNING: slow""#,
            ),
            (
                "/dev/loop0\nkvm:\n",
                r#"its line 2 is not a `hypervisor:uri`: "kvm:""#,
            ),
            (
                "/dev/loop0\ndone",
                r#"its line 2 is not a `hypervisor:uri`: "done""#,
            ),
        ] {
            assert_eq!(parsed(text), Err(message.to_owned()), "{text:?}");
        }
        assert_eq!(
            parse_attach_output(b"/dev/\xff\xfe\n").unwrap_err().to_string(),
            r#"it printed something that is not UTF-8: "/dev/\xff\xfe\n""#
        );
    }

    #[test]
    fn a_quotation_is_bounded() {
        let error = parsed(&"x".repeat(1 << 20)).unwrap_err();
        assert!(error.len() < 400, "{error}");
        assert!(error.ends_with("(1048576 bytes in all)"), "{error}");
    }
}
