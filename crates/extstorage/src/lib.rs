//! The External Storage Interface: find a provider, run an action, make sure of what it did.
//!
//! A *provider* is a directory of scripts, one per [`Action`], that a storage vendor or an administrator
//! writes, and that make *volumes* of some storage block devices of this node. Providers written for Ganeti
//! (ganeti-extstorage-interface(7)) run unmodified. [`ExtStorage`] does actions on a [`Volume`]; [`diagnose`]
//! says what is wrong with the providers that are installed.
//!
//! What it knows of instances is what it is told to pass on.

mod action;
mod attach;
mod checked;
mod device;
mod diagnose;
mod environment;
mod error;
mod interface;
mod log;
mod parameters;
mod provider;
mod run;
mod secret;
#[cfg(test)]
mod testing;
mod text;
mod trust;
mod volume;
mod volume_info;

pub use action::Action;
pub use attach::{AttachOutput, AttachOutputError, parse_attach_output};
pub use device::{Device, DeviceError};
pub use diagnose::{Diagnosis, diagnose};
pub use environment::{Arguments, EnvironmentError, STATE_VARIABLE, environment, sanitize_metadata};
pub use error::{Error, Failure, Reason, Result};
pub use interface::{Attachment, DEFAULT_TIMEOUT, ExtStorage, Performed};
pub use log::{LOG_FILE_SIZE, LOG_FILES, LogError};
pub use parameters::{PARAMETERS_FILE, Parameter, parse_parameters};
pub use provider::{Fault, FileProblem, Provider, ProviderError, SearchPath};
pub use secret::is_secret;
pub use trust::TrustError;
pub use volume::Volume;
pub use volume_info::{VolumeInfo, VolumeInfoError, VolumeInfoFault, parse_info, parse_list};
