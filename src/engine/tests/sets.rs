//! Watches of sets, with gaps in the hints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Bench, caller, clock, name, name_of, request, wish};
use crate::engine::{ListQuery, Listed, Reason, SetEvent, SetEventKind, SetWatch, SetWatchRequest};
use crate::filter::{Filter, Order};
use crate::limits::{MAX_SET_CHANGES, MAX_WATCHED_SETS};
use crate::operation::command::{Command, Complete, Fail, Proof};
use crate::operation::name::{Name, ParentPattern};
use crate::proto::google::rpc::Status;
use crate::store::faulty::Fault;
use crate::store::memory::MemoryStore;
use crate::store::{Keyspace, Store};
use crate::types::Registry;

/// An engine on a store that can lose hints.
struct Stage {
    bench: Bench,
    memory: Arc<MemoryStore>,
}

/// A watch, and the set that its events add up to.
struct Follower {
    watch: SetWatch,
    filter: &'static str,
    set: BTreeMap<String, u64>,
    token: String,
    complete: bool,
    resyncs: usize,
}

impl Stage {
    fn new() -> Self {
        let clock = clock();
        let memory = MemoryStore::new(Keyspace::generate(3), clock.clone());
        let store: Arc<dyn Store> = memory.clone();
        Self { bench: Bench::on(store, clock), memory }
    }

    fn watch(&self, filter: &'static str, token: &str) -> Follower {
        let request = SetWatchRequest { resume_token: token.to_owned(), ..request_of(filter) };
        let watch = self.bench.engine.watch_set(&caller(), request).expect("a watch");
        let (set, complete) = (BTreeMap::new(), !token.is_empty());
        Follower { watch, filter, set, token: token.to_owned(), complete, resyncs: 0 }
    }

    /// The next event; time passes while there is none.
    async fn next(&self, follower: &mut Follower) -> SetEvent {
        let event = {
            let next = follower.watch.next();
            tokio::pin!(next);
            let mut turns = 0;
            loop {
                tokio::select! {
                    biased;
                    event = &mut next => break event.expect("an event").expect("no error"),
                    () = tokio::task::yield_now() => turns += 1,
                }
                assert!(turns < 1_000_000, "no event");
                if turns % 50 == 0 {
                    self.bench.clock.advance(Duration::from_millis(100));
                }
            }
        };
        follower.apply(&event);
        event
    }

    async fn expect(&self, follower: &mut Follower, kind: SetEventKind) -> SetEvent {
        let event = self.next(follower).await;
        assert_eq!(event.kind, kind, "{}", event.name);
        event
    }

    /// What a list finds.
    async fn listed(&self, filter: &str) -> BTreeMap<String, u64> {
        let query = ListQuery {
            parent: ParentPattern::parse("-").expect("parent"),
            filter: Filter::parse(filter, &Registry::builtin()).expect("filter"),
            order: Order::default(),
            page_size: 10_000,
            page_token: String::new(),
            partial: false,
            listed: Listed::Records,
        };
        let mut found = BTreeMap::new();
        let mut query = query;
        loop {
            let page = self.bench.engine.list(&caller(), query.clone()).await.expect("a page");
            let entry = |view: &crate::engine::View| {
                (view.published.name.clone(), view.operation.stamps.visible)
            };
            found.extend(page.views.iter().map(|view| entry(view)));
            if page.next_page_token.is_empty() {
                return found;
            }
            query.page_token = page.next_page_token;
        }
    }

    /// Reads until the events add up to the list.
    async fn settle(&self, follower: &mut Follower) {
        let wanted = self.listed(follower.filter).await;
        let mut quiet = 0;
        while !follower.complete || follower.set != wanted {
            let event = self.next(follower).await;
            quiet = if event.kind == SetEventKind::Bookmark { quiet + 1 } else { 0 };
            assert!(quiet < 5, "{:?} instead of {wanted:?}", follower.set);
        }
    }
}

