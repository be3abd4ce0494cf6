//! Parameters of Gluster disks.

use std::num::NonZeroU16;

use super::{Access, HostName, VolumeName, parameters};

const GLUSTERD_PORT: NonZeroU16 = NonZeroU16::MIN.saturating_add(24006);

parameters! {
    /// Which volume files are on and how they are reached (`gluster`, both per template and per device).
    GlusterParams of Gluster {
        /// How the hypervisor reaches the disk.
        "access" access: Access = Access::Kernelspace,
        /// A server of the volume.
        "host" host: HostName = HostName::from_static("127.0.0.1"),
        /// The TCP port of that server's management daemon.
        "port" port: NonZeroU16 = GLUSTERD_PORT,
        /// The Gluster volume.
        "volume" volume: VolumeName = VolumeName::from_static("gv0"),
    }
}
