//! Lets everything happen at once, then lets it come to its end, and has the history checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longhaul::clock::{Clock, SystemClock};
use longhaul::proto::google::longrunning::ListOperationsRequest;
use longhaul::proto::longhaul::v1::{GetOperationStatsRequest, ListOperationRecordsRequest};
use tokio::task::JoinSet;

use super::callers::{call, produce, record, resume, watch};
use super::checker::check;
use super::dice::Dice;
use super::door::Door;
use super::event::{Act, Call, Event, Outcome, State};
use super::journal::read;
use super::stage::{Actor, Looked, Stage, bounded};
use super::worker::{LEASE, PART, Part};
use crate::processes::binary::Longhaul;
use crate::processes::bounds::within;
use crate::processes::receiver::{IMPATIENT, LOOPBACK};

/// How much there is of everything.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) servers: usize,
    /// How many of a hundred accidents befall a server.
    pub(super) server_deaths: u64,
    pub(super) producers: usize,
    pub(super) callers: usize,
    pub(super) watchers: usize,
    /// Two of three on streams.
    pub(super) workers: usize,
}

/// Everything that can have an accident.
struct Cast {
    stage: Arc<Stage>,
    store: String,
    servers: Vec<Longhaul>,
    doors: Vec<Door>,
    workers: Vec<Longhaul>,
    lives: usize,
    dice: Dice,
    clock: Arc<SystemClock>,
    accidents: Accidents,
}

#[derive(Debug, Default)]
struct Accidents {
    killed_workers: usize,
    stopped_workers: usize,
    stopped_servers: usize,
    killed_servers: usize,
    cut_connections: usize,
}

/// Plays one history on that store, and fails with everything that should not have been.
pub(super) async fn play(store: String, size: Size) {
    let seed = number("LONGHAUL_SEED").unwrap_or_else(|| SystemClock::new().now().as_micros());
    let seconds = number("LONGHAUL_HISTORY_SECONDS").unwrap_or(SECONDS);
    let folder = tempfile::tempdir().expect("a folder");
    let title = format!("LONGHAUL_SEED={seed} LONGHAUL_HISTORY_SECONDS={seconds}");
    say(&format!("{title}: {store}"));
    let mut cast = Cast::gather(store, size, seed, folder.path()).await;
    let (actors, watchers) = cast.open_the_curtain(size);
    cast.have_accidents(Duration::from_secs(seconds), size.server_deaths).await;
    cast.stage.over.cancel();
    within(WINDING_DOWN, "producers and callers", actors.join_all()).await;
    let ended = cast.come_to_an_end().await;
    let _ = tokio::time::timeout(WINDING_DOWN, watchers.join_all()).await;
    let accidents = format!("{:?}", cast.accidents);
    cast.workers.iter_mut().chain(&mut cast.servers).for_each(retire);
    drop(cast);

    let history = read(folder.path());
    let report = report(&history, &format!("{title}\n{accidents}"));
    say(&report);
    let violations = check(&history, LAST_LOOK);
    let fails = !violations.is_empty() || !ended;
    if fails || number("LONGHAUL_HISTORY_KEEP").is_some() {
        say(&format!("the journals are in {}", folder.keep().display()));
    }
    if !fails {
        return assert_enough_happened(&history, &report);
    }
    let mut text = format!("{report}\n");
    if !ended {
        text.push_str("not all operations came to an end in time\n");
    }
    let mut by_check = BTreeMap::<_, Vec<_>>::new();
    for violation in &violations {
        by_check.entry(violation.check).or_default().push(violation);
    }
    for (check, violations) in by_check {
        let _ = writeln!(text, "{check}: {} times", violations.len());
        for violation in violations.iter().take(SHOWN) {
            let _ = writeln!(text, "  {}: {}", violation.operation, violation.what);
        }
    }
    panic!("{} violations. {text}", violations.len());
}