impl Follower {
    fn apply(&mut self, event: &SetEvent) {
        match event.kind {
            SetEventKind::Snapshot | SetEventKind::Update => {
                let view = event.view.as_ref().expect("a view");
                self.set.insert(event.name.clone(), view.operation.stamps.visible);
            }
            SetEventKind::Removed => drop(self.set.remove(&event.name)),
            SetEventKind::SnapshotComplete => self.complete = true,
            SetEventKind::Resync => {
                self.set.clear();
                self.complete = false;
                self.resyncs += 1;
            }
            SetEventKind::Bookmark | SetEventKind::Reconnect => {}
        }
        self.token = event.resume_token.to_string();
    }
}

fn request_of(filter: &str) -> SetWatchRequest {
    SetWatchRequest {
        parent: ParentPattern::parse("-").expect("parent"),
        filter: Filter::parse(filter, &Registry::builtin()).expect("filter"),
        resume_token: String::new(),
        min_interval: Duration::ZERO,
        heartbeat: Duration::from_secs(30),
        full: false,
    }
}

#[tokio::test]
async fn a_gap_in_the_hints_brings_every_watch_a_new_snapshot() {
    let stage = Stage::new();
    let first = stage.bench.start("a").await;
    let (mut all, mut done) = (stage.watch("", ""), stage.watch("done = true", ""));
    stage.settle(&mut all).await;
    stage.settle(&mut done).await;
    let early = all.token.clone();
    stage.memory.announce_gap();
    stage.bench.engine.cancel(&caller(), &first).await.expect("a cancel");
    for follower in [&mut all, &mut done] {
        stage.expect(follower, SetEventKind::Resync).await;
        stage.settle(follower).await;
        assert_eq!((follower.resyncs, follower.set.len()), (1, 1));
    }
    // A token from before the gap is of no use, one from after it is.
    let mut resumed = stage.watch("", &early);
    stage.expect(&mut resumed, SetEventKind::Resync).await;
    stage.bench.start("b").await;
    stage.settle(&mut all).await;
    let mut resumed = stage.watch("", &all.token);
    resumed.set.clone_from(&all.set);
    stage.settle(&mut resumed).await;
    stage.bench.start("c").await;
    stage.settle(&mut resumed).await;
    assert_eq!(resumed.resyncs, 0);
}

#[tokio::test]
async fn watches_share_one_evaluation() {
    let stage = Stage::new();
    let mut followers = [stage.watch("", ""), stage.watch("", ""), stage.watch("done = false", "")];
    for follower in &mut followers {
        stage.expect(follower, SetEventKind::SnapshotComplete).await;
    }
    stage.bench.start("a").await;
    let mut views = Vec::new();
    let mut tokens = Vec::new();
    for follower in &mut followers {
        let event = stage.expect(follower, SetEventKind::Update).await;
        views.push(event.view.expect("a view"));
        tokens.push(event.resume_token);
    }
    assert!(Arc::ptr_eq(&views[0], &views[1]) && Arc::ptr_eq(&views[0], &views[2]));
    assert!(Arc::ptr_eq(&tokens[0], &tokens[1]), "it is sealed once");
    assert_ne!(tokens[0], tokens[2], "it is bound to its filter");
}

#[tokio::test]
async fn a_watch_that_falls_behind_is_sent_a_new_snapshot() {
    let stage = Stage::new();
    let (mut slow, mut quick) = (stage.watch("", ""), stage.watch("", ""));
    stage.settle(&mut slow).await;
    stage.settle(&mut quick).await;
    for number in 0..=MAX_SET_CHANGES {
        stage.bench.start(&format!("o-{number}")).await;
        while number % 100 == 0 && quick.set.len() <= number {
            stage.next(&mut quick).await;
        }
    }
    for follower in [&mut slow, &mut quick] {
        stage.settle(follower).await;
    }
    assert_eq!((slow.resyncs, quick.resyncs), (1, 0));
}

#[tokio::test]
async fn the_number_of_different_sets_is_bounded() {
    let stage = Stage::new();
    let filters = (0..MAX_WATCHED_SETS).map(|number| format!("progress() > {number}"));
    let watch = |filter: &str| stage.bench.engine.watch_set(&caller(), request_of(filter));
    let mut watches: Vec<_> = filters.map(|filter| watch(&filter).expect("a watch")).collect();
    assert!(watch("progress() > 1").is_ok(), "one that is watched already");
    let Err(refusal) = watch("done = true") else { panic!("one too many") };
    assert_eq!(refusal.reason, Reason::Overloaded);
    watches.pop();
    assert!(watch("done = true").is_ok());
}

