//! What can go wrong with an image.

use gnt_process::{CommandFailed, Status};

use super::commands::{Image, Pool};
use crate::error::ErrorKind;
use crate::tool::ToolError;

/// An image, or its pool, could not be worked on.
#[derive(Debug, thiserror::Error)]
pub enum RbdError {
    /// `rbd` failed, or could not be run.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The image has a name that would mean something else to the tools.
    #[error("{name:?} cannot be the name of an image")]
    Name {
        /// The name.
        name: String,
    },
    /// A parameter of the disk cannot be used.
    #[error("the disk has an unusable parameter")]
    Params(#[from] gnt_config::params::ParamError),
    /// No monitor answers, or none lets us in.
    #[error("the Ceph cluster cannot be reached")]
    Unreachable {
        /// How far it came.
        contact: Contact,
        /// The user without its `client.`.
        user: String,
        /// How the tool failed.
        #[source]
        source: ToolError,
    },
    /// The user may not do that.
    #[error("the Ceph user client.{user} may not do that in the pool {pool}")]
    Denied {
        /// The user without its `client.`.
        user: String,
        /// The pool.
        pool: String,
        /// How the tool failed.
        #[source]
        source: ToolError,
    },
    /// The pool is not there.
    #[error("there is no pool {pool}")]
    NoPool {
        /// The pool.
        pool: String,
        /// How the tool failed.
        #[source]
        source: ToolError,
    },
    /// The image is not there.
    #[error("there is no image {image}")]
    NoImage {
        /// `POOL/IMAGE`.
        image: String,
    },
    /// Another image has the name.
    #[error("there is an image {image} already, with {bytes} bytes")]
    OtherImage {
        /// `POOL/IMAGE`.
        image: String,
        /// Its size.
        bytes: u64,
    },
    /// The image was mapped, and no device is known for it.
    #[error("{image} was mapped, and no device of it can be found")]
    NoDevice {
        /// `POOL/IMAGE`.
        image: String,
    },
    /// The image is open, on this node or elsewhere.
    #[error("{image} is open at {}", .watchers.join(", "))]
    InUse {
        /// `POOL/IMAGE`.
        image: String,
        /// The addresses of those that have it open (`rbd status`).
        watchers: Vec<String>,
    },
    /// The image has snapshots that are not ours.
    #[error("{image} has snapshots: {}", .snapshots.join(", "))]
    HasSnapshots {
        /// `POOL/IMAGE`.
        image: String,
        /// Their names.
        snapshots: Vec<String>,
    },
}

/// Why a cluster does not let us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// Nothing says where the monitors are.
    NoMonitors,
    /// None of them answers.
    NoAnswer,
    /// The user was refused, or has no key.
    Refused,
}

impl RbdError {
    /// What a failure of the tool means for work on a pool.
    pub(super) fn of(pool: Pool<'_>, source: ToolError) -> Self {
        let user = pool.user.unwrap_or("admin").to_owned();
        let name = pool.name.to_owned();
        let ToolError::Failed { failed, .. } = &source else {
            return source.into();
        };
        let stderr = failed.stderr.text();
        let says = |words: &[&str]| words.iter().any(|words| stderr.contains(words));
        if says(NO_CONNECTION) {
            let contact = match errno(failed) {
                Some(ETIMEDOUT) => Contact::NoAnswer,
                _ if says(NO_CONFIGURATION) => Contact::NoMonitors,
                _ => Contact::Refused,
            };
            return Self::Unreachable {
                contact,
                user,
                source,
            };
        }
        if stderr.contains("error opening pool") && errno(failed) == Some(ENOENT) {
            return Self::NoPool { pool: name, source };
        }
        match errno(failed) {
            Some(EPERM | EACCES) => Self::Denied {
                user,
                pool: name,
                source,
            },
            _ => source.into(),
        }
    }

