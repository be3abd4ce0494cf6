//! Really running programs.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process_group};

use crate::captured::Collector;
use crate::error::redacted;
use crate::spawn::spawn;
use crate::{Captured, Command, Output, RunError, Runner, Status};

/// How long a process group has between SIGTERM and SIGKILL to tidy up.
pub(crate) const TERM_GRACE: Duration = Duration::from_secs(2);

/// How long we wait for what SIGKILL hit. Only a process that waits in the kernel takes longer than
/// milliseconds.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long after the program's end its output may stay open. All that the program itself wrote is in the
/// pipe by then: the grace is for a last stage that it did not wait for, such as `exec > >(tee log)`, to
/// write what it still has. It is paid in full only by a program that leaves something behind with its output
/// open.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// How long we sleep until the program's end alone. Most programs are over by then and have printed less than
/// a pipe holds: to be woken for every line, and again as the output closes, only holds them up. One that fills
/// a pipe sooner waits for what is left of this time, once.
const SHORT_RUN: Duration = Duration::from_millis(5);

/// The size of a pipe, so that one read empties it.
const BUFFER: usize = 64 << 10;

/// Runs programs on this machine.
///
/// *Surroundings.* The environment is what the command sets and, where it does not say otherwise, `PATH` =
/// [`DEFAULT_PATH`](crate::DEFAULT_PATH), `HOME=/root` and `LC_ALL=C`; nothing of ours is passed on. Standard
/// input is `/dev/null` unless the command has bytes for it. The program leads a new process group in our
/// session, so Ctrl-C at our terminal reaches us and not the program.
///
/// *Timeout.* The whole process group gets SIGTERM, two seconds later SIGKILL, and we return as soon as it is
/// gone: at the latest seven seconds after the timeout, even if a process is stuck in the kernel.
///
/// *Background processes.* The run is over when the program itself has ended; whether what it started still
/// runs does not matter. A background process that has let go of stdout and stderr, as daemons do, is left
/// alone, also after a failure: the program's own counterpart (a provider's `detach`) knows how to stop it.
/// One that still holds them after a grace of 200 ms has nobody left who reads, and its next line would kill
/// it at some point that nobody chose; so if it is in the program's process group it is killed now, and
/// [`stragglers_killed`](Output::stragglers_killed) says so. One in a session of its own (setsid(1)) is never
/// killed.
///
/// A pipe is written to when a command has input, so SIGPIPE must be ignored, as it is in every Rust program
/// that did not ask otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Runner for System {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let started = Instant::now();
        let child = spawn(command)?;
        let deadline = started.checked_add(command.get_timeout());
        let follow = || {
            let mut process = Process::new(child, command)?;
            Ok((process.follow(deadline)?, process))
        };
        let (end, process) = follow().map_err(|source| RunError::Io {
            command: command.to_string(),
            source,
        })?;
        let (stdout, stderr) = process.captured();
        match end {
            End::Ended {
                status,
                stragglers_killed,
            } => Ok(Output {
                status,
                stdout,
                stderr,
                duration: started.elapsed(),
                stragglers_killed,
            }),
            End::TimedOut { stuck } => Err(RunError::TimedOut {
                command: command.to_string(),
                after: command.get_timeout(),
                stdout: redacted(command, stdout),
                stderr: redacted(command, stderr),
                stuck,
            }),
        }
    }
}

enum End {
    Ended { status: Status, stragglers_killed: bool },
    TimedOut { stuck: Option<u32> },
}

/// A running program and our ends of its pipes.
struct Process<'a> {
    group: Group,
    stdin: Feed<'a>,
    stdout: Stream,
    stderr: Stream,
    buffer: Vec<u8>,
}

