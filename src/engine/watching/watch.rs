//! Watching one operation: the state now, then every newer one that the watcher keeps up with, the last one always.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::Stream;

use crate::clock::Timestamp;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::reading::view::View;
use crate::engine::watching::hub::{Hub, Interest, Sighting, named};
use crate::operation::name::Name;

/// The options of a watch.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Where to begin.
    pub from: WatchFrom,
    /// No more than one update in this time; the last state is never held back.
    pub min_interval: Duration,
    /// Send a heartbeat after this long without another event.
    pub heartbeat: Duration,
}

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the state now.
    Start,
    /// With the next change.
    Now,
    /// Where an earlier watch stopped: with the state now, unless that was it.
    Token(ResumeToken),
}

/// A position in the history of one operation: good for equality, never for order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeToken {
    uid: [u8; 16],
    revision: u64,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The first state.
    Snapshot,
    /// A newer state.
    Update,
    /// A heartbeat.
    Heartbeat,
    /// The last state.
    Done,
    /// The operation no longer exists.
    Deleted,
    /// Attach again, elsewhere.
    Reconnect,
    /// The store went back: this state replaces later ones.
    Resync,
}

/// One event.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// The kind.
    pub kind: EventKind,
    /// The state, where the kind has one.
    pub view: Option<Arc<View>>,
    /// Where to go on after a break.
    pub resume_token: String,
    /// When.
    pub time: Timestamp,
}

/// A watch that runs.
pub struct Watch {
    hub: Arc<Hub>,
    name: Name,
    options: WatchOptions,
    interest: Interest,
    told: Option<Told>,
    token: String,
    ended: bool,
    first: bool,
    /// Time of the last event.
    said: Duration,
}

/// How it went to hold a state back.
enum HeldBack {
    /// Its time has come.
    Over,
    /// There is a newer one.
    Superseded,
    /// Not yet, but there must be a sign of life.
    Silent,
}

/// The last state sent to the watcher.
#[derive(Clone, Copy)]
struct Told {
    generation: u64,
    revision: u64,
    at: Duration,
}

impl ResumeToken {
    /// Reads a token.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let parts = bytes.as_deref().and_then(|bytes| bytes.split_at_checked(16));
        parts
            .and_then(|(uid, revision)| {
                Some(Self {
                    uid: uid.try_into().ok()?,
                    revision: u64::from_be_bytes(revision.try_into().ok()?),
                })
            })
            .ok_or_else(|| {
                Error::field(
                    "resume_token",
                    "resume_token is not one that a watch has sent; leave it empty to start from the present state",
                )
            })
    }

    fn of(view: &View) -> Self {
        Self { uid: view.operation.uid.into_bytes(), revision: view.operation.stamps.visible }
    }
}

impl std::fmt::Display for ResumeToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = [&self.uid[..], &self.revision.to_be_bytes()].concat();
        formatter.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl Hub {
    /// Watches an operation.
    pub(in crate::engine) async fn watch(
        self: &Arc<Self>,
        name: &Name,
        options: WatchOptions,
    ) -> Result<Watch> {
        let mut interest = self.follow(self.context.key(name)).await?;
        // An operation whose payloads changed during the read is read again; wait for that.
        let known =
            interest.newest.wait_for(Option::is_some).await.ok().and_then(|known| known.clone());
        let known = known.ok_or_else(Error::draining)?;
        let view = known.state.map_err(|error| named(name, error))?;
        let begin = ResumeToken::of(&view);
        let skip = !view.published.done
            && match &options.from {
                WatchFrom::Start => false,
                WatchFrom::Now => true,
                WatchFrom::Token(token) => *token == begin,
            };
        let told = skip.then(|| Told {
            generation: known.generation,
            revision: known.revision,
            at: self.context.clock.elapsed(),
        });
        let token = begin.to_string();
        let said = self.context.clock.elapsed();
        Ok(Watch {
            hub: self.clone(),
            name: name.clone(),
            options,
            interest,
            told,
            token,
            ended: false,
            first: !skip,
            said,
        })
    }
}

