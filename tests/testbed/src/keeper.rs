//! What holds a testbed together: a process that is the first in a process, network and mount namespace of its own. All that belongs
//! to the testbed runs there, so the kernel ends it with the keeper, and the keeper ends when the pipe to the test closes, however
//! the test ends. Nothing outside has to be found and taken down: no network interface, no mount, no daemon.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

use crate::error::Error;
use crate::guest::lock;
use crate::script;
use crate::wire::Output;

/// What the keeper is told to outlive the test.
const KEEP: &str = "keep";

/// What the namespaces have of their own: daemons find each other, and write, in places that are not those of the machine.
const SURROUNDINGS: &str = "set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/lock /run/gluster /var/log/glusterfs";

/// The keeper, as the test sees it.
pub(crate) struct Keeper {
    /// `unshare`, the parent of the first process in the namespaces.
    child: Mutex<Child>,
    pid: String,
    trouble: AtomicBool,
    steps: Mutex<Vec<String>>,
}

impl Keeper {
    /// Starts it for the testbed in `dir`; `log` stays locked as long as it lives.
    pub(crate) fn start(binary: &Path, dir: &Path, log: &File) -> Result<Self, Error> {
        let io = Error::file(binary);
        let start = || {
            let mut child = Command::new("unshare")
                .args(["--pid", "--net", "--mount", "--fork", "--kill-child=KILL", "--"])
                .args([binary, Path::new("keep"), dir])
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log.try_clone()?)
                .spawn()?;
            let mut line = String::new();
            if let Some(stdout) = child.stdout.take() {
                BufReader::new(stdout).read_line(&mut line)?;
            }
            Ok((child, line.trim().to_owned()))
        };
        let (mut child, pid) = start().map_err(io)?;
        if pid.is_empty() {
            let status = child.wait().map_err(Error::file(binary))?;
            let log = fs::read_to_string(dir.join("keeper")).unwrap_or_default();
            return Err(Error::Keeper {
                log: format!("{status}\n{log}"),
            });
        }
        Ok(Self {
            child: Mutex::new(child),
            pid,
            trouble: AtomicBool::new(false),
            steps: Mutex::default(),
        })
    }

    /// A program with its arguments that runs another one in the namespaces.
    pub(crate) fn enter(&self) -> Vec<String> {
        enter(&self.pid)
    }

    /// Starts a program that runs on in the namespaces; `log` gets what it prints.
    pub(crate) fn spawn(&self, words: &[String], log: &Path) -> Result<Group, Error> {
        let group = Group {
            enter: self.enter(),
            log: log.to_owned(),
            pid_file: log.with_extension("pid"),
        };
        let start = || {
            if group.pid_file.exists() {
                fs::remove_file(&group.pid_file)?;
            }
            let log = File::create(log)?;
            flock(&log, FlockOperation::LockExclusive)?;
            // The leader of a session, which signals can be sent to as one; and a child of the keeper, which waits for it.
            let leader = ["setsid", "--fork", "sh", "-c", r#"echo $$ >"$0"; exec "$@""#];
            Command::new(&group.enter[0])
                .args(&group.enter[1..])
                .args(leader)
                .arg(&group.pid_file)
                .args(words)
                // A guest has its memory there, and /dev/shm without it.
                .env_remove("TMPDIR")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .status()
        };
        start().map_err(Error::file(log))?;
        Ok(group)
    }

    /// Remembers that something went wrong in the test.
    pub(crate) fn note_trouble(&self) {
        self.trouble.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_trouble(&self) -> bool {
        self.trouble.load(Ordering::Relaxed)
    }

    /// Does a step of a test, and remembers how long it took.
    pub(crate) fn timed<T>(&self, place: &str, step: &str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        let step = step.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = format!(
            "{:8.3} s  {place}: {step:.100}\n",
            started.elapsed().as_secs_f64()
        );
        lock(&self.steps).push(line);
        done
    }

    /// The steps until now, a line for each.
    pub(crate) fn steps(&self) -> String {
        lock(&self.steps).concat()
    }

    /// Leaves everything running after the test.
    pub(crate) fn keep(&self) {
        if let Some(mut stdin) = lock(&self.child).stdin.take() {
            // If it is gone there is nothing to keep.
            let _ = writeln!(stdin, "{KEEP}");
        }
    }

    /// Ends everything.
    pub(crate) fn end(&self) {
        let mut child = lock(&self.child);
        child.stdin = None;
        // A child of ours can be waited for, and there is nobody to tell if not.
        let _ = child.wait();
    }
}

/// A program with its arguments that runs another one in the namespaces of the process `pid`.
fn enter(pid: &str) -> Vec<String> {
    let words = ["nsenter", "--pid", "--net", "--mount", "--target", pid, "--"];
    words.map(str::to_owned).to_vec()
}

/// [`Keeper::enter`] for the testbed in `dir`, which another process may have started.
pub(crate) fn enter_dir(dir: &Path) -> Result<Vec<String>, Error> {
    let file = dir.join("keeper.pid");
    let pid = fs::read_to_string(&file).map_err(Error::file(&file))?;
    Ok(enter(&pid))
}

/// A program in the namespaces with all that it started.
pub(crate) struct Group {
    enter: Vec<String>,
    /// Locked as long as one of them has it open.
    log: PathBuf,
    /// Has the leader's id, as it is called in there.
    pid_file: PathBuf,
}

impl Group {
    pub(crate) fn is_alive(&self) -> bool {
        let log = File::open(&self.log);
        log.is_ok_and(|log| flock(&log, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
    }

    /// Kills it, and returns when nothing of it is left.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        // It may have ended by itself, or not have begun.
        while self.is_alive() {
            self.run("kill -KILL -- -$pid && while kill -0 -- -$pid; do sleep 0.01; done")?;
        }
        Ok(())
    }

    /// Sends it a signal, as `STOP`.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Error> {
        self.run(&format!("kill -{name} -- -$pid")).map(drop)
    }

    fn run(&self, script: &str) -> Result<Output, Error> {
        let script = format!("read pid <{} && {script}", self.pid_file.display());
        Ok(script::run(&self.enter, &script, Duration::from_secs(20))?)
    }
}

/// The keeper itself; returns when everything has ended but itself.
///
/// # Errors
/// When it cannot set itself up.
pub fn run(dir: &Path) -> Result<(), Error> {
    // This /proc is still that of the namespace outside, and so is the id.
    let proc = Path::new("/proc/self");
    let pid = fs::read_link(proc).map_err(Error::file(proc))?;
    script::ok("the host", &[], SURROUNDINGS, Duration::from_secs(10))?;
    let file = dir.join("keeper.pid");
    fs::write(&file, pid.as_os_str().as_encoded_bytes()).map_err(Error::file(&file))?;
    let pipe = |source| Error::file(dir)(source);
    writeln!(io::stdout(), "{}", pid.display()).map_err(pipe)?;
    // Whatever daemons leave behind becomes ours to wait for.
    thread::spawn(|| {
        loop {
            if wait(WaitOptions::empty()).is_err() {
                thread::sleep(Duration::from_millis(50));
            }
        }
    });
    for line in io::stdin().lines() {
        if line.map_err(pipe)? == KEEP {
            loop {
                thread::park();
            }
        }
    }
    // Everything but this process and the shell itself.
    let _ = Command::new("sh").args(["-c", "kill -KILL -1"]).status();
    remove(dir).map_err(Error::file(dir))
}

/// Those that were killed may make a file until they are gone.
fn remove(dir: &Path) -> io::Result<()> {
    for _ in 0..50 {
        if fs::remove_dir_all(dir).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    fs::remove_dir_all(dir)
}
