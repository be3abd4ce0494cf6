//! Parameters of plain disks and of the volumes below drbd disks.

use std::num::NonZeroU32;

use super::parameters;

parameters! {
    /// How logical volumes are made (`plain`, both per template and per device).
    LvmParams of Plain {
        /// Number of stripes of a new volume (`lvcreate --stripes`); 1 is a linear one.
        "stripes" stripes: NonZeroU32 = NonZeroU32::MIN,
    }
}
