//! What can go wrong with a testbed. Shown with all there is to know, since it ends a test.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gnt_bdev::{ErrorKind, Operation};
use gnt_config::LogicalDevice;
use gnt_process::RunError;
use serde::{Deserialize, Serialize};

use crate::wire::Output;

/// A testbed, or something in it, does not do as it should. `Debug` is the text for people, with causes: it is what a test that
/// fails shows.
#[derive(thiserror::Error)]
pub enum Error {
    /// The command line of the binary of this crate is not understood.
    #[error("{0}")]
    Usage(&'static str),
    /// A program that the testbed needs is not there.
    #[error(
        "{program} is not there: it is in the Debian package {package}, which `scripts/packages test` installs"
    )]
    Missing {
        /// The program or file.
        program: &'static str,
        /// The package.
        package: &'static str,
    },
    /// The binary that runs inside guests is not there.
    #[error("{} is not there: `cargo build -p gnt-testbed` makes it", .path.display())]
    NoAgent {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file of the testbed.
    #[error("{}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What holds the testbed together did not start.
    #[error("the testbed does not start:\n{log}")]
    Keeper {
        /// What it said.
        log: String,
    },
    /// A guest did not start.
    #[error("guest {guest} is not up after {after:?}; the end of its console:\n{console}")]
    Boot {
        /// The guest.
        guest: String,
        /// How long it had.
        after: Duration,
        /// What it said.
        console: String,
    },
    /// A guest that is off, or went off before it answered.
    #[error("guest {guest} is off; the end of its console:\n{console}")]
    Off {
        /// The guest.
        guest: String,
        /// What it said.
        console: String,
    },
    /// A guest did not answer.
    #[error("guest {guest} did not answer within {after:?} to {request}; the end of its console:\n{console}")]
    NoAnswer {
        /// The guest.
        guest: String,
        /// What it was asked.
        request: String,
        /// How long it had.
        after: Duration,
        /// What it said.
        console: String,
    },
    /// A script failed, or did not end in time.
    #[error("on {place}, this script ended with {}:\n{script}\n{output}", .output.end())]
    Script {
        /// The guest, or `the host`.
        place: String,
        /// The script.
        script: String,
        /// How it ended.
        output: Output,
    },
    /// A program on the outside could not be run.
    #[error("on the host")]
    Run(#[from] RunError),
    /// Something is left in a guest.
    #[error("on {guest} these are left:\n{}", .left.join("\n"))]
    Left {
        /// The guest.
        guest: String,
        /// What.
        left: Vec<String>,
    },
    /// No place among the guests that may run at once.
    #[error("no room for {wanted} guests after {after:?}: at most {limit} run at once on this machine")]
    Full {
        /// How many were wanted.
        wanted: usize,
        /// How many may run.
        limit: usize,
        /// How long it was waited.
        after: Duration,
    },
    /// What was read is not what was written.
    #[error("{what} cannot be read")]
    Form {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A storage call was refused.
    #[error(transparent)]
    Refused(Box<Refused>),
}

impl Error {
    /// The answer of a storage call that failed as such; any other error stays one.
    ///
    /// ```no_run
    /// # fn test(storage: &gnt_testbed::Storage<'_>, disk: &gnt_config::Disk) -> Result<(), gnt_testbed::Error> {
    /// let refused = storage.create(disk).unwrap_err().refused()?;
    /// assert_eq!(refused.kind, gnt_bdev::ErrorKind::NoSpace);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error itself, if it is that of the testbed.
    pub fn refused(self) -> Result<Refused, Self> {
        match self {
            Self::Refused(refused) => Ok(*refused),
            other => Err(other),
        }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self))
    }
}

/// A storage call that failed in a guest (`gnt_bdev::Error`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("on node {node}: {message}{}", .hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default())]
pub struct Refused {
    /// The guest.
    pub node: String,
    /// The whole chain of messages, as the command line shows it.
    pub message: String,
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The device type and the operation that it does not have, if that is the reason.
    pub unsupported: Option<(LogicalDevice, Operation)>,
}

impl Refused {
    pub(crate) fn new(node: &str, error: &gnt_bdev::Error) -> Self {
        let unsupported = match error {
            gnt_bdev::Error::Unsupported { device, operation } => Some((*device, *operation)),
            _ => None,
        };
        Self {
            node: node.to_owned(),
            message: chain(error),
            kind: error.kind(),
            hint: error.hint(),
            unsupported,
        }
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.kind)
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
