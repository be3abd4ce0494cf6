//! What the cluster does with an instance's disks.

pub mod compute;
pub mod generate;
pub mod ids;
