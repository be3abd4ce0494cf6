//! What a program did.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::quote::REDACTED;
use crate::{Command, CommandFailed};

/// How a program ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
    /// From its start to its end.
    pub duration: Duration,
    /// A process that it left in the background still held its output when it had ended, and was killed: see
    /// [`System`](crate::System).
    pub stragglers_killed: bool,
}

impl Output {
    /// A program that ended so and printed nothing.
    #[must_use]
    pub fn new(status: Status) -> Output {
        Output {
            status,
            stdout: Captured::default(),
            stderr: Captured::default(),
            duration: Duration::ZERO,
            stragglers_killed: false,
        }
    }

    /// A program that ended with exit status 0 and printed nothing.
    #[must_use]
    pub fn success() -> Output {
        Output::new(Status::Exited(0))
    }

    /// The same with this on standard output.
    #[must_use]
    pub fn with_stdout(mut self, bytes: impl Into<Vec<u8>>) -> Output {
        self.stdout = Captured::from(bytes.into());
        self
    }

    /// The same with this on standard error.
    #[must_use]
    pub fn with_stderr(mut self, bytes: impl Into<Vec<u8>>) -> Output {
        self.stderr = Captured::from(bytes.into());
        self
    }

    /// The output of a program that succeeded.
    ///
    /// # Errors
    /// When it ended in any other way than with exit status 0.
    pub fn check(self, command: &Command) -> Result<Output, CommandFailed> {
        if self.status.success() {
            Ok(self)
        } else {
            Err(CommandFailed::new(command, self))
        }
    }
}

/// Exit status 0, with this on standard output.
impl From<&str> for Output {
    fn from(stdout: &str) -> Output {
        Output::success().with_stdout(stdout)
    }
}

/// Exit status 0, with this on standard output.
impl From<String> for Output {
    fn from(stdout: String) -> Output {
        Output::success().with_stdout(stdout)
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// By itself, with this exit status (0 to 255).
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Status {
    /// Whether it ended with exit status 0.
    pub fn success(self) -> bool {
        self == Status::Exited(0)
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Status {
        match status.signal() {
            Some(signal) => Status::Signaled(signal),
            None => Status::Exited(status.code().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Status::Exited(code) => write!(f, "exit status {code}"),
            Status::Signaled(number) => match signal_name(number) {
                Some(name) => write!(f, "killed by signal {number} (SIG{name})"),
                None => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// The names of the signals that end a process by default (signal(7)); their numbers depend on the
/// architecture.
fn signal_name(number: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 21] = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::ILL, "ILL"),
        (Signal::TRAP, "TRAP"),
        (Signal::ABORT, "ABRT"),
        (Signal::BUS, "BUS"),
        (Signal::FPE, "FPE"),
        (Signal::KILL, "KILL"),
        (Signal::USR1, "USR1"),
        (Signal::SEGV, "SEGV"),
        (Signal::USR2, "USR2"),
        (Signal::PIPE, "PIPE"),
        (Signal::ALARM, "ALRM"),
        (Signal::TERM, "TERM"),
        (Signal::XCPU, "XCPU"),
        (Signal::XFSZ, "XFSZ"),
        (Signal::VTALARM, "VTALRM"),
        (Signal::PROF, "PROF"),
        (Signal::IO, "IO"),
        (Signal::SYS, "SYS"),
    ];
    NAMES
        .iter()
        .find(|(signal, _)| signal.as_raw() == number)
        .map(|&(_, name)| name)
}

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

    /// Puts `<redacted>` for every secret that a program repeated.
    pub(crate) fn redact<'a>(&mut self, secrets: impl Iterator<Item = &'a OsStr>) {
        let mut secrets: Vec<&[u8]> = secrets.map(OsStr::as_bytes).collect();
        if !secrets.is_empty() {
            // One secret may be the beginning of another.
            secrets.sort_by_key(|secret| Reverse(secret.len()));
            self.head = redacted(&self.head, &secrets);
            self.tail = redacted(&self.tail, &secrets);
        }
    }
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
    fn status_names_the_signal() {
        assert_eq!(Status::Exited(3).to_string(), "exit status 3");
        assert_eq!(Status::Signaled(9).to_string(), "killed by signal 9 (SIGKILL)");
        assert_eq!(Status::Signaled(6).to_string(), "killed by signal 6 (SIGABRT)");
        assert_eq!(Status::Signaled(40).to_string(), "killed by signal 40");
        assert!(
            Status::Exited(0).success() && !Status::Exited(1).success() && !Status::Signaled(0).success()
        );
    }

    #[test]
    fn only_exit_status_0_passes_the_check() {
        let command = Command::change("x");
        assert!(Output::success().check(&command).is_ok());
        assert!(Output::new(Status::Exited(1)).check(&command).is_err());
        assert!(Output::new(Status::Signaled(9)).check(&command).is_err());
    }

    #[test]
    fn a_failure_shows_stderr_or_else_stdout() {
        let command = Command::change("create").arg("x");
        let output = Output::new(Status::Exited(1)).with_stdout("trying\n");
        assert_eq!(
            output
                .clone()
                .with_stderr(" \n")
                .check(&command)
                .unwrap_err()
                .detail(),
            ["trying"]
        );
        let failed = output
            .with_stderr((0..30).map(|n| format!("line {n}\n")).collect::<String>())
            .check(&command)
            .unwrap_err();
        assert_eq!(failed.detail().len(), 20);
        assert_eq!(failed.detail()[19], "line 29");
        assert_eq!(failed.stdout.text(), "trying\n");
    }

    #[test]
    fn a_failure_repeats_no_secret_that_the_program_repeated() {
        let command = Command::change("x")
            .secret_arg("hunter2")
            .secret_env("E", "")
            .secret_env("K", "red")
            .secret_env("L", "hunter");
        let output = Output::new(Status::Exited(1))
            .with_stdout("hunter2hunter2 hunter red")
            .with_stderr(b"\xff+ login hunter2\n".to_vec());
        let failed = output.check(&command).unwrap_err();
        assert_eq!(failed.stderr.last_lines(1), ["\u{fffd}+ login <redacted>"]);
        assert_eq!(failed.stdout.text(), "<redacted><redacted> <redacted> <redacted>");
        let shown = format!("{failed} {failed:?} {:?}", failed.detail());
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn debug_of_output_is_short() {
        let output = Output::success().with_stdout("x".repeat(100_000));
        assert!(format!("{output:?}").len() < 1000);
    }
}
