//! The Kafka-speaking role.
//!
//! A broker owns no durable state. It takes frames from clients ([`connection`]), keeps the order
//! that each connection needs, hands every request to the handler of its API ([`api`]), and
//! answers. Records go through `ottla-storage`, everything that must be remembered through the
//! control plane. Kafka's own words and numbers (error codes, node ids, the all-zero topic id) stop
//! at the handlers: inside, there are our types.

pub mod api;
pub mod context;
pub mod group;
pub mod options;
pub mod registration;
