//! Tests of the state machine: tables for its rules, and random commands against a naive model.

mod brokers;
mod commit;
mod expiry;
mod fixture;
mod golden_log;
mod groups;
mod inline;
mod model;
mod promise;
mod random;
mod rewrite;
mod sequences;
mod sweep;
mod time_step;
mod topics;