impl<'a> Process<'a> {
    fn new(child: Child, command: &'a Command) -> io::Result<Process<'a>> {
        let mut group = Group::new(child)?;
        let limit = command.get_output_limit();
        let input = command.get_stdin().unwrap_or_default();
        Ok(Process {
            stdin: Feed::new(group.child.stdin.take().map(OwnedFd::from), input)?,
            stdout: Stream::new(group.child.stdout.take().map(OwnedFd::from), limit)?,
            stderr: Stream::new(group.child.stderr.take().map(OwnedFd::from), limit)?,
            group,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    fn follow(&mut self, deadline: Option<Instant>) -> io::Result<End> {
        if self.stdin.pipe.is_none() {
            let left = left_until(deadline).unwrap_or(SHORT_RUN);
            self.group.wait(&[], Some(left.min(SHORT_RUN)))?;
        }
        if !self.attend(deadline, Process::ended)? {
            return self.put_an_end();
        }
        let drained = self.attend_for(DRAIN_GRACE, Process::closed)?;
        if !drained {
            self.group.signal(Signal::KILL);
            self.attend_for(DRAIN_GRACE, Process::closed)?;
        }
        let status = self.group.reap()?;
        if !drained {
            self.group.fade();
        }
        Ok(End::Ended {
            status,
            stragglers_killed: !drained && self.closed(),
        })
    }

    /// The program is reaped last: its id, which names the group, is not given to another process until then.
    fn put_an_end(&mut self) -> io::Result<End> {
        self.group.signal(Signal::TERM);
        self.attend_for(TERM_GRACE, |process| process.ended() && process.closed())?;
        self.group.signal(Signal::KILL);
        let stuck = if self.attend_for(KILL_GRACE, Process::ended)? {
            self.attend_for(DRAIN_GRACE, Process::closed)?;
            self.group.reap()?;
            self.group.fade();
            None
        } else {
            Some(self.group.abandon())
        };
        Ok(End::TimedOut { stuck })
    }

    fn ended(&self) -> bool {
        self.group.ended
    }

    fn closed(&self) -> bool {
        self.stdout.pipe.is_none() && self.stderr.pipe.is_none()
    }

    fn attend_for(&mut self, time: Duration, done: fn(&Process<'a>) -> bool) -> io::Result<bool> {
        self.attend(Some(Instant::now() + time), done)
    }

    /// Moves data until it is `done` (true) or the deadline has come (false).
    fn attend(&mut self, deadline: Option<Instant>, done: fn(&Process<'a>) -> bool) -> io::Result<bool> {
        while !done(self) {
            let left = left_until(deadline);
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            if !self.move_data()? {
                self.wait(left)?;
            }
        }
        Ok(true)
    }

    /// Whether there was anything to move.
    fn move_data(&mut self) -> io::Result<bool> {
        let received = self.stdout.receive(&mut self.buffer)? | self.stderr.receive(&mut self.buffer)?;
        Ok(received | self.stdin.send()?)
    }

    /// Waits until there is something to move, or the program ends.
    fn wait(&mut self, time: Option<Duration>) -> io::Result<()> {
        let pipes = [
            (&self.stdin.pipe, PollFlags::OUT),
            (&self.stdout.pipe, PollFlags::IN),
            (&self.stderr.pipe, PollFlags::IN),
        ];
        self.group.wait(&pipes, time)?;
        if self.group.ended {
            self.stdin.pipe = None;
        }
        Ok(())
    }

    fn captured(self) -> (Captured, Captured) {
        (self.stdout.collector.finish(), self.stderr.collector.finish())
    }
}

fn left_until(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// A process group, by its leader. Dropped before its end it is killed.
struct Group {
    child: Child,
    id: Pid,
    pidfd: OwnedFd,
    /// The leader has ended.
    ended: bool,
    /// Nothing is left to do for it.
    settled: bool,
}

impl Group {
    fn new(mut child: Child) -> io::Result<Group> {
        let id = Pid::from_child(&child);
        match pidfd_open(id, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Group {
                child,
                id,
                pidfd,
                ended: false,
                settled: false,
            }),
            Err(error) => {
                // Fails only if nothing is left to kill.
                let _ = kill_process_group(id, Signal::KILL);
                child.wait()?;
                Err(error.into())
            }
        }
    }

    /// Waits until the leader ends or there is something to do at one of the pipes.
    fn wait(&mut self, pipes: &[(&Option<OwnedFd>, PollFlags)], time: Option<Duration>) -> io::Result<()> {
        let open = pipes
            .iter()
            .filter_map(|&(pipe, flags)| Some(PollFd::from_borrowed_fd(pipe.as_ref()?.as_fd(), flags)));
        let mut fds: Vec<PollFd<'_>> = open.collect();
        if !self.ended {
            fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        // More seconds than fit are for ever.
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.ended = self.ended || fds.last().is_some_and(|pidfd| !pidfd.revents().is_empty());
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // Fails only if nothing is left to signal, or all that is left has changed its user.
        let _ = kill_process_group(self.id, signal);
    }

    fn reap(&mut self) -> io::Result<Status> {
        self.settled = true;
        Ok(self.child.wait()?.into())
    }

    /// Waits until what was killed with the leader is gone as well, which takes the kernel a moment, and init
    /// another to reap it.
    fn fade(&self) {
        const PAUSE: Duration = Duration::from_millis(1);
        let begun = Instant::now();
        while test_kill_process_group(self.id).is_ok() && begun.elapsed() < DRAIN_GRACE {
            thread::sleep(PAUSE);
        }
    }

    /// Gives up on a leader that cannot be killed; it remains as a zombie until our own end.
    fn abandon(&mut self) -> u32 {
        self.settled = true;
        self.child.id()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.settled {
            self.signal(Signal::KILL);
            // The error that brought us here is the one to report.
            let _ = self.wait(&[], Some(KILL_GRACE));
            let _ = self.child.try_wait();
        }
    }
}

/// What the program prints; no pipe any more once all others have closed it.
struct Stream {
    pipe: Option<OwnedFd>,
    collector: Collector,
}

impl Stream {
    fn new(pipe: Option<OwnedFd>, limit: usize) -> io::Result<Stream> {
        Ok(Stream {
            pipe: pipe.map(unblocked).transpose()?,
            collector: Collector::new(limit),
        })
    }

    /// Whether there was anything to receive, the end included.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let Some(pipe) = &self.pipe else {
            return Ok(false);
        };
        buffer.clear();
        match read(pipe, spare_capacity(buffer)) {
            Ok(0) => self.pipe = None,
            Ok(_) => self.collector.push(buffer),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

/// What the program reads; no pipe any more once everything is written, or nobody reads.
struct Feed<'a> {
    pipe: Option<OwnedFd>,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    fn new(pipe: Option<OwnedFd>, bytes: &'a [u8]) -> io::Result<Feed<'a>> {
        Ok(Feed {
            pipe: pipe.map(unblocked).transpose()?,
            rest: bytes,
        })
    }

    /// Whether anything was sent, or this was the end.
    fn send(&mut self) -> io::Result<bool> {
        let Some(pipe) = &self.pipe else {
            return Ok(false);
        };
        match write(pipe, self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(Errno::PIPE) => self.rest = &[],
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
        Ok(true)
    }
}

fn unblocked(pipe: OwnedFd) -> io::Result<OwnedFd> {
    ioctl_fionbio(&pipe, true)?;
    Ok(pipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orphan::Stat;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    fn sh(script: &str) -> Command {
        Command::query("sh")
            .arg("-c")
            .arg(script)
            .timeout(Duration::from_secs(60))
    }

    fn run(command: &Command) -> Output {
        System.run(command).unwrap()
    }

    /// The text of stdout, of a run that says nothing on stderr.
    fn text(command: &Command) -> String {
        let output = run(command).check(command).unwrap();
        assert_eq!(output.stderr.text(), "");
        output.stdout.text().into_owned()
    }

    fn lives(pid: i32) -> bool {
        Stat::read(pid).is_some()
    }

    /// Kills, when the test ends, what the code under test was right to leave alone.
    struct Survivor(i32);

    impl Drop for Survivor {
        fn drop(&mut self) {
            let _ = rustix::process::kill_process(Pid::from_raw(self.0).unwrap(), Signal::KILL);
        }
    }

    fn file(dir: &Path, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn exit_statuses_and_signals_are_told_apart() {
        assert_eq!(run(&sh("exit 0")).status, Status::Exited(0));
        assert_eq!(run(&sh("exit 3")).status, Status::Exited(3));
        assert_eq!(run(&sh("exit 255")).status, Status::Exited(255));
        assert_eq!(run(&sh("kill -9 $$")).status, Status::Signaled(9));
        assert_eq!(
            run(&sh("kill -SEGV $$")).status.to_string(),
            "killed by signal 11 (SIGSEGV)"
        );
    }

    #[test]
    fn stdout_and_stderr_are_kept_apart_and_as_they_are() {
        let output = run(&sh(r"printf 'no newline'; printf 'two\nlines\n' >&2"));
        assert_eq!(output.stdout.bytes().unwrap(), b"no newline");
        assert_eq!(output.stderr.bytes().unwrap(), b"two\nlines\n");
        assert!(!output.stragglers_killed);
        let binary = run(&sh(r"printf '\000\377\033\n\200'"));
        assert_eq!(binary.stdout.bytes().unwrap(), b"\0\xff\x1b\n\x80");
        assert_eq!(binary.stdout.last_lines(1), ["\u{fffd}"]);
        assert_eq!(run(&sh("")).stdout.bytes().unwrap(), b"");
    }

    #[test]
    fn what_fits_is_complete_and_what_does_not_keeps_both_ends() {
        let exact = run(&sh("head -c 100000 /dev/zero").output_limit(100_000));
        assert_eq!(exact.stdout.bytes().unwrap(), vec![0; 100_000]);
        let numbers = sh("seq 1 1000000; seq 1 1000000 >&2").output_limit(1000);
        let output = run(&numbers);
        for stream in [&output.stdout, &output.stderr] {
            assert_eq!(stream.total(), 6_888_896);
            assert!(stream.bytes().is_none());
            assert!(stream.text().starts_with("1\n2\n3\n"));
            assert_eq!(stream.last_lines(2), ["999999", "1000000"]);
            assert!(stream.text().contains("[… 6887896 bytes left out …]"));
        }
    }

    #[test]
    fn a_flood_costs_no_memory() {
        let peak = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
            line.split_ascii_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let before = peak();
        let output = run(&sh("head -c 1G /dev/zero"));
        assert_eq!(output.stdout.total(), 1 << 30);
        assert!(peak() - before < 64 << 10, "from {before} to {} KiB", peak());
    }

    #[test]
    fn a_flood_without_end_is_stopped_by_the_timeout() {
        let Err(RunError::TimedOut { stdout, .. }) =
            System.run(&sh("yes").timeout(Duration::from_millis(300)))
        else {
            panic!("did not time out")
        };
        assert!(stdout.is_truncated());
        assert_eq!(stdout.last_lines(1).len(), 1);
    }

    #[test]
    fn standard_input_is_closed_or_what_was_given() {
        assert_eq!(text(&Command::query("cat")), "");
        assert_eq!(text(&sh("readlink /proc/self/fd/0")), "/dev/null\n");
        assert_eq!(text(&Command::query("cat").stdin("few bytes")), "few bytes");
        assert_eq!(text(&Command::query("cat").stdin("")), "");
        let large: Vec<u8> = (0..5_000_000u32).map(|n| n as u8).collect();
        let echoed = run(&Command::query("cat")
            .stdin(large.clone())
            .output_limit(10_000_000));
        assert!(echoed.stdout.bytes().unwrap() == large);
    }

    #[test]
    fn input_that_nobody_reads_is_no_error() {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(text(&sh("exit 0").stdin(large.clone())), "");
        assert_eq!(
            text(&sh("exec <&-; sleep 0.1; echo done").stdin(large.clone())),
            "done\n"
        );
        assert_eq!(
            text(&Command::query("head").args(["-c", "3"]).stdin(large)),
            "xxx"
        );
    }

    #[test]
    fn a_program_that_closes_its_output_early_is_still_waited_for() {
        let output = run(&sh("echo out; echo err >&2; exec >&- 2>&-; sleep 0.3; exit 7"));
        assert_eq!(output.status, Status::Exited(7));
        assert_eq!(
            (output.stdout.text(), output.stderr.text()),
            ("out\n".into(), "err\n".into())
        );
        assert!(output.duration >= Duration::from_millis(300));
    }

    #[test]
    fn the_environment_is_cleared() {
        // Cargo gives every test an environment of its own to inherit.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let env = text(
            &Command::query("env")
                .env("VOL_NAME", "two words")
                .env("LC_ALL", "C.UTF-8")
                .tag("op"),
        );
        let mut lines: Vec<&str> = env.lines().collect();
        lines.sort_unstable();
        let path = format!("PATH={}", crate::DEFAULT_PATH);
        assert_eq!(
            lines,
            [
                "GNT_DISK_OPERATION=op",
                "HOME=/root",
                "LC_ALL=C.UTF-8",
                &path,
                "VOL_NAME=two words"
            ]
        );
    }

    #[test]
    fn the_program_leads_a_group_in_our_session() {
        // Not asked of getsid(): where the session's leader is in no namespace of ours, its id is 0.
        let group_and_session = |stat: &str| -> [String; 2] {
            let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
            let ids: Vec<String> = fields.skip(2).take(2).map(String::from).collect();
            ids.try_into().unwrap()
        };
        let stat = text(&sh("cat /proc/$$/stat; echo $$"));
        let (stat, pid) = stat.trim_end().rsplit_once('\n').unwrap();
        let ours = fs::read_to_string("/proc/self/stat").unwrap();
        let [_, session] = group_and_session(&ours);
        assert_eq!(group_and_session(stat), [pid.to_string(), session]);
    }

    #[test]
    fn the_callers_path_is_where_the_program_is_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "tool", "#!/bin/sh\necho \"$0 $PATH\"", 0o755);
        let tool = Command::query("tool");
        assert!(matches!(System.run(&tool), Err(RunError::NotFound { .. })));
        let path = format!("relative::/nowhere:{}", dir.path().display());
        let expected = format!("{}/tool {path}\n", dir.path().display());
        assert_eq!(text(&tool.clone().env("PATH", &path)), expected);
        assert!(matches!(
            System.run(&tool.cwd(dir.path()).env("PATH", ".::")),
            Err(RunError::NotFound { .. })
        ));
    }

    #[test]
    fn argv_0_is_the_program_as_given() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("attach");
        std::os::unix::fs::symlink("/bin/cat", &link).unwrap();
        let argv0 = |program: &Path| text(&Command::query(program).arg("/proc/self/cmdline"));
        assert!(argv0(&link).starts_with(&format!("{}\0", link.display())));
        assert!(argv0(Path::new("cat")).starts_with("cat\0"));
        let relative = Command::query("./attach")
            .arg("/proc/self/cmdline")
            .cwd(dir.path());
        assert!(text(&relative).starts_with("./attach\0"));
    }

    #[test]
    fn the_program_runs_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(text(&sh("pwd").cwd(&here)), format!("{}\n", here.display()));
        let missing = here.join("missing");
        let error = System.run(&sh("pwd").cwd(&missing)).unwrap_err();
        assert!(
            matches!(&error, RunError::NoDirectory { cwd, .. } if *cwd == missing),
            "{error:?}"
        );
        let no_directory = file(&here, "file", "", 0o644);
        assert!(matches!(
            System.run(&sh("pwd").cwd(no_directory)),
            Err(RunError::NoDirectory { .. })
        ));
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = System
            .run(&Command::query("lvs").env("PATH", "/nowhere"))
            .unwrap_err();
        assert_eq!(error.to_string(), "the program lvs was not found");
        assert_eq!(error.hint().unwrap(), "install the package lvm2");
        let error = System.run(&Command::query("/nowhere/script")).unwrap_err();
        assert_eq!(error.to_string(), "the program /nowhere/script was not found");
        assert_eq!(error.hint(), None);
        assert!(matches!(
            System.run(&Command::query("/etc/passwd/x")),
            Err(RunError::NotFound { .. })
        ));
        assert!(matches!(
            System.run(&Command::query("")),
            Err(RunError::NotFound { .. })
        ));
    }

    #[test]
    fn what_is_not_executable_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let script = file(dir.path(), "tool", "#!/bin/sh\n", 0o644);
        for command in [
            Command::query(&script),
            Command::query("tool").env("PATH", dir.path()),
        ] {
            let error = System.run(&command).unwrap_err();
            assert!(
                matches!(&error, RunError::NotExecutable { program, .. } if *program == script),
                "{error:?}"
            );
            assert!(
                error
                    .hint()
                    .unwrap()
                    .starts_with(&format!("`chmod +x {}`", script.display()))
            );
        }
        assert!(matches!(
            System.run(&Command::query(dir.path())),
            Err(RunError::NotExecutable { .. })
        ));
        let elsewhere = tempfile::tempdir().unwrap();
        file(elsewhere.path(), "tool", "#!/bin/sh\necho found", 0o755);
        let path = format!("{}:{}", dir.path().display(), elsewhere.path().display());
        assert_eq!(text(&Command::query("tool").env("PATH", path)), "found\n");
    }

    #[test]
    fn a_script_with_a_bad_first_line_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name: &str, content: &str| {
            let script = file(dir.path(), name, content, 0o755);
            System.run(&Command::query(script)).unwrap_err()
        };
        let gone = error("gone", "#! /no/such/sh -e\n");
        assert!(
            gone.to_string().starts_with("the interpreter /no/such/sh that /"),
            "{gone}"
        );
        assert!(gone.hint().unwrap().starts_with("correct the first line of"));
        let dos = error("dos", "#!/bin/sh\r\n:\r\n");
        assert!(
            dos.to_string()
                .starts_with(r"the interpreter $'/bin/sh\015' that"),
            "{dos}"
        );
        for content in ["echo no interpreter\n", "", "\x7fELF"] {
            let bad = error("bad", content);
            assert!(matches!(bad, RunError::NotAProgram { .. }), "{bad:?}");
            assert!(bad.hint().unwrap().contains("#!/bin/sh"));
        }
    }

    #[test]
    fn what_cannot_be_passed_on_is_an_error() {
        for command in [
            Command::query("echo").arg("a\0b"),
            Command::query("echo").arg("x".repeat(1 << 20)),
        ] {
            assert!(matches!(System.run(&command), Err(RunError::Spawn { .. })));
        }
    }

    #[test]
    fn a_timeout_kills_the_whole_group() {
        let started = Instant::now();
        let command =
            sh("echo $$; sleep 1000 & echo $!; echo oops >&2; sleep 1000").timeout(Duration::from_secs(1));
        let error = System.run(&command).unwrap_err();
        let RunError::TimedOut {
            stdout,
            stderr,
            after,
            stuck: None,
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(*after, Duration::from_secs(1));
        assert_eq!(error.detail(), ["oops"]);
        assert_eq!(stderr.text(), "oops\n");
        let pids: Vec<i32> = stdout.text().lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2);
        assert!(!pids.iter().any(|&pid| lives(pid)));
        assert!(
            !Path::new("/proc").join(pids[0].to_string()).exists(),
            "a zombie is left"
        );
        assert!(
            error
                .to_string()
                .ends_with("` did not end within 1s and was killed"),
            "{error}"
        );
        assert!(started.elapsed() < *after + TERM_GRACE, "SIGTERM was enough");
    }

    #[test]
    fn a_timeout_lets_the_program_tidy_up() {
        let command = sh("trap 'echo tidied; exit 0' TERM; sleep 1000").timeout(Duration::from_secs(1));
        let error = System.run(&command).unwrap_err();
        let RunError::TimedOut { stdout, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(stdout.text(), "tidied\n");
    }

    #[test]
    fn who_ignores_sigterm_is_killed() {
        let command = sh("trap '' TERM; echo $$; sleep 1000 & echo $!; sleep 1000; sleep 1000");
        let error = System.run(&command.timeout(Duration::from_secs(1))).unwrap_err();
        let pids: Vec<i32> = error.detail().iter().map(|line| line.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2);
        assert!(!pids.iter().any(|&pid| lives(pid)));
    }

    #[test]
    fn a_stopped_program_is_killed_too() {
        let error = System
            .run(&sh("kill -STOP $$").timeout(Duration::from_millis(100)))
            .unwrap_err();
        assert!(
            matches!(error, RunError::TimedOut { stuck: None, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_timeout_repeats_no_secret() {
        let command = sh("echo $KEY; echo $KEY >&2; sleep 1000").secret_env("KEY", "hunter2");
        let error = System.run(&command.timeout(Duration::from_secs(1))).unwrap_err();
        assert_eq!(error.detail(), ["<redacted>"]);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn a_background_process_that_holds_the_output_is_killed() {
        let started = Instant::now();
        let output = run(&sh("sleep 1000 & echo $!; exit 3"));
        assert_eq!(output.status, Status::Exited(3));
        assert!(output.stragglers_killed);
        assert!(!lives(output.stdout.text().trim().parse().unwrap()));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_background_process_that_is_about_to_end_is_waited_for() {
        let output = run(&sh("
            exec 2>/dev/null
            (while read -r stat </proc/$$/stat; do case $stat in *') Z '*) echo last; exit;; esac; done) &
            echo first"));
        assert_eq!(output.stdout.text(), "first\nlast\n");
        assert!(!output.stragglers_killed);
    }

    #[test]
    fn a_background_process_that_let_go_of_the_output_is_left_alone() {
        let output = run(&sh("sleep 1000 >/dev/null 2>&1 & echo $!"));
        let survivor = Survivor(output.stdout.text().trim().parse().unwrap());
        assert!(!output.stragglers_killed && lives(survivor.0));
    }

    #[test]
    fn a_background_process_in_its_own_session_is_left_alone() {
        let output = run(&sh(
            "{ setsid sh -c 'echo $$; exec sleep 1000' & } | { read pid; echo $pid; }",
        ));
        let survivor = Survivor(output.stdout.text().trim().parse().unwrap());
        assert!(!output.stragglers_killed && lives(survivor.0));
        let error =
            System.run(&sh("setsid sh -c 'echo $$; exec sleep 1000'").timeout(Duration::from_secs(1)));
        let survivor = Survivor(error.unwrap_err().detail()[0].parse().unwrap());
        assert!(lives(survivor.0));
    }
}
