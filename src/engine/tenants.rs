//! What each tenant may take of a server, so that one at its limits costs the others nothing.
//!
//! A tenant is the first pair of a parent, such as `projects/p`; operations below the root are those of one tenant. Writes
//! beyond a limit are refused, reads are slowed. Calls of workers are not limited, since they end work. Each server counts by
//! itself. The numbers of stored operations and bytes follow from the counters of the store, some seconds late.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::context::Context;
use super::error::{Error, Reason, Result};
use super::settings::TenantLimits;
use crate::limits::{MAX_COUNTED_PARENTS, MAX_KNOWN_TENANTS, SLOWEST_READ, STORED_RECOUNT};
use crate::operation::Start;
use crate::operation::counters::{OF_PARENTS, operations_in, parent_of_counter};
use crate::record::endpoint::{ENDPOINTS, PARTITION};
use crate::store::{Index, Scan};
use crate::turn;

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
    /// Operations when they were last counted, and those that were started since.
    stored: u64,
    watchers: u32,
    seen: Duration,
}

/// Lets through so many in a second, and at once as many as in one second.
#[derive(Clone, Copy)]
struct TenantBucket {
    level: f64,
    at: Duration,
}

impl Tenants {
    pub(super) fn new(context: Arc<Context>) -> Arc<Self> {
        let limits = context.settings.tenant_limits;
        let known = limits.are_any().then(Mutex::default);
        Arc::new(Self { context, limits, known })
    }

    /// A start is wanted.
    pub(super) fn start(&self, wanted: &Start) -> Result<()> {
        let parent = wanted.parent.as_str();
        let callbacks = wanted.spec.options.callbacks.len();
        if wanted.validate_only { self.write(parent) } else { self.start_below(parent, callbacks) }
    }

    /// A caller wants an operation to start below that parent, with so many callbacks of its own: those of jobs and reruns are not
    /// counted.
    pub(super) fn start_below(&self, parent: &str, callbacks: usize) -> Result<()> {
        let name = tenant_of(parent);
        let limits = self.limits;
        self.with(name, |tenant, now| {
            if limits.operations > 0 && tenant.stored >= limits.operations {
                let most = limits.operations;
                let why = format!("stores {most} operations, as many as it may; delete some, or wait until they expire");
                return Err(refused(name, &why, STORED_RECOUNT));
            }
            tenant.requests.take(now, limits.requests_per_second).map_err(too_fast(name, "calls"))?;
            tenant.starts.take(now, limits.starts_per_second).map_err(too_fast(name, "starts"))?;
            let taken = tenant.callbacks.take_many(now, limits.callbacks_per_second, callbacks);
            taken.map_err(too_fast(name, "callbacks"))?;
            tenant.stored += 1;
            Ok(())
        })
    }

    /// Whether a tenant stores as many operations as it may.
    pub(super) fn is_full(&self, parent: &str) -> bool {
        let mut is_full = false;
        let looked = self.with(tenant_of(parent), |tenant, _| {
            is_full = self.limits.operations > 0 && tenant.stored >= self.limits.operations;
            Ok(())
        });
        drop(looked);
        is_full
    }

    /// So many operations start that no caller has asked for.
    pub(super) fn count_starts(&self, parent: &str, starts: u64) {
        let counted = self.with(tenant_of(parent), |tenant, _| {
            tenant.stored += starts;
            Ok(())
        });
        drop(counted);
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
        self.with(name, |tenant, now| {
            let rate = self.limits.requests_per_second;
            tenant.requests.take(now, rate).map_err(too_fast(name, "calls"))
        })
    }

    /// Something below that parent is to be read: waits until it may be.
    pub(super) async fn read(&self, parent: &str) {
        if self.known.is_none() {
            return;
        }
        let mut pause = Duration::ZERO;
        let counted = self.with(tenant_of(parent), |tenant, now| {
            pause = tenant.requests.reserve(now, self.limits.requests_per_second);
            Ok(())
        });
        drop(counted);
        if !pause.is_zero() {
            // Others read meanwhile.
            turn::pause(self.context.sleep(pause.min(SLOWEST_READ))).await;
        }
    }

    /// Something below that parent is to be watched.
    pub(super) fn watch(self: &Arc<Self>, parent: &str) -> Result<Option<WatcherShare>> {
        if self.known.is_none() {
            return Ok(None);
        }
        let name = tenant_of(parent);
        let limits = self.limits;
        self.with(name, |tenant, now| {
            if limits.watchers > 0 && tenant.watchers >= limits.watchers {
                let why = format!("has {} watches, as many as it may; end some", limits.watchers);
                return Err(refused(name, &why, RETRY));
            }
            tenant
                .requests
                .take(now, limits.requests_per_second)
                .map_err(too_fast(name, "calls"))?;
            tenant.watchers += 1;
            Ok(())
        })?;
        Ok(Some(WatcherShare { tenants: Arc::clone(self), tenant: name.to_owned() }))
    }

