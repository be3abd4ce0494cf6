//! A manager asks a node over real connections.

#![cfg(test)]

mod ganeti;
mod life;
mod refused;
mod world;
