//! Which parents have endpoints, as this server knows it. Each commit of an operation asks, so it is a look into memory.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::found::scan;
use crate::engine::context::Context;
use crate::engine::error::Result;
use crate::operation::name::ancestry;

/// The parents that have endpoints.
pub(in crate::engine) struct Listening {
    context: Arc<Context>,
    /// Whether there may be endpoints at all.
    any: AtomicBool,
    /// `None` if they are not known, or too many: then any parent may have some.
    parents: RwLock<Option<HashSet<String>>>,
}

impl Listening {
    pub(in crate::engine) fn new(context: Arc<Context>) -> Self {
        Self { context, any: AtomicBool::new(true), parents: RwLock::default() }
    }

    /// Whether there may be endpoints that are called about the operations of a parent. An endpoint counts a few seconds after
    /// it was created.
    pub(in crate::engine) fn to(&self, parent: &str) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let parents = self.parents.read().unwrap_or_else(PoisonError::into_inner);
        let Some(parents) = &*parents else { return true };
        ancestry(parent).into_iter().any(|parent| parents.contains(parent))
    }

    /// Looks again and again until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        loop {
            if let Err(error) = self.refresh().await {
                self.context.log_failure("could not look for webhook endpoints", &error);
            }
            self.context.sleep(REFRESH).await;
        }
    }

    /// Looks which parents have endpoints.
    pub(in crate::engine) async fn refresh(&self) -> Result<()> {
        let mut found = HashSet::new();
        let mut after = None;
        loop {
            let page = self.context.store.scan(scan("", after, PAGE)).await?;
            for entry in &page {
                let parent = entry.member.split(|byte| *byte == 0).next().unwrap_or_default();
                if let Ok(parent) = std::str::from_utf8(parent)
                    && !found.contains(parent)
                {
                    found.insert(parent.to_owned());
                }
            }
            after = page.last().map(|entry| entry.member.clone());
            if page.len() < PAGE || found.len() > MOST {
                break;
            }
        }
        let any = !found.is_empty();
        let known = (found.len() <= MOST).then_some(found);
        *self.parents.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.any.store(any, Ordering::Release);
        Ok(())
    }
}

/// How often a server looks.
const REFRESH: Duration = Duration::from_secs(2);
/// Entries that are read at a time.
const PAGE: usize = 1_000;
/// Beyond this many parents they are not told apart.
const MOST: usize = 100_000;
