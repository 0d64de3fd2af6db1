//! The verbs of callers: get, cancel, delete, pause, resume, and the whole record.

use std::sync::Arc;

use crate::engine::commands::apply::{Commands, Done};
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::random::random;
use crate::engine::reading::reader::{READS, Reader};
use crate::engine::reading::view::{View, payload};
use crate::engine::watching::hub::Hub;
use crate::operation::Operation;
use crate::operation::command::{Cancel, Command, Delete, Pause, Resume};
use crate::operation::lease::Answer;
use crate::operation::name::Name;
use crate::proto::google::longrunning::Operation as Published;
use crate::proto::google::protobuf::Any;
use crate::record::operation::{Slot, glance};
use crate::store::StoreError;

/// Callers' calls about one operation.
pub(in crate::engine) struct Calls {
    context: Arc<Context>,
    reader: Arc<Reader>,
    commands: Arc<Commands>,
    hub: Arc<Hub>,
}

impl Calls {
    pub(in crate::engine) const fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        commands: Arc<Commands>,
        hub: Arc<Hub>,
    ) -> Self {
        Self { context, reader, commands, hub }
    }

    /// The operation now.
    pub(in crate::engine) async fn get(&self, name: &Name) -> Result<Arc<View>> {
        self.reader.view(name).await
    }

    /// The operation now, without its large payloads.
    pub(in crate::engine) async fn head(&self, name: &Name) -> Result<Box<Operation>> {
        Ok(self.reader.head(name).await?.0)
    }

    /// The view of an operation whose head was just read.
    pub(in crate::engine) async fn show(&self, operation: Operation) -> Result<Arc<View>> {
        let name = operation.name.clone();
        match View::inline(operation) {
            Some(view) => Ok(view),
            None => self.reader.view(&name).await,
        }
    }

    /// The published message alone, for callers that poll. For most records it is copied without decoding the rest.
    pub(in crate::engine) async fn poll(&self, name: &Name) -> Result<Published> {
        let key = self.context.key(name);
        let found = match self.context.store.get(&[key]).await {
            // The full read notes what is wrong with the record.
            Err(StoreError::Damaged(_)) => None,
            found => found?.pop().flatten(),
        };
        let published = found.and_then(|record| glance(&record, || self.context.now(key)));
        match published.filter(|published| published.name == name.as_str()) {
            Some(published) => Ok(published),
            None => Ok(self.reader.view(name).await?.published.clone()),
        }
    }

    /// The operation now and, if wanted, the request that it was started with.
    pub(in crate::engine) async fn get_record(
        &self,
        name: &Name,
        with_request: bool,
    ) -> Result<(Arc<View>, Option<Any>)> {
        let key = self.context.key(name);
        for _ in 0..READS {
            let view = self.get(name).await?;
            if !with_request {
                return Ok((view, None));
            }
            let request = view.operation.spec.request.as_ref();
            if let Some(request) =
                payload(&*self.context.store, key, Slot::Request, request).await?
            {
                return Ok((view, request));
            }
        }
        Err(Error::internal(&format!("the request of {name} is missing")))
    }

    /// Requests a cancel; the worker may confirm it later.
    pub(in crate::engine) async fn cancel(&self, name: &Name, etag: String) -> Result<Done> {
        self.commands.apply(name, Command::Cancel(Cancel { etag })).await
    }

    /// Is no longer interested in it.
    pub(in crate::engine) async fn delete(&self, name: &Name, etag: String) -> Result<Done> {
        match self.commands.apply(name, Command::Delete(Delete { etag, nonce: random() })).await {
            Err(error) if error.reason == Reason::Internal => {
                if !self.reader.delete_unreadable(name).await? {
                    return Err(error);
                }
                let key = self.context.key(name);
                self.hub.refresh(key);
                let now = self.context.now(key);
                Ok(Done { record: None, answer: Answer::default(), changed: true, time: now })
            }
            done => done,
        }
    }

    /// Parks it.
    pub(in crate::engine) async fn pause(
        &self,
        name: &Name,
        etag: String,
        reason: String,
    ) -> Result<Arc<View>> {
        let pause = Pause { etag, reason, nonce: random() };
        self.commands.apply(name, Command::Pause(pause)).await?;
        self.reader.view(name).await
    }

    /// Ends its suspension.
    pub(in crate::engine) async fn resume(
        &self,
        name: &Name,
        etag: String,
        input: Option<Any>,
    ) -> Result<Arc<View>> {
        let resume = Resume { etag, input, nonce: random(), by_job: false };
        self.commands.apply(name, Command::Resume(Box::new(resume))).await?;
        self.reader.view(name).await
    }
}
