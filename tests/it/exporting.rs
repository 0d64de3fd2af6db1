//! Exports of a server in use, and stores made from them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;

use futures_util::TryStreamExt;
use longhaul::EmbeddedOptions;
use longhaul::archive::{self, ExportLines, Import, ImportError, ImportState, Imported};
use longhaul::clock::{Clock, ManualClock, Timestamp};
use longhaul::operation::counters::{OF_PARENTS, OF_QUEUES, parent_counters};
use longhaul::operation::entries::DueClass;
use longhaul::operation::gate::GateName;
use longhaul::proto::longhaul::v1::admin_client::AdminClient;
use longhaul::proto::longhaul::v1::type_sets_client::TypeSetsClient;
use longhaul::record;
use longhaul::store::embedded::EmbeddedStore;
use longhaul::store::faulty::{Fault, FaultPlan, Faulty};
use longhaul::store::redis::{Options as RedisOptions, RedisStore, StoreTime};
use longhaul::store::{BodyKey, Check, Index, Mark, OpenError, Origin, Put, Scan, Store, WriteSet};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::clock::TestClock;
use crate::support::*;
use crate::{jobs, type_sets};

scenarios! {
    a_copy_of_a_copy_on_the_other_store_is_equal_and_its_operations_go_on,
    a_copy_has_the_jobs_and_their_executions_and_fires_the_next_tick,
    an_import_that_was_cut_off_is_closed_to_servers_and_continues_where_it_was,
    a_damaged_line_is_refused_by_its_number,
    records_of_unknown_kinds_pass_byte_for_byte_and_lost_payloads_stay_lost,
    an_import_goes_on_when_the_store_did_not_answer,
    an_import_waits_for_a_clock_that_is_behind_and_then_gives_up,
    only_an_empty_place_is_imported_into,
}

/// A place to import into.
pub(crate) enum Place {
    Embedded(TempDir),
    Redis(String),
}

impl Place {
    pub(crate) fn embedded() -> Self {
        Self::Embedded(TempDir::new().expect("a folder"))
    }

    pub(crate) fn redis() -> Self {
        Self::Redis(format!("it-{}:", Uuid::new_v4()))
    }

    async fn open(
        &self,
        import: Option<Origin>,
        clock: Arc<TestClock>,
    ) -> Result<Arc<dyn Store>, OpenError> {
        Ok(match self {
            Self::Embedded(folder) => {
                let path = folder.path().join("store");
                EmbeddedStore::open(EmbeddedOptions {
                    import,
                    reserve_bytes: 0,
                    clock,
                    stopwatch: ManualClock::new(Timestamp::EPOCH),
                    ..EmbeddedOptions::new(path, record::layout())
                })?
            }
            Self::Redis(prefix) => {
                let options = RedisOptions {
                    import,
                    prefix: prefix.clone(),
                    partitions: 5,
                    clock,
                    time: StoreTime::Clock,
                    ..RedisOptions::new(stores::redis_url())
                };
                RedisStore::open(options).await?
            }
        })
    }

    /// Imports a text, and opens the copy.
    pub(crate) async fn copy(&self, fixture: &Fixture, text: &str) -> (Imported, Arc<dyn Store>) {
        fixture.let_pass(Duration::from_millis(1));
        let store = self.open(origin(text), fixture.clock.clone()).await.expect("a place");
        let imported = import(&store, text).await.expect("imported");
        store.close().await;
        (imported, self.open(None, fixture.clock.clone()).await.expect("the copy"))
    }
}

fn origin(text: &str) -> Option<Origin> {
    ExportLines::new(Cursor::new(text.to_owned())).header().expect("a header").origin()
}

/// Imports into a store; time passes by itself where the import waits.
async fn import(store: &Arc<dyn Store>, text: &str) -> Result<Imported, ImportError> {
    let clock = TestClock::new();
    let import = Import {
        store: Arc::clone(store),
        clock: clock.clone() as Arc<dyn Clock>,
        state: Arc::<ImportState>::default(),
    };
    let mut lines = ExportLines::new(Cursor::new(text.to_owned()));
    lines.header().expect("a header");
    let pause = Duration::from_millis(100);
    let passing = async {
        for number in 1.. {
            clock.asked_for(pause, number).await;
            clock.advance(pause);
        }
    };
    within("the import", async {
        tokio::select! {
            imported = import.run(lines) => imported,
            () = passing => unreachable!("it has no end"),
        }
    })
    .await
}

