//! What a disk is: pure data and pure functions, no I/O.