impl Cast {
    async fn gather(store: String, size: Size, seed: u64, folder: &Path) -> Self {
        let (mut servers, mut doors) = (Vec::new(), Vec::new());
        for _ in 0..size.servers {
            let server = serve(&store).await;
            doors.push(Door::to(server.address()).await);
            servers.push(server);
        }
        let addresses = doors.iter().map(Door::address).collect();
        let stage = Arc::new(Stage::new(seed, folder.to_owned(), addresses));
        let (dice, clock) = (Dice::of(seed, "accidents"), SystemClock::new());
        let (workers, accidents) = (Vec::new(), Accidents::default());
        let mut cast =
            Self { stage, store, servers, doors, workers, lives: 0, dice, clock, accidents };
        for place in 0..size.workers {
            let worker = cast.worker(is_on_streams(place), false);
            cast.workers.push(worker);
        }
        cast
    }

    /// A new worker.
    fn worker(&mut self, streams: bool, honest: bool) -> Longhaul {
        self.lives += 1;
        let kind = if streams { "stream" } else { "unary" };
        let part = Part {
            who: format!("{kind}-{}", self.lives),
            seed: self.stage.seed,
            folder: self.stage.folder.clone(),
            doors: self.stage.doors.clone(),
            streams,
            honest,
        };
        let part = serde_json::to_string(&part).expect("JSON");
        let binary = std::env::current_exe().expect("this binary");
        let binary = binary.to_str().expect("a path");
        let test = concat!(module_path!(), "::a_worker_without_a_part_ends_at_once");
        let test = test.replace("::drive::", "::worker::");
        let (_, test) = test.split_once("::").expect("a crate");
        Longhaul::launch_beside(&[binary, "--exact", test, "--nocapture"], &[(PART, &part)])
    }

    /// The actors that make calls, and those that watch.
    fn open_the_curtain(&self, size: Size) -> (JoinSet<()>, JoinSet<()>) {
        let (mut actors, mut watchers) = (JoinSet::new(), JoinSet::new());
        for who in 0..size.producers {
            actors.spawn(produce(Actor::new(&self.stage, &format!("producer-{who}")), who));
        }
        for who in 0..size.callers {
            actors.spawn(call(Actor::new(&self.stage, &format!("caller-{who}"))));
        }
        for who in 0..size.watchers {
            watchers.spawn(watch(Actor::new(&self.stage, &format!("watcher-{who}"))));
        }
        (actors, watchers)
    }

    async fn have_accidents(&mut self, duration: Duration, server_deaths: u64) {
        let end = self.clock.elapsed() + duration;
        while self.clock.elapsed() < end {
            let millis = self.dice.between(200, 900);
            self.clock.sleep(Duration::from_millis(millis)).await;
            let accident = self.dice.below(100);
            if accident < server_deaths {
                self.kill_a_server().await;
                continue;
            }
            match accident % 7 {
                0 | 3 => self.kill_a_worker(),
                1 | 4 => self.stop_a_worker(),
                2 | 5 => self.cut_connections(),
                _ => self.stop_a_server(),
            }
        }
    }

    fn kill_a_worker(&mut self) {
        let place = self.dice.below(self.workers.len() as u64) as usize;
        retire(&mut self.workers[place]);
        self.workers[place] = self.worker(is_on_streams(place), false);
        self.accidents.killed_workers += 1;
    }

    /// For longer than its leases, mostly.
    fn stop_a_worker(&mut self) {
        let place = self.dice.below(self.workers.len() as u64) as usize;
        let pause = Duration::from_millis(self.dice.between(LEASE / 2, 8 * LEASE));
        self.workers[place].stop_for(pause);
        self.accidents.stopped_workers += 1;
    }

    /// For longer than some leases.
    fn stop_a_server(&mut self) {
        let place = self.dice.below(self.servers.len() as u64) as usize;
        let pause = Duration::from_millis(self.dice.between(LEASE / 2, 5 * LEASE / 2));
        self.servers[place].stop_for(pause);
        self.accidents.stopped_servers += 1;
    }

