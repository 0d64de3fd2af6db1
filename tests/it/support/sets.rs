//! Watchers of sets of operations, and the sets that their events add up to.

use std::collections::BTreeMap;

use longhaul::proto::longhaul::v1 as pb;
pub(crate) use pb::watch_operations_response::Type as SetEventType;
use tonic::{Status, Streaming};

use super::{Answer, Fixture, within};

/// A watcher of a set.
#[derive(Debug)]
pub(crate) struct SetWatcher {
    stream: Streaming<pb::WatchOperationsResponse>,
    /// The etags of the operations that it knows, by name.
    pub(crate) set: BTreeMap<String, String>,
    /// The last token.
    pub(crate) token: String,
    /// Whether the snapshot is complete.
    pub(crate) complete: bool,
    pub(crate) resyncs: usize,
}

impl SetWatcher {
    /// The next event, or how the stream ended.
    pub(crate) async fn message(&mut self) -> Result<Option<pb::WatchOperationsResponse>, Status> {
        let event = self.stream.message().await?;
        if let Some(event) = &event {
            self.apply(event);
        }
        Ok(event)
    }

    fn apply(&mut self, event: &pb::WatchOperationsResponse) {
        match event.r#type() {
            SetEventType::Snapshot | SetEventType::Update => {
                let record = event.record.as_ref().expect("a record");
                assert_eq!(record.name, event.name);
                assert_eq!(record.operation.as_ref().expect("an operation").name, event.name);
                self.set.insert(event.name.clone(), record.etag.clone());
            }
            SetEventType::Removed => {
                assert!(!event.name.is_empty() && event.record.is_none(), "{event:?}");
                self.set.remove(&event.name);
            }
            SetEventType::SnapshotComplete => self.complete = true,
            SetEventType::Resync => {
                self.set.clear();
                self.complete = false;
                self.resyncs += 1;
            }
            SetEventType::Bookmark | SetEventType::Reconnect => {
                assert!(event.name.is_empty() && event.record.is_none(), "{event:?}");
            }
            SetEventType::Unspecified => panic!("{event:?}"),
        }
        assert!(event.event_time.is_some() && !event.resume_token.is_empty(), "{event:?}");
        self.token.clone_from(&event.resume_token);
    }

    /// The next event, which is of that kind.
    pub(crate) async fn expect(&mut self, kind: SetEventType) -> pb::WatchOperationsResponse {
        let event = within("an event of a set", self.message()).await.granted();
        let event = event.expect("an event, not the end");
        assert_eq!(event.r#type(), kind, "{event:?}");
        event
    }

    /// Reads the snapshot; returns the names in their order.
    pub(crate) async fn snapshot(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let event = within("a snapshot", self.message()).await.granted().expect("an event");
            match event.r#type() {
                SetEventType::Snapshot => names.push(event.name),
                SetEventType::SnapshotComplete => return names,
                _ => panic!("{event:?} in a snapshot"),
            }
        }
    }

    /// Reads until the set is this one.
    pub(crate) async fn until(&mut self, wanted: &BTreeMap<String, String>) {
        while !self.complete || self.set != *wanted {
            self.message().await.granted().expect("an event, not the end");
        }
    }

    /// Goes on with another stream.
    pub(crate) fn resume(&mut self, other: Self) {
        self.stream = other.stream;
    }
}

impl Fixture {
    pub(crate) async fn watch_set(&self, request: pb::WatchOperationsRequest) -> SetWatcher {
        self.try_watch_set(request).await.granted()
    }

    pub(crate) async fn try_watch_set(
        &self,
        request: pb::WatchOperationsRequest,
    ) -> Result<SetWatcher, Status> {
        let stream = within("a watch", self.callers().watch_operations(request)).await?;
        Ok(SetWatcher {
            stream: stream.into_inner(),
            set: BTreeMap::new(),
            token: String::new(),
            complete: false,
            resyncs: 0,
        })
    }

    /// The etags of all operations of a parent that match, by name.
    pub(crate) async fn listed(&self, parent: &str, filter: &str) -> BTreeMap<String, String> {
        let (parent, filter) = (parent.to_owned(), filter.to_owned());
        let mut request = pb::ListOperationRecordsRequest {
            parent,
            filter,
            page_size: 1_000,
            ..Default::default()
        };
        let mut found = BTreeMap::new();
        loop {
            let call = self.callers();
            let page = async { call.clone().list_operation_records(request.clone()).await };
            let page = within("a page", page).await.granted().into_inner();
            let records = page.operation_records.into_iter();
            found.extend(records.map(|record| (record.name, record.etag)));
            if page.next_page_token.is_empty() {
                return found;
            }
            request.page_token = page.next_page_token;
        }
    }
}
