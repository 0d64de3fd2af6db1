//! What a layout says of the indexes decides where they are scanned, and never what a scan finds.

use super::*;
use crate::store::{Index, IndexEntry};

#[tokio::test]
async fn a_store_finds_the_same_entries_whatever_its_layout_says() {
    let directory = TempDir::new().expect("a temporary directory");
    for (number, layout) in layouts().into_iter().enumerate() {
        let options = Options { layout: layout.clone(), ..options(directory.path(), &clock()) };
        let store = EmbeddedStore::open(options).expect("the store");
        for name in NAMES {
            assert_eq!(scan(&store, name).await, members(number), "{name}, {layout:?}");
            change(&store, name, number).await;
            assert_eq!(scan(&store, name).await, members(number + 1), "{name}, {layout:?}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn just_the_indexes_that_the_layout_keeps_in_memory_are_scanned_there() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    let mut found = Vec::new();
    for name in NAMES {
        change(&store, name, 0).await;
        let scan = Scan::first(Index::new(name), 1);
        let mirrored = store.read(|open| Ok(open.mirror.scan(&scan))).expect("open");
        assert!(mirrored.as_ref().is_none_or(|entries| entries.len() == 1), "{name}");
        found.extend(mirrored.map(|_| name));
    }
    assert_eq!(found, ["due/lease", "ready/", "ready/q"]);
}

/// One after the other, on one directory.
fn layouts() -> [Layout; 4] {
    let swapped = Layout {
        in_memory: vec!["due/retention", "list"],
        families_in_memory: vec!["due/tomb"],
        drained: vec!["due/lease", "ready/q"],
    };
    [layout(), Layout::default(), swapped, layout()]
}

/// Adds a member and, from the second time on, removes the lowest one.
async fn change(store: &EmbeddedStore, name: &'static str, number: usize) {
    let mut set = WriteSet::new(Partition(0), Check::TimeAtLeast(Timestamp::EPOCH));
    let entry = |number: usize| IndexEntry { index: Index::new(name), member: member(number) };
    set.additions.push(entry(number));
    set.removals.extend(number.checked_sub(1).map(entry));
    store.commit(vec![set]).await.remove(0).expect("changed");
}

/// What an index holds after so many changes.
fn members(changes: usize) -> Vec<Bytes> {
    changes.checked_sub(1).map(member).into_iter().collect()
}

/// Later ones lie below earlier ones, where a floor that was not lowered would hide them.
fn member(number: usize) -> Bytes {
    vec![b'z' - number as u8].into()
}

async fn scan(store: &EmbeddedStore, name: &'static str) -> Vec<Bytes> {
    let found = store.scan(Scan::first(Index::new(name), 10)).await.expect("entries");
    found.into_iter().map(|entry| entry.member).collect()
}

/// Of every sort, and their neighbours in the order of keys.
const NAMES: [&str; 10] = [
    "due/leas",
    "due/lease",
    "due/lease2",
    "due/retention",
    "due/tombstone",
    "due/unknown",
    "list",
    "ready/",
    "ready/q",
    "ready0",
];
