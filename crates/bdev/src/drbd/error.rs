//! What can go wrong with a drbd device.

use gnt_config::params::ParamError;

use super::parse::{ParseError, Version};
use crate::error::ErrorKind;
use crate::tool::ToolError;

/// A drbd device could not be worked on.
#[derive(Debug, thiserror::Error)]
pub enum DrbdError {
    /// One of its tools.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// One of its parameters.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// The kernel module is not there.
    #[error("the kernel module drbd is not loaded")]
    NotLoaded,
    /// The kernel module speaks otherwise.
    #[error("the kernel has drbd {version}, and only 8.4 is supported")]
    Version {
        /// Its version.
        version: Version,
    },
    /// The kernel module calls another helper than the cluster wants.
    #[error("the kernel module drbd calls {found} for its events, not {wanted}")]
    Helper {
        /// What it calls.
        found: String,
        /// What it should call (`drbd_usermode_helper` of the cluster).
        wanted: String,
    },
    /// `/proc/drbd` or generations of data are not as they should be.
    #[error("cannot make sense of {what}")]
    Form {
        /// What was read.
        what: &'static str,
        /// Why it cannot be.
        #[source]
        source: ParseError,
    },
    /// The setup of a device is not as it should be.
    #[error("cannot make sense of what `drbdsetup show {minor}` printed: {why}")]
    Setup {
        /// The minor.
        minor: u32,
        /// Why; nothing is quoted, as there is a secret in it.
        why: &'static str,
    },
    /// A parameter with options cannot be split into words.
    #[error("the disk parameter {parameter} is not a list of options")]
    Options {
        /// The parameter.
        parameter: &'static str,
        /// Why.
        #[source]
        source: shell_words::ParseError,
    },
    /// The dynamic resync controller is wanted, and off.
    #[error(
        "the disk parameter c-plan-ahead is 0, which turns off the controller that dynamic-resync asks for"
    )]
    NoPlan,
}

impl DrbdError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Tool(error) => error.kind(),
            _ => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tool(error) => error.hint(),
            _ => None,
        }
    }
}
