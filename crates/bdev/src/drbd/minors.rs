//! What runs on a node, whoever has it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use gnt_config::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::DrbdError;
use super::parse::{Role, SetupNet};
use super::{commands, device};
use crate::host::Host;

/// A minor that is set up on this node, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrbdMinor {
    /// Its number.
    pub minor: u32,
    /// Whether its resource has the name that ours have; others are somebody else's.
    pub ours: bool,
    /// The volume with its data; none if it has none here.
    pub data: Option<PathBuf>,
    /// The volume with its metadata.
    pub meta: Option<PathBuf>,
    /// Its end of the connection; none if it has no network.
    pub local: Option<SocketAddr>,
    /// The peer's.
    pub remote: Option<SocketAddr>,
    /// Whether this node is primary.
    pub primary: bool,
    /// What its peer must know; on the wire only.
    #[serde(serialize_with = "exposed", deserialize_with = "hidden")]
    pub secret: Option<Secret>,
}

/// The minors that are set up on this node.
///
/// # Errors
/// When the kernel does not have the drbd that we know.
pub fn minors(host: &Host) -> Result<Vec<DrbdMinor>, DrbdError> {
    let mut minors = Vec::new();
    for (minor, status) in device::proc(host)?.minors {
        let (Some(status), Some(setup)) = (status, device::setup(host, minor)?) else {
            continue;
        };
        let (data, meta) = match setup.disk {
            Some(disk) => (Some(disk.data.into()), Some(disk.meta.into())),
            None => (None, None),
        };
        let end = |end: fn(&SetupNet) -> &str| setup.net.as_ref().and_then(|net| address(end(net)));
        minors.push(DrbdMinor {
            minor,
            ours: setup.resource == commands::resource(minor),
            data,
            meta,
            local: end(|net| &net.local),
            remote: end(|net| &net.remote),
            primary: status.role == Role::Primary,
            secret: setup.net.and_then(|net| net.secret),
        });
    }
    Ok(minors)
}

/// `ipv4 192.0.2.1:11000`, `ipv6 [fd00::1]:11000`.
fn address(end: &str) -> Option<SocketAddr> {
    let (_, address) = end.split_once(' ')?;
    let (ip, port) = address.rsplit_once(':')?;
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().ok()?;
    Some(SocketAddr::new(ip, port.parse().ok()?))
}

fn exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}
