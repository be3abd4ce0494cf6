//! Tests of the store as its users see it.

mod commit;
mod objects;
