//! What goes wrong, and when.

use std::panic::resume_unwind;

/// Something that goes wrong in one call to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Number of the call, from 0.
    pub(crate) call: usize,
    /// How much of it is done nevertheless.
    pub(crate) extent: Extent,
    /// What happens then.
    pub(crate) then: Then,
}

/// How much of a call is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Nothing.
    None,
    /// A part, in calls that have parts.
    Half,
    /// Everything.
    Whole,
}

/// What happens when a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The call fails.
    Fail,
    /// The call fails, and so does every one after it.
    FailOn,
    /// The caller dies.
    Crash,
}

/// What a crash unwinds with.
#[derive(Debug)]
pub(crate) struct Crash;

/// Ends the caller as SIGKILL would, up to where a test catches it.
pub(crate) fn crash() -> ! {
    resume_unwind(Box::new(Crash))
}