/// An export of the server, over the network.
pub(crate) async fn exported(fixture: &Fixture) -> String {
    // Stamps run a few microseconds ahead of a clock that stands still.
    fixture.let_pass(Duration::from_millis(1));
    let mut client = AdminClient::new(fixture.channel.clone());
    let parts = client.export_records(pb::ExportRecordsRequest {}).await.granted().into_inner();
    let parts: Vec<_> = within("the export", parts.try_collect()).await.granted();
    String::from_utf8(parts.into_iter().flat_map(|part| part.data).collect()).expect("text")
}

pub(crate) async fn exported_from(store: &Arc<dyn Store>) -> String {
    let parts = within("the export", archive::parts(Arc::clone(store)).try_collect()).await;
    let parts: Vec<Vec<u8>> = parts.expect("the store answers");
    String::from_utf8(parts.concat()).expect("text")
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What must be equal in two exports: each record but for the revision, by its key; then the end but for the time.
pub(crate) fn content(text: &str) -> BTreeMap<String, Value> {
    let mut content = BTreeMap::new();
    for mut line in lines(text) {
        if let Some(record) = line["record"].as_object_mut() {
            record.remove("revision");
            let key = record["key"].as_str().expect("a key").to_owned();
            let twice = content.insert(key.clone(), line["record"].clone()).is_some();
            assert!(!twice, "{key} is there twice");
        }
        if let Some(end) = line["end"].as_object_mut() {
            end.remove("time");
            content.insert("end".to_owned(), line["end"].clone());
        }
    }
    content
}

/// Everything that follows from the records.
pub(crate) async fn followed(store: &Arc<dyn Store>) -> Vec<String> {
    let due = DueClass::ALL.map(DueClass::index);
    let mut all = Vec::new();
    let lists = ["list", "failed", "ready/q", "ready/retrying", "type-sets", "jobs", "executions"];
    let of_jobs = ["due/job", "due/execution"];
    let of_queues = ["queues", "due/gate", "waiting/q"];
    let gate = GateName::Key { parent: String::new(), key: "k".to_owned() }.index();
    let indexes = lists.into_iter().chain(of_jobs).chain(of_queues).chain(due).chain([&gate[..]]);
    for index in indexes {
        let scan = Scan::first(Index::new(index.to_owned()), 1_000);
        let entries = store.scan(scan).await.expect("the store answers");
        all.extend(entries.iter().map(|entry| format!("{index} {:?}", entry.member)));
    }
    let names = parent_counters("").map(Into::into);
    all.push(format!("parent {:?}", store.counters(OF_PARENTS, &names).await));
    let names = ["q", "retrying"].map(|queue| queue.as_bytes().to_vec().into());
    all.push(format!("queues {:?}", store.counters(OF_QUEUES, &names).await));
    all
}

/// A type set, and operations in every state, some with large payloads; returns the lease of one that runs.
async fn filled(fixture: &Fixture) -> pb::Lease {
    type_sets::create(fixture, "projects/p", "shop", type_sets::shop()).await.granted();
    let complete = async |response: Any| {
        let lease = fixture.running(start("q")).await;
        let response = Some(response);
        let done = pb::CompleteOperationRequest { response, ..completion(&lease) };
        fixture.complete(done).await.granted();
        lease.operation
    };
    complete(large("acme.Done", 100_000)).await;
    let deleted = complete(any("acme.Done", b"done")).await;
    fixture.delete(&deleted).await.granted();
    let failed = fixture.running(start("q")).await;
    fixture.fail(failure(&failed, Code::InvalidArgument)).await.granted();
    let retrying = fixture.running(start("retrying")).await;
    fixture.fail(failure(&retrying, Code::Unavailable)).await.granted();
    let cancelling = fixture.running(start("q")).await;
    fixture.cancel(&cancelling.operation).await.granted();
    let hidden = fixture.running(start("q")).await;
    fixture.delete(&hidden.operation).await.granted();
    let suspended = fixture.running(start("q")).await;
    let checkpoint = Some(large("acme.Checkpoint", 5_000));
    let suspension = pb::SuspendOperationRequest { checkpoint, ..suspension(&suspended) };
    fixture.suspend(suspension).await.granted();
    let request = Some(large("acme.Resize", 1 << 20));
    let named = pb::StartOperationRequest {
        operation_id: "named".to_owned(),
        request_id: "once".to_owned(),
        request,
        ..start("q")
    };
    let running = fixture.running(named).await;
    fixture.started("q").await;
    running
}

async fn a_copy_of_a_copy_on_the_other_store_is_equal_and_its_operations_go_on(fixture: &Fixture) {
    let lease = filled(fixture).await;
    let store: Arc<dyn Store> = fixture.store.clone();
    let first = exported(fixture).await;
    let said = lines(&first);
    let header = &said[0]["header"];
    assert_eq!((&header["longhaul_export"], &header["format"]), (&1.into(), &1.into()), "{header}");
    assert_eq!(header["keyspace"], store.keyspace().id().to_string());
    let partitions = said.iter().filter(|line| line["partition"]["time"].is_string()).count();
    assert_eq!(partitions, usize::from(store.keyspace().partitions()));
    let kinds: BTreeSet<&str> =
        said.iter().filter_map(|line| line["record"]["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        BTreeSet::from(["operation", "tombstone", "type_sets"]),
        "servers are not copied"
    );
    let named = said.iter().find(|line| line["record"]["name"] == "operations/named");
    let words = &named.expect("the operation by its name")["record"]["content"];
    assert_eq!((&words["state"], &words["spec"]["requestId"]), (&"RUNNING".into(), &"once".into()));

    let (embedded, redis) = (Place::embedded(), Place::redis());
    let (imported, copy) = embedded.copy(fixture, &first).await;
    assert_eq!((imported.totals.records, imported.found), (10, 0), "{imported:?}");
    assert_eq!(followed(&copy).await, followed(&store).await);
    let second = exported_from(&copy).await;
    copy.close().await;
    let (_, copy) = redis.copy(fixture, &second).await;
    assert_eq!(followed(&copy).await, followed(&store).await);
    let third = exported_from(&copy).await;
    assert_eq!(content(&first), content(&second));
    assert_eq!(content(&first), content(&third));
    assert_eq!(copy.keyspace().id(), store.keyspace().id());

    // Another server serves the copy: it has the type set, a worker's lease goes on, and a start that is repeated finds its
    // operation.
    let copied = Fixture::over(copy, fixture.clock.clone()).await;
    let whole = pb::GetTypeSetRequest {
        name: "projects/p/typeSets/shop".to_owned(),
        view: pb::TypeSetView::Full.into(),
    };
    let mut client = TypeSetsClient::new(copied.channel.clone());
    let set = within("the type set", client.get_type_set(whole)).await.granted().into_inner();
    assert_eq!(set.file_descriptor_set, type_sets::shop());
    let before = fixture.record(&lease.operation).await;
    assert_eq!(copied.record(&lease.operation).await, before);
    let again = pb::StartOperationRequest {
        operation_id: "named".to_owned(),
        request_id: "once".to_owned(),
        request: before.request.clone(),
        ..start("q")
    };
    assert_eq!(copied.start(again).await.granted().name, lease.operation);
    copied.complete(completion(&lease)).await.granted();
    let next = copied.lease("q").await;
    assert!(next.fencing_number > lease.fencing_number, "{next:?} after {lease:?}");
    copied.stop().await;
}

async fn a_copy_has_the_jobs_and_their_executions_and_fires_the_next_tick(fixture: &Fixture) {
    let template = jobs::job()
        .template
        .map(|template| pb::JobTemplate { request: Some(large("acme.Report", 5_000)), ..template });
    let job = pb::Job { template, schedule: Some(jobs::every(10)), ..jobs::job() };
    jobs::create(fixture, job).await.granted();
    fixture.pass(Duration::from_mins(10)).await;
    jobs::work(fixture).await;
    fixture.pass(Duration::from_mins(10)).await;
    let store: Arc<dyn Store> = fixture.store.clone();
    let text = exported(fixture).await;
    let said = lines(&text);
    let count = |kind| said.iter().filter(|line| line["record"]["kind"] == kind).count();
    assert_eq!(["job", "execution", "execution_end", "operation"].map(count), [1, 2, 1, 2]);
    let executions = jobs::executions(fixture, "").await.granted();
    for place in [Place::embedded(), Place::redis()] {
        let (_, copy) = place.copy(fixture, &text).await;
        assert_eq!(followed(&copy).await, followed(&store).await);
        assert_eq!(content(&exported_from(&copy).await), content(&text));
        let copied = Fixture::over(copy, fixture.clock.clone()).await;
        assert_eq!(jobs::get(&copied).await, jobs::get(fixture).await);
        assert_eq!(jobs::executions(&copied, "").await.granted(), executions);
        let lease = jobs::work(&copied).await;
        assert_eq!(lease.request, Some(large("acme.Report", 5_000)));
        copied.pass(Duration::from_mins(10)).await;
        assert_eq!(jobs::executions(&copied, "").await.granted().len(), 3);
        copied.stop().await;
    }
}

async fn an_import_that_was_cut_off_is_closed_to_servers_and_continues_where_it_was(
    fixture: &Fixture,
) {
    filled(fixture).await;
    let text = exported(fixture).await;
    let other = exported(fixture).await;
    let records = |text: &str| text.lines().filter(|line| line.starts_with("{\"record\"")).count();
    let cut: String = text.split_inclusive('\n').take(6).collect();
    for place in [Place::embedded(), Place::redis()] {
        let clock = || fixture.clock.clone();
        let store = place.open(origin(&text), clock()).await.expect("a place");
        let error = import(&store, &cut).await.expect_err("no end").to_string();
        assert!(error.contains("cut off") && error.contains("after line 6"), "{error}");
        store.close().await;

        let closed = place.open(None, clock()).await.err().expect("closed").to_string();
        assert!(
            closed.contains("has not finished") && closed.contains("longhaul import"),
            "{closed}"
        );
        let mixed = place.open(origin(&other), clock()).await.err().expect("another").to_string();
        assert!(mixed.contains("the unfinished import of another export"), "{mixed}");

        let (imported, copy) = place.copy(fixture, &text).await;
        assert_eq!(imported.found, 0, "less than a batch was read");
        assert_eq!(content(&exported_from(&copy).await), content(&text));
        copy.close().await;
    }
    // The same after all records were written, and only the end was lost.
    let place = Place::redis();
    let store = place.open(origin(&text), fixture.clock.clone()).await.expect("a place");
    let faulty =
        Faulty::new(store.clone(), FaultPlan { reads_away: 1_000, ..FaultPlan::default() });
    let faulty: Arc<dyn Store> = faulty;
    let error = import(&faulty, &text).await.expect_err("the copy cannot be read").to_string();
    assert!(error.contains("repeat the same command to continue"), "{error}");
    store.close().await;
    let (imported, copy) = place.copy(fixture, &text).await;
    assert_eq!(imported.found as usize, records(&text), "nothing is written twice");
    assert_eq!(followed(&copy).await, {
        let store: Arc<dyn Store> = fixture.store.clone();
        followed(&store).await
    });
    copy.close().await;
}

/// Damage to a line.
type Change = fn(&str) -> String;

async fn a_damaged_line_is_refused_by_its_number(fixture: &Fixture) {
    filled(fixture).await;
    let text = exported(fixture).await;
    let count = text.lines().count();
    let place = Place::embedded();
    let store = place.open(origin(&text), fixture.clock.clone()).await.expect("a place");
    let damaged = |number: usize, change: Change| {
        let changed = |(at, line): (usize, &str)| {
            if at == number { change(line) } else { line.to_owned() + "\n" }
        };
        text.lines().enumerate().map(changed).collect::<String>()
    };
    let record = text.lines().position(|line| line.starts_with("{\"record\"")).expect("a record");
    let cases: [(usize, Change, &str); 5] = [
        (
            record,
            |line| line.replacen("revision", "revisiom", 1) + "\n",
            "is damaged or was changed",
        ),
        (2, |line| line[..line.len() / 2].to_owned() + "\n", "is damaged or was changed"),
        (count - 1, |line| line.replace("records\":10", "records\":9") + "\n", "is damaged"),
        (count - 1, |line| format!("{line}\n{line}\n"), "comes after the end"),
        (record, |_| "\n".to_owned(), "is damaged"),
    ];
    for (number, change, what) in cases {
        let error = import(&store, &damaged(number, change)).await.expect_err(what).to_string();
        let number = if what.contains("after") { number + 2 } else { number + 1 };
        assert!(error.contains(&format!("line {number} of the export {what}")), "{error}");
    }
    // A line that is missing is noticed at the end.
    let error = import(&store, &damaged(record, |_| String::new())).await.expect_err("too few");
    assert!(matches!(error, ImportError::Differs { found: 9, wanted: 10 }), "{error}");
    store.close().await;
}

async fn records_of_unknown_kinds_pass_byte_for_byte_and_lost_payloads_stay_lost(
    fixture: &Fixture,
) {
    let name = fixture.start(pb::StartOperationRequest {
        request: Some(large("acme.Resize", 5_000)),
        ..start("q")
    });
    let name = name.await.granted().name;
    let key = fixture.store.keyspace().key(&name);
    let text = exported(fixture).await;
    let record = lines(&text).into_iter().find(|line| line["record"]["name"] == name.as_str());
    let body =
        record.expect("the record")["record"]["bodies"][0]["key"].as_str().map(str::to_owned);
    let body = u64::from_str_radix(&body.expect("a body")[34..], 16).expect("a nonce");
    let partition = fixture.store.keyspace().partition(key);
    let mut loss = WriteSet::new(partition, Check::TimeAtLeast(Timestamp::EPOCH));
    loss.body_deletes.push(BodyKey { record: key, slot: 1, nonce: body.to_be_bytes() });
    // A message in field 14, a kind that no version has.
    let unknown = key.beside(1);
    let value = vec![0x72, 0x03, 1, 2, 3].into();
    loss.puts.push(Put { key: unknown, visible: Mark::Keep(7), fencing: Mark::Keep(5), value });
    fixture.store.commit(vec![loss]).await.remove(0).expect("committed");

    let text = exported(fixture).await;
    let (imported, copy) = Place::redis().copy(fixture, &text).await;
    assert_eq!((imported.unread, imported.totals.lost_bodies), (1, 1), "{imported:?}");
    let found = copy.get(&[unknown]).await.expect("answered").remove(0).expect("the record");
    assert_eq!((found.visible_revision, found.fencing_number), (7, 5));
    assert_eq!(found.value[..], [0x72, 0x03, 1, 2, 3]);
    assert_eq!(content(&exported_from(&copy).await), content(&text));
    copy.close().await;
}

async fn an_import_goes_on_when_the_store_did_not_answer(fixture: &Fixture) {
    filled(fixture).await;
    let text = exported(fixture).await;
    let place = Place::embedded();
    let store = place.open(origin(&text), fixture.clock.clone()).await.expect("a place");
    let faulty = Faulty::new(store.clone(), FaultPlan::default());
    faulty.inject([Fault::AppliedUnknown, Fault::LostUnknown, Fault::None, Fault::LostUnknown]);
    let faulty: Arc<dyn Store> = faulty;
    let imported = import(&faulty, &text).await.expect("imported");
    assert_eq!((imported.totals.records, imported.found), (10, 1));
    assert_eq!(content(&exported_from(&store).await), content(&text));
    store.close().await;
}

async fn an_import_waits_for_a_clock_that_is_behind_and_then_gives_up(fixture: &Fixture) {
    filled(fixture).await;
    fixture.let_pass(Duration::from_secs(100));
    fixture.started("q").await;
    let text = exported(fixture).await;
    let place = Place::embedded();
    let store = place.open(origin(&text), TestClock::new()).await.expect("a place");
    let error = import(&store, &text).await.expect_err("the future").to_string();
    assert!(
        error.contains(", operations/") && error.contains("in the future of the store's clock"),
        "{error}"
    );
    store.close().await;
    let (imported, copy) = place.copy(fixture, &text).await;
    assert_eq!(imported.totals.records, 11);
    copy.close().await;
}

async fn only_an_empty_place_is_imported_into(fixture: &Fixture) {
    fixture.started("q").await;
    let text = exported(fixture).await;
    for place in [Place::embedded(), Place::redis()] {
        let store = place.open(None, fixture.clock.clone()).await.expect("a store");
        store.close().await;
        let taken = place.open(origin(&text), fixture.clock.clone()).await.err().expect("taken");
        assert!(matches!(taken, OpenError::Taken(_)), "{taken:?}");
        assert!(taken.to_string().contains("has data already"), "{taken}");
        let place = match place {
            Place::Embedded(_) => Place::embedded(),
            Place::Redis(_) => Place::redis(),
        };
        let (_, copy) = place.copy(fixture, &text).await;
        copy.close().await;
        let taken = place.open(origin(&text), fixture.clock.clone()).await.err().expect("taken");
        assert!(taken.to_string().contains("an import needs an empty place"), "{taken}");
    }
}
