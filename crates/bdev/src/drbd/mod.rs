//! The drbd driver: a volume on each of two nodes, kept alike over the network (DRBD 8.4).

#![expect(dead_code, reason = "the driver comes next")]

mod commands;
mod error;
mod parse;
#[cfg(test)]
mod tests;

pub use error::DrbdError;
pub use parse::{ParseError, Verdict, Version};
