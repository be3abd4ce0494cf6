//! What can go wrong.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use gnt_process::{Captured, RunError, Status};
use thiserror::Error;

use crate::action::Action;
use crate::attach::AttachOutputError;
use crate::device::DeviceError;
use crate::environment::EnvironmentError;
use crate::provider::ProviderError;
use crate::volume_info::VolumeInfoError;

/// The result of an action.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An action was not done.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such provider, or it cannot be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The script cannot be given what it needs.
    #[error("{action} of the provider {provider} cannot be run{}", on(volume.as_deref()))]
    Environment {
        /// The action.
        action: Action,
        /// The provider.
        provider: String,
        /// The volume.
        volume: Option<String>,
        /// What cannot be given.
        #[source]
        source: Box<EnvironmentError>,
    },
    /// The provider has no script for this.
    #[error("the provider {provider} cannot {action}: it has no script for that")]
    Unsupported {
        /// The action.
        action: Action,
        /// The provider.
        provider: String,
    },
    /// The script failed, or what it did is not what was asked for.
    #[error(transparent)]
    Failed(Box<Failure>),
}

impl Error {
    /// Why the script failed, if it was run.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Error::Failed(failure) => Some(&failure.reason),
            _ => None,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Provider(error) => error.hint(),
            Error::Failed(failure) => failure.hint(),
            Error::Environment { .. } | Error::Unsupported { .. } => None,
        }
    }
}

fn on(volume: Option<&str>) -> String {
    volume
        .map(|volume| format!(" on the volume {volume}"))
        .unwrap_or_default()
}

/// A script that failed, or that did not do what it should.
///
/// Its message has several lines: what failed and how, the last lines that the script printed, and where more
/// is found.
#[derive(Debug)]
pub struct Failure {
    /// The action.
    pub action: Action,
    /// The provider.
    pub provider: String,
    /// The volume that it was about.
    pub volume: Option<String>,
    /// The instance whose volume it is.
    pub instance: Option<String>,
    /// How it failed.
    pub reason: Reason,
    /// The last lines that the script printed on standard output, then on standard error, 20 at most, fit for
    /// a terminal.
    pub output: Vec<String>,
    /// The provider's log.
    pub log: PathBuf,
}

impl Failure {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        self.reason.hint().or_else(|| {
            let provider = &self.provider;
            Some(format!(
                "`gnt-disk provider diagnose {provider}` checks the provider; its log has every action"
            ))
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.action)?;
        if let Some(volume) = &self.volume {
            write!(f, " of the volume {volume}")?;
        }
        if let Some(instance) = &self.instance {
            write!(f, " of {instance}")?;
        }
        write!(f, " failed (provider {}): {}", self.provider, self.reason)?;
        if !self.output.is_empty() {
            write!(f, "\n  the last it printed:")?;
            for line in &self.output {
                write!(f, "\n    {line}")?;
            }
        }
        write!(f, "\n  log: {}", self.log.display())
    }
}

impl StdError for Failure {
    /// The reason is part of the message: its cause is the next in the chain.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.reason.source()
    }
}

/// How an action failed.
#[derive(Debug, Error)]
pub enum Reason {
    /// The script said that it failed, or was killed.
    #[error("{0}")]
    Ended(Status),
    /// The script did not end in time.
    #[error("timed out after {after:?}{}", fate(*.stuck))]
    TimedOut {
        /// How long it was allowed to run.
        after: Duration,
        /// Its process id if even SIGKILL did not end it.
        stuck: Option<u32>,
    },
    /// The script could not be started, or not be followed.
    #[error("could not be run")]
    NotRun(#[source] RunError),
    /// More than could be an answer.
    #[error("it printed {0} bytes on standard output")]
    TooMuchOutput(u64),
    /// What attach printed is no answer.
    #[error(transparent)]
    AttachOutput(AttachOutputError),
    /// What attach printed leads to no device.
    #[error(transparent)]
    Device(DeviceError),
    /// What list or info printed is no answer.
    #[error(transparent)]
    Listing(VolumeInfoError),
    /// Info described another volume than asked for.
    #[error("it described the volume {0:?}")]
    OtherVolume(String),
    /// Create succeeded, but the volume cannot be attached.
    #[error("the script succeeded, but the volume cannot be attached")]
    NotAttachable(#[source] Box<Error>),
    /// Create or grow succeeded, but the device is smaller than asked for.
    #[error(
        "the script succeeded, but the device {} has {size} bytes, fewer than the {asked_mib} MiB asked for",
        device.display()
    )]
    TooSmall {
        /// The device.
        device: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// What it should be at least, in MiB.
        asked_mib: u64,
    },
    /// Detach succeeded, but the volume's device is still there.
    #[error("the script succeeded, but the device {} is still attached", device.display())]
    StillAttached {
        /// The device.
        device: PathBuf,
    },
    /// Remove succeeded, but the provider still has the volume.
    #[error("the script succeeded, but the provider still has the volume")]
    StillThere,
}

impl Reason {
    /// Whether the script itself had succeeded.
    pub fn script_succeeded(&self) -> bool {
        !matches!(
            self,
            Reason::Ended(_) | Reason::TimedOut { .. } | Reason::NotRun(_)
        )
    }

    /// And what the script had printed, on standard output and on standard error.
    pub(crate) fn of_run_error(error: RunError) -> (Reason, Captured, Captured) {
        match error {
            RunError::TimedOut {
                after,
                stuck,
                stdout,
                stderr,
                ..
            } => (Reason::TimedOut { after, stuck }, *stdout, *stderr),
            error => (Reason::NotRun(error), Captured::default(), Captured::default()),
        }
    }

    /// The same with the quotations of what the script printed changed.
    pub(crate) fn map_quotes(mut self, change: impl Fn(&str) -> String) -> Reason {
        let quoted = match &mut self {
            Reason::AttachOutput(AttachOutputError::NotText(text) | AttachOutputError::NotAPath(text)) => {
                text
            }
            Reason::AttachOutput(AttachOutputError::NotAUri { text, .. }) => text,
            Reason::Listing(error) => &mut error.text,
            _ => return self,
        };
        *quoted = change(quoted);
        self
    }

    fn hint(&self) -> Option<String> {
        match self {
            Reason::TimedOut { stuck: Some(pid), .. } => Some(format!(
                "`cat /proc/{pid}/stack` and the kernel log may tell which device it waits for"
            )),
            Reason::NotRun(error) => error.hint(),
            Reason::AttachOutput(error) => Some(error.hint().to_owned()),
            Reason::NotAttachable(error) => error.hint(),
            Reason::TooSmall { .. } => Some(
                "the provider may round sizes down, take one unit for another, or not grow volumes at all"
                    .to_owned(),
            ),
            Reason::StillAttached { device } => Some(format!(
                "something on this node may use it: `lsblk {0}`, `fuser -v {0}`",
                device.display()
            )),
            _ => None,
        }
    }
}

/// The message of an error and those of its causes.
pub(crate) fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn fate(stuck: Option<u32>) -> String {
    stuck
        .map(|pid| format!(", and cannot be killed: process {pid} waits in the kernel"))
        .unwrap_or_default()
}
