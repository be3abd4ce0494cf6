//! A node across the network: Ganeti's wire format, a client and a server.

pub mod client;
pub mod cluster;
pub mod keys;
pub mod server;
mod tls;
pub mod wire;

pub use client::Client;
pub use cluster::{AnyNode, Cluster};
pub use server::Server;
