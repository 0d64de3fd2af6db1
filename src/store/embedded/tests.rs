use std::fs;
use std::future::{Ready, ready};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use prost::Message;
use tempfile::TempDir;
use uuid::Uuid;

mod clocks;
mod flipped;
mod layouts;
mod trouble;

use super::high_water::{HighWater, NotedRevision};
use super::tables::Tables;
use super::*;
use crate::clock::ManualClock;
use crate::proto::longhaul::store::v1 as stored;
use crate::store::conformance::{Harness, suite};
use crate::store::differential::Left;
use crate::store::{Check, Layout, Mark, Put};

#[tokio::test]
async fn a_directory_has_one_owner_at_a_time() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    let refusal = open(directory.path()).expect_err("open already");
    let said = refusal.to_string();
    assert!(matches!(refusal, OpenError::Locked(_)), "{said}");
    assert!(said.contains(&*directory.path().to_string_lossy()), "{said}");
    drop(store);
    let store = open(directory.path()).expect("free again after a drop");
    store.close().await;
    open(directory.path()).expect("free again after closing");
}

#[test]
fn a_directory_of_somebody_elses_is_left_alone() {
    let directory = TempDir::new().expect("a temporary directory");
    fs::write(directory.path().join("thesis.tex"), "years of work").expect("written");
    let refusal = open(directory.path()).expect_err("not ours").to_string();
    assert!(refusal.contains("thesis.tex") && refusal.contains("new directory"), "{refusal}");
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
}

#[test]
fn only_the_keyspace_and_the_formats_that_are_known_are_opened() {
    let directory = TempDir::new().expect("a temporary directory");
    let named = |keyspace| {
        EmbeddedStore::open(Options {
            keyspace: Some(keyspace),
            ..options(directory.path(), &clock())
        })
    };
    assert!(matches!(named(Uuid::nil()), Err(OpenError::WrongKeyspace { .. })), "none is there");
    let id = open(directory.path()).expect("a new store").keyspace().id();
    assert!(matches!(named(Uuid::nil()), Err(OpenError::WrongKeyspace { .. })));
    assert_eq!(named(id).expect("that one").keyspace().id(), id);

    let root = stored::Root { format: 2, min_writer: 2, ..stored::Root::default() };
    let tables = Tables::open(&directory.path().join("database")).expect("the database");
    tables.put_root(&[&b"longhaul\0"[..], &root.encode_to_vec()].concat()).expect("written");
    drop(tables);
    let refusal = open(directory.path()).expect_err("newer");
    assert!(matches!(refusal, OpenError::Format(_)), "{refusal}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_process() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    let id = store.keyspace().id();
    write(&store, 0..50).await;
    // A killed process leaves the files as they are at that moment.
    let left = copy(directory.path());
    write(&store, 50..60).await;
    drop(store);

    let store = open(left.path()).expect("as if killed");
    assert_eq!(store.keyspace().id(), id);
    assert_eq!(present(&store).await, 50);
    write(&store, 50..55).await;
    let store = open(directory.path()).expect("dropped, not closed");
    assert_eq!(present(&store).await, 60);
}

#[tokio::test]
async fn a_store_that_was_never_finished_is_made_anew() {
    let directory = TempDir::new().expect("a temporary directory");
    fs::create_dir(directory.path().join("database.new")).expect("made");
    fs::write(directory.path().join("database.new/0.jnl"), "half").expect("written");
    fs::write(directory.path().join("longhaul.lock"), "").expect("written");
    let store = open(directory.path()).expect("a new store");
    write(&store, 0..1).await;
}

#[tokio::test]
async fn a_journal_that_was_cut_is_noticed_and_opened_only_on_demand() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    let last = write(&store, 0..20).await;
    store.close().await;
    let (journal, end) = journal(directory.path());
    fs::File::options()
        .write(true)
        .open(journal)
        .and_then(|file| file.set_len(end / 2))
        .expect("cut");

    for _ in 0..2 {
        let refusal = open(directory.path()).expect_err("damaged");
        let said = refusal.to_string();
        assert!(matches!(refusal, OpenError::Damaged(_)), "{said}");
        assert!(said.contains(&last.to_string()) && said.contains("--accept-loss"), "{said}");
    }
    let accepting = Options { accept_loss: true, ..options(directory.path(), &clock()) };
    let store = EmbeddedStore::open(accepting).expect("as the operator wants");
    let left = present(&store).await;
    assert!(left > 0 && left < 20, "{left}");
    // Somebody has seen the lost revisions: none of them may come again.
    assert!(write(&store, 100..101).await > last);
    store.close().await;
    open(directory.path()).expect("whole again");
}

#[tokio::test]
async fn no_single_flipped_byte_of_the_journal_goes_unnoticed() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    write(&store, 0..20).await;
    store.close().await;
    let (_, end) = journal(directory.path());
    for step in 1..24 {
        let damaged = copy(directory.path());
        let (path, _) = journal(damaged.path());
        let mut bytes = fs::read(&path).expect("journal");
        bytes[(end * step / 24) as usize] ^= 0x55;
        fs::write(&path, bytes).expect("written");
        // Also the second time: an attempt must not make it look whole.
        for _ in 0..2 {
            let refusal = open(damaged.path()).expect_err("damaged");
            assert!(matches!(refusal, OpenError::Damaged(_)), "{refusal}");
        }
    }
}

