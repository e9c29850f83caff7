//! The cluster's feature level; see `ottla_format::feature_level` for the rules.

use ottla_format::command::LevelRefusal;
use ottla_format::feature_level::FeatureLevel;

use super::State;

impl State {
    /// The level of everything that the log and the state may hold.
    pub fn feature_level(&self) -> FeatureLevel {
        self.books.counters.feature_level
    }

    /// Sets the level, unless that would lower it. To set the present one again changes nothing: the
    /// first answer was lost.
    pub(super) fn raise_feature_level(&mut self, to: FeatureLevel) -> Result<(), LevelRefusal> {
        let current = self.books.counters.feature_level;
        if to < current {
            return Err(LevelRefusal::Lower { current });
        }
        self.books.counters.feature_level = to;
        Ok(())
    }
}
