//! benches of the whole.
