//! What to run.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Captured;
use crate::quote::{REDACTED, quote};

/// The environment variable that [`Command::tag`] sets, and by which [`crate::orphan`] recognises what an
/// operation left.
pub const OPERATION_VARIABLE: &str = "GNT_DISK_OPERATION";

/// How long a program may run unless [`Command::timeout`] says otherwise: five minutes.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// How many bytes of each stream are kept unless [`Command::output_limit`] says otherwise: 128 KiB, that is
/// 64 KiB of its beginning and 64 KiB of its end.
pub const DEFAULT_OUTPUT_LIMIT: usize = 128 << 10;

/// Whether a command changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It only looks: [`DryRun`](crate::DryRun) runs it.
    Query,
    /// It changes something: [`DryRun`](crate::DryRun) only records it.
    Change,
}

/// A program to run, with everything that it is to get.
///
/// `Display` is the command line as one would type it, `{:#}` has in front what sets the directory and the
/// environment (`env -C DIR KEY=VALUE …`), without [`OPERATION_VARIABLE`]. `Debug` is the same as `{:#}`.
/// None of them shows a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    program: OsString,
    effect: Effect,
    args: Vec<Word>,
    env: BTreeMap<OsString, Word>,
    cwd: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
    output_limit: usize,
}

#[derive(Clone, PartialEq, Eq)]
struct Word {
    value: OsString,
    secret: bool,
}

impl Command {
    /// A command that changes nothing. `program` is a path if it has a slash, else it is looked up in `PATH`.
    #[must_use]
    pub fn query(program: impl AsRef<OsStr>) -> Command {
        Command::new(program.as_ref(), Effect::Query)
    }

    /// A command that changes something. `program` is a path if it has a slash, else it is looked up in
    /// `PATH`.
    #[must_use]
    pub fn change(program: impl AsRef<OsStr>) -> Command {
        Command::new(program.as_ref(), Effect::Change)
    }

    fn new(program: &OsStr, effect: Effect) -> Command {
        Command {
            program: program.to_owned(),
            effect,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            stdin: None,
            timeout: DEFAULT_TIMEOUT,
            output_limit: DEFAULT_OUTPUT_LIMIT,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, value: impl Into<OsString>) -> Command {
        self.args.push(Word::plain(value));
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, values: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
        self.args.extend(values.into_iter().map(Word::plain));
        self
    }

    /// Adds an argument that is never shown. Other users of the machine still see it in the process list.
    #[must_use]
    pub fn secret_arg(mut self, value: impl Into<OsString>) -> Command {
        self.args.push(Word::secret(value));
        self
    }

    /// Sets an environment variable; the last value given for a key counts. A `PATH` set here is the one in
    /// which the program itself is looked up.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.env.insert(key.into(), Word::plain(value));
        self
    }

    /// Sets an environment variable whose value is never shown.
    #[must_use]
    pub fn secret_env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.env.insert(key.into(), Word::secret(value));
        self
    }

    /// Runs the program in this directory, to which a program that is a relative path refers too. The default
    /// is ours.
    #[must_use]
    pub fn cwd(mut self, path: impl AsRef<Path>) -> Command {
        self.cwd = Some(path.as_ref().to_owned());
        self
    }

    /// What the program reads from its standard input; never shown. A program that does not read all of it is
    /// no error.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.stdin = Some(bytes.into());
        self
    }

    /// How long the program may run; [`DEFAULT_TIMEOUT`] if not set. `Duration::MAX` is for ever.
    #[must_use]
    pub fn timeout(mut self, after: Duration) -> Command {
        self.timeout = after;
        self
    }

    /// How many bytes of standard output, and as many of standard error, are kept: the first and the last
    /// half; [`DEFAULT_OUTPUT_LIMIT`] if not set. Memory is taken only as output arrives, so whoever parses
    /// the output sets a limit that no sane answer reaches.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Command {
        self.output_limit = bytes;
        self
    }

    /// Marks the program and all that it starts as part of an operation, by [`OPERATION_VARIABLE`] in its
    /// environment, so that [`crate::orphan`] finds what outlives us.
    #[must_use]
    pub fn tag(self, operation: impl Into<OsString>) -> Command {
        self.env(OPERATION_VARIABLE, operation)
    }

    /// The program as given.
    pub fn get_program(&self) -> &OsStr {
        &self.program
    }

    /// Whether it changes anything.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The arguments, secrets in clear.
    pub fn get_args(&self) -> impl ExactSizeIterator<Item = &OsStr> {
        self.args.iter().map(|word| word.value.as_os_str())
    }

    /// The environment variables that the caller set, by key, secrets in clear.
    pub fn get_envs(&self) -> impl ExactSizeIterator<Item = (&OsStr, &OsStr)> {
        self.env
            .iter()
            .map(|(key, word)| (key.as_os_str(), word.value.as_os_str()))
    }

    /// The value that the caller set for an environment variable, in clear.
    pub fn get_env(&self, key: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.env.get(key.as_ref()).map(|word| word.value.as_os_str())
    }

    /// The directory to run in.
    pub fn get_cwd(&self) -> Option<&Path> {
        self.cwd.as_deref()
    }

    /// What the program reads from its standard input.
    pub fn get_stdin(&self) -> Option<&[u8]> {
        self.stdin.as_deref()
    }

    /// How long the program may run.
    pub fn get_timeout(&self) -> Duration {
        self.timeout
    }

    /// How many bytes of each stream are kept.
    pub fn get_output_limit(&self) -> usize {
        self.output_limit
    }

    /// What a program printed, without the secrets of this command: each that it repeated literally is
    /// `<redacted>`.
    ///
    /// ```
    /// # use gnt_process::{Captured, Command};
    /// let command = Command::query("mapper").secret_env("KEY", "hunter2");
    /// let printed = Captured::from(b"using hunter2".to_vec());
    /// assert_eq!(command.redact(printed).text(), "using <redacted>");
    /// ```
    #[must_use]
    pub fn redact(&self, mut printed: Captured) -> Captured {
        printed.redact(self.secrets());
        printed
    }

    /// The values that must not be shown, which output may repeat.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &OsStr> {
        let words = self.args.iter().chain(self.env.values());
        words
            .filter(|word| word.secret && !word.value.is_empty())
            .map(|word| word.value.as_os_str())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            self.fmt_surroundings(f)?;
        }
        quote(&self.program).fmt(f)?;
        self.args.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

