//! The limits of one server, on a clock that the test moves.

use futures_util::FutureExt;

use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::engine::Settings;
use crate::store::Keyspace;
use crate::store::memory::MemoryStore;

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
    assert!(tenants.write("projects/another").is_err() || tenants.write("projects/more").is_err());
    let known = || tenants.lock().expect("limits").len();
    assert!(known() <= MAX_KNOWN_TENANTS + 1);
    clock.advance(FORGET);
    tenants.write("projects/late").expect("room");
    assert_eq!(known(), 1);
    assert_eq!(clock.elapsed(), FORGET);
}