#[tokio::test]
async fn whatever_is_lost_the_events_add_up_to_the_list() {
    const FILTERS: [&str; 5] =
        ["", "state() = PENDING", "done = false", "state() = FAILED", "-state() = SUSPENDED"];
    for seed in 1..=6 {
        let stage = Stage::new();
        let mut dice = Dice(seed);
        let mut followers: Vec<Follower> =
            FILTERS.iter().map(|filter| stage.watch(filter, "")).collect();
        for round in 0..8 {
            for number in 0..6 {
                disturb(&stage, &mut dice, seed % 2 == 0);
                act(&stage, &mut dice, &format!("{round}-{number}")).await;
            }
            if dice.roll(4) == 0 {
                let number = dice.roll(followers.len());
                let former = &mut followers[number];
                let mut resumed = stage.watch(former.filter, &former.token);
                resumed.set = std::mem::take(&mut former.set);
                followers[number] = resumed;
            }
            // All is quiet from here on.
            stage.bench.store.set_hints_lost(false);
            for follower in &mut followers {
                stage.settle(follower).await;
            }
        }
        assert!(followers.iter().any(|follower| follower.resyncs > 0), "seed {seed}");
    }
}

/// Hints are lost or outcomes are unknown, never both: a commit without an answer and without a hint leaves no trace.
fn disturb(stage: &Stage, dice: &mut Dice, loses_hints: bool) {
    match dice.roll(12) {
        0 => stage.memory.announce_gap(),
        1 => stage.bench.store.inject([Fault::Conflict]),
        2 if !loses_hints => stage.bench.store.inject([Fault::AppliedUnknown]),
        3 => stage.bench.store.set_hints_lost(loses_hints),
        4 => stage.bench.store.set_hints_lost(false),
        _ => {}
    }
    stage.bench.clock.advance(Duration::from_millis(1));
}

async fn act(stage: &Stage, dice: &mut Dice, id: &str) {
    let (engine, caller) = (&stage.bench.engine, caller());
    let names: Vec<Name> = stage
        .listed("done = false")
        .await
        .into_keys()
        .map(|name| Name::parse(&name).expect("name"))
        .collect();
    let one = names.get(dice.roll(names.len().max(1)));
    match (dice.roll(7), one) {
        (0 | 1, _) | (_, None) => {
            let started = engine.start_operation(&caller, request(&format!("o-{id}"))).await;
            assert_ne!(name_of(&started.expect("a start")), name("none"));
        }
        (2, Some(name)) => drop(engine.cancel(&caller, name).await),
        (3, Some(name)) => drop(engine.delete(&caller, name).await),
        (4, Some(name)) => {
            drop(engine.pause(&caller, name, String::new(), String::new()).await);
        }
        (5, Some(name)) => drop(engine.resume(&caller, name, String::new(), None).await),
        (_, Some(_)) => work(stage, dice).await,
    }
}

/// A worker takes one and ends it.
async fn work(stage: &Stage, dice: &mut Dice) {
    let (engine, caller) = (&stage.bench.engine, caller());
    let mut batch = engine.lease(&caller, wish(1)).await.expect("a batch");
    let leased = batch.load(usize::MAX).await.expect("payloads");
    batch.told();
    let Some(leased) = leased.first() else { return };
    let proof = Proof { token: leased.lease().expect("a lease").token, fingerprint: [1; 16] };
    let command = if dice.roll(2) == 0 {
        let (response, metadata, progress) = (None, None, None);
        let related_resources = Vec::new();
        Command::Complete(Box::new(Complete {
            proof,
            response,
            metadata,
            related_resources,
            progress,
        }))
    } else {
        let error = Status { code: 13, message: "no".to_owned(), details: Vec::new() };
        let (metadata, checkpoint, retry_delay) = (None, None, None);
        let retry = Some(false);
        Command::Fail(Box::new(Fail { proof, error, retry, retry_delay, metadata, checkpoint }))
    };
    drop(engine.work(&caller, &leased.operation.name, command).await);
}

/// A sequence of numbers that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}
