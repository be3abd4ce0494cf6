//! Where the configuration and the operation journal live.
