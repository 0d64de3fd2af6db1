//! This version beside a made-up next one, which writes format 2, on every store.

use bytes::Bytes;
use prost::Message;

use super::{caller, name, request, wish};
use crate::engine::{Engine, Janitor, Reaper, Reason, Scheduler};
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::Record as Operation;
use crate::proto::longhaul::store::v1 as stored;
use crate::record::{Kind, read};
use crate::store::differential::backends;
use crate::store::{
    Check, CommitError, FORMAT, Index, IndexEntry, Key, Mark, Put, Record, Scan, Store, StoreError,
    WriteSet,
};

/// The additions of the next version to a record: a field that this one does not know, and the mark of its format.
#[derive(Clone, PartialEq, Message)]
struct Added {
    #[prost(uint32, tag = "15")]
    format: u32,
    #[prost(string, tag = "900")]
    field: String,
}

async fn find(store: &dyn Store, key: Key) -> Record {
    store.get(&[key]).await.expect("an answer").remove(0).expect("a record")
}

/// Writes a record as another server would.
async fn overwrite(store: &dyn Store, key: Key, value: Bytes) {
    let found = find(store, key).await;
    let check = Check::At(key, found.revision);
    let mut set = WriteSet::new(store.keyspace().partition(key), check);
    let fencing = Mark::Keep(found.fencing_number);
    set.puts.push(Put { key, visible: Mark::New, fencing, value });
    set.hint = Some((key, Bytes::new()));
    store.commit(vec![set]).await.remove(0).expect("written");
}

#[tokio::test]
async fn a_record_of_a_newer_format_survives_everything_that_an_older_server_does() {
    for (store_name, factory) in backends() {
        let harness = factory().await;
        let store = &*harness.store;
        let engine = Engine::without_agents(harness.store.clone(), harness.clock.clone());
        for id in ["a", "b"] {
            engine.start_operation(&caller(), request(id)).await.expect("a start");
        }
        let key = store.keyspace().key(name("a").as_str());
        let added = Added { format: FORMAT + 1, field: "of the next version".to_owned() };
        let value = [&find(store, key).await.value[..], &added.encode_to_vec()].concat();
        overwrite(store, key, value.into()).await;
        let before = find(store, key).await;
        assert!(matches!(read::<Operation>(&before), Err(StoreError::Newer(_))), "{store_name}");

        let refused = engine.cancel(&caller(), &name("a")).await.expect_err("not to be written");
        assert_eq!(refused.reason, Reason::Internal, "{store_name}");
        let refused = engine.delete(&caller(), &name("a")).await.expect_err("not to be deleted");
        assert!(refused.to_string().contains("newer"), "{store_name}: {refused}");
        engine.start_operation(&caller(), request("a")).await.expect_err("the name is taken");
        harness.clock.advance(std::time::Duration::from_hours(24 * 365));
        for agent in [Reaper, Scheduler, Janitor] {
            agent.run_once(&engine).await.expect("a sweep");
        }
        let mut batch = engine.lease(&caller(), wish(2)).await.expect("a batch");
        let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases");
        batch.told();
        // It does not hide the record behind it.
        let names: Vec<_> = leased.iter().map(|leased| leased.operation.name.clone()).collect();
        assert_eq!(names, [name("b")], "{store_name}");
        assert_eq!(find(store, key).await, before, "{store_name}");
    }
}

#[tokio::test]
async fn records_are_marked_with_a_format_once_the_keyspace_allows_it() {
    for (store_name, factory) in backends() {
        let harness = factory().await;
        let store = &*harness.store;
        let engine = Engine::without_agents(harness.store.clone(), harness.clock.clone());
        engine.start_operation(&caller(), request("a")).await.expect("a start");
        let key = store.keyspace().key(name("a").as_str());
        let found = find(store, key).await;
        let before = read::<Operation>(&found).expect("readable");
        assert_eq!(before.record.encode(), found.value, "{store_name}: format 1 has no mark");

        store.raise_min_writer(FORMAT + 1).await.expect("raised");
        assert_eq!(store.keyspace().min_writer(), FORMAT + 1, "{store_name}");
        let change = crate::record::Change::of(Some(before.record.clone()));
        let set = crate::record::write_set(store.keyspace(), key, Some(&before), &change);
        let marked = Record { value: set.puts[0].value.clone(), ..found.clone() };
        assert!(matches!(read::<Operation>(&marked), Err(StoreError::Newer(_))), "{store_name}");

        // This version must not write there any more, and says so.
        let refused = store.commit(vec![set]).await.remove(0).expect_err("too old");
        let CommitError::Unavailable(StoreError::Unfit(why)) = refused else {
            panic!("{store_name}: {refused:?}")
        };
        assert!(why.contains("run a newer one"), "{store_name}: {why}");
        let refused = engine.cancel(&caller(), &name("a")).await.expect_err("too old");
        assert_eq!(refused.reason, Reason::StoreUnavailable, "{store_name}");
        assert_eq!(find(store, key).await, found, "{store_name}");
    }
}

#[tokio::test]
async fn due_entries_of_unknown_classes_survive_being_rewritten() {
    for (store_name, factory) in backends() {
        let harness = factory().await;
        let store = &*harness.store;
        let engine = Engine::without_agents(harness.store.clone(), harness.clock.clone());
        engine.start_operation(&caller(), request("a")).await.expect("a start");
        let key = store.keyspace().key(name("a").as_str());
        let due = stored::places::Due { class: 99, after: 7 };
        let mut message = places(&find(store, key).await).0;
        let Some(stored::record::Kind::Operation(operation)) = &mut message.kind else {
            panic!("an operation")
        };
        operation.places.get_or_insert_default().due.push(due);
        overwrite(store, key, message.encode_to_vec().into()).await;
        let mut set = WriteSet::new(
            store.keyspace().partition(key),
            Check::TimeAtLeast(crate::clock::Timestamp::EPOCH),
        );
        let member = Bytes::copy_from_slice(key.as_bytes());
        let index = Index::new("due/of-the-next-version");
        set.additions.push(IndexEntry { index: index.clone(), member });
        store.commit(vec![set]).await.remove(0).expect("added");

        engine.cancel(&caller(), &name("a")).await.expect("cancelled");
        let after = places(&find(store, key).await).1;
        assert!(after.contains(&due), "{store_name}: {after:?}");
        let left = store.scan(Scan::first(index, 10)).await.expect("entries");
        assert_eq!(left.len(), 1, "{store_name}");
    }
}

/// A record's message, and where it says that its due entries lie.
fn places(record: &Record) -> (stored::Record, Vec<stored::places::Due>) {
    let message = stored::Record::decode(record.value.clone()).expect("a message");
    let due = match &message.kind {
        Some(stored::record::Kind::Operation(operation)) => {
            operation.places.clone().unwrap_or_default().due
        }
        _ => Vec::new(),
    };
    (message, due)
}
