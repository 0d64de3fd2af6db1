//! The place of one watch in the changes of its set.

use std::sync::Arc;

use tokio::sync::watch;

use super::intake::Sets;
use super::log::{SetChange, SetMark};
use super::set::WatchedSet;
use crate::engine::error::Result;
use crate::engine::metrics::Present;
use crate::filter::Filter;
use crate::operation::name::ParentPattern;
use crate::store::Key;

/// A watch of a set. Dropping it ends the watch.
pub(in crate::engine) struct SetFollower {
    sets: Arc<Sets>,
    set: Arc<WatchedSet>,
    /// The place of the last change that was read.
    place: u64,
    /// The place where it joined.
    joined: u64,
    news: watch::Receiver<u64>,
    _counted: Present,
}

/// What a watch reads next.
pub(in crate::engine) enum FollowStep {
    /// A change.
    Change(Arc<SetChange>),
    /// Nothing yet; the watch has come so far.
    Idle(Arc<SetMark>),
    /// There is more after the given place.
    Later,
    /// Changes may be missing: list again.
    Lost,
}

impl SetFollower {
    /// Begins to watch a set.
    pub(in crate::engine) fn join(
        sets: &Arc<Sets>,
        parent: &ParentPattern,
        filter: &Filter,
    ) -> Result<Self> {
        let (set, place) = sets.enter(parent, filter)?;
        let (news, sets) = (set.news.subscribe(), Arc::clone(sets));
        let counted = Present::in_gauge(&sets.context.metrics.watchers);
        Ok(Self { sets, set, place, joined: place, news, _counted: counted })
    }

    /// The present states of operations, for a watch that resumes; those of other parents are left out.
    pub(in crate::engine) async fn replay(&self, keys: &[Key]) -> Result<Vec<SetChange>> {
        self.sets.replay(&self.set, keys).await
    }

    /// Begins again, before another snapshot. Returns how far the watch is once it has that.
    pub(in crate::engine) fn rejoin(&mut self) -> Arc<SetMark> {
        let state = self.set.lock();
        (self.place, self.joined) = (state.log.head(), state.log.head());
        Arc::clone(&state.mark)
    }

    /// The last place so far.
    pub(in crate::engine) fn head(&self) -> u64 {
        self.set.lock().log.head()
    }

    /// Whether changes may be missing.
    pub(in crate::engine) fn has_lost(&self) -> bool {
        self.set.lock().log.has_lost(self.place)
    }

    /// Reads the next change up to a place.
    pub(in crate::engine) fn next(&mut self, limit: u64) -> FollowStep {
        self.news.mark_unchanged();
        let state = self.set.lock();
        if state.log.has_lost(self.place) {
            return FollowStep::Lost;
        }
        match state.log.next(self.place, self.joined) {
            Some((place, _)) if place > limit => FollowStep::Later,
            Some((place, change)) => {
                self.place = place;
                FollowStep::Change(Arc::clone(change))
            }
            None => {
                self.place = state.log.head();
                FollowStep::Idle(Arc::clone(&state.mark))
            }
        }
    }

    /// Resolves once there may be another change.
    pub(in crate::engine) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for SetFollower {
    fn drop(&mut self) {
        self.sets.leave(&self.set);
    }
}
