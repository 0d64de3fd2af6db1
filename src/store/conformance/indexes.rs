//! Index entries and scans.

use std::ops::Bound;

use bytes::Bytes;

use super::harness::{Harness, INDEXES, all, commit_ok, entry, members, unconditional};
use crate::store::backend::Store;
use crate::store::index::{Index, Scan};
use crate::store::key::Partition;

pub(crate) async fn members_come_in_the_order_of_their_bytes(harness: Harness) {
    let store = &*harness.store;
    for index in INDEXES {
        let mut wanted = binary_members();
        add(store, index, &wanted).await;
        wanted.sort_unstable();
        assert_eq!(members(store, all(index)).await, wanted, "{index}");
        wanted.reverse();
        let descending = Scan { descending: true, ..all(index) };
        assert_eq!(members(store, descending).await, wanted, "{index}");
    }
}

pub(crate) async fn bounds_are_kept(harness: Harness) {
    let store = &*harness.store;
    let mut sorted = binary_members();
    sorted.sort_unstable();
    let edges: Vec<Bytes> =
        sorted.iter().cloned().chain([Bytes::new(), "b\0".into(), vec![0xff; 9].into()]).collect();
    let bounds: Vec<Bound<Bytes>> = edges
        .iter()
        .flat_map(|edge| [Bound::Included(edge.clone()), Bound::Excluded(edge.clone())])
        .chain([Bound::Unbounded])
        .collect();
    for index in ["list", "ready/default", "due/retention"] {
        add(store, index, &binary_members()).await;
        for (number, from) in bounds.iter().enumerate() {
            // A sample: each lower bound with some upper ones, among them smaller ones.
            for to in bounds.iter().cycle().skip(number * 7).step_by(5).take(6) {
                for descending in [false, true] {
                    let scan =
                        Scan { from: from.clone(), to: to.clone(), descending, ..all(index) };
                    let inside = |member: &&Bytes| scan.contains(member);
                    let mut wanted: Vec<Bytes> = sorted.iter().filter(inside).cloned().collect();
                    if descending {
                        wanted.reverse();
                    }
                    assert_eq!(members(store, scan.clone()).await, wanted, "{scan:?}");
                }
            }
        }
    }
}

pub(crate) async fn a_limit_takes_from_the_near_end(harness: Harness) {
    let store = &*harness.store;
    for index in INDEXES {
        spread(store, index, 40).await;
        let first = members(store, Scan::first(Index::new(index), 3)).await;
        assert_eq!(first, [number(0), number(1), number(2)], "{index}");
        let last = Scan { descending: true, limit: 2, ..all(index) };
        assert_eq!(members(store, last).await, [number(39), number(38)], "{index}");
        let inside =
            Scan { from: Bound::Excluded(number(10)), limit: 2, ..all(index) }.up_to(number(11));
        assert_eq!(members(store, inside).await, [number(11)], "{index}");
        assert!(members(store, Scan::first(Index::new(index), 0)).await.is_empty());
    }
}

pub(crate) async fn a_prefix_is_nothing_but_a_range(harness: Harness) {
    let store = &*harness.store;
    let (inside, outside) = ([&b"p"[..], b"p\0", b"p\xff\xff", b"pq"], [&b"o\xff"[..], b"q", b""]);
    let everything: Vec<Bytes> =
        inside.iter().chain(&outside).map(|member| Bytes::from_static(member)).collect();
    for index in INDEXES {
        add(store, index, &everything).await;
        assert_eq!(
            members(store, all(index).with_prefix(b"p")).await,
            [&b"p"[..], b"p\0", b"pq", b"p\xff\xff"]
        );
        assert_eq!(members(store, all(index).with_prefix(b"p\xff")).await, [&b"p\xff\xff"[..]]);
        assert_eq!(members(store, all(index).with_prefix(b"")).await.len(), everything.len());
    }
}

