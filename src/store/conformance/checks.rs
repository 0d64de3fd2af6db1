//! Conditions of write sets.

use std::time::Duration;

use super::harness::{
    Harness, all, commit, commit_ok, count, counted, create, entry, get, key, members, put,
    replace, unconditional,
};
use crate::clock::Clock;
use crate::store::error::CommitError;
use crate::store::key::{BodyKey, Partition};
use crate::store::write_set::{Check, WriteSet};

pub(crate) async fn a_refused_set_changes_nothing(harness: Harness) {
    let store = &*harness.store;
    let (held, other) = (key(store, Partition(0), 0), key(store, Partition(0), 1));
    let body = BodyKey { record: held, slot: 1, nonce: [1; 8] };
    let mut first = create(store, held, "kept");
    first.additions.push(entry("list", "kept"));
    first.body_puts.push((body, "kept".into()));
    let revision = commit_ok(store, first).await;

    let mut refused = WriteSet::new(Partition(0), Check::At(held, revision + 1));
    refused.removals.push(entry("list", "kept"));
    refused.deletes.push(held);
    refused.body_deletes.push(body);
    refused.puts.push(put(other, "new"));
    refused.body_puts.push((BodyKey { nonce: [2; 8], ..body }, "new".into()));
    refused.additions.push(entry("list", "new"));
    refused.counters.push(count("count", 1));
    assert!(matches!(commit(store, refused).await, Err(CommitError::Conflict)));

    assert_eq!(get(store, held).await.expect("still there").revision, revision);
    assert_eq!(get(store, other).await, None);
    let bodies = store.bodies(&[body, BodyKey { nonce: [2; 8], ..body }]).await.expect("bodies");
    assert_eq!(bodies, [Some("kept".into()), None]);
    assert_eq!(members(store, all("list")).await, ["kept"]);
    assert_eq!(counted(store, b"count").await, 0);
}

pub(crate) async fn a_check_at_wants_that_very_revision(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    assert!(matches!(commit(store, replace(store, key, 0, "x")).await, Err(CommitError::Conflict)));
    let first = commit_ok(store, create(store, key, "1")).await;
    let second = commit_ok(store, replace(store, key, first, "2")).await;
    for wrong in [first, second - 1, second + 1, 0, u64::MAX] {
        let outcome = commit(store, replace(store, key, wrong, "x")).await;
        assert!(
            wrong == second || matches!(outcome, Err(CommitError::Conflict)),
            "{wrong}: {outcome:?}"
        );
    }
    commit_ok(store, replace(store, key, second, "3")).await;
    assert_eq!(get(store, key).await.expect("record").value, "3");
}

pub(crate) async fn a_check_for_absence_wants_no_record(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let revision = commit_ok(store, create(store, key, "1")).await;
    assert!(matches!(commit(store, create(store, key, "2")).await, Err(CommitError::Conflict)));
    let mut delete = WriteSet::new(Partition(0), Check::At(key, revision));
    delete.deletes.push(key);
    commit_ok(store, delete).await;
    commit_ok(store, create(store, key, "3")).await;
    assert_eq!(get(store, key).await.expect("record").value, "3");
}

pub(crate) async fn a_check_of_time_waits_for_the_stores_clock(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let due = harness.clock.now() + Duration::from_secs(10);
    let mut set = create(store, key, "due");
    set.checks.push(Check::TimeAtLeast(due));
    assert!(matches!(commit(store, set.clone()).await, Err(CommitError::Early)));
    harness.clock.advance(Duration::from_millis(9_999));
    assert!(matches!(commit(store, set.clone()).await, Err(CommitError::Early)));
    assert_eq!(get(store, key).await, None);
    harness.clock.advance(Duration::from_millis(1));
    let revision = commit_ok(store, set).await;
    assert!(revision >= due.as_micros());
}

pub(crate) async fn a_conflict_is_not_called_early(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let revision = commit_ok(store, create(store, key, "1")).await;
    let later = Check::TimeAtLeast(harness.clock.now() + Duration::from_secs(10));
    for changed in [Check::Absent(key), Check::At(key, revision + 1)] {
        for checks in [[later.clone(), changed.clone()], [changed, later.clone()]] {
            let set = WriteSet { checks: checks.to_vec(), ..unconditional(Partition(0)) };
            assert!(matches!(commit(store, set).await, Err(CommitError::Conflict)));
        }
    }
    let mut set = replace(store, key, revision, "2");
    set.checks.insert(0, later);
    assert!(matches!(commit(store, set.clone()).await, Err(CommitError::Early)));
    harness.clock.advance(Duration::from_secs(10));
    commit_ok(store, set).await;
}

/// A check fails although the write set itself would make it true.
pub(crate) async fn all_checks_come_before_the_first_write(harness: Harness) {
    let store = &*harness.store;
    let (first, second) = (key(store, Partition(0), 0), key(store, Partition(0), 1));
    let revision = commit_ok(store, create(store, first, "1")).await;

    let mut set = replace(store, first, revision, "2");
    set.checks.push(Check::At(second, revision + 1));
    set.puts.push(put(second, "2"));
    assert!(matches!(commit(store, set).await, Err(CommitError::Conflict)));
    assert_eq!(get(store, first).await.expect("record").value, "1");

    // All checks hold, on keys that the set then removes and creates.
    let mut set = unconditional(Partition(0));
    set.checks.extend([Check::At(first, revision), Check::Absent(second)]);
    set.deletes.push(first);
    set.puts.push(put(second, "2"));
    commit_ok(store, set).await;
    assert_eq!(get(store, first).await, None);
    assert_eq!(get(store, second).await.expect("record").value, "2");
}
