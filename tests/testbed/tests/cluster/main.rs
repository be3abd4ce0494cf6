//! Clusters of real nodes: the program on each, one of them with the configuration, calling the others over the network.
#![cfg(test)]

mod convert;
mod drbd;
mod evacuate;
mod external;
mod harness;
mod moves;
mod power;
mod recover;
mod replace;
