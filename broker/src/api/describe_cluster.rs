//! DescribeCluster (key 60), versions 0–2.
//!
//! Names the brokers, the cluster and a controller. Only the brokers' endpoint type is served: the
//! controllers have no Kafka listener.
//!
//! - v0: KIP-700.
//! - v1: endpoint type (KIP-919).
//! - v2: fenced brokers (KIP-1073). A fenced broker is gone here, so none is ever listed.
//!
//! Sources: Kafka's `DescribeClusterRequest.json`, `AuthHelper.computeDescribeClusterResponse`.

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::describe_cluster_response::{
    DescribeClusterBroker, DescribeClusterResponse,
};
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest};
use kafka_protocol::protocol::StrBytes;

use super::metadata::controller;
use crate::context::{ConnectionInfo, Context};
use crate::placement;

/// Kafka's numbers for the kinds of endpoints.
const ENDPOINTS_BROKERS: i8 = 1;
const ENDPOINTS_CONTROLLERS: i8 = 2;

/// Kafka's "every operation that exists on a cluster": Create, Alter, Describe, ClusterAction,
/// DescribeConfigs, AlterConfigs and IdempotentWrite, as bits. Without an authorizer everyone may do
/// everything.
const CLUSTER_OPERATIONS: i32 =
    (1 << 5) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 12);

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    version: i16,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let refused = match request.endpoint_type {
        _ if version < 1 => None,
        ENDPOINTS_BROKERS => None,
        ENDPOINTS_CONTROLLERS => Some((
            Kafka::MismatchedEndpointType,
            "this is a broker: controllers have no Kafka listener to describe",
        )),
        _ => Some((Kafka::UnsupportedEndpointType, "only the brokers' endpoints (1) are known")),
    };
    if let Some((error, message)) = refused {
        return DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message)));
    }
    let listener = &context.options.listener;
    let brokers = placement::reachable(placement::serving(context.view.brokers()), listener);
    let operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { i32::MIN };
    let one = |broker: &ottla_control_api::BrokerInfo| {
        let (az, address) = (&broker.profile.az.0, broker.profile.endpoint(listener)?);
        let shown = DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker.author.broker.0))
            .with_host(StrBytes::from(address.host.clone()))
            .with_port(i32::from(address.port))
            .with_rack((!az.is_empty()).then(|| StrBytes::from(az.clone())));
        Some(shown)
    };
    DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from(context.cluster.to_string()))
        .with_controller_id(BrokerId(controller(&brokers, context)))
        .with_brokers(brokers.iter().filter_map(one).collect())
        .with_cluster_authorized_operations(operations)
}
