//! Logical volumes.

/// What LVM told during a [`crate::Host::batch`].
#[derive(Debug, Default)]
pub(crate) struct Cache;
