//! Processes that outlived the operation that started them.
//!
//! Programs run in process groups of their own, so one that was running when we were killed with SIGKILL goes
//! on. Before an interrupted operation is resumed or undone it must be over, or two would change the same
//! volume. All that an operation starts carries its id in the environment
//! ([`Command::tag`](crate::Command::tag)), by which it is found here.
//!
//! Only the caller can know that nobody waits for these processes: call this while holding the lock of the
//! operation that is known to have lost its process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process_group};

use crate::OPERATION_VARIABLE;
use crate::system::{KILL_GRACE, TERM_GRACE};

/// A process group with processes of an operation in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id, which is that of the process that made it.
    pub pgid: i32,
    /// All its living processes, also those that do not carry the operation's id any more.
    pub processes: Vec<Process>,
}

/// A living process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: no two processes share both this and the id.
    pub started: u64,
    /// The name of its program, at most 15 bytes.
    pub name: String,
}

/// The process groups that the operation `tag` left behind.
///
/// Not among them are those in a session that the operation's processes made (setsid(2)): these are daemons,
/// started on purpose. Nor are our own group and those of our ancestors, in case we are ourselves part of an
/// operation of that name. Processes whose environment we may not read are not found; root may read all.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn orphans(tag: &str) -> io::Result<Vec<Group>> {
    Ok(left_behind(&processes(tag)?, &BTreeSet::new()))
}

/// Kills what [`orphans`] finds, and what appears meanwhile, and returns when it is gone: SIGTERM, after two
/// seconds SIGKILL. Returns the number of process groups.
///
/// # Errors
/// When `/proc` cannot be read, or with [`TimedOut`](io::ErrorKind::TimedOut) when something is still there
/// five seconds after SIGKILL because it waits in the kernel.
pub fn kill_orphans(tag: &str) -> io::Result<usize> {
    const PAUSE: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    // A group is gone when its last process is, be that tagged or not.
    let mut known = BTreeSet::new();
    let mut signalled = BTreeSet::new();
    // One look may miss what forks or executes just then.
    let mut quiet = false;
    loop {
        let groups = left_behind(&processes(tag)?, &known);
        let was_quiet = std::mem::replace(&mut quiet, groups.is_empty());
        if quiet && was_quiet {
            return Ok(known.len());
        }
        let elapsed = begun.elapsed();
        if elapsed > TERM_GRACE + KILL_GRACE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, StillThere(groups)));
        }
        let signal = if elapsed < TERM_GRACE {
            Signal::TERM
        } else {
            Signal::KILL
        };
        for group in groups {
            known.insert(group.pgid);
            if signalled.insert((group.pgid, signal.as_raw())) {
                group.signal(signal);
            }
        }
        thread::sleep(PAUSE);
    }
}

impl Group {
    /// The id of a group is not given to another as long as one of its processes lives, so that is looked at
    /// last.
    fn signal(&self, signal: Signal) {
        let lives = |process: &Process| {
            Stat::read(process.pid)
                .is_some_and(|now| now.pgid == self.pgid && now.process.started == process.started)
        };
        if let Some(pgid) = Pid::from_raw(self.pgid)
            && self.processes.iter().any(lives)
        {
            // Fails only if it has ended meanwhile; what has not is found again.
            let _ = kill_process_group(pgid, signal);
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process group {}:", self.pgid)?;
        let show = |process: &Process| write!(f, " {} ({})", process.pid, process.name.escape_debug());
        self.processes.iter().try_for_each(show)
    }
}

#[derive(Debug, thiserror::Error)]
struct StillThere(Vec<Group>);

impl fmt::Display for StillThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.0.iter().map(Group::to_string).collect();
        write!(f, "cannot be killed: {}", groups.join(", "))
    }
}

/// What proc_pid_stat(5) says about a process.
pub(crate) struct Stat {
    process: Process,
    ppid: i32,
    pgid: i32,
    session: i32,
}

impl Stat {
    /// `None` if there is no such process, or only a zombie.
    pub(crate) fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `1234 (name) S ppid pgid session …`, where the name may have anything in it and the 22nd field is the
    /// start.
    fn parse(line: &[u8]) -> Option<Stat> {
        let line = String::from_utf8_lossy(line);
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse().ok();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let started = fields.get(19)?.parse().ok()?;
        let process = Process {
            pid: pid.parse().ok()?,
            started,
            name: name.to_owned(),
        };
        Some(Stat {
            process,
            ppid: number(1)?,
            pgid: number(2)?,
            session: number(3)?,
        })
    }
}

