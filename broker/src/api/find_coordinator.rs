//! FindCoordinator (key 10), versions 0–6: which broker coordinates a group.
//!
//! Any broker can be asked, and any living broker can be the answer: groups are spread over them by
//! rendezvous hashing, and what outlives a coordinator is in the control plane.
//!
//! Transactions and share groups are not served. Asking for their coordinator is answered
//! INVALID_REQUEST with a text that says so: clients give up at once, where "not available" would
//! have them ask until their own time-out.
//!
//! - 1: key type, error message, throttle time
//! - 3: flexible
//! - 4: many keys in one request (KIP-699)
//! - 5: no change for us (TRANSACTION_ABORTABLE, KIP-890)
//! - 6: share groups (KIP-932)
//!
//! Source: `FindCoordinatorRequest.json`, `KafkaApis.handleFindCoordinatorRequest`.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_model::GroupId;

use super::text::{kafka_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::group::{Coordinators, GroupError, Groups};
use crate::{errors, limits};

/// The key type of groups; 1 are transactional ids, 2 share partitions.
const GROUP: i8 = 0;

/// From this version on a request has many keys, and an answer one entry for each.
const MANY_KEYS: i16 = 4;

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    answer(&context.groups, &context.options.listener, version, request).await
}

pub(super) async fn answer(
    groups: &Groups,
    listener: &str,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let mut finder = Finder::new(groups.coordinators(), listener, request.key_type);
    if version >= MANY_KEYS {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for keys in request.coordinator_keys.chunks(limits::KEYS_AT_ONCE) {
            coordinators.extend(keys.iter().map(|key| finder.find(key)));
            // Other connections of this thread come first now.
            tokio::task::yield_now().await;
        }
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = finder.find(&request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

/// Finds coordinators for one request.
struct Finder<'a> {
    coordinators: Coordinators,
    /// The listener that the client is connected to.
    listener: &'a str,
    key_type: i8,
    /// The brokers' host names by id. The entries of an answer share them, so that an answer with many
    /// keys takes little more memory than its request.
    hosts: BTreeMap<i32, StrBytes>,
}

impl<'a> Finder<'a> {
    fn new(coordinators: Coordinators, listener: &'a str, key_type: i8) -> Self {
        Self { coordinators, listener, key_type, hosts: BTreeMap::new() }
    }

    fn find(&mut self, key: &StrBytes) -> Coordinator {
        if self.key_type != GROUP {
            let reason = "only consumer groups have a coordinator in this version of Ottla";
            return none(key, Kafka::InvalidRequest, Some(reason));
        }
        let broker = match self.coordinators.of(&GroupId(text(key))) {
            Ok(broker) => broker,
            Err(error) => return none(key, errors::group(error), None),
        };
        // As Kafka answers when the coordinator does not have the client's listener.
        let Some(address) = broker.profile.endpoint(self.listener) else {
            return none(key, errors::group(GroupError::NotAvailable), None);
        };
        let id = broker.author.broker.0;
        let host = self.hosts.entry(id).or_insert_with(|| kafka_text(&address.host));
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(id))
            .with_host(host.clone())
            .with_port(i32::from(address.port))
    }
}

fn none(key: &StrBytes, error: Kafka, reason: Option<&'static str>) -> Coordinator {
    Coordinator::default()
        .with_key(key.clone())
        .with_node_id(BrokerId(-1))
        .with_port(-1)
        .with_error_code(error.code())
        .with_error_message(reason.map(StrBytes::from_static_str))
}

#[cfg(test)]
mod tests {
    use ottla_test_kit::FakeControl;

    use super::*;
    use crate::group::tests::groups_over;

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_without_the_clients_listener_is_not_available() {
        let groups = groups_over(&FakeControl::default());
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("g"));
        for version in 0..=3 {
            let found = answer(&groups, "OUTSIDE", version, request.clone()).await;
            let wanted = (Kafka::CoordinatorNotAvailable.code(), BrokerId(-1));
            assert_eq!((found.error_code, found.node_id), wanted);
        }
    }
}
