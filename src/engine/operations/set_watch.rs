//! Watching a set of operations: a list, then its changes.
//!
//! A watch joins the changes of its set first and lists second, so no change is lost between the two. It keeps its place in
//! the shared changes and one page of the list, nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;

use super::page_token::{self, Binding};
use super::pages::Lists;
use super::query::{ListQuery, Listed};
use super::set_event::{SetEvent, SetEventKind, SetWatchRequest};
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::{Error, Result};
use crate::engine::reading::view::{View, payload};
use crate::engine::watching::sets::follower::{FollowStep, SetFollower};
use crate::engine::watching::sets::intake::Sets;
use crate::engine::watching::sets::log::{SetChange, SetMark};
use crate::engine::watching::sets::positions::Positions;
use crate::filter::Order;
use crate::limits::SNAPSHOT_PAGE_SIZE;
use crate::proto::google::protobuf::Any;
use crate::record::operation::Slot;
use crate::store::{Key, Partition};

/// Opens watches of sets.
pub(in crate::engine) struct SetWatches {
    context: Arc<Context>,
    sets: Arc<Sets>,
    lists: Arc<Lists>,
}

/// A watch of a set that runs.
pub struct SetWatch {
    context: Arc<Context>,
    sets: Arc<Sets>,
    lists: Arc<Lists>,
    caller: Caller,
    request: SetWatchRequest,
    binding: Binding,
    follower: SetFollower,
    stage: Stage,
    /// With this token a watch begins anew.
    fresh: Arc<str>,
    /// The token of the last event.
    token: Arc<str>,
    /// How far the watch is, once its snapshot is complete.
    mark: Arc<SetMark>,
    /// Revisions that the snapshot has sent of operations that had just changed: older changes may follow.
    listed: HashMap<Key, u64>,
    /// When the last page was read.
    listed_at: Duration,
    round: Round,
    /// Time of the last event.
    said: Duration,
    ended: bool,
}

/// What a watch does.
enum Stage {
    /// It must tell that changes may be missing, and list.
    Resync,
    /// It lists; `next` is the token of the next page, `None` after the last.
    Listing { page: VecDeque<Arc<View>>, next: Option<String> },
    /// It sends what has changed since the token that it began with.
    Replaying { keys: VecDeque<Key>, changes: VecDeque<SetChange> },
    /// It sends changes.
    Following,
}

/// Changes that are sent together, no more than once in `min_interval`.
#[derive(Clone, Copy)]
struct Round {
    /// `None` before the first.
    began: Option<Duration>,
    /// The place of the last change of this round.
    limit: u64,
}

impl SetWatches {
    pub(in crate::engine) const fn new(
        context: Arc<Context>,
        sets: Arc<Sets>,
        lists: Arc<Lists>,
    ) -> Self {
        Self { context, sets, lists }
    }

    /// Watches a set of operations.
    pub(in crate::engine) fn watch(
        &self,
        caller: &Caller,
        request: SetWatchRequest,
    ) -> Result<SetWatch> {
        if self.context.is_draining() {
            return Err(Error::draining());
        }
        let (parent, filter) = (&request.parent, &request.filter);
        let binding = Binding::of(&[&caller.id, "watch", parent.as_str(), filter.canonical()]);
        let begin = begin(&self.context, &binding, &request.resume_token)?;
        let mut follower = SetFollower::join(&self.sets, parent, filter)?;
        let mark = follower.rejoin();
        let stage = match begin {
            SetBegin::Snapshot => Stage::listing(),
            SetBegin::Middle => Stage::Resync,
            SetBegin::At(positions) => match self.sets.since(&positions) {
                Some(keys) => Stage::Replaying { keys: keys.into(), changes: VecDeque::new() },
                None => Stage::Resync,
            },
        };
        let now = self.context.clock.elapsed();
        let fresh = seal(&self.context, &binding, &[])?;
        let token = match stage {
            Stage::Replaying { .. } => Arc::from(request.resume_token.as_str()),
            _ => Arc::clone(&fresh),
        };
        let limit = if request.min_interval.is_zero() { u64::MAX } else { 0 };
        let round = Round { began: None, limit };
        Ok(SetWatch {
            context: Arc::clone(&self.context),
            sets: Arc::clone(&self.sets),
            lists: Arc::clone(&self.lists),
            caller: caller.clone(),
            request,
            binding,
            follower,
            stage,
            fresh,
            token,
            mark,
            listed: HashMap::new(),
            listed_at: now,
            round,
            said: now,
            ended: false,
        })
    }
}

