//! What tests of several crates share. It knows none of the crates, so that each can use it.

pub mod oracle;
pub mod place;
