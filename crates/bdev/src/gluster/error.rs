//! What can go wrong with a Gluster volume.

use std::io;
use std::path::PathBuf;

use gnt_config::params::ParamError;

use super::log::MountFailure;
use crate::error::ErrorKind;
use crate::file_storage::FileStorageError;
use crate::tool::ToolError;

/// A Gluster volume could not be worked on.
#[derive(Debug, thiserror::Error)]
pub enum GlusterError {
    /// A tool failed, or could not be run.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A parameter of the disk cannot be used.
    #[error("the disk has an unusable parameter")]
    Params(#[from] ParamError),
    /// The volume could not be mounted.
    #[error("cannot mount the Gluster volume {volume} of {server}: {}{}", reason(*.failure), quoted(.log))]
    Mount {
        /// The volume.
        volume: String,
        /// Its server.
        server: String,
        /// Why.
        failure: MountFailure,
        /// The last errors in the client's log.
        log: Vec<String>,
    },
    /// The volume was mounted, and cannot be reached any more.
    #[error("the Gluster volume {volume} of {server} does not answer")]
    Disconnected {
        /// The volume.
        volume: String,
        /// Its server.
        server: String,
        /// Where it is mounted.
        mount_point: PathBuf,
        /// What failed.
        #[source]
        source: Box<FileStorageError>,
    },
    /// The tool that mounts cannot take such a path.
    #[error("a Gluster volume cannot be mounted on {}: the path has a blank or a comma", .mount_point.display())]
    MountPoint {
        /// The path.
        mount_point: PathBuf,
    },
    /// What is kept of mounts could not be read or written.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl GlusterError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Tool(error) => error.kind(),
            Self::Mount {
                failure: MountFailure::NoVolume,
                ..
            } => ErrorKind::NotFound,
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Params(_) | Self::Mount { .. } | Self::Disconnected { .. } | Self::MountPoint { .. } => {
                ErrorKind::Other
            }
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tool(error) => error.hint(),
            Self::Params(error) => error.hint(),
            Self::Mount {
                volume,
                server,
                failure,
                ..
            } => Some(match failure {
                MountFailure::NoVolume => format!(
                    "`gluster volume list` on {server} shows those that there are; the disk parameter volume names it"
                ),
                MountFailure::NotStarted => {
                    format!(
                        "start it: `gluster volume start {volume}` on {server}; `gluster volume status {volume}`"
                    )
                }
                MountFailure::NoName => {
                    "set the disk parameter host to a name that this node can resolve, or to an address"
                        .to_owned()
                }
                MountFailure::NoServer => format!(
                    "does glusterd run on {server}, at the port that the disk parameter port names, and does this node reach it?"
                ),
                MountFailure::NoFuse => "`modprobe fuse`".to_owned(),
                MountFailure::Unknown => {
                    format!(
                        "`gluster volume info {volume}` on {server} tells whether it is there and started"
                    )
                }
            }),
            Self::Disconnected {
                volume,
                server,
                mount_point,
                ..
            } => Some(format!(
                "`gluster volume status {volume}` on {server} tells whether its bricks run; if they do, the client on this node is \
                 dead: `umount -l {}`, then try again",
                mount_point.display()
            )),
            Self::MountPoint { .. } => Some(
                "give `--state`, or the setting gluster_mount_dir, a directory whose path has none"
                    .to_owned(),
            ),
            Self::Io { .. } => None,
        }
    }
}

fn reason(failure: MountFailure) -> &'static str {
    match failure {
        MountFailure::NoVolume => "the server has no such volume",
        MountFailure::NotStarted => "none of its bricks answers: it is not started, or its servers are down",
        MountFailure::NoName => "the server's name cannot be resolved",
        MountFailure::NoServer => "the server does not answer",
        MountFailure::NoFuse => "this node has no FUSE",
        MountFailure::Unknown => "the client gave up",
    }
}

fn quoted(log: &[String]) -> String {
    log.iter().map(|line| format!("\n  {line}")).collect()
}