pub(crate) async fn partitions_are_merged_or_read_alone(harness: Harness) {
    let store = &*harness.store;
    for index in INDEXES {
        spread(store, index, 60).await;
        let entries = store.scan(all(index)).await.expect("scan");
        let merged: Vec<Bytes> = entries.iter().map(|entry| entry.member.clone()).collect();
        assert_eq!(merged, (0..60).map(number).collect::<Vec<_>>(), "{index}");
        for partition in store.keyspace().all() {
            let alone = store.scan(all(index).within(partition)).await.expect("scan");
            let wanted: Vec<_> =
                entries.iter().filter(|entry| entry.partition == partition).cloned().collect();
            assert_eq!(alone, wanted, "{index}");
            assert!(!alone.is_empty());
        }
    }
}

pub(crate) async fn adding_twice_and_removing_what_is_absent_are_fine(harness: Harness) {
    let store = &*harness.store;
    for index in INDEXES {
        add(store, index, &["a".into(), "a".into(), "b".into()]).await;
        add(store, index, &["a".into()]).await;
        assert_eq!(members(store, all(index)).await, ["a", "b"]);
        let mut set = unconditional(Partition(0));
        set.removals.extend([
            entry(index, "absent"),
            entry("never/used", "a"),
            entry(index, "a"),
            entry(index, "a"),
        ]);
        commit_ok(store, set.clone()).await;
        commit_ok(store, set).await;
        assert_eq!(members(store, all(index)).await, ["b"]);
        assert!(members(store, all("never/used")).await.is_empty());
    }
}

pub(crate) async fn indexes_do_not_reach_into_each_other(harness: Harness) {
    let store = &*harness.store;
    let names = [
        "list",
        "lis",
        "list/",
        "listing",
        "due/retention",
        "due/retentio",
        "due/retention2",
        "ready/a",
        "ready/ab",
    ];
    for name in names {
        let (low, own, high) = (
            Bytes::from_static(b"\0"),
            Bytes::from_static(name.as_bytes()),
            Bytes::from_static(b"\xff\xff"),
        );
        add(store, name, &[low, own, high]).await;
    }
    for name in names {
        assert_eq!(
            members(store, all(name)).await,
            [b"\0", name.as_bytes(), b"\xff\xff"],
            "{name}"
        );
    }
}

/// A backend that remembers where an index begins must forget it in time.
pub(crate) async fn an_entry_added_below_a_scan_is_found_by_the_next(harness: Harness) {
    let store = &*harness.store;
    for index in INDEXES {
        for step in (0..20).rev() {
            add(store, index, &[number(step * 2), number(100)]).await;
            let due = all(index).up_to(number(step * 2 + 1));
            assert_eq!(members(store, due.clone()).await, [number(step * 2)], "{index}");
            let mut set = unconditional(Partition(0));
            set.removals.push(entry(index, number(step * 2)));
            commit_ok(store, set).await;
            assert!(members(store, due).await.is_empty(), "{index}");
        }
        assert_eq!(members(store, all(index)).await, [number(100)], "{index}");
    }
}

async fn add(store: &dyn Store, index: &'static str, members: &[Bytes]) {
    let mut set = unconditional(Partition(0));
    set.additions.extend(members.iter().map(|member| entry(index, member.clone())));
    commit_ok(store, set).await;
}

/// Adds the first `count` numbers, turn by turn to all partitions.
async fn spread(store: &dyn Store, index: &'static str, count: u64) {
    let partitions = u64::from(store.keyspace().partitions());
    let sets = (0..count).map(|at| {
        let mut set = unconditional(Partition((at % partitions) as u16));
        set.additions.push(entry(index, number(at)));
        set
    });
    for outcome in store.commit(sets.collect()).await {
        outcome.expect("nothing stands against it");
    }
}

fn number(number: u64) -> Bytes {
    number.to_be_bytes().to_vec().into()
}

/// Members that a text protocol, a C string or a signed comparison would get wrong.
fn binary_members() -> Vec<Bytes> {
    let members: [&[u8]; 14] = [
        b"b",
        b"",
        b"\0",
        b"\0\0",
        b"\0\x01",
        b"a",
        b"a\0",
        b"a\0b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xff\0",
        b"\xff\xff",
        b"\r\n",
    ];
    members.into_iter().map(Bytes::from_static).collect()
}