/// All living processes, and whether they are of the operation.
fn processes(tag: &str) -> io::Result<Vec<(Stat, bool)>> {
    let entry = format!("{OPERATION_VARIABLE}={tag}");
    let mut processes = Vec::new();
    for file in fs::read_dir("/proc")? {
        let Some(pid) = file?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // What has ended by now is not there.
        let Some(stat) = Stat::read(pid) else { continue };
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let tagged = environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == entry.as_bytes())
            && Stat::read(pid).is_some_and(|now| now.process.started == stat.process.started);
        processes.push((stat, tagged));
    }
    Ok(processes)
}

/// The groups with a tagged process, and the `known` ones, but for those of daemons and our own ancestors.
fn left_behind(processes: &[(Stat, bool)], known: &BTreeSet<i32>) -> Vec<Group> {
    let tagged = || {
        processes
            .iter()
            .filter(|(_, tagged)| *tagged)
            .map(|(stat, _)| stat)
    };
    // We start programs as leaders of groups, and such never lead a session: who does has made one.
    let daemons: BTreeSet<i32> = tagged()
        .filter(|stat| stat.pgid == stat.session)
        .map(|stat| stat.session)
        .collect();
    let own = ancestors(processes);
    let mut wanted: BTreeSet<i32> = tagged()
        .filter(|stat| !daemons.contains(&stat.session))
        .map(|stat| stat.pgid)
        .collect();
    wanted.extend(known);
    let mut groups: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for (stat, _) in processes.iter().filter(|(stat, _)| wanted.contains(&stat.pgid)) {
        groups.entry(stat.pgid).or_default().push(stat.process.clone());
    }
    // To signal group 1 is to signal everything: kill(2).
    groups.retain(|&pgid, _| pgid > 1 && !own.contains(&pgid));
    groups
        .into_iter()
        .map(|(pgid, processes)| Group { pgid, processes })
        .collect()
}

