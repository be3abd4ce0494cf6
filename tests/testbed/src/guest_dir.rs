//! The directory of a guest: its console and the files through which it is asked. It is all that is needed to talk to a guest.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::wire::{Answer, Output, Request};

/// How much longer than its timeout an answer may take.
const GRACE: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub(crate) struct GuestDir {
    path: PathBuf,
}

impl GuestDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.path.join("console")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    pub(crate) fn console_text(&self) -> String {
        let bytes = fs::read(self.console()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its last lines, without the kernel's traces.
    pub(crate) fn console_end(&self) -> String {
        const LINES: usize = 20;
        let text = self.console_text();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with(" [<")).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Puts a request into the spool directory and waits for the answer, as long as the guest `is_on`.
    pub(crate) fn ask(
        &self,
        request: &Request,
        timeout: Duration,
        is_on: impl Fn() -> bool,
    ) -> Result<Answer, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = |kind: &str| self.spool().join(format!("{id}.{kind}"));
        let form = |what| move |source| Error::Form { what, source };
        let text = serde_json::to_string(request).map_err(form("a request"))?;
        let (unfinished, answer) = (path("new"), path("answer"));
        let off = || Error::Off {
            guest: self.name(),
            console: self.console_end(),
        };
        if !is_on() {
            return Err(off());
        }
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, path("request")))
            .map_err(Error::file(&unfinished))?;
        let started = Instant::now();
        while !answer.exists() {
            if !is_on() {
                return Err(off());
            }
            if started.elapsed() > timeout.saturating_add(GRACE) {
                return Err(Error::NoAnswer {
                    guest: self.name(),
                    request: request.to_string(),
                    after: started.elapsed(),
                    console: self.console_end(),
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
        let text = fs::read_to_string(&answer).map_err(Error::file(&answer))?;
        fs::remove_file(&answer).map_err(Error::file(&answer))?;
        serde_json::from_str(&text).map_err(form("an answer"))
    }

    /// Runs a script with bash.
    pub(crate) fn sh(
        &self,
        script: &str,
        timeout: Duration,
        is_on: impl Fn() -> bool,
    ) -> Result<Output, Error> {
        let request = Request::Script {
            script: script.to_owned(),
            timeout: timeout.as_secs_f64(),
        };
        self.ask(&request, timeout, is_on)?.read()
    }
}
