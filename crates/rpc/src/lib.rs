//! A node across the network: Ganeti's wire format, a client and a server.

pub mod keys;
mod tls;
pub mod wire;
