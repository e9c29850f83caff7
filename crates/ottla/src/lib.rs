//! A node: the parts of a server put together from settings.
//!
//! The libraries know nothing of each other's construction; [`Node::start`] puts them together, in
//! one order, and [`Node::stop`] takes them apart in the reverse one. The binary adds what belongs
//! to a process: command line, logs, signals, exit codes. Tests and simulations start nodes inside
//! their own process and stand between the parts through [`Seams`].

mod admin;
mod server;

pub use server::{Age, DRAIN_MAX, Ended, Node, NodeOptions, Seams, WriteSettings};
