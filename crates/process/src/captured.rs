//! What a program printed, in bounded memory.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use crate::quote::REDACTED;

/// What a program printed on one stream: all of it, or its beginning and its end.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Captured {
    /// Everything when nothing was left out.
    head: Vec<u8>,
    tail: Vec<u8>,
    /// How many bytes between the two were left out.
    omitted: u64,
}

/// How many characters of a line [`Captured::last_lines`] shows.
const LINE_LENGTH: usize = 500;

impl Captured {
    /// Whether something was left out.
    pub fn is_truncated(&self) -> bool {
        self.omitted > 0
    }

    /// How many bytes the program printed.
    pub fn total(&self) -> u64 {
        self.head.len() as u64 + self.omitted + self.tail.len() as u64
    }

    /// Whether the program printed nothing but white space.
    pub fn is_blank(&self) -> bool {
        !self.is_truncated() && self.head.trim_ascii().is_empty()
    }

    /// Everything that the program printed; `None` if something was left out.
    pub fn bytes(&self) -> Option<&[u8]> {
        (!self.is_truncated()).then_some(self.head.as_slice())
    }

    /// What was kept, as text: bytes that are not UTF-8 become U+FFFD, and where bytes were left out a line
    /// says how many.
    pub fn text(&self) -> Cow<'_, str> {
        let head = String::from_utf8_lossy(&self.head);
        if !self.is_truncated() {
            return head;
        }
        let newline = if head.is_empty() || head.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let tail = String::from_utf8_lossy(&self.tail);
        format!("{head}{newline}[… {} bytes left out …]\n{tail}", self.omitted).into()
    }

    /// The last `n` lines of [`text`](Self::text), fit for a terminal: control characters are escaped and
    /// long lines cut.
    pub fn last_lines(&self, n: usize) -> Vec<String> {
        let text = self.text();
        let mut lines: Vec<String> = text.lines().rev().take(n).map(printable).collect();
        lines.reverse();
        lines
    }

    /// Puts `<redacted>` for every secret that a program repeated, and drops a part of one where the output was
    /// cut.
    pub(crate) fn redact<'a>(&mut self, secrets: impl Iterator<Item = &'a OsStr>) {
        let mut secrets: Vec<&[u8]> = secrets.map(OsStr::as_bytes).collect();
        // One secret may be the beginning of another.
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        if secrets.is_empty() {
            return;
        }
        self.head = redacted(&self.head, &secrets);
        self.tail = redacted(&self.tail, &secrets);
        if self.is_truncated() {
            let begun = longest_part(&secrets, |secret, n| self.head.ends_with(&secret[..n]));
            self.head.truncate(self.head.len() - begun);
            let ended = longest_part(&secrets, |secret, n| {
                self.tail.starts_with(&secret[secret.len() - n..])
            });
            self.tail.drain(..ended);
            self.omitted += (begun + ended) as u64;
        }
    }
}

/// How many bytes of a secret, less than all, are there at most.
fn longest_part(secrets: &[&[u8]], there: impl Fn(&[u8], usize) -> bool) -> usize {
    let parts = secrets
        .iter()
        .filter_map(|secret| (1..secret.len()).rev().find(|&n| there(secret, n)));
    parts.max().unwrap_or_default()
}

fn redacted(bytes: &[u8], secrets: &[&[u8]]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        match secrets.iter().find_map(|secret| rest.strip_prefix(*secret)) {
            Some(behind) => {
                shown.extend_from_slice(REDACTED.as_bytes());
                rest = behind;
            }
            None => {
                shown.push(*first);
                rest = after;
            }
        }
    }
    shown
}

