//! A guest, as the test sees it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::guest_dir::GuestDir;
use crate::keeper::{Group, Keeper};
use crate::storage::Storage;
use crate::wire::{Answer, Output, Request};

/// How long a guest may take to come up, on a machine with more to do.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a script may take unless said otherwise.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// A User-Mode Linux guest: a kernel of its own over the root of this machine, which it can change as it likes without changing it.
///
/// All methods can be called from several threads at once.
pub struct Guest {
    index: usize,
    name: String,
    dir: GuestDir,
    /// The program and its arguments.
    words: Vec<String>,
    keeper: Arc<Keeper>,
    process: Mutex<Option<Group>>,
    baseline: Mutex<BTreeSet<String>>,
}

impl Guest {
    pub(crate) fn new(index: usize, dir: GuestDir, words: Vec<String>, keeper: Arc<Keeper>) -> Self {
        Self {
            index,
            name: dir.name(),
            dir,
            words,
            keeper,
            process: Mutex::default(),
            baseline: Mutex::default(),
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
        self.keeper.timed(&self.name, "boot", || {
            self.switch_on()?;
            self.wait_until_up()
        })
    }

    pub(crate) fn switch_on(&self) -> Result<(), Error> {
        let mut process = lock(&self.process);
        if let Some(old) = &*process {
            old.kill()?;
        }
        let spool = self.dir.spool();
        if spool.exists() {
            fs::remove_dir_all(&spool).map_err(Error::file(&spool))?;
        }
        fs::create_dir_all(&spool).map_err(Error::file(&spool))?;
        *process = Some(self.keeper.spawn(&self.words, &self.dir.console())?);
        Ok(())
    }

    pub(crate) fn wait_until_up(&self) -> Result<(), Error> {
        let started = Instant::now();
        let ready = self.dir.spool().join("ready");
        while !ready.exists() {
            if started.elapsed() > BOOT_TIMEOUT || !self.is_on() {
                return Err(self.told(Error::Boot {
                    guest: self.name.clone(),
                    after: started.elapsed(),
                    console: self.dir.console_end(),
                }));
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
            Some(group) => group.kill(),
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
        lock(&self.process).as_ref().is_some_and(Group::is_alive)
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
        let ask = || self.dir.sh(script, timeout, || self.is_on());
        let asked = self.keeper.timed(&self.name, script, ask);
        let ended = asked.and_then(|output| match output.code {
            Some(_) => Ok(output),
            None => Err(self.script_failed(script, output)),
        });
        ended.map_err(|error| self.told(error))
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
            false => Err(self.told(self.script_failed(script, output))),
        }
    }

    /// Storage calls on this guest, as a node does them that keeps its files in `/var/lib/gnt-disk`.
    pub fn storage(&self) -> Storage<'_> {
        Storage::new(self)
    }

    /// What it said on its console since it was switched on.
    pub fn console(&self) -> String {
        self.dir.console_text()
    }

    /// What is in the guest now counts no longer as left: see [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// When the guest does not answer.
    pub fn mark(&self) -> Result<(), Error> {
        let there = self.inventory()?;
        *lock(&self.baseline) = there;
        Ok(())
    }

    /// What is left in the guest of what was made since it came up, and since the last [`mark`](Self::mark): volumes, devices, mappings,
    /// mounts, and files where disks or their state are kept. One line each, as `logical volume xenvg/disk0`.
    ///
    /// # Errors
    /// When the guest does not answer.
    pub fn sweep(&self) -> Result<Vec<String>, Error> {
        let there = self.inventory()?;
        let baseline = lock(&self.baseline);
        Ok(there.difference(&baseline).cloned().collect())
    }

    /// Fails if anything is [left](Self::sweep).
    ///
    /// # Errors
    /// When something is, or the guest does not answer.
    pub fn assert_clean(&self) -> Result<(), Error> {
        let left = self.sweep()?;
        match left.is_empty() {
            true => Ok(()),
            false => Err(self.told(Error::Left {
                guest: self.name.clone(),
                left,
            })),
        }
    }

    fn inventory(&self) -> Result<BTreeSet<String>, Error> {
        self.ask(&Request::Inventory, SCRIPT_TIMEOUT)?.read()
    }

    pub(crate) fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, Error> {
        let ask = || self.dir.ask(request, timeout, || self.is_on());
        let asked = self.keeper.timed(&self.name, &request.to_string(), ask);
        asked.map_err(|error| self.told(error))
    }

    /// An error that the test is told of.
    pub(crate) fn told(&self, error: Error) -> Error {
        self.keeper.note_trouble();
        error
    }

    fn script_failed(&self, script: &str, output: Output) -> Error {
        Error::Script {
            place: self.name.clone(),
            script: script.to_owned(),
            output,
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
