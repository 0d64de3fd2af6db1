//! Random operations and watchers of sets. Whenever all is quiet, the events of each watcher add up to what a list finds.

use crate::support::*;

use super::{Watch, set_of};

scenarios! {
    the_events_of_each_watch_add_up_to_the_filtered_list,
}

/// What is watched.
const SETS: &[(&str, &str)] = &[
    ("-", ""),
    ("", ""),
    ("projects/a", "done = false"),
    ("projects/-", "state() = PENDING"),
    ("-", "state() = (FAILED OR CANCELLED)"),
    ("-", "label(team) = red AND NOT state() = RUNNING"),
    ("projects/b", "progress() >= 0.5"),
    ("-", "response.@type = acme.Big"),
];

const PARENTS: [&str; 4] = ["", "projects/a", "projects/b", "projects/a/locations/l"];

/// A sequence of numbers that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

async fn the_events_of_each_watch_add_up_to_the_filtered_list(fixture: &Fixture) {
    let other = fixture.beside().await;
    let servers = [fixture, &other];
    for seed in 1..=3 {
        let mut dice = Dice(seed);
        let mut leases = Vec::new();
        let mut watchers: Vec<(usize, SetWatcher)> = Vec::new();
        for round in 0..12 {
            if let Some((parent, filter)) = SETS.get(round % SETS.len()) {
                let watcher = servers[dice.roll(2)].watch_set(set_of(parent, filter)).await;
                watchers.push((round % SETS.len(), watcher));
            }
            for _ in 0..15 {
                if dice.roll(10) == 0 {
                    fixture.store.inject([longhaul::store::faulty::Fault::Conflict]);
                }
                step(servers[dice.roll(2)], &mut dice, &mut leases).await;
                fixture.clock.advance(Duration::from_millis(1));
            }
            if dice.roll(3) == 0 {
                let number = dice.roll(watchers.len());
                let (set, watcher) = &mut watchers[number];
                let resume_token = watcher.token.clone();
                let request = Watch { resume_token, ..set_of(SETS[*set].0, SETS[*set].1) };
                watcher.resume(servers[dice.roll(2)].watch_set(request).await);
            }
            for (set, watcher) in &mut watchers {
                let (parent, filter) = SETS[*set];
                let wanted = fixture.listed(parent, filter).await;
                let what = format!("{parent:?} {filter:?}, seed {seed}, round {round}: {wanted:?}");
                fixture.passing(&what, watcher.until(&wanted)).await;
            }
        }
    }
}

/// Something happens to an operation.
async fn step(server: &Fixture, dice: &mut Dice, leases: &mut Vec<pb::Lease>) {
    let mut taken = |dice: &mut Dice| {
        let place = dice.roll(leases.len().max(1));
        (place < leases.len()).then(|| leases.swap_remove(place))
    };
    match dice.roll(9) {
        0..=2 => {
            let options = pb::OperationOptions {
                labels: [("team".to_owned(), ["red", "blue"][dice.roll(2)].to_owned())].into(),
                ..Default::default()
            };
            let parent = PARENTS[dice.roll(PARENTS.len())].to_owned();
            let request = pb::StartOperationRequest { parent, ..start_with("q", options) };
            server.start(request).await.granted();
        }
        3 => leases.extend(server.leases(leasing("q")).await.granted()),
        4 => {
            let Some(lease) = taken(dice) else { return };
            let fraction = Some(dice.roll(10) as f64 / 10.0);
            let progress = Some(pb::Progress { fraction, ..Default::default() });
            let checkpoint = Some(any("x.Y", b""));
            let report = pb::ReportProgressRequest { progress, checkpoint, ..report(&lease) };
            // It may have been cancelled or deleted.
            drop(server.report(report).await);
            leases.push(lease);
        }
        5 => {
            let Some(lease) = taken(dice) else { return };
            let response = Some(large(["acme.Big", "acme.Other"][dice.roll(2)], 4_000));
            let done = pb::CompleteOperationRequest { response, ..completion(&lease) };
            drop(server.complete(done).await);
        }
        6 => {
            let Some(lease) = taken(dice) else { return };
            drop(server.fail(failure(&lease, Code::Internal)).await);
        }
        kind => {
            let names: Vec<String> = server.listed("-", "done = false").await.into_keys().collect();
            let Some(name) = names.get(dice.roll(names.len().max(1))) else { return };
            match (kind, dice.roll(2)) {
                (7, 0) => drop(server.cancel(name).await),
                (7, _) => drop(server.delete(name).await),
                (_, 0) => drop(server.pause(name).await),
                _ => drop(server.resume(name, None).await),
            }
        }
    }
}