impl Watch {
    /// All events up to the last.
    pub fn into_events(self) -> impl Stream<Item = Result<WatchEvent>> + Send {
        futures_util::stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((event, watch))
        })
    }

    /// The next event; `None` after the last. An error ends the watch.
    pub async fn next(&mut self) -> Option<Result<WatchEvent>> {
        if self.ended {
            return None;
        }
        let event = self.next_event().await;
        self.said = self.elapsed();
        event
    }

    async fn next_event(&mut self) -> Option<Result<WatchEvent>> {
        loop {
            let newest = self.interest.newest.borrow_and_update().clone();
            if let Some(sighting) = newest.filter(|sighting| self.is_news(sighting)) {
                if let Some(event) = self.tell(sighting).await {
                    return Some(event);
                }
                continue;
            }
            let quiet = self.quiet();
            let context = Arc::clone(&self.hub.context);
            let partition = context.partition(context.key(&self.name));
            let lost = context.standstill.store_lost(partition);
            tokio::select! {
                biased;
                changed = self.interest.newest.changed() => if changed.is_err() { return Some(Ok(self.end(EventKind::Reconnect))) },
                () = context.drained() => return Some(Ok(self.end(EventKind::Reconnect))),
                error = lost => {
                    self.ended = true;
                    return Some(Err(error));
                }
                () = context.sleep(quiet) => return Some(Ok(self.event(EventKind::Heartbeat, None))),
            }
        }
    }

    fn elapsed(&self) -> Duration {
        self.hub.context.clock.elapsed()
    }

    fn is_news(&self, sighting: &Sighting) -> bool {
        self.told.is_none_or(|told| sighting.revision != told.revision)
    }

    /// The event of a sighting; `None` if a newer one arrived while it was held back.
    async fn tell(&mut self, sighting: Sighting) -> Option<Result<WatchEvent>> {
        let Sighting { generation, revision, state } = sighting;
        let view = match state {
            Ok(view) => view,
            Err(error) => return Some(self.gone(error)),
        };
        if let Some(told) = self.told.filter(|_| !view.published.done) {
            let pause =
                self.options.min_interval.saturating_sub(self.elapsed().saturating_sub(told.at));
            match if pause.is_zero() { HeldBack::Over } else { self.hold_back(pause).await } {
                HeldBack::Over => {}
                HeldBack::Superseded => return None,
                HeldBack::Silent => return Some(Ok(self.event(EventKind::Heartbeat, None))),
            }
        }
        let went_back =
            self.told.is_some_and(|told| generation > told.generation && revision < told.revision);
        let kind = match self.told {
            _ if view.published.done => EventKind::Done,
            _ if went_back => EventKind::Resync,
            None if self.first => EventKind::Snapshot,
            _ => EventKind::Update,
        };
        self.first = false;
        self.told = Some(Told { generation, revision, at: self.elapsed() });
        self.token = ResumeToken::of(&view).to_string();
        self.ended = kind == EventKind::Done;
        Some(Ok(self.event(kind, Some(view))))
    }

    async fn hold_back(&mut self, pause: Duration) -> HeldBack {
        let context = Arc::clone(&self.hub.context);
        let quiet = self.quiet();
        tokio::select! {
            biased;
            changed = self.interest.newest.changed() => if changed.is_ok() { HeldBack::Superseded } else { HeldBack::Over },
            () = context.drained() => HeldBack::Over,
            () = context.sleep(pause.min(quiet)) => if quiet < pause { HeldBack::Silent } else { HeldBack::Over },
        }
    }

    /// The time left until the next heartbeat.
    fn quiet(&self) -> Duration {
        self.options.heartbeat.saturating_sub(self.elapsed().saturating_sub(self.said))
    }

    fn gone(&mut self, error: Box<Error>) -> Result<WatchEvent> {
        self.ended = true;
        match error.reason {
            Reason::OperationDeleted | Reason::OperationExpired | Reason::OperationNotFound => {
                Ok(self.event(EventKind::Deleted, None))
            }
            _ => Err(named(&self.name, error)),
        }
    }

    fn end(&mut self, kind: EventKind) -> WatchEvent {
        self.ended = true;
        self.event(kind, None)
    }

    fn event(&self, kind: EventKind, view: Option<Arc<View>>) -> WatchEvent {
        let context = &self.hub.context;
        WatchEvent {
            kind,
            view,
            resume_token: self.token.clone(),
            time: context.now(context.key(&self.name)),
        }
    }
}
