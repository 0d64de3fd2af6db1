//! Concurrent commits.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::harness::{
    Harness, INDEXES, all, commit, commit_ok, create, entry, get, key, members, replace,
    unconditional,
};
use crate::store::backend::Store;
use crate::store::error::CommitError;
use crate::store::key::{Key, Partition};

pub(crate) async fn compare_and_set_from_many_tasks_loses_nothing(harness: Harness) {
    let store = &harness.store;
    let key = key(&**store, Partition(0), 0);
    commit_ok(&**store, create(&**store, key, 0_u64.to_be_bytes().to_vec())).await;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(increment(Arc::clone(store), key));
    }
    tasks.join_all().await;
    let record = get(&**store, key).await.expect("record");
    assert_eq!(*record.value, (TASKS * INCREMENTS).to_be_bytes());
}

pub(crate) async fn of_many_creators_one_wins(harness: Harness) {
    let key = key(&*harness.store, Partition(0), 0);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&harness.store);
        tasks.spawn(async move {
            let value = task.to_be_bytes().to_vec();
            commit(&*store, create(&*store, key, value)).await.is_ok().then_some(task)
        });
    }
    let winners: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    let record = get(&*harness.store, key).await.expect("record");
    assert_eq!(winners.len(), 1);
    assert_eq!(*record.value, winners[0].to_be_bytes());
}

pub(crate) async fn what_was_acknowledged_is_read_by_everybody(harness: Harness) {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = Arc::clone(&harness.store);
        tasks.spawn(async move {
            let key = key(&*store, Partition(0), task);
            let mut revision = commit_ok(&*store, create(&*store, key, "")).await;
            for _ in 0..16 {
                revision = commit_ok(&*store, replace(&*store, key, revision, "")).await;
                let read = get(&*store, key).await.expect("record");
                assert_eq!(read.revision, revision);
            }
        });
    }
    tasks.join_all().await;
}

/// Each task removes its own entries, so that the index keeps emptying below the others' entries.
pub(crate) async fn what_was_added_is_found_whatever_is_scanned_meanwhile(harness: Harness) {
    let mut tasks = JoinSet::new();
    for task in 0..8_u8 {
        let store = Arc::clone(&harness.store);
        tasks.spawn(async move {
            for step in 0..24_u8 {
                let index = INDEXES[usize::from(step) % INDEXES.len()];
                // Up and down, so that some entries are below all existing ones.
                let member = vec![step.wrapping_mul(113), task];
                let mut set = unconditional(Partition(0));
                set.additions.push(entry(index, member.clone()));
                commit_ok(&*store, set.clone()).await;
                let found = members(&*store, all(index).up_to(member.clone())).await;
                assert!(found.contains(&member.into()), "{index}: {found:?}");
                std::mem::swap(&mut set.additions, &mut set.removals);
                commit_ok(&*store, set).await;
            }
        });
    }
    tasks.join_all().await;
    for index in INDEXES {
        assert!(members(&*harness.store, all(index)).await.is_empty(), "{index}");
    }
}

async fn increment(store: Arc<dyn Store>, key: Key) {
    let mut done = 0;
    while done < INCREMENTS {
        let record = get(&*store, key).await.expect("record");
        let value = u64::from_be_bytes(record.value.as_ref().try_into().expect("a number")) + 1;
        let set = replace(&*store, key, record.revision, value.to_be_bytes().to_vec());
        match commit(&*store, set).await {
            Ok(_) => done += 1,
            Err(CommitError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

const TASKS: u64 = 32;
const INCREMENTS: u64 = 4;
