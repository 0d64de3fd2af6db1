//! What each tenant may take of a server, so that one at its limits costs the others nothing.
//!
//! A tenant is the first pair of a parent, such as `projects/p`; operations below the root are those of one tenant. Writes
//! beyond a limit are refused, reads are slowed. Calls of workers are not limited, since they end work. Each server counts by
//! itself. What a tenant stores follows from the counters of the store, some seconds late.

mod bucket;
mod refusal;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::bucket::TenantBucket;
use self::refusal::{RETRY, refused, tenant_of, too_fast};
use self::stored::{StartShare, TenantStock, stocks};
use super::context::Context;
use super::error::Result;
use super::settings::TenantLimits;
use crate::limits::{BULK_RERUN_TURN, MAX_KNOWN_TENANTS, SLOWEST_READ, STORED_RECOUNT};
use crate::operation::{Spec, Start};
use crate::turn;

pub(super) use self::stored::room_for_endpoint;

/// The tenants of one server.
pub(super) struct Tenants {
    context: Arc<Context>,
    limits: TenantLimits,
    /// `None` without limits.
    known: Option<Mutex<HashMap<String, Tenant>>>,
}

/// A watch that counts until this is dropped.
pub(super) struct WatcherShare {
    tenants: Arc<Tenants>,
    tenant: String,
}

/// What a tenant has taken.
struct Tenant {
    requests: TenantBucket,
    starts: TenantBucket,
    callbacks: TenantBucket,
    /// What was there when it was last counted, and what was started since.
    stored: TenantStock,
    watchers: u32,
    /// When a bulk rerun last started an operation, or might have.
    rerun: Duration,
    seen: Duration,
}

impl Tenants {
    pub(super) fn new(context: Arc<Context>) -> Arc<Self> {
        let limits = context.settings.tenant_limits;
        let known = limits.are_any().then(Mutex::default);
        Arc::new(Self { context, limits, known })
    }

    /// A caller wants a start.
    pub(super) fn start(&self, wanted: &Start) -> Result<()> {
        if wanted.validate_only {
            return self.write(wanted.parent.as_str());
        }
        let share = || StartShare::of(&wanted.spec, wanted.initial_metadata.as_ref());
        self.take_start(wanted.parent.as_str(), 1, share)
    }

    /// A call that was counted already wants an operation like this to start.
    pub(super) fn start_below(&self, parent: &str, spec: &Spec) -> Result<()> {
        self.take_start(parent, 0, || StartShare::of(spec, None))
    }

    fn take_start(
        &self,
        parent: &str,
        calls: usize,
        share: impl FnOnce() -> StartShare,
    ) -> Result<()> {
        let name = tenant_of(parent);
        let limits = self.limits;
        let taken = self.with(name, |tenant, now| {
            let share = share();
            if let Some(why) = tenant.stored.fullness(&limits, share) {
                return Err(refused(name, &why, STORED_RECOUNT));
            }
            let taken = tenant.requests.take_many(now, limits.requests_per_second, calls);
            taken.map_err(too_fast(name, "calls"))?;
            tenant.starts.take(now, limits.starts_per_second).map_err(too_fast(name, "starts"))?;
            let rate = limits.callbacks_per_second;
            let taken = tenant.callbacks.take_many(now, rate, share.callbacks);
            taken.map_err(too_fast(name, "callbacks"))?;
            tenant.stored.add(1, share);
            Ok(())
        });
        taken.unwrap_or(Ok(()))
    }

    /// A bulk rerun wants to start an operation. It leaves half of what may be started in a second to callers, but is not kept
    /// from all of it for long. `Err` says when to try again.
    pub(super) fn rerun(&self, parent: &str, spec: &Spec) -> std::result::Result<(), Duration> {
        let limits = self.limits;
        let taken = self.with(tenant_of(parent), |tenant, now| {
            let share = StartShare::of(spec, None);
            if tenant.stored.fullness(&limits, share).is_some() {
                return Err(STORED_RECOUNT);
            }
            let starts = tenant.starts.until_spare(now, limits.starts_per_second, 1);
            let rate = limits.callbacks_per_second;
            let pause = starts.max(tenant.callbacks.until_spare(now, rate, share.callbacks));
            if !pause.is_zero() && now.saturating_sub(tenant.rerun) < BULK_RERUN_TURN {
                return Err(pause);
            }
            tenant.starts.owe(now, limits.starts_per_second, 1);
            tenant.callbacks.owe(now, rate, share.callbacks);
            tenant.stored.add(1, share);
            tenant.rerun = now;
            Ok(())
        });
        taken.unwrap_or(Ok(()))
    }

    /// Whether a tenant may store no further operation that is started like this.
    pub(super) fn is_full(&self, parent: &str, spec: &Spec) -> bool {
        let full = self.with(tenant_of(parent), |tenant, _| {
            tenant.stored.fullness(&self.limits, StartShare::of(spec, None)).is_some()
        });
        full.unwrap_or(false)
    }

    /// So many operations start that no caller has asked for.
    pub(super) fn count_starts(&self, parent: &str, spec: &Spec, starts: usize) {
        self.with(tenant_of(parent), |tenant, now| {
            let share = StartShare::of(spec, None);
            tenant.stored.add(starts as u64, share);
            let rate = self.limits.callbacks_per_second;
            tenant.callbacks.owe(now, rate, share.callbacks.saturating_mul(starts));
        });
    }

