//! A manager asks a node over real connections.

#![cfg(test)]

mod ends;
mod ganeti;
mod hostile;
mod life;
mod refused;
mod storage;
mod world;
