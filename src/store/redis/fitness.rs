//! Whether Redis accepts writes and keeps acknowledged ones, as last checked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::backend::Durability;
use crate::store::error::StoreError;

/// The settings that decide when an acknowledged commit is lost.
pub(super) struct RedisSettings {
    /// Fields of INFO; empty if missing.
    policy: String,
    /// Fields of CONFIG; `None` if it is forbidden.
    syncing: Option<HashMap<String, String>>,
}

impl RedisSettings {
    /// Those in a reply to INFO and one to [`asking`].
    pub(super) fn new(info: &str, syncing: Option<HashMap<String, String>>) -> Self {
        let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
        let complete = syncing.filter(|syncing| syncing.len() == FSYNC_SETTINGS.len());
        Self { policy: policy.unwrap_or_default().trim().to_owned(), syncing: complete }
    }

    /// Whether CONFIG returned them.
    pub(super) const fn are_told(&self) -> bool {
        self.syncing.is_some()
    }

    /// The durability of these settings, `stated` if they are unknown.
    ///
    /// # Errors
    /// Names the setting that loses acknowledged data, or gives less than requested, and the value to set.
    pub(super) fn judge(
        &self,
        place: &str,
        wanted: Option<Durability>,
        stated: Durability,
    ) -> Result<Durability, String> {
        let policy = &self.policy;
        if !matches!(policy.as_str(), "" | "noeviction") {
            return Err(format!(
                "{place} may evict acknowledged data: maxmemory-policy is {policy}; set it to noeviction"
            ));
        }
        let Some(syncing) = &self.syncing else { return Ok(stated) };
        let wrong = FSYNC_SETTINGS
            .iter()
            .find(|(name, right)| syncing.get(*name).is_some_and(|value| value != right));
        match (wrong, wanted) {
            (None, _) => Ok(Durability::Fsync),
            (Some((name, right)), Some(Durability::Fsync)) => Err(format!(
                "{place} does not sync commits to disk: {name} is {:?}; set it to {right:?}, or ask for durability memory",
                syncing.get(*name).map_or("", String::as_str),
            )),
            (Some(_), _) => Ok(Durability::Memory),
        }
    }
}

/// Reads the settings that decide when a commit is on disk.
pub(super) fn asking() -> redis::Cmd {
    let mut request = redis::cmd("CONFIG");
    request.arg("GET");
    for (name, _) in FSYNC_SETTINGS {
        request.arg(name);
    }
    request
}

/// The latest settings and result of the trial.
pub(super) struct Fitness {
    place: String,
    wanted: Option<Durability>,
    /// Whether CONFIG is permitted.
    asks: bool,
    state: Mutex<FitnessState>,
}

struct FitnessState {
    durability: Durability,
    /// The problem with the settings.
    settings: Option<String>,
    /// Which permission is missing.
    permission: Option<String>,
    /// Why this longhaul is too old to write.
    outdated: Option<String>,
}

impl Fitness {
    /// That of a store which was found fit.
    pub(super) fn new(
        place: &str,
        wanted: Option<Durability>,
        asks: bool,
        durability: Durability,
    ) -> Self {
        let state = Mutex::new(FitnessState {
            durability,
            settings: None,
            permission: None,
            outdated: None,
        });
        Self { place: place.to_owned(), wanted, asks, state }
    }

    /// Whether CONFIG is permitted.
    pub(super) const fn asks(&self) -> bool {
        self.asks
    }

    /// How far an acknowledged commit is safe.
    pub(super) fn durability(&self) -> Durability {
        self.lock().durability
    }

    /// Why nothing may be written now, if so: it could be lost, or be written in part.
    pub(super) fn refusal(&self) -> Option<StoreError> {
        let state = self.lock();
        let why = state.outdated.as_ref().or(state.settings.as_ref()).or(state.permission.as_ref());
        why.cloned().map(StoreError::Unfit)
    }

    /// Takes in the settings as they are now.
    pub(super) fn settings(&self, settings: &RedisSettings) {
        let mut state = self.lock();
        let judged = settings.judge(&self.place, self.wanted, state.durability);
        if let Ok(level) = judged
            && level != state.durability
        {
            let (was, now) = (state.durability.as_str(), level.as_str());
            tracing::warn!(store = self.place, was, now, "the store's durability was changed");
            state.durability = level;
        }
        let before = std::mem::replace(&mut state.settings, judged.err());
        let now = state.settings.clone();
        drop(state);
        self.tell(before, now);
    }

    /// Takes in how a trial went: which permission is missing, if one is.
    pub(super) fn permission(&self, missing: Option<String>) {
        let before = std::mem::replace(&mut self.lock().permission, missing.clone());
        self.tell(before, missing);
    }

    /// Takes in why this longhaul is too old to write, if it is.
    pub(super) fn outdated(&self, why: Option<String>) {
        let before = std::mem::replace(&mut self.lock().outdated, why.clone());
        self.tell(before, why);
    }

    fn tell(&self, before: Option<String>, now: Option<String>) {
        match (before, now) {
            (before, Some(why)) if before.as_ref() != Some(&why) => {
                tracing::error!("no writes are accepted: {why}");
            }
            (Some(_), None) => {
                tracing::info!(store = self.place, "writes are accepted again");
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, FitnessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FSYNC_SETTINGS: [(&str, &str); 3] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")];
