//! Parameters of rbd disks.

use super::{Access, VolumeName, parameters};

/// The parameter that Ganeti 3.0 and 3.1 do not know.
pub(super) const USER_ID: &str = "user-id";

parameters! {
    /// Where images are and how they are reached (`rbd`, both per template and per device).
    RbdParams of Rbd {
        /// How the hypervisor reaches the disk.
        "access" access: Access = Access::Kernelspace,
        /// The Ceph pool that images are in.
        "pool" pool: VolumeName = VolumeName::from_static("rbd"),
        /// The Ceph user (`rbd --id`) without its `client.`; none for Ceph's own default. Known to Ganeti from 3.2 on, and
        /// written only where it is set.
        "user-id" user_id: Option<VolumeName> = None,
    }
}
