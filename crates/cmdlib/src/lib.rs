//! What the cluster does with an instance's disks: operations made of journalled steps, over any kind of node.
//!
//! A cluster manager links here at one of two heights. With [`generate`], [`compute`] and a [`Node`] it lays disks out and
//! works on them, and keeps its own configuration. With [`ops`] and the [`Engine`] it gets whole operations, with
//! their journal, locks and undo, over a [`Store`](gnt_store::Store).

pub mod compute;
pub mod error;
pub mod generate;
pub mod ids;
pub mod init;
pub mod kind;
pub mod local;
pub mod node;
pub mod ops;
pub mod recover;
pub mod saga;
pub mod sim;
pub mod step;
mod survey;
#[cfg(test)]
mod tests;
pub mod verify;

pub use error::{Error, Result};
pub use local::{LocalNode, OneNode};
pub use node::Node;
pub use saga::{AssembledDisk, Engine, Event, Healing, Nodes, Report};