impl Command {
    fn fmt_surroundings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = || self.env.iter().filter(|(key, _)| *key != OPERATION_VARIABLE);
        if self.cwd.is_none() && shown().next().is_none() {
            return Ok(());
        }
        f.write_str("env ")?;
        if let Some(cwd) = &self.cwd {
            write!(f, "-C {} ", quote(cwd.as_os_str()))?;
        }
        shown().try_for_each(|(key, word)| write!(f, "{}={word} ", quote(key)))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command::{:?}({self:#})", self.effect)
    }
}

impl Word {
    fn plain(value: impl Into<OsString>) -> Word {
        Word {
            value: value.into(),
            secret: false,
        }
    }

    fn secret(value: impl Into<OsString>) -> Word {
        Word {
            value: value.into(),
            secret: true,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret {
            f.write_str(REDACTED)
        } else {
            quote(&self.value).fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn display_is_the_line_to_type() {
        let command = Command::change("lvcreate")
            .args(["--size", "10m"])
            .arg("two words")
            .env("A", "x y")
            .cwd("/var/lib");
        assert_eq!(command.to_string(), "lvcreate --size 10m 'two words'");
        assert_eq!(
            format!("{command:#}"),
            "env -C /var/lib A='x y' lvcreate --size 10m 'two words'"
        );
        assert_eq!(format!("{:#}", Command::query("lvs")), "lvs");
    }

    #[test]
    fn the_line_shown_does_what_the_command_does() {
        let command = Command::query("sh")
            .arg("-c")
            .arg(r#"echo "$PWD $A_B $1""#)
            .args(["x", "it's"])
            .env("A_B", "v w")
            .cwd("/usr");
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("{command:#}"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/usr v w it's\n");
    }

    #[test]
    fn secrets_are_shown_by_nothing() {
        let command = Command::change("drbdsetup")
            .arg("--shared-secret")
            .secret_arg("hunter2")
            .secret_env("PASSWORD", "hunter2")
            .stdin("hunter2");
        assert_eq!(command.to_string(), "drbdsetup --shared-secret <redacted>");
        assert_eq!(
            format!("{command:#}"),
            "env PASSWORD=<redacted> drbdsetup --shared-secret <redacted>"
        );
        for shown in [format!("{command:?}"), format!("{command:#?}")] {
            assert!(
                !shown.contains("hunter2") && shown.contains("<redacted>"),
                "{shown}"
            );
        }
        assert_eq!(command.get_args().last(), Some(OsStr::new("hunter2")));
        assert_eq!(command.get_env("PASSWORD"), Some(OsStr::new("hunter2")));
    }

    #[test]
    fn a_plain_value_given_later_replaces_a_secret_one() {
        let command = Command::query("x").secret_env("K", "old").env("K", "new");
        assert_eq!(format!("{command:#}"), "env K=new x");
        assert_eq!(command.secrets().count(), 0);
    }

    #[test]
    fn the_tag_is_in_the_environment_but_not_in_the_line() {
        let command = Command::change("create").tag("op-1");
        assert_eq!(command.get_env(OPERATION_VARIABLE), Some(OsStr::new("op-1")));
        assert_eq!(format!("{command:#}"), "create");
        assert_eq!(command.get_envs().len(), 1);
    }

    #[test]
    fn what_is_not_utf_8_is_shown_and_kept() {
        let raw = OsStr::from_bytes(b"/dev/\xff");
        let command = Command::query(raw).arg(raw).env(raw, raw).cwd(Path::new(raw));
        assert_eq!(command.to_string(), r"$'/dev/\377' $'/dev/\377'");
        assert_eq!(command.get_args().next(), Some(raw));
    }
}
