//! Recorded answers instead of programs, for tests.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::{Command, Output, RunError, Runner};

/// Answers commands from a script, and fails the test when something else is asked, or less.
///
/// A *pattern* is a shell line: the program and its arguments. In each word `*` stands for any number of
/// characters; a last word `...` stands for any number of further arguments. Patterns are matched against
/// secrets in clear.
///
/// Commands given with `expect` must come once each, in order. Those given with `allow` may come at any time,
/// any number of times; of several that match the first counts. The next expected command goes before the
/// allowed ones.
///
/// # Panics
/// [`run`](Runner::run) panics when nothing matches. Dropping it panics when that has happened, possibly on a
/// thread whose panic nobody saw, and when an expected command has not come. A pattern that is no shell line
/// panics at once.
#[derive(Default)]
pub struct Scripted {
    script: Mutex<Script>,
}

#[derive(Default)]
struct Script {
    expected: VecDeque<Rule>,
    allowed: Vec<Rule>,
    calls: Vec<Command>,
    unexpected: Vec<String>,
}

struct Rule {
    pattern: Pattern,
    answer: Answer,
}

type Answer = Box<dyn FnMut(&Command) -> Result<Output, RunError> + Send>;

impl Scripted {
    /// Nothing is expected yet.
    pub fn new() -> Scripted {
        Scripted::default()
    }

    /// Expects a command next, and answers it; a text is standard output with exit status 0.
    #[must_use]
    pub fn expect(self, pattern: &str, output: impl Into<Output>) -> Scripted {
        self.expect_with(pattern, always(output.into()))
    }

    /// Expects a command next, and answers it with what `answer` returns.
    #[must_use]
    pub fn expect_with(
        self,
        pattern: &str,
        answer: impl FnMut(&Command) -> Result<Output, RunError> + Send + 'static,
    ) -> Scripted {
        self.script().expected.push_back(Rule::new(pattern, answer));
        self
    }

    /// Answers a command whenever it comes; a text is standard output with exit status 0.
    #[must_use]
    pub fn allow(self, pattern: &str, output: impl Into<Output>) -> Scripted {
        self.allow_with(pattern, always(output.into()))
    }

    /// Answers a command, whenever it comes, with what `answer` returns, which may depend on earlier ones.
    /// `answer` must not itself run commands here.
    #[must_use]
    pub fn allow_with(
        self,
        pattern: &str,
        answer: impl FnMut(&Command) -> Result<Output, RunError> + Send + 'static,
    ) -> Scripted {
        self.script().allowed.push(Rule::new(pattern, answer));
        self
    }

    /// All commands so far, in order.
    pub fn calls(&self) -> Vec<Command> {
        self.script().calls.clone()
    }

    /// All commands so far, in order, as shell lines without environment.
    pub fn lines(&self) -> Vec<String> {
        self.script().calls.iter().map(Command::to_string).collect()
    }

    /// Checks what dropping it checks.
    ///
    /// # Panics
    /// When a command came that was not expected, or an expected one has not come.
    #[expect(clippy::panic, reason = "fails the test whose double this is")]
    pub fn verify(&self) {
        let complaint = self.script().complaint();
        if let Some(complaint) = complaint {
            panic!("{complaint}");
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner for Scripted {
    #[expect(clippy::panic, reason = "fails the test whose double this is")]
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let mut script = self.script();
        script.calls.push(command.clone());
        if let Some(mut rule) = script.expected.pop_front_if(|rule| rule.pattern.matches(command)) {
            return (rule.answer)(command);
        }
        if let Some(rule) = script
            .allowed
            .iter_mut()
            .find(|rule| rule.pattern.matches(command))
        {
            return (rule.answer)(command);
        }
        let complaint = script.refuse(command);
        drop(script);
        panic!("{complaint}");
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.verify();
        }
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted")
            .field("calls", &self.script().calls)
            .finish_non_exhaustive()
    }
}

impl Script {
    fn refuse(&mut self, command: &Command) -> String {
        let expected = match self.expected.front() {
            Some(rule) => format!("expected `{}`", rule.pattern),
            None => "expected no more".to_owned(),
        };
        let complaint = format!("unexpected command `{command:#}`; {expected}");
        self.unexpected.push(complaint.clone());
        complaint
    }

