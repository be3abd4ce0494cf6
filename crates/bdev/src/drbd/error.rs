//! What can go wrong with a drbd device.

use std::path::PathBuf;
use std::time::Duration;

use gnt_config::Mebibytes;
use gnt_config::params::ParamError;
use gnt_process::CommandFailed;

use super::parse::{self, ParseError, Verdict, Version};
use crate::device::DeviceError;
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
    /// One of the devices below it.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernel module is not there.
    #[error("the kernel module drbd is not loaded")]
    NotLoaded,
    /// The kernel module speaks otherwise.
    #[error("the kernel has drbd {version}, and only 8.4 is supported")]
    Version {
        /// Its version.
        version: Version,
    },
    /// The kernel module calls another helper than it should.
    #[error("the kernel module drbd calls {found} for its events, not {wanted}")]
    Helper {
        /// What it calls.
        found: String,
        /// What it should call (`drbd_usermode_helper` of the cluster).
        wanted: String,
    },
    /// Something that drbd tells is not as it should be.
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
    /// It is not known what the disk is on this node.
    #[error("its addresses and minors for this node are not known: the disk does not live here")]
    NotOnNode,
    /// Not an address.
    #[error("'{ip}' is not an IP address")]
    NotAnAddress {
        /// What should be one.
        ip: String,
    },
    /// The two ends cannot be connected.
    #[error("{local} and {remote} cannot be connected: they must be two addresses of the same family")]
    Ends {
        /// Address of this node.
        local: String,
        /// Address of the other.
        remote: String,
    },
    /// The minor is somebody else's.
    #[error("minor {minor} runs something else: {what}")]
    MinorTaken {
        /// The minor.
        minor: u32,
        /// The resource that it belongs to.
        resource: String,
        /// What that is made of.
        what: String,
    },
    /// It would have to be active.
    #[error("it is not active on this node: minor {minor} is free")]
    NotActive {
        /// The minor.
        minor: u32,
    },
    /// A device below it is missing.
    #[error("its data volume or its metadata volume is not there")]
    NoVolumes,
    /// The metadata volume has a wrong size.
    #[error("the metadata volume {} has {bytes} bytes, and it should have from {} to {}", .path.display(), .least, .most)]
    MetaSize {
        /// The volume.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The least that it may have.
        least: Mebibytes,
        /// The most.
        most: Mebibytes,
    },
    /// The metadata volume has a history.
    #[error("{} holds the metadata of a drbd disk that has been in use, so the disk cannot be a new one", .meta.display())]
    MetaUsed {
        /// The volume.
        meta: PathBuf,
    },
    /// It has no data here.
    #[error("it has no data on this node: only the other node's can be reached")]
    Diskless,
    /// The kernel accepted a new size and did not take it.
    #[error("it still has {bytes} bytes after it was told to have {to}")]
    NotGrown {
        /// Its size.
        bytes: u64,
        /// What was asked for.
        to: Mebibytes,
    },
    /// Neither node has data that can be used.
    #[error("no data that is up to date can be reached ({status})")]
    NoGoodData {
        /// The state of the device.
        status: String,
        /// What the tool says.
        #[source]
        source: ToolError,
    },
    /// The other node writes.
    #[error("the other node is primary, and only one may be")]
    PeerIsPrimary {
        /// What the tool says.
        #[source]
        source: ToolError,
    },
    /// It did not come off the network.
    #[error("it did not disconnect from {peer} within {} seconds ({status})", .after.as_secs())]
    StillConnected {
        /// The other node.
        peer: String,
        /// How long it was tried.
        after: Duration,
        /// The state of the device.
        status: String,
    },
    /// It did not let go of its volumes.
    #[error("it did not let go of its volumes within {} seconds", .after.as_secs())]
    StillAttached {
        /// How long it was waited for.
        after: Duration,
    },
    /// Only one node shall be able to be primary, and both are.
    #[error("both nodes are primary, and only one is to be")]
    BothPrimary {
        /// What the tool says.
        #[source]
        source: ToolError,
    },
    /// Both nodes cannot use it, as they do not have the same data.
    #[error("its data is not the same on both nodes yet ({status})")]
    NotAlike {
        /// The state of the device.
        status: String,
    },
    /// It is not connected.
    #[error("it is not connected to {peer} ({status})")]
    NotConnected {
        /// The other node.
        peer: String,
        /// The state of the device.
        status: String,
    },
    /// The nodes met, and did not connect.
    #[error("{}", apart(peer, verdict))]
    Apart {
        /// The other node.
        peer: String,
        /// Why.
        verdict: Verdict,
        /// What makes this node take the data of the other.
        discard_here: String,
        /// What makes the other take the data of this one.
        discard_there: String,
    },
}

fn apart(peer: &str, verdict: &Verdict) -> String {
    match verdict {
        Verdict::SplitBrain { here, there } => format!(
            "split brain: the copies on this node and on {peer} differ, as both were written to while they were not connected ({} here, {} there)",
            amount(*here),
            amount(*there)
        ),
        Verdict::Unrelated => {
            format!("the copies on this node and on {peer} have nothing to do with each other")
        }
        Verdict::Authentication => format!("{peer} does not have the same shared secret"),
        Verdict::Incompatible(what) => format!("{peer} is set up with another {what}"),
        Verdict::NoAddress => "its address is not one of this node's, or the port is taken".to_owned(),
    }
}

fn amount(kib: Option<u64>) -> String {
    match kib {
        None => "an unknown amount".to_owned(),
        Some(kib) if kib < 1024 => format!("{kib}K"),
        Some(kib) => Mebibytes(kib.div_ceil(1024)).to_string(),
    }
}

