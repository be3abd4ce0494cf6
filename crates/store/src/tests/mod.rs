//! Tests of the store as its users see it.

mod child;
mod commit;
mod drbd;
mod journal;
mod migration;
mod model;
mod objects;
mod opening;
mod processes;
mod transfer;
