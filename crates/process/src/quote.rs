//! Words of a shell command line.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// What stands for a secret wherever a command is shown. It is not quoted: a pasted line fails instead of running with it.
pub(crate) const REDACTED: &str = "<redacted>";

/// `word` as a shell reads it back. Control characters and bytes that are not UTF-8 are written as `$'\x1b'` (POSIX
/// 2024, bash, zsh), so that a line stays one line and cannot act on a terminal.
pub(crate) fn quote(word: &OsStr) -> String {
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => ansi_c(word),
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "_-+./,:@%=".contains(c)
}

fn ansi_c(word: &OsStr) -> String {
    let mut quoted = String::from("$'");
    for chunk in word.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => quoted.push_str(r"\n"),
                '\t' => quoted.push_str(r"\t"),
                '\'' | '\\' => quoted.extend(['\\', c]),
                _ if c.is_control() => push_bytes(&mut quoted, c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => quoted.push(c),
            }
        }
        push_bytes(&mut quoted, chunk.invalid());
    }
    quoted.push('\'');
    quoted
}

/// Three octal digits: unlike `\x`, their end is never in doubt.
fn push_bytes(quoted: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(quoted, "\\{byte:03o}");
    }
}
