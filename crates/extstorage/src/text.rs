//! What a script printed, made fit to be shown.

use std::borrow::Cow;

/// Control characters, invisible ones and those that change the direction of writing are escaped as in Rust;
/// line feeds and tabs stay.
pub(crate) fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push_escaped(&mut shown, text, "\n\t'\"\\");
    shown
}

/// The beginning of some bytes in quotes, as one line; bytes that are not UTF-8 as `\xNN`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    const LIMIT: usize = 200;
    let mut shown = String::from('"');
    for chunk in bytes[..bytes.len().min(LIMIT)].utf8_chunks() {
        push_escaped(&mut shown, chunk.valid(), "'");
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown.push('"');
    if bytes.len() > LIMIT {
        shown.push_str(&format!("… ({} bytes in all)", bytes.len()));
    }
    shown
}

/// The last lines of an escaped text, long ones cut.
pub(crate) fn last_lines(text: &str, n: usize) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().rev().take(n).map(cut).collect();
    lines.reverse();
    lines
}

/// The beginning and the end of a text, together at most about `limit` bytes.
pub(crate) fn abridge(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let head = &text[..text.floor_char_boundary(limit / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - limit / 2)..];
    let omitted = text.len() - head.len() - tail.len();
    format!("{head}\n[… {omitted} bytes left out …]\n{tail}").into()
}

fn cut(line: &str) -> String {
    const LENGTH: usize = 500;
    match line.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

fn push_escaped(shown: &mut String, text: &str, kept: &str) {
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || kept.contains(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_debug());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        assert_eq!(
            escape("a\x1b[2Jb\r\n\tü 'x' \u{202e}"),
            "a\\u{1b}[2Jb\\r\n\tü 'x' \\u{202e}"
        );
        assert_eq!(quote(b"it's\n\xff\0"), r#""it's\n\xff\0""#);
    }

    #[test]
    fn long_output_is_cut() {
        let quoted = quote(&[b'x'; 1000]);
        assert!(quoted.ends_with("xxx\"… (1000 bytes in all)"), "{quoted}");
        assert!(quoted.len() < 250);

        let many: String = (0..100).map(|i| format!("{i}\n")).collect();
        assert_eq!(last_lines(&many, 3), ["97", "98", "99"]);
        assert_eq!(last_lines(&"é".repeat(1000), 20)[0].chars().count(), 501);

        let long = "é".repeat(1000);
        let shown = abridge(&long, 101);
        assert!(shown.contains("\n[… 1900 bytes left out …]\n"), "{shown}");
        assert_eq!(abridge("short", 5), "short");
    }
}
