//! The Kafka-speaking role.
//!
//! A broker owns no durable state. It takes frames from clients (`connection`), keeps the order
//! that each connection needs, hands every request to the handler of its API ([`api`]), and
//! answers. Records go through `ottla-storage`, everything that must be remembered through the
//! control plane. Kafka's own words and numbers (error codes, node ids, the all-zero topic id) stop
//! at the handlers: inside, there are our types.
//!
//! In reading order: [`broker`] (start and drain), [`registration`], `listener`, `connection`,
//! `dispatch`, [`api`], [`errors`], [`placement`] (over `rendezvous`), [`topic_configs`], [`group`],
//! [`limits`].

pub mod api;
pub mod broker;
mod calls;
mod client_share;
mod connection;
pub mod context;
mod dispatch;
pub mod errors;
pub mod group;
pub mod limits;
mod listener;
pub mod options;
pub mod placement;
mod producer_ids;
mod record_check;
pub mod registration;
mod rendezvous;
pub mod topic_configs;
mod topics;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use broker::{Broker, BrokerEnd, Parts, StartError};
pub use options::{BrokerOptions, EdgeOptions, LISTENER_DEFAULT};