    /// Counts what is stored, from time to time.
    pub(super) async fn run(self: Arc<Self>) {
        if self.limits.operations == 0 {
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
        let store = &self.context.store;
        let names = store.counter_names(OF_PARENTS, MAX_COUNTED_PARENTS).await?;
        let mut stored: HashMap<String, u64> = HashMap::new();
        for names in names.chunks(COUNTERS_AT_ONCE) {
            let counters = store.counters(OF_PARENTS, names).await?;
            for (name, counter) in names.iter().zip(counters) {
                let parent = parent_of_counter(name).unwrap_or_default();
                *stored.entry(tenant_of(parent).to_owned()).or_default() += operations_in(counter);
            }
        }
        let Some(mut known) = self.lock() else { return Ok(()) };
        let now = self.context.clock.elapsed();
        for (name, tenant) in known.iter_mut() {
            tenant.stored = stored.remove(name).unwrap_or_default();
        }
        // Those that have not called this server yet, the fullest first; they are forgotten before others.
        let mut others: Vec<(String, u64)> = stored.into_iter().collect();
        others.sort_unstable_by_key(|(_, stored)| std::cmp::Reverse(*stored));
        let full =
            others.iter().take_while(|(_, stored)| *stored >= self.limits.operations).count();
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
    fn with(
        &self,
        name: &str,
        action: impl FnOnce(&mut Tenant, Duration) -> Result<()>,
    ) -> Result<()> {
        let Some(mut known) = self.lock() else { return Ok(()) };
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
        action(tenant, now)
    }
}

impl Tenant {
    const fn new(now: Duration) -> Self {
        let full = TenantBucket { level: f64::MAX, at: now };
        Self { requests: full, starts: full, callbacks: full, stored: 0, watchers: 0, seen: now }
    }

    /// Whether it must not be forgotten.
    fn is_of_use(&self, now: Duration, limits: &TenantLimits) -> bool {
        let is_full = limits.operations > 0 && self.stored >= limits.operations;
        self.watchers > 0 || is_full || now.saturating_sub(self.seen) < FORGET
    }
}

impl TenantBucket {
    /// Takes one, or says when there will be one.
    fn take(&mut self, now: Duration, rate: u32) -> std::result::Result<(), Duration> {
        self.take_many(now, rate, 1)
    }

    /// Takes so many at once, or says when there will be as many. More than it ever holds are taken from a full one.
    fn take_many(
        &mut self,
        now: Duration,
        rate: u32,
        count: usize,
    ) -> std::result::Result<(), Duration> {
        let level = self.level_at(now, rate);
        let needed = f64::from(u32::try_from(count).unwrap_or(u32::MAX).min(rate));
        if rate == 0 || level >= needed {
            self.level = level - count as f64;
            return Ok(());
        }
        self.level = level;
        Err(Duration::from_secs_f64((needed - level) / f64::from(rate)))
    }

    /// Takes one that may not be there yet, and says when it will be.
    fn reserve(&mut self, now: Duration, rate: u32) -> Duration {
        if rate == 0 {
            return Duration::ZERO;
        }
        // No deeper than a read waits, so that a tenant that reads less is soon as fast as before.
        let deepest = -SLOWEST_READ.as_secs_f64() * f64::from(rate);
        self.level = (self.level_at(now, rate) - 1.0).max(deepest);
        Duration::from_secs_f64((-self.level).max(0.0) / f64::from(rate))
    }

    fn level_at(&mut self, now: Duration, rate: u32) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        let rate = f64::from(rate);
        passed.mul_add(rate, self.level).min(rate)
    }
}

impl Drop for WatcherShare {
    fn drop(&mut self) {
        let ended = self.tenants.with(&self.tenant, |tenant, _| {
            tenant.watchers = tenant.watchers.saturating_sub(1);
            Ok(())
        });
        drop(ended);
    }
}

/// A webhook endpoint is to be created below that parent. Two at once may both see room.
pub(super) async fn room_for_endpoint(context: &Context, parent: &str) -> Result<()> {
    let most = context.settings.tenant_limits.endpoints as usize;
    if most == 0 {
        return Ok(());
    }
    let name = tenant_of(parent);
    // Those of the tenant itself, and those of the parents below it.
    let ends = if name.is_empty() { &["\0"][..] } else { &["\0", "/"] };
    let mut stored = 0;
    for end in ends {
        let prefix = [name, end].concat();
        let scan = Scan::first(Index::new(ENDPOINTS), most).within(PARTITION);
        stored += context.store.scan(scan.with_prefix(prefix.as_bytes())).await?.len();
    }
    if stored < most {
        return Ok(());
    }
    let why = format!("has {most} webhook endpoints, as many as it may; delete one");
    Err(refused(name, &why, RETRY))
}

/// The tenant that a parent belongs to.
fn tenant_of(parent: &str) -> &str {
    parent.match_indices('/').nth(1).map_or(parent, |(end, _)| &parent[..end])
}

fn too_fast(name: &str, what: &str) -> impl FnOnce(Duration) -> Box<Error> {
    move |pause| {
        refused(name, &format!("makes more {what} in a second than it may; wait a little"), pause)
    }
}

fn refused(name: &str, why: &str, pause: Duration) -> Box<Error> {
    let tenant = if name.is_empty() { "the root" } else { name };
    Error::new(Reason::TenantLimit, format!("tenant {tenant:?} {why}"))
        .with("tenant", tenant)
        .retry_after(pause.max(SHORTEST_RETRY))
}

/// How long a tenant is remembered that does nothing.
const FORGET: Duration = Duration::from_mins(1);
/// When to try again what depends on the caller alone.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest time to try again after.
const SHORTEST_RETRY: Duration = Duration::from_millis(10);
const COUNTERS_AT_ONCE: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock, Timestamp};
    use crate::engine::Settings;
    use crate::store::Keyspace;
    use crate::store::memory::MemoryStore;
    use futures_util::FutureExt;

    fn tenants(tenant_limits: TenantLimits) -> (Arc<ManualClock>, Arc<Tenants>) {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let store = MemoryStore::new(Keyspace::generate(1), clock.clone());
        let settings = Settings { tenant_limits, ..Settings::default() };
        let context = Arc::new(Context::new(store, clock.clone(), settings));
        (clock, Tenants::new(context))
    }

    #[test]
    fn a_tenant_beyond_its_limit_is_refused_and_told_when_to_come_again_and_others_are_not() {
        let (clock, tenants) =
            tenants(TenantLimits { requests_per_second: 10, ..TenantLimits::default() });
        for _ in 0..10 {
            tenants.write("projects/p/locations/l").expect("room");
        }
        let refusal = tenants.write("projects/p").expect_err("a refusal");
        assert_eq!(refusal.reason.code(), crate::code::Code::ResourceExhausted);
        assert_eq!(refusal.metadata["tenant"], "projects/p");
        assert_eq!(refusal.retry_delay, Some(Duration::from_millis(100)));
        tenants.write("projects/q").expect("room of another");
        tenants.write("").expect("room of the root");
        clock.advance(Duration::from_millis(100));
        tenants.write("projects/p").expect("room again");
        assert!(tenants.write("projects/p").is_err());
    }

    #[test]
    fn a_start_takes_as_much_as_it_has_callbacks_and_one_without_any_nothing() {
        let mut bucket = TenantBucket { level: f64::MAX, at: Duration::ZERO };
        let at = Duration::from_secs;
        assert_eq!(bucket.take_many(at(1), 4, 3), Ok(()));
        assert_eq!(bucket.take_many(at(1), 4, 0), Ok(()));
        assert_eq!(bucket.take_many(at(1), 4, 2), Err(Duration::from_millis(250)));
        // One with more than it ever holds waits until it is full, and others wait for the rest.
        assert_eq!(bucket.take_many(at(2), 4, 10), Ok(()));
        assert_eq!(bucket.take_many(at(3), 4, 1), Err(Duration::from_millis(750)));
        assert_eq!(bucket.take_many(at(4), 4, 1), Ok(()));
        assert_eq!(bucket.take_many(at(4), 0, 100), Ok(()), "without a limit");
    }

    #[tokio::test]
    async fn reads_beyond_the_limit_are_slowed_and_not_refused() {
        let (clock, tenants) =
            tenants(TenantLimits { requests_per_second: 2, ..TenantLimits::default() });
        for _ in 0..2 {
            assert!(tenants.read("projects/p").now_or_never().is_some());
        }
        let mut third = Box::pin(tenants.read("projects/p"));
        assert!((&mut third).now_or_never().is_none());
        assert!(tenants.read("projects/q").now_or_never().is_some());
        clock.advance(Duration::from_millis(500));
        third.await;
        // However many were asked for: one that follows waits no longer than the longest time.
        let asked: Vec<_> = (0..1_000).map(|_| tenants.read("projects/p").now_or_never()).collect();
        assert!(asked.iter().all(Option::is_none));
        let mut last = Box::pin(tenants.read("projects/p"));
        assert!((&mut last).now_or_never().is_none());
        clock.advance(SLOWEST_READ);
        last.await;
    }

    #[test]
    fn a_watch_counts_until_it_ends() {
        let (_, tenants) = tenants(TenantLimits { watchers: 1, ..TenantLimits::default() });
        let share = tenants.watch("projects/p").expect("room");
        assert!(tenants.watch("projects/p/locations/l").is_err());
        assert!(tenants.watch("projects/q").is_ok());
        drop(share);
        assert!(tenants.watch("projects/p").is_ok());
    }

    #[test]
    fn more_tenants_than_are_known_share_one_place_and_old_ones_are_forgotten() {
        let (clock, tenants) =
            tenants(TenantLimits { requests_per_second: 1, ..TenantLimits::default() });
        for number in 0..MAX_KNOWN_TENANTS {
            tenants.write(&format!("projects/{number}")).expect("room");
        }
        assert!(
            tenants.write("projects/another").is_err() || tenants.write("projects/more").is_err()
        );
        let known = || tenants.lock().expect("limits").len();
        assert!(known() <= MAX_KNOWN_TENANTS + 1);
        clock.advance(FORGET);
        tenants.write("projects/late").expect("room");
        assert_eq!(known(), 1);
        assert_eq!(clock.elapsed(), FORGET);
    }
}
