//! Turns of parents, and priority that does not starve, on two servers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::servers::{Ground, Servers, leases, on_each_store};
use super::{caller, request, wish};
use crate::clock::Clock;
use crate::limits::AGING_INTERVAL;
use crate::operation::Start;
use crate::operation::name::Parent;

on_each_store! {
    a_newcomer_runs_within_the_stated_bound_on_two_servers,
    a_worker_that_asks_for_one_at_a_time_takes_from_the_parents_in_turn,
    an_operation_of_low_priority_is_late_and_never_starves,
    every_lease_is_the_one_of_the_highest_effective_priority,
}

/// So many operations of a parent.
async fn backlog(servers: &Servers, parent: &str, count: usize) {
    let start = |number: usize| {
        let parent = Parent::parse(parent).expect("a parent");
        Ok(Start { parent, ..request(&format!("o{number}")) })
    };
    let starts = (0..count).map(start).collect();
    for started in servers.engine().start_batch(&caller(), starts).await {
        started.expect("started");
    }
}

/// The parents of the operations that a worker gets at once.
async fn parents_of_leases(servers: &Servers, server: usize, room: usize) -> Vec<String> {
    let leased = leases(&servers.all[server].0, wish(room)).await;
    leased.into_iter().map(|leased| leased.operation.name.parent().to_owned()).collect()
}

/// As docs/order.md states it.
async fn a_newcomer_runs_within_the_stated_bound_on_two_servers(ground: Ground) {
    for (parents, room) in [(1, 1), (3, 1), (8, 4), (20, 16)] {
        for polls_before in [0, 3] {
            let servers = Servers::on(ground).await;
            let at_a_poll = if parents == 1 { room.max(ALONE) } else { room };
            let bound = 2 * (parents + 1) + 2 * 2 * at_a_poll;
            let each = (bound + 2 * polls_before * room) / parents + room + 2;
            for parent in 0..parents {
                backlog(&servers, &format!("tenants/t{parent}"), each).await;
            }
            for poll in 0..2 * polls_before {
                parents_of_leases(&servers, poll % 2, room).await;
            }
            backlog(&servers, NEWCOMER, 1).await;
            let (mut leases, mut server, mut runs) = (0, 0, false);
            while !runs {
                let parents = parents_of_leases(&servers, server, room).await;
                leases += parents.len();
                runs = parents.iter().any(|parent| parent == NEWCOMER);
                server = 1 - server;
                assert!(leases <= bound, "room {room}: {leases} > {bound}: {parents:?}");
            }
        }
    }
}

/// No dispatcher runs between two calls of such a worker.
async fn a_worker_that_asks_for_one_at_a_time_takes_from_the_parents_in_turn(ground: Ground) {
    let parents = if ground == Ground::Memory { 100 } else { 8 };
    let servers = Servers::on(ground).await;
    for parent in 0..parents {
        backlog(&servers, &format!("tenants/t{parent}"), 4).await;
    }
    let mut had: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..2 * (parents + 1) {
        for parent in parents_of_leases(&servers, 0, 1).await {
            *had.entry(parent).or_default() += 1;
        }
        let dispatch = &servers.engine().rooms.dispatch;
        servers.until("the dispatcher ends", async || dispatch.count() == 0).await;
    }
    assert_eq!(had.len(), parents, "{had:?}");
    assert!(had.values().all(|leases| *leases <= 3), "{had:?}");
}

async fn start_with_priority(servers: &Servers, server: usize, id: &str, priority: i32) {
    let mut wanted = request(id);
    wanted.spec.options.priority = priority;
    servers.all[server].0.start_operation(&caller(), wanted).await.expect("started");
}

/// A new operation of a higher priority is there before each lease.
async fn an_operation_of_low_priority_is_late_and_never_starves(ground: Ground) {
    const PAUSE: Duration = Duration::from_secs(10);
    let servers = Servers::on(ground).await;
    start_with_priority(&servers, 0, "low", 0).await;
    let mut waited = Duration::ZERO;
    for number in 0.. {
        start_with_priority(&servers, number % 2, &format!("high{number}"), 9).await;
        let leased = leases(&servers.all[(number + 1) % 2].0, wish(1)).await;
        if leased[0].operation.name.id() == "low" {
            break;
        }
        servers.clock.advance(PAUSE);
        waited += PAUSE;
        assert!(waited <= 9 * AGING_INTERVAL + PAUSE, "it starves");
    }
    assert!(waited >= 9 * AGING_INTERVAL, "after {waited:?}");
}

async fn every_lease_is_the_one_of_the_highest_effective_priority(ground: Ground) {
    let servers = Servers::on(ground).await;
    let mut dice = Dice(11);
    let mut waiting: BTreeMap<String, i64> = BTreeMap::new();
    for number in 0..Servers::rounds(ground, 400) {
        servers.clock.advance(Duration::from_secs(dice.below(20)));
        let server = dice.below(2) as usize;
        if dice.below(5) < 3 {
            let (id, priority) = (format!("o{number}"), dice.below(9) as i32 - 4);
            start_with_priority(&servers, server, &id, priority).await;
            let now = servers.clock.now().as_micros() as i64;
            waiting.insert(id, now - i64::from(priority) * AGING_INTERVAL.as_micros() as i64);
        } else {
            let leased = leases(&servers.all[server].0, wish(1)).await;
            assert_eq!(leased.len(), waiting.len().min(1));
            let Some(leased) = leased.first() else { continue };
            let rank = waiting.remove(leased.operation.name.id()).expect("it waited");
            let first = waiting.values().min().copied().unwrap_or(rank);
            assert!(rank <= first, "{} before one of {first}", leased.operation.name);
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

const NEWCOMER: &str = "tenants/new";
/// How many operations of an only parent are taken before others are looked for.
const ALONE: usize = 64;
