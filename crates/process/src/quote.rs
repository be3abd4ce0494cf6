//! Words of a shell command line.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;

/// What stands for a secret wherever a command is shown. It is not quoted: a pasted line fails instead of
/// running with it.
pub(crate) const REDACTED: &str = "<redacted>";

/// `word` as a shell reads it back. Control characters and bytes that are not UTF-8 are written as `$'\x1b'`
/// (POSIX 2024, bash, zsh), so that a line stays one line and cannot act on a terminal.
pub(crate) fn quote(word: &OsStr) -> Quoted<'_> {
    Quoted(word)
}

/// What [`quote`] makes.
pub(crate) struct Quoted<'a>(&'a OsStr);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_str() {
            Some(text) if !text.is_empty() && text.chars().all(is_plain) => f.write_str(text),
            Some(text) if !text.chars().any(char::is_control) => {
                write!(f, "'{}'", text.replace('\'', r"'\''"))
            }
            _ => ansi_c(self.0, f),
        }
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | '/' | ',' | ':' | '@' | '%' | '=')
}

fn ansi_c(word: &OsStr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("$'")?;
    for chunk in word.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => f.write_str(r"\n")?,
                '\t' => f.write_str(r"\t")?,
                '\'' | '\\' => write!(f, "\\{c}")?,
                _ if c.is_control() => write_bytes(f, c.encode_utf8(&mut [0; 4]).as_bytes())?,
                _ => f.write_char(c)?,
            }
        }
        write_bytes(f, chunk.invalid())?;
    }
    f.write_char('\'')
}

/// Three octal digits: unlike `\x`, their end is never in doubt.
fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\{byte:03o}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_every_word_back() {
        let words: &[&[u8]] = &[
            b"",
            b"plain-word_1.2/3,4:5@6%7=8+9",
            b"two words",
            b"it's",
            b"$HOME `id` \"x\" \\ ! {a,b} * ? [x] ~ # & | ; < > ( )",
            "Größe 10 GiB".as_bytes(),
            b"line\nline\ttab",
            b"\x1b[31mred'\\\x7f\x01",
            b"not \xff\xfe UTF-8 \xc3",
            b"\x011",
        ];
        for word in words {
            let quoted = quote(OsStr::from_bytes(word)).to_string();
            assert!(!quoted.chars().any(char::is_control), "{quoted:?}");
            let script = format!("printf %s {quoted}");
            let printed = std::process::Command::new("bash")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(printed.stdout, *word, "{quoted}");
        }
    }

    #[test]
    fn only_what_needs_it_is_quoted() {
        let shown = |word| quote(OsStr::new(word)).to_string();
        assert_eq!(shown("--size=10m"), "--size=10m");
        assert_eq!(shown("a b"), "'a b'");
        assert_eq!(shown(""), "''");
        assert_eq!(shown("{a,b}"), "'{a,b}'");
        assert_eq!(shown("a\nb"), r"$'a\nb'");
    }
}