    fn complaint(&self) -> Option<String> {
        let missing = self
            .expected
            .iter()
            .map(|rule| format!("`{}` was expected but did not come", rule.pattern));
        let complaints: Vec<String> = self.unexpected.iter().cloned().chain(missing).collect();
        (!complaints.is_empty()).then(|| complaints.join("\n"))
    }
}

impl Rule {
    fn new(pattern: &str, answer: impl FnMut(&Command) -> Result<Output, RunError> + Send + 'static) -> Rule {
        Rule {
            pattern: Pattern::new(pattern),
            answer: Box::new(answer),
        }
    }
}

fn always(output: Output) -> impl FnMut(&Command) -> Result<Output, RunError> + Send + 'static {
    move |_| Ok(output.clone())
}

struct Pattern {
    line: String,
    words: Vec<String>,
    /// Further arguments may follow.
    open: bool,
}

impl Pattern {
    #[expect(clippy::panic, reason = "fails the test whose double this is")]
    fn new(line: &str) -> Pattern {
        let mut words = match shell_words::split(line) {
            Ok(words) if !words.is_empty() => words,
            _ => panic!("`{line}` is no command line"),
        };
        let open = words.pop_if(|word| word == "...").is_some();
        Pattern {
            line: line.to_owned(),
            words,
            open,
        }
    }