    fn cut_connections(&mut self) {
        let door = self.dice.below(self.doors.len() as u64) as usize;
        let often = if self.dice.percent(30) { 100 } else { 30 };
        self.accidents.cut_connections += self.doors[door].slam(&mut self.dice, often);
    }

    async fn kill_a_server(&mut self) {
        let place = self.dice.below(self.servers.len() as u64) as usize;
        retire(&mut self.servers[place]);
        self.clock.sleep(Duration::from_millis(self.dice.between(0, 1_000))).await;
        self.servers[place] = serve(&self.store).await;
        self.doors[place].lead_to(self.servers[place].address());
        self.accidents.killed_servers += 1;
    }

    /// Honest workers finish all operations; then one actor reads everything. `false` if it takes too long.
    async fn come_to_an_end(&mut self) -> bool {
        self.workers.iter_mut().for_each(retire);
        self.workers.clear();
        for place in 0..4 {
            let worker = self.worker(is_on_streams(place), true);
            self.workers.push(worker);
        }
        let mut helper = Actor::new(&self.stage, "helper");
        let mut open = self.stage.names().clone();
        // Each is read one by one.
        let end = self.clock.elapsed() + ENDING + LOOK * open.len() as u32;
        while !open.is_empty() && self.clock.elapsed() < end {
            open = help(&mut helper, open).await;
            helper.pause(300).await;
        }
        let ended = open.is_empty();
        let mut last = Actor::new(&self.stage, LAST_LOOK);
        let names = self.stage.names().clone();
        let listed: BTreeSet<String> = list_all(&mut last).await.into_iter().collect();
        if ended {
            assert_counts(&mut last).await;
            nothing_is_left_in_a_queue(&mut last).await;
        }
        let mut told = Vec::new();
        for name in &names {
            let mut looks = 0;
            let looked = loop {
                looks += 1;
                match record(&mut last, name).await {
                    Looked::Failed if looks < 5 => {}
                    looked => break looked,
                }
            };
            // Every existing operation must be listed.
            if matches!(looked, Looked::Showed(_)) && !listed.contains(name) {
                last.journal.note(name, last.journal.now(), Act::Missing);
            }
            if matches!(looked, Looked::Showed(_)) && self.stage.is_told(name) {
                told.push(name.clone());
            }
        }
        self.tell_the_ends(told).await;
        ended
    }

    /// Waits until the receiver knows that these operations have ended, or for too long: then the checker names them.
    async fn tell_the_ends(&self, mut open: Vec<String>) {
        let end = self.clock.elapsed() + TELLING;
        while !open.is_empty() && self.clock.elapsed() < end {
            self.clock.sleep(Duration::from_millis(50)).await;
            open = self.stage.receiver.waits_for(open);
        }
    }
}

/// A server that calls receivers on this machine.
async fn serve(store: &str) -> Longhaul {
    Longhaul::serve_in(store, &[], &[LOOPBACK, IMPATIENT].concat()).await
}

const fn is_on_streams(place: usize) -> bool {
    !place.is_multiple_of(3)
}

/// Resumes suspended operations; returns the unfinished ones.
async fn help(helper: &mut Actor, open: Vec<String>) -> Vec<String> {
    let mut still_open = Vec::new();
    for name in open {
        match record(helper, &name).await {
            Looked::Showed(seen) if seen.state.is_done() => continue,
            Looked::Showed(seen) if seen.state == State::Suspended => resume(helper, &name).await,
            Looked::Missed => continue,
            Looked::Showed(_) | Looked::Failed => {}
        }
        still_open.push(name);
    }
    still_open
}

/// Kills a process; none may have come to harm by itself.
fn retire(process: &mut Longhaul) {
    process.kill();
    assert!(!process.output().contains("panicked"), "{}", process.output());
}

