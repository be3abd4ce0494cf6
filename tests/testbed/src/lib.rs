//! Guests with real storage, for tests: kernels of their own (User-Mode Linux) with LVM, DRBD, Ceph and Gluster, on disks and in networks
//! that a test can cut.

pub mod agent;
pub mod keeper;
pub mod machine;
pub mod people;

mod ceph;
mod error;
mod gluster;
mod guest;
mod guest_dir;
mod inventory;
mod place;
mod script;
mod storage;
mod testbed;
mod wire;

pub use ceph::Ceph;
pub use error::{Error, Refused};
pub use gluster::Gluster;
pub use guest::Guest;
pub use storage::Storage;
pub use testbed::{Net, Plan, Testbed};
pub use wire::{Assembled, Output, Program};
