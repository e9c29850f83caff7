//! The settings of groups.

use std::time::Duration;

use super::limits;

/// Settings of the group coordinator, with Kafka's defaults.
#[derive(Clone, Copy, Debug)]
pub struct GroupOptions {
    /// An empty group waits this long for more members after the first one joined
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay: Duration,
    /// The shortest session a member may ask for (`group.min.session.timeout.ms`).
    pub session_timeout_min: Duration,
    /// The longest session a member may ask for (`group.max.session.timeout.ms`).
    pub session_timeout_max: Duration,
    /// Members of one group (`group.max.size`).
    pub members_max: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_millis(3_000),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            members_max: limits::MEMBERS_PER_GROUP_MAX,
        }
    }
}