    /// Starts are wanted, each on its own.
    pub(super) fn start_each(&self, wanted: Vec<Result<Start>>) -> Vec<Result<Start>> {
        if self.known.is_none() {
            return wanted;
        }
        let admit = |start: Start| self.start(&start).map(|()| start);
        wanted.into_iter().map(|start| start.and_then(admit)).collect()
    }

    /// Something below that parent is to be changed.
    pub(super) fn write(&self, parent: &str) -> Result<()> {
        let name = tenant_of(parent);
        let taken = self.with(name, |tenant, now| {
            let rate = self.limits.requests_per_second;
            tenant.requests.take(now, rate).map_err(too_fast(name, "calls"))
        });
        taken.unwrap_or(Ok(()))
    }

    /// Something below that parent is to be read: waits until it may be.
    pub(super) async fn read(&self, parent: &str) {
        let rate = self.limits.requests_per_second;
        let pause = self.with(tenant_of(parent), |tenant, now| tenant.requests.reserve(now, rate));
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            // Others read meanwhile.
            turn::pause(self.context.sleep(pause.min(SLOWEST_READ))).await;
        }
    }

    /// Something below that parent is to be watched.
    pub(super) fn watch(self: &Arc<Self>, parent: &str) -> Result<Option<WatcherShare>> {
        let name = tenant_of(parent);
        let limits = self.limits;
        let taken = self.with(name, |tenant, now| {
            if limits.watchers > 0 && tenant.watchers >= limits.watchers {
                let why = format!("has {} watches, as many as it may; end some", limits.watchers);
                return Err(refused(name, &why, RETRY));
            }
            let rate = limits.requests_per_second;
            tenant.requests.take(now, rate).map_err(too_fast(name, "calls"))?;
            tenant.watchers += 1;
            Ok(WatcherShare { tenants: Arc::clone(self), tenant: name.to_owned() })
        });
        taken.transpose()
    }

    /// Counts what is stored, from time to time.
    pub(super) async fn run(self: Arc<Self>) {
        if self.limits.operations == 0 && self.limits.stored_bytes == 0 {
            return;
        }
        loop {
            if let Err(error) = self.count().await {
                self.context.log_failure("tenants are not counted", &error);
            }
            self.context.sleep(STORED_RECOUNT).await;
        }
    }

    /// Counts what is stored.
    pub(super) async fn count(&self) -> Result<()> {
        let mut found = stocks(&*self.context.store).await?;
        let Some(mut known) = self.lock() else { return Ok(()) };
        let now = self.context.clock.elapsed();
        for (name, tenant) in known.iter_mut() {
            tenant.stored = found.remove(name).unwrap_or_default();
        }
        // Those that have not called this server yet, the fullest first; they are forgotten before others.
        let mut others: Vec<_> = found.into_iter().collect();
        others.sort_unstable_by_key(|(_, stored)| {
            std::cmp::Reverse((stored.is_full(&self.limits), stored.operations, stored.bytes))
        });
        let full = others.iter().take_while(|(_, stored)| stored.is_full(&self.limits)).count();
        let room = MAX_KNOWN_TENANTS.saturating_sub(known.len());
        others.truncate(room.max(full.min(MAX_KNOWN_TENANTS)));
        let seen = now.saturating_sub(FORGET);
        for (name, stored) in others {
            known.insert(name, Tenant { stored, seen, ..Tenant::new(now) });
        }
        Ok(())
    }

    fn lock(&self) -> Option<MutexGuard<'_, HashMap<String, Tenant>>> {
        Some(self.known.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does something with a tenant, if there are limits.
    fn with<T>(&self, name: &str, action: impl FnOnce(&mut Tenant, Duration) -> T) -> Option<T> {
        let mut known = self.lock()?;
        let now = self.context.clock.elapsed();
        if !known.contains_key(name) && known.len() >= MAX_KNOWN_TENANTS {
            known.retain(|_, tenant| tenant.is_of_use(now, &self.limits));
        }
        // Beyond that many tenants the others share one place.
        let name =
            if known.contains_key(name) || known.len() < MAX_KNOWN_TENANTS { name } else { "" };
        let tenant = match known.get_mut(name) {
            Some(tenant) => tenant,
            None => known.entry(name.to_owned()).or_insert_with(|| Tenant::new(now)),
        };
        tenant.seen = now;
        Some(action(tenant, now))
    }
}

impl Tenant {
    const fn new(now: Duration) -> Self {
        let full = TenantBucket::full(now);
        let stored = TenantStock { operations: 0, bytes: 0 };
        let (requests, starts, callbacks) = (full, full, full);
        Self { requests, starts, callbacks, stored, watchers: 0, rerun: now, seen: now }
    }

    /// Whether it must not be forgotten.
    fn is_of_use(&self, now: Duration, limits: &TenantLimits) -> bool {
        self.watchers > 0 || self.stored.is_full(limits) || now.saturating_sub(self.seen) < FORGET
    }
}

impl Drop for WatcherShare {
    fn drop(&mut self) {
        self.tenants.with(&self.tenant, |tenant, _| {
            tenant.watchers = tenant.watchers.saturating_sub(1);
        });
    }
}

/// How long a tenant is remembered that does nothing.
const FORGET: Duration = Duration::from_mins(1);