impl DrbdError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Tool(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::NotLoaded => ErrorKind::NotInstalled,
            Self::NotActive { .. } | Self::NoVolumes => ErrorKind::NotFound,
            Self::MetaUsed { .. } => ErrorKind::AlreadyExists,
            Self::MinorTaken { .. } | Self::PeerIsPrimary { .. } | Self::BothPrimary { .. } => {
                ErrorKind::Busy
            }
            Self::NotGrown { .. } => ErrorKind::NoSpace,
            _ => ErrorKind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Tool(error) => return error.hint().or_else(|| advice(error)),
            Self::Params(error) => return error.hint(),
            Self::Device(error) => return error.hint(),
            Self::NotLoaded => "`modprobe drbd usermode_helper=/bin/true` loads it".to_owned(),
            Self::Version { .. } => "the module of 8.4 is that of the kernel itself: remove the other one (`modinfo -n drbd` shows where it is)".to_owned(),
            Self::Helper { wanted, .. } => format!(
                "`echo {wanted} >/sys/module/drbd/parameters/usermode_helper`; to keep it, `options drbd usermode_helper={wanted}` in /etc/modprobe.d/drbd.conf"
            ),
            Self::Options { parameter, .. } => format!("correct the quotes in {parameter}"),
            Self::NoPlan => "set c-plan-ahead to 20, or dynamic-resync to false".to_owned(),
            Self::MinorTaken { minor, resource, .. } => format!(
                "`drbdsetup show {minor}` shows it; if nobody needs it, `drbdsetup down {resource}` ends it"
            ),
            Self::NotActive { .. } => "activate the disk first".to_owned(),
            Self::NoVolumes => "`lvs` shows what volumes there are".to_owned(),
            Self::MetaUsed { meta } => format!(
                "if the disk is that one, activate it; if nobody needs its data, `dd if=/dev/zero of={} bs=1M count=1` forgets it",
                meta.display()
            ),
            Self::NotGrown { .. } => "the volumes below must be large enough on both nodes, and the nodes connected".to_owned(),
            Self::NoGoodData { .. } => "bring the other node up, and activate the disk there first".to_owned(),
            Self::BothPrimary { .. } => "close it on the node that does not use it first".to_owned(),
            Self::NotAlike { .. } => "wait until it is synchronised: `gnt-disk info` tells how far it is".to_owned(),
            Self::NotConnected { .. } | Self::StillConnected { .. } => {
                "is the other node up, its disk active, and the network between them in order?".to_owned()
            }
            Self::Apart {
                verdict,
                peer,
                discard_here,
                discard_there,
            } => match verdict {
                Verdict::SplitBrain { .. } | Verdict::Unrelated => format!(
                    "decide which copy is lost. To lose that of {peer}, run there: `{discard_there}`; to lose that of this node, run here: `{discard_here}`. Then activate the disk on both"
                ),
                Verdict::NoAddress => "`ip address` and `ss --listening --tcp` show both".to_owned(),
                Verdict::Authentication | Verdict::Incompatible(_) => {
                    "deactivate the disk on both nodes and activate it again".to_owned()
                }
            },
            Self::Form { .. }
            | Self::Setup { .. }
            | Self::NotOnNode
            | Self::NotAnAddress { .. }
            | Self::Ends { .. }
            | Self::MetaSize { .. }
            | Self::Diskless
            | Self::PeerIsPrimary { .. }
            | Self::StillAttached { .. } => return None,
        })
    }
}

/// What failures of `drbdsetup` mean, by their numbers (`enum drbd_ret_code`, `enum drbd_state_rv`); of `drbdmeta` and others, what can be
/// told from their words.
pub(super) fn classify(failed: &CommandFailed) -> ErrorKind {
    let text = failed.stderr.text();
    match parse::failure_code(&text) {
        // A device, a resource or a connection is unknown, or a volume has no metadata.
        Some(119 | 127 | 158) => ErrorKind::NotFound,
        Some(162) if text.contains("unknown connection") => ErrorKind::NotFound,
        // Held open, held by something else, its address taken; the other node is primary.
        Some(-12 | -1 | 102 | 103 | 104 | 105) => ErrorKind::Busy,
        Some(111 | 112) => ErrorKind::NoSpace,
        Some(124 | 134 | 135 | 157) => ErrorKind::AlreadyExists,
        _ if text.contains("No such file or directory") => ErrorKind::NotFound,
        _ if text.contains("Device or resource busy") => ErrorKind::Busy,
        _ => ErrorKind::Other,
    }
}

/// Both nodes are primary, which a change of the connection would forbid (`ERR_NEED_ALLOW_TWO_PRI`).
pub(super) const NEED_TWO_PRIMARIES: i32 = 164;

/// The number of a failure of `drbdsetup`.
pub(super) fn code(error: &ToolError) -> Option<i32> {
    match error {
        ToolError::Failed { failed, .. } => parse::failure_code(&failed.stderr.text()),
        _ => None,
    }
}

/// What helps where the tool itself does not say so.
fn advice(error: &ToolError) -> Option<String> {
    let advice = match code(error)? {
        -12 => "something has the device open: `lsblk` and `fuser --verbose` show what",
        102 | 103 => "another device has the port: `drbdsetup show` shows which",
        104 | 105 => "something else has the volume: `lsblk` shows what",
        111 => "the volume below is smaller than the disk: grow it first",
        119 => "the metadata volume has no metadata of drbd: is it the right one?",
        _ => return None,
    };
    Some(advice.to_owned())
}
