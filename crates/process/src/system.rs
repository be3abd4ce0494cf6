//! Really running programs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::redacted;
use crate::output::Collector;
use crate::spawn::spawn;
use crate::{Captured, Command, Output, RunError, Runner, Status};

/// How long a process group has between SIGTERM and SIGKILL to tidy up.
pub(crate) const TERM_GRACE: Duration = Duration::from_secs(2);

/// How long we wait for what SIGKILL hit. Only a process that waits in the kernel takes longer than milliseconds.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long after the program's end its output may stay open. All that the program itself wrote is in the pipe by then:
/// the grace is for a last stage that it did not wait for, such as `exec > >(tee log)`, to write what it still has. It is
/// paid in full only by a program that leaves something behind with its output open.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// The size of a pipe, so that one read empties it.
const BUFFER: usize = 64 << 10;

/// Runs programs on this machine.
///
/// *Surroundings.* The environment is [`DEFAULT_PATH`](crate::DEFAULT_PATH), `HOME=/root`, `LC_ALL=C` and what the
/// command sets, which goes first; nothing of ours is passed on. Standard input is `/dev/null` unless the command has bytes for it. The program leads a
/// new process group in our session.
///
/// *Timeout.* The whole process group gets SIGTERM, two seconds later SIGKILL, and we return as soon as it is gone: at
/// the latest seven seconds after the timeout, even if a process is stuck in the kernel.
///
/// *Background processes.* The run is over when the program itself has ended; whether what it started still runs does not
/// matter. A background process that has let go of stdout and stderr, as daemons do, is left alone, also after a
/// failure: the program's own counterpart (a provider's `detach`) knows how to stop it. One that still holds them
/// after a grace of 200 ms has nobody left who reads, and its next line would kill it at some point that nobody chose;
/// so if it is in the program's process group it is killed now, and
/// [`stragglers_killed`](Output::stragglers_killed) says so. One in a session of its own (setsid(1)) is never killed.
///
/// A pipe is written to when a command has input, so SIGPIPE must be ignored, as it is in every Rust program that did
/// not ask otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Runner for System {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let started = Instant::now();
        let child = spawn(command)?;
        let follow = || {
            let mut process = Process::new(child, command)?;
            Ok((
                process.follow(started.checked_add(command.get_timeout()))?,
                process,
            ))
        };
        let failed = |source: io::Error| RunError::Io {
            command: command.to_string(),
            source,
        };
        let (end, process) = follow().map_err(failed)?;
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
    stdin: Option<Feed<'a>>,
    stdout: Stream,
    stderr: Stream,
    buffer: Vec<u8>,
}

impl<'a> Process<'a> {
    fn new(child: Child, command: &'a Command) -> io::Result<Process<'a>> {
        let mut group = Group::new(child)?;
        let limit = command.get_output_limit();
        let stdin = group.child.stdin.take().map(OwnedFd::from);
        Ok(Process {
            stdin: stdin
                .map(|pipe| Feed::new(pipe, command.get_stdin().unwrap_or_default()))
                .transpose()?,
            stdout: Stream::new(group.child.stdout.take().map(OwnedFd::from), limit)?,
            stderr: Stream::new(group.child.stderr.take().map(OwnedFd::from), limit)?,
            group,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    fn follow(&mut self, deadline: Option<Instant>) -> io::Result<End> {
        if !self.attend(deadline, Process::ended)? {
            return self.put_an_end();
        }
        let stragglers_killed = !self.attend_for(DRAIN_GRACE, Process::closed)? && {
            self.group.signal(Signal::KILL);
            self.attend_for(DRAIN_GRACE, Process::closed)?
        };
        Ok(End::Ended {
            status: self.group.reap()?,
            stragglers_killed,
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
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            self.turn(left)?;
        }
        Ok(true)
    }

    /// Waits for one event and does what it calls for.
    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let end = (!self.group.ended).then(|| self.group.pidfd.as_fd());
        let sources = [
            (end, PollFlags::IN),
            (self.stdin.as_ref().map(|feed| feed.pipe.as_fd()), PollFlags::OUT),
            (self.stdout.pipe.as_ref().map(OwnedFd::as_fd), PollFlags::IN),
            (self.stderr.pipe.as_ref().map(OwnedFd::as_fd), PollFlags::IN),
        ];
        let [ended, stdin, stdout, stderr] = wait_for(sources, wait)?;
        if stdout {
            self.stdout.receive(&mut self.buffer)?;
        }
        if stderr {
            self.stderr.receive(&mut self.buffer)?;
        }
        if ended {
            self.group.ended = true;
            self.stdin = None;
        } else if stdin && self.stdin.as_mut().map_or(Ok(true), Feed::send)? {
            self.stdin = None;
        }
        Ok(())
    }

    fn captured(self) -> (Captured, Captured) {
        (self.stdout.collector.finish(), self.stderr.collector.finish())
    }
}

/// Which of the sources, of those that are there, have something to do; none of them when the time is over.
fn wait_for<const N: usize>(
    sources: [(Option<BorrowedFd<'_>>, PollFlags); N],
    wait: Option<Duration>,
) -> io::Result<[bool; N]> {
    // More seconds than fit are for ever.
    let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
    let present = sources
        .iter()
        .filter_map(|&(fd, flags)| Some(PollFd::from_borrowed_fd(fd?, flags)));
    let mut fds: Vec<PollFd<'_>> = present.collect();
    match poll(&mut fds, wait.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(sources.map(|(fd, _)| fd.is_some() && events.next().unwrap_or_default()))
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

    fn signal(&self, signal: Signal) {
        // Fails only if nothing is left to signal, or all that is left has changed its user.
        let _ = kill_process_group(self.id, signal);
    }

    fn reap(&mut self) -> io::Result<Status> {
        self.settled = true;
        Ok(self.child.wait()?.into())
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
            let _ = wait_for([(Some(self.pidfd.as_fd()), PollFlags::IN)], Some(KILL_GRACE));
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
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(Stream {
            pipe,
            collector: Collector::new(limit),
        })
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        buffer.clear();
        match read(pipe, spare_capacity(buffer)) {
            Ok(0) => self.pipe = None,
            Ok(_) => self.collector.push(buffer),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// What the program reads.
struct Feed<'a> {
    pipe: OwnedFd,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    fn new(pipe: OwnedFd, bytes: &'a [u8]) -> io::Result<Feed<'a>> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Feed { pipe, rest: bytes })
    }

    /// Whether this was all that the program gets: everything is written, or nobody reads.
    fn send(&mut self) -> io::Result<bool> {
        match write(&self.pipe, self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(Errno::PIPE) => return Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.rest.is_empty())
    }
}
