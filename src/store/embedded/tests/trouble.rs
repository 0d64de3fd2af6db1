//! A disk that fails, fills up, hangs or disappears: nothing wrong is acknowledged, and the store recovers afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures_util::future::BoxFuture;

use super::*;
use crate::store::Event;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_store_whose_write_failed_is_readable_and_comes_back_by_itself() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    write(&store, 0..1).await;
    store.close().await;
    let clock = clock();
    let options = options(directory.path(), &clock);
    let (lock, mut opened, open) = super::open::open(&options).expect("opened");
    opened.note = HighWater::full();
    let store = EmbeddedStore::start(options, lock, opened, open).expect("started");
    let mut feed = store.feed();
    clock.advance(Duration::from_secs(1));

    let outcome = store.commit(vec![set(&store, 1)]).await.remove(0);
    assert!(matches!(outcome, Err(CommitError::Unavailable(StoreError::Away(_)))), "{outcome:?}");
    assert_eq!(store.answering_since(Partition(0)), None);
    assert!(present(&store).await >= 1, "what was acknowledged can be read");

    // The note is written anew when the database is opened again, so the cause is gone.
    store.ping().await.expect("back again");
    assert_eq!(store.answering_since(Partition(0)), Some(store.now(Partition(0))));
    assert_eq!(feed.next().await, Some(Event::Gap(vec![Partition(0)])));
    assert_eq!(present(&store).await, 2, "what was written and could not be acknowledged");
    write(&store, 2..4).await;
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Closed)));
    assert_eq!(present(&super::open(directory.path()).expect("opened anew")).await, 4);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_damaged_file_that_stops_the_database_is_named_then_and_at_each_start_until_it_is_sound()
{
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    write(&store, 0..100).await;
    store.flush();
    drop(store);
    let records = directory.path().join("database/keyspaces/1/tables");
    let (path, bytes) = files(&records).pop().expect("the records");
    // A block that a start does not read.
    let mut blocks = bytes.windows(4).enumerate().filter(|(_, window)| window == b"LSM\x03");
    let (block, _) = blocks.nth(2).expect("a third block");
    let mut damaged = bytes.clone();
    damaged[block + 40] ^= 4;
    fs::write(&path, &damaged).expect("damaged");

    // It is opened, because not everything is read at a start; then something fails.
    let options = options(directory.path(), &clock());
    let (lock, mut opened, opened_tables) = super::open::open(&options).expect("opened");
    opened.note = HighWater::full();
    let store = EmbeddedStore::start(options, lock, opened, opened_tables).expect("started");
    assert!(store.commit(vec![set(&store, 100)]).await.remove(0).is_err());
    for _ in 0..2 {
        let said = store.ping().await.expect_err("damaged").to_string();
        assert!(said.contains(&*path.to_string_lossy()) && said.contains("copy"), "{said}");
    }
    drop(store);
    for _ in 0..2 {
        let said = open(directory.path()).expect_err("damaged").to_string();
        assert!(said.contains(&*path.to_string_lossy()) && said.contains("copy"), "{said}");
    }
    fs::write(&path, &bytes).expect("sound again");
    assert_eq!(present(&open(directory.path()).expect("opened")).await, 100);
}

#[tokio::test]
async fn a_directory_that_was_moved_away_acknowledges_nothing_until_it_is_back() {
    for part in ["", "database", "high-water", "longhaul.lock"] {
        let outer = TempDir::new().expect("a temporary directory");
        let (place, aside) = (outer.path().join("store"), outer.path().join("aside"));
        let store = open(&place).expect("a new store");
        write(&store, 0..2).await;
        let moved = if part.is_empty() { place.clone() } else { place.join(part) };
        fs::rename(&moved, &aside).expect("moved");
        let outcome = store.commit(vec![set(&store, 2)]).await.remove(0);
        let said = format!("{:?}", outcome.expect_err("it would be lost"));
        assert!(said.contains("deleted or moved") && said.contains("put it back"), "{said}");
        assert!(store.ping().await.is_err() && store.answering_since(Partition(0)).is_none());
        assert_eq!(present(&store).await, 2, "what is open can be read");

        fs::rename(&aside, &moved).expect("moved back");
        store.ping().await.expect("back again");
        write(&store, 2..3).await;
        drop(store);
        assert_eq!(present(&open(&place).expect("opened anew")).await, 3);
    }
}