/// The process groups of ourselves and of all above us.
fn ancestors(processes: &[(Stat, bool)]) -> BTreeSet<i32> {
    let by_pid: BTreeMap<i32, &Stat> = processes
        .iter()
        .map(|(stat, _)| (stat.process.pid, stat))
        .collect();
    let parent = |stat: &&Stat| by_pid.get(&stat.ppid).copied();
    let us = by_pid.get(&getpid().as_raw_nonzero().get()).copied();
    std::iter::successors(us, parent).map(|stat| stat.pgid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Runner as _, System};
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Stdio};

    /// A process that runs a script as an operation does, to be killed; what is left of it goes when the test
    /// ends.
    struct Operation {
        tag: String,
        process: Child,
    }

    impl Operation {
        /// Returns when the script has started `lines` processes, each of which announced itself by a line,
        /// with their ids.
        fn start(name: &str, script: &str, lines: usize) -> (Operation, Vec<i32>) {
            let tag = format!("{name}-{}", std::process::id());
            let dir = tempfile::tempdir().unwrap();
            let fifo = dir.path().join("fifo");
            assert!(
                std::process::Command::new("mkfifo")
                    .arg(&fifo)
                    .status()
                    .unwrap()
                    .success()
            );
            let process = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "orphan::tests::the_process_that_is_killed",
                    "--ignored",
                    "--nocapture",
                ])
                .envs([("TAG", tag.as_str()), ("SCRIPT", script)])
                .env("FIFO", &fifo)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let operation = Operation { tag, process };
            let announced = BufReader::new(fs::File::open(&fifo).unwrap()).lines();
            let pids = announced
                .take(lines)
                .map(|line| line.unwrap().parse().unwrap())
                .collect();
            (operation, pids)
        }

        fn kill(&mut self) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }

    impl Drop for Operation {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
            for (stat, tagged) in processes(&self.tag).unwrap_or_default() {
                if tagged {
                    let _ =
                        rustix::process::kill_process(Pid::from_raw(stat.process.pid).unwrap(), Signal::KILL);
                }
            }
        }
    }

    #[test]
    #[ignore = "is the process that other tests start and kill"]
    fn the_process_that_is_killed() {
        let [Ok(tag), Ok(script), Ok(fifo)] = ["TAG", "SCRIPT", "FIFO"].map(std::env::var) else {
            return;
        };
        System
            .run(
                &Command::change("sh")
                    .arg("-c")
                    .arg(script)
                    .env("FIFO", fifo)
                    .tag(tag),
            )
            .unwrap();
    }

    fn lives(pid: i32) -> bool {
        Stat::read(pid).is_some()
    }

    #[test]
    fn a_script_whose_parent_was_killed_is_found_and_killed() {
        let script = "exec 9>$FIFO; sleep 1000 & echo $! >&9; echo $$ >&9; sleep 1000; :";
        let (mut operation, pids) = Operation::start("killed", script, 2);
        // Its id is known before it is what it will be.
        while Stat::read(pids[0]).is_some_and(|stat| stat.process.name != "sleep") {
            thread::sleep(Duration::from_millis(5));
        }
        operation.kill();
        let found = orphans(&operation.tag).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pgid, pids[1]);
        assert!(
            found[0]
                .processes
                .iter()
                .any(|process| process.pid == pids[0] && process.name == "sleep")
        );
        assert!(
            found[0]
                .to_string()
                .starts_with(&format!("process group {}: ", pids[1]))
        );
        assert_eq!(kill_orphans(&operation.tag).unwrap(), 1);
        assert!(!pids.iter().any(|&pid| lives(pid)));
        assert!(orphans(&operation.tag).unwrap().is_empty());
        assert_eq!(kill_orphans(&operation.tag).unwrap(), 0);
    }

    #[test]
    fn neither_a_trap_nor_a_changed_environment_nor_a_new_group_escapes() {
        let script = "trap '' TERM; exec 9>$FIFO
            env -i sleep 1000 & echo $! >&9
            bash -c 'set -m; sleep 1000 & echo $! >&9'
            echo $$ >&9; sleep 1000; sleep 1000";
        let (mut operation, pids) = Operation::start("stubborn", script, 3);
        operation.kill();
        assert_eq!(kill_orphans(&operation.tag).unwrap(), 2);
        assert!(!pids.iter().any(|&pid| lives(pid)));
    }

    #[test]
    fn a_daemon_is_left_alone() {
        let script = "exec 9>$FIFO
            setsid sh -c 'echo $$ >&9; exec sleep 1000' &
            setsid sh -c 'sh -c \"echo \\$\\$ >&9; exec sleep 1000\" & wait' &
            setsid bash -c 'set -m; sleep 1000 & echo $! >&9; wait' &
            wait";
        let (mut operation, pids) = Operation::start("daemon", script, 3);
        operation.kill();
        assert_eq!(kill_orphans(&operation.tag).unwrap(), 1, "the script itself");
        assert!(pids.iter().all(|&pid| lives(pid)), "{pids:?}");
    }

    #[test]
    fn other_operations_are_left_alone() {
        let (operation, pids) = Operation::start("other", "exec 9>$FIFO; echo $$ >&9; sleep 1000; :", 1);
        let prefix = &operation.tag[..operation.tag.len() - 1];
        assert!(orphans(prefix).unwrap().is_empty());
        assert!(orphans(&format!("{}0", operation.tag)).unwrap().is_empty());
        assert!(orphans("").unwrap().is_empty());
        assert_eq!(kill_orphans(prefix).unwrap(), 0);
        assert!(lives(pids[0]));
    }

    #[test]
    fn we_do_not_kill_ourselves() {
        let stat = |pid, ppid, pgid| Stat {
            process: Process {
                pid,
                started: 1,
                name: "x".into(),
            },
            ppid,
            pgid,
            session: 9,
        };
        let us = getpid().as_raw_nonzero().get();
        let processes = [
            (stat(1, 0, 1), true),
            (stat(us + 1, 1, us + 1), true),
            (stat(us, us + 1, us), true),
            (stat(us + 2, us, us), true),
            (stat(us + 3, 1, us + 3), true),
            (stat(us + 4, 1, 0), true),
        ];
        let found: Vec<i32> = left_behind(&processes, &BTreeSet::new())
            .iter()
            .map(|group| group.pgid)
            .collect();
        assert_eq!(found, [us + 3]);
    }

    #[test]
    fn a_group_whose_id_went_to_others_gets_no_signal() {
        let (operation, pids) = Operation::start("reused", "exec 9>$FIFO; echo $$ >&9; sleep 1000; :", 1);
        let mut groups = orphans(&operation.tag).unwrap();
        groups[0]
            .processes
            .iter_mut()
            .for_each(|process| process.started += 1);
        groups[0].signal(Signal::KILL);
        thread::sleep(Duration::from_millis(100));
        assert!(lives(pids[0]));
    }

    #[test]
    fn a_name_in_proc_may_have_anything_in_it() {
        let fields = "1 77 66 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = Stat::parse(format!("42 (a) S (b\n) R {fields}\n").as_bytes()).unwrap();
        assert_eq!(
            stat.process,
            Process {
                pid: 42,
                started: 12345,
                name: "a) S (b\n".into()
            }
        );
        assert_eq!((stat.ppid, stat.pgid, stat.session), (1, 77, 66));
        assert!(Stat::parse(format!("42 (a) Z {fields}").as_bytes()).is_none());
        assert!(Stat::parse(b"42 (a) S 1 2").is_none());
        assert!(Stat::parse(b"").is_none());
    }
}
