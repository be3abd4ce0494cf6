//! Words of a shell command line.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// What stands for a secret wherever a command is shown. It is not quoted: a pasted line fails instead of
/// running with it.
pub(crate) const REDACTED: &str = "<redacted>";

/// `word` as a shell reads it back. Control characters and bytes that are not UTF-8 are written as `$'\x1b'`
/// (POSIX 2024, bash, zsh), so that a line stays one line and cannot act on a terminal.
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
            let quoted = quote(OsStr::from_bytes(word));
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
        assert_eq!(quote(OsStr::new("--size=10m")), "--size=10m");
        assert_eq!(quote(OsStr::new("a b")), "'a b'");
        assert_eq!(quote(OsStr::new("")), "''");
        assert_eq!(quote(OsStr::new("{a,b}")), "'{a,b}'");
        assert_eq!(quote(OsStr::new("a\nb")), r"$'a\nb'");
    }
}
