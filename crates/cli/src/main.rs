//! `gnt-disk`, the program that administrators run.
fn main() {}
