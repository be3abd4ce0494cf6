//! A guest, as the test sees it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
use crate::keeper::{Group, Keeper};
use crate::storage::Storage;
use crate::wire::{Answer, Output, Request};

/// How long a guest may take to come up, on a machine with more to do.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a script may take unless said otherwise.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// How much longer than its timeout an answer may take.
const GRACE: Duration = Duration::from_secs(15);

/// A User-Mode Linux guest: a kernel of its own over the root of this machine, which it can change as it likes without changing it.
///
/// All methods can be called from several threads at once.
pub struct Guest {
    name: String,
    index: usize,
    dir: PathBuf,
    /// The program and its arguments.
    words: Vec<String>,
    keeper: Arc<Mutex<Keeper>>,
    process: Mutex<Option<Group>>,
    next: AtomicU64,
}

impl Guest {
    pub(crate) fn new(index: usize, dir: &Path, words: Vec<String>, keeper: Arc<Mutex<Keeper>>) -> Self {
        let name = format!("n{index}");
        Self {
            dir: dir.join(&name),
            name,
            index,
            words,
            keeper,
            process: Mutex::default(),
            next: AtomicU64::default(),
        }
    }

    /// Its name, as `n1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number; the first is 1.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its address in the primary network.
    pub fn primary_ip(&self) -> String {
        format!("192.168.77.{}", self.index)
    }

    /// Its address in the secondary network, over which disks are mirrored.
    pub fn secondary_ip(&self) -> String {
        format!("192.168.78.{}", self.index)
    }

    /// Switches it on, with the disks as they are. What was changed elsewhere is gone.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(&self) -> Result<(), Error> {
        self.switch_on()?;
        self.wait_until_up()
    }

    pub(crate) fn switch_on(&self) -> Result<(), Error> {
        let mut process = lock(&self.process);
        if let Some(old) = &mut *process {
            old.kill()?;
        }
        let spool = self.dir.join("spool");
        if spool.exists() {
            fs::remove_dir_all(&spool).map_err(Error::file(&spool))?;
        }
        fs::create_dir_all(&spool).map_err(Error::file(&spool))?;
        let group = lock(&self.keeper).spawn(&self.words, &self.console())?;
        *process = Some(group);
        Ok(())
    }

    pub(crate) fn wait_until_up(&self) -> Result<(), Error> {
        let started = Instant::now();
        let ready = self.dir.join("spool/ready");
        while !ready.exists() {
            if started.elapsed() > BOOT_TIMEOUT || !self.is_on() {
                return Err(Error::Boot {
                    guest: self.name.clone(),
                    after: started.elapsed(),
                    console: self.console_end(),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Cuts its power: all that it had not written to its disks is lost.
    ///
    /// # Errors
    /// When its processes cannot be killed.
    pub fn power_cut(&self) -> Result<(), Error> {
        match lock(&self.process).take() {
            Some(mut group) => group.kill(),
            None => Ok(()),
        }
    }

    /// Switches it off, everything written.
    ///
    /// # Errors
    /// When it cannot be asked to.
    pub fn off(&self) -> Result<(), Error> {
        self.ok("sync")?;
        self.power_cut()
    }

    /// Whether it runs.
    pub fn is_on(&self) -> bool {
        lock(&self.process).as_mut().is_some_and(Group::is_alive)
    }

    /// Runs a script with bash and waits for its end, whatever that is.
    ///
    /// # Errors
    /// When the guest does not answer, or the script does not end within a minute.
    pub fn sh(&self, script: &str) -> Result<Output, Error> {
        self.sh_within(SCRIPT_TIMEOUT, script)
    }

    /// [`sh`](Self::sh) with a timeout.
    ///
    /// # Errors
    /// When the guest does not answer, or the script does not end in time.
    pub fn sh_within(&self, timeout: Duration, script: &str) -> Result<Output, Error> {
        let request = Request::Script {
            script: script.to_owned(),
            timeout: timeout.as_secs_f64(),
        };
        let answer = self.ask(&request, timeout)?;
        let output: Output = read(answer.result.unwrap_or(Value::Null))?;
        match output.code {
            Some(_) => Ok(output),
            None => Err(self.script_failed(script, output)),
        }
    }

    /// Runs a script with bash, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it did not, with all that it printed.
    pub fn ok(&self, script: &str) -> Result<String, Error> {
        self.ok_within(SCRIPT_TIMEOUT, script)
    }

    /// [`ok`](Self::ok) with a timeout.
    ///
    /// # Errors
    /// When it did not succeed in time, with all that it printed.
    pub fn ok_within(&self, timeout: Duration, script: &str) -> Result<String, Error> {
        let output = self.sh_within(timeout, script)?;
        match output.success() {
            true => Ok(output.stdout),
            false => Err(self.script_failed(script, output)),
        }
    }

    /// Storage calls on this guest, as a node does them that keeps its files in `/var/lib/gnt-disk`.
    pub fn storage(&self) -> Storage<'_> {
        Storage::new(self)
    }

    /// What it said on its console since it was switched on.
    pub fn console_text(&self) -> String {
        fs::read(self.console())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Puts a question into the spool directory and waits for the answer.
    pub(crate) fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| self.dir.join(format!("spool/{id}.{kind}"));
        let form = |source| Error::Form {
            what: "a request",
            source,
        };
        let text = serde_json::to_string(request).map_err(form)?;
        if !self.is_on() {
            return Err(self.is_off());
        }
        let unfinished = path("new");
        fs::write(&unfinished, text).map_err(Error::file(&unfinished))?;
        fs::rename(&unfinished, path("request")).map_err(Error::file(&unfinished))?;
        let answer = path("answer");
        let started = Instant::now();
        while !answer.exists() {
            if !self.is_on() {
                return Err(self.is_off());
            }
            if started.elapsed() > timeout + GRACE {
                return Err(Error::NoAnswer {
                    guest: self.name.clone(),
                    request: format!("{request:?}"),
                    after: started.elapsed(),
                    console: self.console_end(),
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
        let text = fs::read_to_string(&answer).map_err(Error::file(&answer))?;
        fs::remove_file(&answer).map_err(Error::file(&answer))?;
        serde_json::from_str(&text).map_err(|source| Error::Form {
            what: "an answer",
            source,
        })
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    fn console_end(&self) -> String {
        const LINES: usize = 30;
        let text = self.console_text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn is_off(&self) -> Error {
        Error::Off {
            guest: self.name.clone(),
            console: self.console_end(),
        }
    }

    fn script_failed(&self, script: &str, output: Output) -> Error {
        Error::Script {
            place: self.name.clone(),
            script: script.to_owned(),
            output,
        }
    }
}

pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|source| Error::Form {
        what: "an answer",
        source,
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
