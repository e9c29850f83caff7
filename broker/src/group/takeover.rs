//! Loads the groups that have members without being asked.
//!
//! A request loads its group. Members that died together with the broker send none: somebody else
//! has to begin their sessions, or they would count as members for ever, and the offsets of their
//! group would never expire. So the groups with members are looked for when a broker starts, as
//! Kafka's coordinator loads all of its groups; and again and again, which also finds those that
//! moved here, that a fenced run released, and that could not be loaded.

use ottla_control_api::CallError;
use ottla_model::GroupId;
use tracing::debug;

use super::budget::{NO_CLIENT, Standing};
use super::limits;
use super::registry::{Admission, Loading};
use super::service::Groups;

impl Groups {
    /// Loads this broker's groups with members, now and every [`limits::TAKEOVER_INTERVAL`]. Never
    /// ends; dropping it leaves nothing half done.
    pub async fn take_over(&self) {
        loop {
            if let Err(error) = self.look_once().await {
                debug!(%error, "the groups with members could not be looked for");
            }
            ottla_env::delay(limits::TAKEOVER_INTERVAL).await;
        }
    }

    async fn look_once(&self) -> Result<(), CallError> {
        let mut after = None;
        loop {
            let page = self.control.groups_with_members(after, limits::TAKEOVER_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            self.load_all(&page).await;
            after = Some(last.clone());
            ottla_env::delay(limits::TAKEOVER_PAUSE).await;
        }
    }

    /// Loads those that are not in memory; waits for the end of that, good or bad.
    async fn load_all(&self, groups: &[GroupId]) {
        let me = self.author.author();
        let admission = Admission { client: NO_CLIENT, standing: Standing::Member };
        let mut begun = Vec::new();
        for group in groups {
            if self.loaded() >= limits::TAKEOVER_LOADED_MAX || self.is_elsewhere(group, me) {
                continue;
            }
            if let Ok(entry) = self.start(group, me, admission) {
                begun.push((group, entry.loading));
            }
        }
        for (group, mut loading) in begun {
            if loading.wait_for(|loading| *loading == Loading::Done).await.is_err() {
                // Its task has ended; the next look finds the group again.
                self.registry.remove_closed(group);
            }
        }
    }
}