#[tokio::test]
async fn a_batch_that_power_failure_tore_is_lost_only_if_nobody_was_told_of_it() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    let acknowledged = write(&store, 0..19).await;
    write(&store, 19..20).await;
    store.close().await;
    let (path, _) = journal(directory.path());
    let mut bytes = fs::read(&path).expect("journal");
    let value =
        bytes.windows(300).rposition(|window| window == [b'v'; 300]).expect("the last value");
    bytes[value..value + 300].fill(0);
    fs::write(&path, bytes).expect("written");

    let told = copy(directory.path());
    let refusal = open(told.path()).expect_err("acknowledged, and lost").to_string();
    assert!(refusal.contains("--accept-loss"), "{refusal}");
    let accepting = Options { accept_loss: true, ..options(told.path(), &clock()) };
    assert_eq!(present(&EmbeddedStore::open(accepting).expect("accepted")).await, 19);

    HighWater::create(directory.path(), acknowledged).expect("written");
    let store = open(directory.path()).expect("nothing is lost that anybody was told of");
    assert_eq!(present(&store).await, 19);
    write(&store, 19..20).await;
}

#[tokio::test]
async fn a_note_may_be_old_but_not_absent() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    let last = write(&store, 0..3).await;
    store.close().await;
    assert_eq!(HighWater::read(directory.path()).expect("read"), NotedRevision::Revision(last));

    HighWater::create(directory.path(), last - 1).expect("written");
    open(directory.path()).expect("a crash after the fsync, before the note");
    for damage in [None, Some("not ours")] {
        let note = directory.path().join("high-water");
        match damage {
            None => fs::remove_file(note).expect("removed"),
            Some(content) => fs::write(note, content).expect("written"),
        }
        let refusal = open(directory.path()).expect_err("nobody can tell");
        assert!(matches!(refusal, OpenError::Damaged(_)), "{refusal}");
        let accepting = Options { accept_loss: true, ..options(directory.path(), &clock()) };
        drop(EmbeddedStore::open(accepting).expect("as the operator wants"));
    }
    fs::remove_dir_all(directory.path().join("database")).expect("removed");
    assert!(matches!(open(directory.path()), Err(OpenError::Damaged(_))));
}

/// Writes that many records, one commit each, and returns the last revision.
async fn write(store: &EmbeddedStore, numbers: std::ops::Range<u64>) -> u64 {
    let mut last = 0;
    for number in numbers {
        last = store.commit(vec![set(store, number)]).await.remove(0).expect("written").revision;
    }
    last
}

fn set(store: &EmbeddedStore, number: u64) -> WriteSet {
    let key = store.keyspace().key(&number.to_string());
    let mut set = WriteSet::new(Partition(0), Check::Absent(key));
    let value = Bytes::from(vec![b'v'; 300]);
    set.puts.push(Put { key, visible: Mark::New, fencing: Mark::New, value });
    set
}

/// How many of the first hundred records are there.
async fn present(store: &EmbeddedStore) -> usize {
    let keys: Vec<Key> =
        (0..100_u64).map(|number| store.keyspace().key(&number.to_string())).collect();
    store.get(&keys).await.expect("the store answers").iter().flatten().count()
}

/// The journal that is written to, and where its content ends: it is made longer than that.
fn journal(directory: &Path) -> (PathBuf, u64) {
    let files = fs::read_dir(directory.join("database")).expect("listed");
    let paths = files.map(|file| file.expect("listed").path());
    let journal = paths.filter(|path| path.extension().is_some_and(|end| end == "jnl")).max();
    let journal = journal.expect("a journal");
    let bytes = fs::read(&journal).expect("read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    (journal, end as u64)
}

/// A copy; of files that are longer than their content only that is copied.
fn copy(directory: &Path) -> TempDir {
    let target = TempDir::new().expect("a temporary directory");
    for (from, bytes) in files(directory) {
        let to = target.path().join(from.strip_prefix(directory).expect("below"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        fs::write(&to, &bytes[..end]).expect("written");
        let file = fs::File::options().write(true).open(&to).expect("opened");
        file.set_len(bytes.len() as u64).expect("made longer");
    }
    target
}

/// All files below a directory with their content.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut pending, mut files) = (vec![directory.to_owned()], Vec::new());
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let bytes = fs::read(&path).expect("read");
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}

fn open(path: &Path) -> Result<Arc<EmbeddedStore>, OpenError> {
    EmbeddedStore::open(options(path, &clock()))
}

fn options(path: &Path, clock: &Arc<ManualClock>) -> Options {
    Options {
        reserve_bytes: 0,
        clock: clock.clone(),
        // The result does not depend on how busy the disk of the tests is.
        stopwatch: ManualClock::new(Timestamp::EPOCH),
        ..Options::new(path, layout())
    }
}

/// With the indexes of the suites: of each sort one or more, and `list` and `failed` of none.
fn layout() -> Layout {
    Layout {
        in_memory: vec!["due/lease"],
        families_in_memory: vec!["ready/"],
        drained: vec!["due/retention", "due/tombstone"],
    }
}

fn clock() -> Arc<ManualClock> {
    ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000))
}

/// An empty store in a directory of its own.
pub(crate) fn harness() -> Ready<Harness> {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let clock = clock();
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("a new store");
    let again = clock.clone();
    let reopen = move || {
        let (directory, clock) = (directory.clone(), again.clone());
        async move {
            let store = EmbeddedStore::open(options(directory.path(), &clock));
            store.expect("the same store") as Arc<dyn Store>
        }
        .boxed()
    };
    ready(Harness::new(store, clock, Some(Box::new(reopen))))
}

/// A new store, and what counts its keys beyond those of an empty one.
pub(crate) fn emptiable() -> (Harness, Left) {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let clock = clock();
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("a new store");
    let harness = Harness::new(store.clone(), clock, None);
    let left = move || {
        let _kept = &directory;
        let (keys, bytes) = store.left();
        assert!(bytes < 20_000 + 2_000 * keys as u64, "{bytes} bytes for {keys} keys");
        ready(keys).boxed()
    };
    (harness, Box::new(left))
}

suite!(harness);