fn printable(line: &str) -> String {
    let mut shown = String::new();
    for (i, c) in line.chars().enumerate() {
        if i == LINE_LENGTH {
            shown.push('…');
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
    }
    shown
}

impl From<Vec<u8>> for Captured {
    fn from(bytes: Vec<u8>) -> Captured {
        Captured {
            head: bytes,
            tail: Vec::new(),
            omitted: 0,
        }
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Captured({} bytes: {:?})", self.total(), self.last_lines(5))
    }
}

/// Collects a stream of any length in bounded memory.
#[derive(Debug)]
pub(crate) struct Collector {
    head: Vec<u8>,
    head_limit: usize,
    /// A ring once it is full.
    tail: Vec<u8>,
    tail_limit: usize,
    /// Where in the ring the oldest byte is, and so the next one goes.
    oldest: usize,
    omitted: u64,
}

impl Collector {
    /// Keeps the first and the last half of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Collector {
        let tail_limit = limit / 2;
        let head_limit = limit - tail_limit;
        Collector {
            head: Vec::new(),
            head_limit,
            tail: Vec::new(),
            tail_limit,
            oldest: 0,
            omitted: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        let (fill, rest) = rest.split_at(rest.len().min(self.tail_limit - self.tail.len()));
        self.tail.extend_from_slice(fill);
        self.omitted += rest.len() as u64;
        // Of what overwrites the ring only the last round is seen in the end.
        let skipped = rest.len().saturating_sub(self.tail_limit);
        if self.tail_limit == 0 {
            return;
        }
        self.oldest = (self.oldest + skipped) % self.tail_limit;
        let last = &rest[skipped..];
        let (to_end, wrapped) = last.split_at(last.len().min(self.tail_limit - self.oldest));
        self.tail[self.oldest..][..to_end.len()].copy_from_slice(to_end);
        self.tail[..wrapped.len()].copy_from_slice(wrapped);
        self.oldest = (self.oldest + last.len()) % self.tail_limit;
    }

    pub(crate) fn finish(mut self) -> Captured {
        self.tail.rotate_left(self.oldest);
        if self.omitted == 0 {
            self.head.append(&mut self.tail);
        }
        Captured {
            head: self.head,
            tail: self.tail,
            omitted: self.omitted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(limit: usize, chunks: &[&[u8]]) -> Captured {
        let mut collector = Collector::new(limit);
        chunks.iter().for_each(|chunk| collector.push(chunk));
        collector.finish()
    }

    #[test]
    fn head_and_tail_are_the_same_however_the_stream_is_cut() {
        let bytes: Vec<u8> = (0..=250).collect();
        for limit in [0, 1, 2, 3, 9, 10, 64, 250, 251, 252, 1000] {
            for size in [1, 2, 3, 7, 10, 100, 251] {
                let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
                let captured = collect(limit, &chunks);
                assert_eq!(captured.total(), 251);
                if limit >= bytes.len() {
                    assert_eq!(captured.bytes(), Some(bytes.as_slice()));
                    continue;
                }
                assert!(captured.is_truncated() && captured.bytes().is_none());
                assert_eq!(
                    captured.head,
                    bytes[..limit.div_ceil(2)],
                    "limit {limit}, chunks of {size}"
                );
                assert_eq!(
                    captured.tail,
                    bytes[251 - limit / 2..],
                    "limit {limit}, chunks of {size}"
                );
            }
        }
    }

    #[test]
    fn text_says_what_was_left_out() {
        assert_eq!(
            collect(8, &[b"one\ntwo\nthree\n"]).text(),
            "one\n[… 6 bytes left out …]\nree\n"
        );
        assert_eq!(collect(4, &[b"abcdef"]).text(), "ab\n[… 2 bytes left out …]\nef");
        assert_eq!(collect(0, &[b"abc"]).text(), "[… 3 bytes left out …]\n");
        assert_eq!(collect(8, &[b"\xffabc"]).text(), "\u{fffd}abc");
        assert_eq!(Captured::default().text(), "");
    }

    #[test]
    fn last_lines_are_fit_for_a_terminal() {
        let captured = Captured::from(b"one\r\ntwo\x1b[31m\xff\x00\n\nlast\tline".to_vec());
        assert_eq!(
            captured.last_lines(3),
            [
                r"two\u{1b}[31m".to_owned() + "\u{fffd}" + r"\u{0}",
                String::new(),
                r"last\tline".into()
            ]
        );
        assert_eq!(captured.last_lines(99)[0], "one");
        assert!(captured.last_lines(0).is_empty());
        assert!(Captured::default().last_lines(3).is_empty());
        let long = Captured::from("ä".repeat(10_000).into_bytes()).last_lines(1);
        assert_eq!(long, ["ä".repeat(LINE_LENGTH) + "…"]);
        assert_eq!(
            collect(6, &[b"a\nb\nlonger\nc\n"]).last_lines(3),
            ["b", "[… 7 bytes left out …]", "", "c"][1..]
        );
    }

    #[test]
    fn where_output_was_cut_no_part_of_a_secret_remains() {
        for limit in 0..40 {
            let mut captured = collect(limit, &[b"login hunter2, hunter2, hunter2, hunter2 failed"]);
            captured.redact([OsStr::new("hunter2")].into_iter());
            let text = captured.text();
            assert!(
                !text.contains("hu") && !text.contains("r2"),
                "limit {limit}: {text}"
            );
        }
    }
}
