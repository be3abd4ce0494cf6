//! A manager asks a node over real connections.

mod life;
mod world;
