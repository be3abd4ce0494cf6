//! What holds a testbed together: a process that is the first in a process, network and mount namespace of its own. All that belongs
//! to the testbed runs there, so the kernel ends it with the keeper, and the keeper ends when the pipe to the test closes, however
//! the test ends. Nothing outside has to be found and taken down: no network interface, no mount, no daemon.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{WaitOptions, wait};

use crate::error::Error;
use crate::script;

/// What the keeper is told to outlive the test.
const KEEP: &str = "keep";

/// The keeper, as the test sees it.
pub(crate) struct Keeper {
    /// `unshare`, the parent of the first process in the namespaces.
    child: Child,
    pid: u32,
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
            Ok((child, line.trim().parse()))
        };
        match start().map_err(io)? {
            (child, Ok(pid)) => Ok(Self { child, pid }),
            (mut child, Err(_)) => {
                let status = child.wait().map_err(Error::file(binary))?;
                let log = fs::read_to_string(dir.join("keeper")).unwrap_or_default();
                Err(Error::Keeper {
                    log: format!("{status}\n{log}"),
                })
            }
        }
    }

    /// A program with its arguments that runs another one in the namespaces.
    pub(crate) fn enter(&self) -> Vec<String> {
        let words = ["nsenter", "--pid", "--net", "--mount", "--target"];
        let pid = self.pid.to_string();
        words
            .into_iter()
            .map(str::to_owned)
            .chain([pid, "--".to_owned()])
            .collect()
    }

    /// Starts a program that runs on in the namespaces; `log` gets what it prints.
    pub(crate) fn spawn(&self, words: &[String], log: &Path) -> Result<Group, Error> {
        let pid_file = log.with_extension("pid");
        let start = || {
            if pid_file.exists() {
                fs::remove_file(&pid_file)?;
            }
            let log = File::create(log)?;
            let enter = self.enter();
            // A guest's kernel would start a session of its own, which kills could not be sent to.
            let leader = ["setsid", "sh", "-c", r#"echo $$ >"$0"; exec "$@""#];
            Command::new(&enter[0])
                .args(&enter[1..])
                .args(leader)
                .arg(&pid_file)
                .args(words)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        };
        Ok(Group {
            child: start().map_err(Error::file(log))?,
            enter: self.enter(),
            pid_file,
        })
    }

    /// Leaves everything running after the test.
    pub(crate) fn keep(&mut self) {
        if let Some(stdin) = &mut self.child.stdin {
            // If it is gone there is nothing to keep.
            let _ = writeln!(stdin, "{KEEP}");
        }
        self.child.stdin = None;
    }

    /// Ends everything.
    pub(crate) fn end(&mut self) {
        self.child.stdin = None;
        // Nothing is known to be wrong with waiting for a child; and there is nobody to tell.
        let _ = self.child.wait();
    }
}

/// A program in the namespaces with all that it started.
pub(crate) struct Group {
    /// `nsenter`, its parent.
    child: Child,
    enter: Vec<String>,
    /// Has its id, as it is called in there.
    pid_file: PathBuf,
}

impl Group {
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it, and returns when nothing of it is left.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        let script = format!(
            "read pid <{} && kill -KILL -- -$pid && while kill -0 -- -$pid; do sleep 0.01; done",
            self.pid_file.display()
        );
        // It may have ended by itself, or not have begun.
        while self.is_alive() {
            script::run(&self.enter, &script, Duration::from_secs(20))?;
        }
        Ok(())
    }
}

/// The keeper itself; returns when everything has ended but itself.
///
/// # Errors
/// When it cannot set itself up.
pub fn run(dir: &Path) -> io::Result<()> {
    // This /proc is still that of the namespace outside, and so is the id.
    let pid = fs::read_link("/proc/self")?;
    let mounted = Command::new("mount")
        .args(["-t", "proc", "proc", "/proc"])
        .status()?;
    if !mounted.success() {
        return Err(io::Error::other("cannot mount /proc"));
    }
    writeln!(io::stdout(), "{}", pid.display())?;
    // Whatever daemons leave behind becomes ours to wait for.
    thread::spawn(|| {
        loop {
            if wait(WaitOptions::empty()).is_err() {
                thread::sleep(Duration::from_millis(50));
            }
        }
    });
    for line in io::stdin().lines() {
        if line? == KEEP {
            loop {
                thread::park();
            }
        }
    }
    // Everything but this process and the shell itself.
    let _ = Command::new("sh").args(["-c", "kill -KILL -1"]).status();
    remove(dir)
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