    pub(super) fn no_image(image: Image<'_>) -> Self {
        Self::NoImage { image: image.spec() }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Tool(error) => error.kind(),
            Self::NoPool { .. } | Self::NoImage { .. } => ErrorKind::NotFound,
            Self::OtherImage { .. } => ErrorKind::AlreadyExists,
            Self::InUse { .. } | Self::HasSnapshots { .. } => ErrorKind::Busy,
            Self::Name { .. }
            | Self::Params(_)
            | Self::Unreachable { .. }
            | Self::Denied { .. }
            | Self::NoDevice { .. } => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tool(error) => error.hint(),
            Self::Params(error) => error.hint(),
            Self::Name { .. } => Some("a name has neither '/' nor '@'".to_owned()),
            Self::Unreachable {
                contact: Contact::NoMonitors,
                ..
            } => Some(
                "/etc/ceph/ceph.conf names the monitors (`mon host`), and is not there: take that of another client of the cluster"
                    .to_owned(),
            ),
            Self::Unreachable {
                contact: Contact::NoAnswer,
                user,
                ..
            } => Some(format!(
                "do the monitors that /etc/ceph/ceph.conf names run, and does this node reach them? `ceph --id {user} -s`"
            )),
            Self::Unreachable {
                contact: Contact::Refused,
                user,
                ..
            } => Some(format!(
                "the key of client.{user} belongs in /etc/ceph/ceph.client.{user}.keyring: `ceph auth get client.{user}`"
            )),
            Self::Denied { user, pool, .. } => Some(format!(
                "`ceph auth caps client.{user} mon 'profile rbd' osd 'profile rbd pool={pool}'` lets it"
            )),
            Self::NoPool { pool, .. } => Some(format!(
                "make it: `ceph osd pool create {pool} && rbd pool init {pool}`; or set the disk parameter pool"
            )),
            Self::NoImage { .. } => {
                Some("was it removed or renamed without us? `rbd ls` shows what is there".to_owned())
            }
            Self::OtherImage { image, .. } => Some(format!("`rbd info {image}` tells more of it")),
            Self::NoDevice { .. } => Some("`rbd showmapped` shows what is mapped".to_owned()),
            Self::InUse { image, watchers } => Some(format!(
                "shut it down where it is in use; if that node is dead, and will not come back to write: {}; `rbd status {image}` \
                 shows who has it open",
                watchers
                    .iter()
                    .map(|watcher| format!("`ceph osd blocklist add {watcher}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
            Self::HasSnapshots { image, .. } => Some(format!(
                "`rbd snap purge {image}` removes them all; nothing else knows of them"
            )),
        }
    }
}

/// What `rbd` says that cannot connect, and what `ceph` says.
const NO_CONNECTION: &[&str] = &[
    "couldn't connect to the cluster",
    "error connecting to the cluster",
    "Error initializing cluster client",
];
const NO_CONFIGURATION: &[&str] = &["can't open ceph.conf", "error calling conf_read_file"];

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENOSPC: i32 = 28;
const ENOTEMPTY: i32 = 39;
const ETIMEDOUT: i32 = 110;
const EDQUOT: i32 = 122;

/// What a failure of `rbd` means.
pub(super) fn classify(failed: &CommandFailed) -> ErrorKind {
    match errno(failed) {
        Some(ENOENT) => ErrorKind::NotFound,
        Some(EEXIST) => ErrorKind::AlreadyExists,
        Some(EBUSY | ENOTEMPTY) => ErrorKind::Busy,
        Some(ENOSPC | EDQUOT) => ErrorKind::NoSpace,
        _ => ErrorKind::Other,
    }
}

/// The error of the operating system that made `rbd` or `ceph` fail: its exit status, or, where that is 1 for anything, the number in
/// brackets in its last words.
fn errno(failed: &CommandFailed) -> Option<i32> {
    match failed.status {
        Status::Exited(1) => {
            let stderr = failed.stderr.text();
            let mut bracketed = stderr
                .rsplit(['(', '['])
                .filter_map(|part| part.split_once([')', ']']));
            bracketed.find_map(|(number, _)| number.trim_start_matches("errno ").parse().ok())
        }
        Status::Exited(status) => Some(status),
        Status::Signaled(_) => None,
    }
}