async fn list_all(last: &mut Actor) -> Vec<String> {
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request =
            ListOperationsRequest { page_size: 1_000, page_token: token, ..Default::default() };
        let page = bounded(last.operations().list_operations(request)).await.expect("a page");
        names.extend(page.operations.into_iter().map(|operation| operation.name));
        token = page.next_page_token;
        if token.is_empty() {
            return names;
        }
    }
}

/// The counters went through everything: they have what a count of all records finds.
async fn assert_counts(last: &mut Actor) {
    let mut wanted = BTreeMap::<i32, i64>::new();
    let mut request = ListOperationRecordsRequest {
        parent: "-".to_owned(),
        page_size: 1_000,
        ..ListOperationRecordsRequest::default()
    };
    loop {
        let mut callers = last.callers();
        let call = callers.list_operation_records(request.clone());
        let page = bounded(call).await.expect("a page");
        for record in page.operation_records {
            *wanted.entry(record.state().into()).or_insert(0) += 1;
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let every = GetOperationStatsRequest { parent: "-".to_owned() };
    let mut callers = last.callers();
    let stats = bounded(callers.get_operation_stats(every)).await.expect("counts");
    let counts = stats.counts.into_iter().filter(|count| count.operations != 0);
    let found: BTreeMap<i32, i64> = counts.map(|count| (count.state, count.operations)).collect();
    assert_eq!(found, wanted);
}

/// Every operation has ended, and so the counters of the queues are at zero. Workers may still hold some that were deleted.
async fn nothing_is_left_in_a_queue(last: &mut Actor) {
    let end = last.clock.elapsed() + ENDING;
    loop {
        let every = GetOperationStatsRequest { parent: "-".to_owned() };
        let mut callers = last.callers();
        let counts =
            bounded(callers.get_operation_stats(every)).await.expect("counts").queue_counts;
        if counts.is_empty() {
            return;
        }
        assert!(last.clock.elapsed() < end, "all operations have ended: {counts:?}");
        last.pause(300).await;
    }
}

/// The history in numbers.
fn report(history: &[Event], title: &str) -> String {
    let count = |what: &dyn Fn(&Event) -> bool| history.iter().filter(|event| what(event)).count();
    let starts = count(&|event| matches!(event.act, Act::Start { .. }) && event.is_ok());
    let leases = count(&|event| matches!(event.act, Act::Leased(_)));
    let completed = count(&|event| accepts_completion(event));
    let stale = count(&|event| event.outcome == Outcome::Refused("LEASE_LOST".to_owned()));
    let unknown = count(&|event| event.outcome == Outcome::Unknown);
    let looks = count(&|event| matches!(event.act, Act::Seen(_)));
    let watched = count(&|event| matches!(event.act, Act::Watched(..)));
    let told = count(&|event| matches!(event.act, Act::Told(_)));
    format!(
        "{title}\n{} events: {starts} starts, {leases} leases, {completed} completions, {stale} stale calls refused, {unknown} of unknown outcome, {looks} looks, {watched} messages of watches, {told} callbacks",
        history.len()
    )
}

fn accepts_completion(event: &Event) -> bool {
    matches!(&event.act, Act::Said(said) if said.call == Call::Complete) && event.is_ok()
}

/// A history without events shows nothing.
fn assert_enough_happened(history: &[Event], report: &str) {
    let completed = history.iter().filter(|event| accepts_completion(event)).count();
    let told = |event: &&Event| matches!(&event.act, Act::Told(told) if told.accepted);
    let told = history.iter().filter(told).count();
    assert!(completed > 20 && told > 20, "too little happened: {report}");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Shown where the test fails, or with `--nocapture`.
fn say(text: &str) {
    eprintln!("{text}");
}

const LAST_LOOK: &str = "last-look";
const SECONDS: u64 = 20;
const WINDING_DOWN: Duration = Duration::from_secs(40);
const ENDING: Duration = Duration::from_mins(1);
/// How long the receiver may wait for the last of what it is told.
const TELLING: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(20);
const SHOWN: usize = 5;
