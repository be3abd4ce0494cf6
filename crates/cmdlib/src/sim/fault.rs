//! What goes wrong, and when.

use std::panic::resume_unwind;

use crate::sim::random::Random;

/// Something that goes wrong in one call to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Number of the call, from 0.
    pub call: usize,
    /// How much of it is done nevertheless.
    pub extent: Extent,
    /// What happens then.
    pub then: Then,
}

/// How much of a call is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing.
    None,
    /// A part, in calls that have parts.
    Half,
    /// Everything.
    Whole,
}

/// What happens when a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The call fails.
    Fail,
    /// The call fails, and so does every one after it.
    FailOn,
    /// The node that was asked loses its power.
    PowerCut,
    /// The caller dies.
    Crash,
}

/// Faults at random.
#[derive(Debug, Clone)]
pub struct Storm {
    random: Random,
    one_in: usize,
    kinds: &'static [Then],
}

impl Storm {
    /// Once in so many calls something of `kinds` happens, the same for the same seed.
    pub fn new(seed: u64, one_in: usize, kinds: &'static [Then]) -> Self {
        let random = Random::new(seed);
        Self {
            random,
            one_in,
            kinds,
        }
    }

    /// What strikes the next call.
    pub(super) fn strike(&mut self) -> Option<(Extent, Then)> {
        if !self.random.one_in(self.one_in) {
            return None;
        }
        let extent = *self.random.pick(&[Extent::None, Extent::Half, Extent::Whole])?;
        Some((extent, *self.random.pick(self.kinds)?))
    }
}

/// What a crash unwinds with.
#[derive(Debug)]
pub struct Crash;

/// Ends the caller as SIGKILL would, up to where a test catches it.
pub fn crash() -> ! {
    resume_unwind(Box::new(Crash))
}
