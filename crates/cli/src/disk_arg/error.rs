//! What can be wrong with a `--disk`, and where.

use std::fmt;
use std::ops::Range;

use gnt_config::size::SizeError;

/// A `--disk`, or another option like it, that cannot be understood: the argument, the part of it, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskArgError {
    pub(super) option: &'static str,
    pub(super) argument: String,
    /// Bytes of the argument.
    pub(super) at: Range<usize>,
    pub(super) problem: Problem,
}

impl std::error::Error for DiskArgError {}

/// The problem, and below it the argument with the part marked.
impl fmt::Display for DiskArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |range: Range<usize>| self.argument.get(range).unwrap_or_default().escape_debug();
        let indent = shown(0..self.at.start).count();
        let width = shown(self.at.clone()).count().max(1);
        let argument = shown(0..self.argument.len());
        writeln!(f, "{}", self.problem)?;
        writeln!(f, "  {} {argument}", self.option)?;
        let indent = indent + self.option.len();
        write!(f, "   {:indent$}{:^<width$}", "", "")
    }
}

/// What is wrong with the part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("nothing is said of it: expected KEY=VALUE,…, such as {0}")]
    Empty(&'static str),
    #[error("a key is missing: expected KEY=VALUE")]
    NoKey,
    #[error("'{0}' has no value: expected {0}=VALUE")]
    NoValue(String),
    #[error("'{0}' is given twice: expected each key once")]
    Duplicate(String),
    #[error("'{0}' is not the index of a disk: expected 0 for the first disk, 1 for the second, …")]
    Index(String),
    #[error("index {index} leaves a gap: expected each index from 0 to {last} once")]
    Gap { index: usize, last: usize },
    #[error("disk {0} is given twice: expected each index once")]
    Repeated(usize),
    #[error("no disk template is named: expected TEMPLATE:KEY=VALUE")]
    NoTemplate,
    #[error("'{0}' is not a disk template")]
    Template(String),
    #[error("no disk is named: expected an index, name or UUID and a colon, such as 0:{0}")]
    NoDisk(&'static str),
    #[error("{0}")]
    Size(SizeError),
    #[error("'{0}' is not a number of spindles: expected a whole number")]
    Spindles(String),
    #[error("'{0}' is not an access mode: expected rw or ro")]
    Mode(String),
    #[error("'{0}' and '{1}' cannot both be done to one disk: expected one of them")]
    TwoActions(&'static str, &'static str),
    #[error("'{0}' takes nothing else: expected N:{0}")]
    Bare(&'static str),
    #[error("which disk to attach is not said: expected name=NAME or uuid=UUID")]
    NothingToAttach,
    #[error("'{found}' is not known here: expected {expected}")]
    Unknown { found: String, expected: &'static str },
}
