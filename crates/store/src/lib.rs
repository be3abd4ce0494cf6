//! Where the configuration and the operation journal live: one SQLite database in the state directory.
//!
//! [`Store`] is opened by any number of processes at once. Objects are read by key; one [commit](Store::commit) changes
//! several of them in one transaction, which has reached the disk when it returns. Operations [take locks](Store::begin)
//! and journal [what they are about to do](Store::plan), so that the next process can finish or unwind what a crash left
//! half done. What a step does is not known here: its data is opaque.

mod change;
mod classify;
mod drbd;
mod error;
mod holder;
mod journal;
mod lock;
mod operation;
mod owner;
mod put;
mod read;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod transfer;

pub use change::{Change, Revision};
pub use drbd::{DrbdReservation, FIRST_DRBD_PORT, LAST_DRBD_PORT};
pub use error::{Result, StoreError};
pub use holder::DiskHolder;
pub use journal::HISTORY;
pub use lock::{Holder, Interruption};
pub use operation::{Filter, OperationRecord, Outcome, PlannedStep, State, StepRecord, StepState};
pub use owner::Owner;
pub use read::objects_read;
pub use store::Store;