impl Stage {
    fn listing() -> Self {
        Self::Listing { page: VecDeque::new(), next: Some(String::new()) }
    }
}

impl SetWatch {
    /// All events.
    pub fn into_events(self) -> impl Stream<Item = Result<SetEvent>> + Send {
        futures_util::stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((event, watch))
        })
    }

    /// The next event; `None` after the last. An error ends the watch.
    pub async fn next(&mut self) -> Option<Result<SetEvent>> {
        if self.ended {
            return None;
        }
        let event = self.next_event().await;
        self.ended |= event.is_err();
        self.said = self.elapsed();
        Some(event)
    }

    async fn next_event(&mut self) -> Result<SetEvent> {
        loop {
            if self.context.is_draining() {
                return Ok(self.reconnect());
            }
            let event = match &self.stage {
                Stage::Resync => Some(self.resync()),
                Stage::Listing { .. } => self.list().await?,
                Stage::Replaying { .. } => self.replay().await?,
                Stage::Following => self.follow().await?,
            };
            if let Some(mut event) = event {
                event.request = self.request_of(event.view.as_ref()).await?;
                return Ok(event);
            }
        }
    }

    fn resync(&mut self) -> SetEvent {
        self.context.metrics.watch_resyncs.inc();
        self.mark = self.follower.rejoin();
        self.stage = Stage::listing();
        self.listed.clear();
        self.token = Arc::clone(&self.fresh);
        self.event(SetEventKind::Resync)
    }

    /// One step of the list. Changes that come meanwhile are sent between its pages.
    async fn list(&mut self) -> Result<Option<SetEvent>> {
        if self.follower.has_lost() {
            self.stage = Stage::Resync;
            return Ok(None);
        }
        let Stage::Listing { page, next } = &mut self.stage else { return Ok(None) };
        if let Some(view) = page.pop_front() {
            return Ok(Some(SetEvent {
                name: view.published.name.clone(),
                view: Some(view),
                ..self.event(SetEventKind::Snapshot)
            }));
        }
        let next = next.clone();
        if let FollowStep::Change(change) = self.follower.next(u64::MAX) {
            self.mark = Arc::clone(&change.mark);
            return Ok(self.is_news(&change).then(|| self.change(&change)));
        }
        let Some(page_token) = next else {
            self.stage = Stage::Following;
            self.token = self.token_of(&Arc::clone(&self.mark))?;
            return Ok(Some(self.event(SetEventKind::SnapshotComplete)));
        };
        // A page may have taken long and hold nothing.
        if self.quiet().is_zero() {
            return self.bookmark().map(Some);
        }
        self.read_page(page_token).await
    }

    /// Reads a page; an event if something else comes first.
    async fn read_page(&mut self, page_token: String) -> Result<Option<SetEvent>> {
        let sets = Arc::clone(&self.sets);
        let permit = tokio::select! {
            biased;
            permit = sets.pages.acquire() => permit.map_err(|error| Error::internal(&error))?,
            event = self.interrupted(Duration::MAX) => return event,
        };
        let query = ListQuery {
            parent: self.request.parent.clone(),
            filter: self.request.filter.clone(),
            order: Order::default(),
            page_size: SNAPSHOT_PAGE_SIZE,
            page_token,
            partial: false,
            listed: Listed::Watched,
        };
        let read = self.lists.list(&self.caller, query).await?;
        drop(permit);
        self.listed_at = self.elapsed();
        let now = self.context.store.now(Partition(0));
        for view in &read.views {
            if now.since(view.operation.update_time) < JUST_NOW && self.listed.len() < MOST_LISTED {
                let key = self.context.key(&view.operation.name);
                self.listed.insert(key, view.operation.stamps.visible);
            }
        }
        let next = Some(read.next_page_token).filter(|token| !token.is_empty());
        self.stage = Stage::Listing { page: read.views.into(), next };
        Ok(None)
    }

    /// One step of what has changed since the token.
    async fn replay(&mut self) -> Result<Option<SetEvent>> {
        if self.follower.has_lost() {
            self.stage = Stage::Resync;
            return Ok(None);
        }
        let Stage::Replaying { keys, changes } = &mut self.stage else { return Ok(None) };
        if let Some(change) = changes.pop_front() {
            return Ok(Some(self.change(&change)));
        }
        if keys.is_empty() {
            self.stage = Stage::Following;
            self.token = self.token_of(&Arc::clone(&self.mark))?;
            return Ok(Some(self.event(SetEventKind::Bookmark)));
        }
        let some: Vec<Key> = keys.drain(..keys.len().min(SNAPSHOT_PAGE_SIZE)).collect();
        let sets = Arc::clone(&self.sets);
        let permit = sets.pages.acquire().await.map_err(|error| Error::internal(&error))?;
        let found = self.follower.replay(&some).await?;
        drop(permit);
        if let Stage::Replaying { changes, .. } = &mut self.stage {
            changes.extend(found);
        }
        Ok(None)
    }

    async fn follow(&mut self) -> Result<Option<SetEvent>> {
        match self.follower.next(self.round.limit) {
            FollowStep::Lost => {
                self.stage = Stage::Resync;
                Ok(None)
            }
            FollowStep::Change(change) => {
                self.mark = Arc::clone(&change.mark);
                if !self.is_news(&change) {
                    return Ok(None);
                }
                self.token = self.token_of(&change.mark)?;
                Ok(Some(self.change(&change)))
            }
            FollowStep::Later => {
                let now = self.elapsed();
                let since = self.round.began.map(|began| now.saturating_sub(began));
                let min = self.request.min_interval;
                if let Some(since) = since.filter(|since| *since < min) {
                    return self.interrupted(min.saturating_sub(since)).await;
                }
                self.round = Round { began: Some(now), limit: self.follower.head() };
                Ok(None)
            }
            FollowStep::Idle(mark) => {
                self.mark = mark;
                if self.elapsed().saturating_sub(self.listed_at) > JUST_NOW {
                    self.listed = HashMap::new();
                }
                self.wait().await
            }
        }
    }

    /// Waits for a change; an event if something else comes first.
    async fn wait(&mut self) -> Result<Option<SetEvent>> {
        let context = Arc::clone(&self.context);
        let quiet = self.quiet();
        tokio::select! {
            biased;
            () = context.drained() => Ok(Some(self.reconnect())),
            error = context.standstill.store_lost_anywhere() => Err(error),
            () = self.follower.changed() => Ok(None),
            () = context.sleep(quiet) => self.bookmark().map(Some),
        }
    }

    /// What a watch tells while it waits for something else; nothing once the time is over.
    async fn interrupted(&mut self, time: Duration) -> Result<Option<SetEvent>> {
        let context = Arc::clone(&self.context);
        let quiet = self.quiet();
        tokio::select! {
            biased;
            () = context.drained() => Ok(Some(self.reconnect())),
            error = context.standstill.store_lost_anywhere() => Err(error),
            () = context.sleep(time.min(quiet)) => {
                if quiet <= time { self.bookmark().map(Some) } else { Ok(None) }
            }
        }
    }

    /// Whether a change is newer than what the snapshot has sent.
    fn is_news(&self, change: &SetChange) -> bool {
        let listed = self.listed.get(&change.key);
        listed.is_none_or(|listed| match change.view {
            Some(_) => change.revision > *listed,
            // It may have expired, which changes no revision.
            None => change.revision >= *listed,
        })
    }

    fn change(&self, change: &SetChange) -> SetEvent {
        let kind = change.view.as_ref().map_or(SetEventKind::Removed, |_| SetEventKind::Update);
        SetEvent {
            name: change.name.to_string(),
            view: change.view.clone(),
            time: change.time,
            ..self.event(kind)
        }
    }

    fn bookmark(&mut self) -> Result<SetEvent> {
        if matches!(self.stage, Stage::Following) {
            self.token = self.token_of(&Arc::clone(&self.mark))?;
        }
        Ok(self.event(SetEventKind::Bookmark))
    }

    fn reconnect(&mut self) -> SetEvent {
        self.ended = true;
        self.event(SetEventKind::Reconnect)
    }

    fn event(&self, kind: SetEventKind) -> SetEvent {
        SetEvent {
            kind,
            name: String::new(),
            view: None,
            request: None,
            resume_token: Arc::clone(&self.token),
            time: self.context.store.now(Partition(0)),
        }
    }

    /// The request that an operation was started with, if wanted. It never changes, so it is missing only if the operation is.
    async fn request_of(&self, view: Option<&Arc<View>>) -> Result<Option<Any>> {
        let Some(operation) = view.filter(|_| self.request.full).map(|view| &view.operation) else {
            return Ok(None);
        };
        let (key, request) = (self.context.key(&operation.name), operation.spec.request.as_ref());
        Ok(payload(&*self.context.store, key, Slot::Request, request).await?.flatten())
    }

    /// The token of a mark; sealed once for all watches of the same caller.
    fn token_of(&self, mark: &SetMark) -> Result<Arc<str>> {
        let Some(positions) = &mark.positions else { return Ok(Arc::clone(&self.fresh)) };
        if let Some((_, token)) = mark.sealed.get().filter(|(caller, _)| *caller == self.caller.id)
        {
            return Ok(Arc::clone(token));
        }
        let token = seal(&self.context, &self.binding, &positions.encode())?;
        // Another watch may have been first.
        drop(mark.sealed.set((self.caller.id.clone(), Arc::clone(&token))));
        Ok(token)
    }

    fn elapsed(&self) -> Duration {
        self.context.clock.elapsed()
    }

    /// The time left until the next bookmark.
    fn quiet(&self) -> Duration {
        self.request.heartbeat.saturating_sub(self.elapsed().saturating_sub(self.said))
    }
}

/// Where a watch begins.
enum SetBegin {
    /// With a snapshot.
    Snapshot,
    /// In the middle of a snapshot: with another one.
    Middle,
    /// After these hints.
    At(Positions),
}

fn begin(context: &Context, binding: &Binding, token: &str) -> Result<SetBegin> {
    if token.is_empty() {
        return Ok(SetBegin::Snapshot);
    }
    let wrong = || {
        let text = "resume_token is not one that a watch of this parent and filter has sent; leave it empty to begin anew";
        Error::field("resume_token", text)
    };
    let (_, position) =
        page_token::unseal(context.store.keyspace(), binding, token).ok_or_else(wrong)?;
    Ok(Positions::decode(&position).map_or(SetBegin::Middle, SetBegin::At))
}

fn seal(context: &Context, binding: &Binding, position: &[u8]) -> Result<Arc<str>> {
    let now = context.store.now(Partition(0));
    page_token::seal(context.store.keyspace(), binding, position, now).map(Arc::from)
}

/// A change may reach the watches of a set so much later than a list shows it.
const JUST_NOW: Duration = Duration::from_secs(10);
/// Revisions of a snapshot that a watch keeps.
const MOST_LISTED: usize = 4_096;