#[tokio::test]
async fn a_directory_that_was_deleted_or_replaced_is_never_written_to_again() {
    let outer = TempDir::new().expect("a temporary directory");
    let place = outer.path().join("store");
    let store = open(&place).expect("a new store");
    write(&store, 0..2).await;
    fs::remove_dir_all(&place).expect("deleted");
    assert!(store.commit(vec![set(&store, 2)]).await.remove(0).is_err());
    assert!(!place.exists(), "nothing may be made there that looks like a new store");
    let other = open(&place).expect("somebody makes another");
    let said = store.ping().await.expect_err("another one").to_string();
    assert!(said.contains("was replaced"), "{said}");
    write(&other, 0..1).await;
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_nothing_new_but_all_that_ends_what_is_there() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    let revision = write(&store, 0..1).await;
    drop(store);
    let short = Options { reserve_bytes: u64::MAX / 4, ..options(directory.path(), &clock()) };
    let store = EmbeddedStore::open(short).expect("opened");
    store.ping().await.expect("ready for workers and readers");
    let outcome = store.commit(vec![set(&store, 1)]).await.remove(0);
    assert!(matches!(outcome, Err(CommitError::Unavailable(StoreError::Full(_)))), "{outcome:?}");
    let repeated = store.commit(vec![set(&store, 0)]).await.remove(0);
    assert!(matches!(repeated, Err(CommitError::Conflict)), "it is there: {repeated:?}");

    let key = store.keyspace().key("0");
    let mut end = WriteSet::new(Partition(0), Check::At(key, revision));
    end.puts.push(Put { key, visible: Mark::New, fencing: Mark::New, value: Bytes::new() });
    store.commit(vec![end]).await.remove(0).expect("the end of what was started");
    assert_eq!(present(&store).await, 1);
    assert!(store.answering_since(Partition(0)).is_some());
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_callers_waiting_for_a_while_and_is_not_taken_for_an_answer() {
    let directory = TempDir::new().expect("a temporary directory");
    let hanging = Arc::new(HangingClock { clock: clock(), hangs: AtomicBool::new(false) });
    let stopwatch = ManualClock::new(Timestamp::EPOCH);
    let options = Options {
        clock: hanging.clone(),
        stopwatch: stopwatch.clone(),
        ..options(directory.path(), &clock())
    };
    let store = EmbeddedStore::open(options).expect("a new store");
    write(&store, 0..1).await;
    hanging.hangs.store(true, Ordering::SeqCst);
    let mut commit = store.commit(vec![set(&store, 1)]).boxed();
    assert!((&mut commit).now_or_never().is_none());
    stopwatch.advance(Duration::from_secs(5));
    assert!((&mut commit).now_or_never().is_none(), "it may still come");
    stopwatch.advance(Duration::from_secs(6));
    let outcome = commit.await.remove(0);
    let said = format!("{:?}", outcome.expect_err("nobody knows"));
    assert!(said.contains("has not answered for 10s"), "{said}");
    let mut ping = store.ping().boxed();
    assert!((&mut ping).now_or_never().is_none());
    stopwatch.advance(Duration::from_secs(6));
    assert!(ping.await.is_err(), "not ready");

    hanging.hangs.store(false, Ordering::SeqCst);
    write(&store, 2..3).await;
    store.ping().await.expect("ready again");
    assert_eq!(present(&store).await, 3, "what hung was written in the end");
}

/// Keeps the writer from going on, as a disk does that does not answer.
#[derive(Debug)]
struct HangingClock {
    clock: Arc<ManualClock>,
    hangs: AtomicBool,
}

impl Clock for HangingClock {
    fn now(&self) -> Timestamp {
        let writer = thread::current().name() == Some("longhaul-store");
        while writer && self.hangs.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}