    fn matches(&self, command: &Command) -> bool {
        let mut words = std::iter::once(command.get_program()).chain(command.get_args());
        self.words
            .iter()
            .all(|pattern| words.next().is_some_and(|word| glob(pattern, word)))
            && (self.open || words.next().is_none())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

fn glob(pattern: &str, word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    let Some((first, rest)) = pattern.split_once('*') else {
        return word == pattern;
    };
    let Some(word) = word.strip_prefix(first) else {
        return false;
    };
    // Of what lies between two stars the leftmost occurrence leaves most to the others.
    let (middle, last) = rest
        .rsplit_once('*')
        .map_or((None, rest), |(middle, last)| (Some(middle), last));
    let found = middle
        .into_iter()
        .flat_map(|middle| middle.split('*'))
        .try_fold(word, |word, part| {
            word.find(part).map(|at| &word[at + part.len()..])
        });
    found.is_some_and(|left| left.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    /// What the panic of `f` says.
    fn panic_of<T>(f: impl FnOnce() -> T) -> String {
        let Err(panic) = catch_unwind(AssertUnwindSafe(f)) else {
            panic!("did not panic")
        };
        panic
            .downcast_ref::<String>()
            .cloned()
            .expect("panics with a formatted text")
    }

    #[test]
    fn expected_commands_come_in_order_and_allowed_ones_any_time() {
        let runner = Scripted::new()
            .allow("lvs ...", "  data\n")
            .expect("lvcreate -n one *", Output::success())
            .expect(
                "lvremove -f vg/*",
                Output::new(Status::Exited(5)).with_stderr("in use\n"),
            );
        assert_eq!(
            runner.run(&Command::query("lvs")).unwrap().stdout.text(),
            "  data\n"
        );
        runner
            .run(&Command::change("lvcreate").args(["-n", "one", "vg"]))
            .unwrap();
        runner.run(&Command::query("lvs").args(["a", "b"])).unwrap();
        let remove = Command::change("lvremove").args(["-f", "vg/one"]);
        let failed = runner.run(&remove).unwrap().check(&remove).unwrap_err();
        assert_eq!(failed.to_string(), "`lvremove -f vg/one` failed: exit status 5");
        assert_eq!(
            runner.lines(),
            ["lvs", "lvcreate -n one vg", "lvs a b", "lvremove -f vg/one"]
        );
        assert_eq!(runner.calls().len(), 4);
        runner.verify();
    }

    #[test]
    fn closures_keep_state_and_may_fail() {
        let mut volumes = 0;
        let runner = Scripted::new()
            .allow_with("lvcreate ...", move |_| {
                volumes += 1;
                Ok(Output::from(format!("lv{volumes}")))
            })
            .expect_with("gone", |command| Err(RunError::not_found(command.get_program())));
        let create = Command::change("lvcreate").arg("x");
        assert_eq!(runner.run(&create).unwrap().stdout.text(), "lv1");
        assert_eq!(runner.run(&create).unwrap().stdout.text(), "lv2");
        assert!(matches!(
            runner.run(&Command::query("gone")),
            Err(RunError::NotFound { .. })
        ));
    }

    #[test]
    fn an_unexpected_command_panics_with_what_was_expected_and_again_when_dropped() {
        let runner = Scripted::new().expect("lvs vg", "");
        let asked = panic_of(|| runner.run(&Command::query("lvs").secret_arg("hunter2").env("A", "b")));
        assert_eq!(
            asked,
            "unexpected command `env A=b lvs <redacted>`; expected `lvs vg`"
        );
        runner.run(&Command::query("lvs").arg("vg")).unwrap();
        assert_eq!(
            panic_of(|| runner.run(&Command::query("vgs"))),
            "unexpected command `vgs`; expected no more"
        );
        let dropped = panic_of(|| drop(runner));
        assert!(
            dropped.contains("`env A=b lvs <redacted>`") && dropped.contains("`vgs`"),
            "{dropped}"
        );
    }

    #[test]
    fn an_unmet_expectation_panics_when_dropped() {
        let runner = Scripted::new().expect("lvs", "").expect("vgs *", "");
        runner.run(&Command::query("lvs")).unwrap();
        assert_eq!(
            panic_of(|| runner.verify()),
            "`vgs *` was expected but did not come"
        );
        assert_eq!(panic_of(|| drop(runner)), "`vgs *` was expected but did not come");
    }

    #[test]
    fn an_unexpected_command_on_another_thread_is_not_lost() {
        let runner = Arc::new(Scripted::new());
        let other = Arc::clone(&runner);
        assert!(
            thread::spawn(move || other.run(&Command::query("lvs")))
                .join()
                .is_err()
        );
        assert!(panic_of(|| drop(runner)).contains("`lvs`"));
    }

    #[test]
    fn a_pattern_that_is_no_command_line_panics_at_once() {
        assert_eq!(
            panic_of(|| Scripted::new().expect("lvs 'vg", "")),
            "`lvs 'vg` is no command line"
        );
        assert_eq!(
            panic_of(|| Scripted::new().allow("  ", "")),
            "`  ` is no command line"
        );
    }

    #[test]
    fn patterns() {
        let matches = |pattern: &str, words: &[&str]| {
            Pattern::new(pattern).matches(&Command::query(words[0]).args(&words[1..]))
        };
        assert!(matches("a b", &["a", "b"]));
        assert!(!matches("a b", &["a"]));
        assert!(!matches("a", &["a", "b"]));
        assert!(matches("a ...", &["a"]));
        assert!(matches("a 'b c' ...", &["a", "b c", "d"]));
        assert!(!matches("a b ...", &["a"]));
        assert!(matches("*/create", &["/p/create"]));
        assert!(matches("a *", &["a", ""]));
        assert!(!matches("a *", &["a"]));
        assert!(matches("a x*y*z", &["a", "x1y2y3z"]));
        assert!(matches("a x*yy*yz", &["a", "xyyyz"]));
        assert!(!matches("a x*yz*z", &["a", "xyz"]));
        assert!(!matches("a x*x", &["a", "x"]));
        assert!(matches("a '*=*'", &["a", "k=v"]));
    }
}
