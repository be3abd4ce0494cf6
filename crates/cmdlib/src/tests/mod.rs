//! What every operation must survive, over the simulated cluster: a step that fails, a step done twice, an undo done twice,
//! a crash at any point, an undo that fails. [`rows`] lists the operations; a new one must join it.

mod bench;
mod conversions;
mod crashes;
mod evacuations;
mod faults;
mod machine;
mod names;
mod offline;
mod replacements;
mod rounded;
mod rows;
mod scale;
mod twice;
mod verified;

pub(crate) use bench::{Case, bury, catch_crash, now};
