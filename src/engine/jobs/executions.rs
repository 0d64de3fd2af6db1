//! Executions: get, list, delete.

use std::sync::Arc;

use super::pages::PagedList;
use super::view::ExecutionView;
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::firing::fire::Firing;
use crate::engine::reading::reader::Reader;
use crate::engine::tenants::Tenants;
use crate::filter::{Filter, Verdict};
use crate::job::name::{ExecutionName, JobName};
use crate::job::{Execution, ExecutionEnd, JobRejection};
use crate::limits::MAX_LIST_READS;
use crate::operation::Record;
use crate::record::Before;
use crate::record::execution::{EXECUTIONS, executions_prefix, keys};
use crate::store::{Entry, Key};

/// Which executions of a job to list.
#[derive(Clone, Debug)]
pub struct ExecutionQuery {
    /// The job.
    pub job: JobName,
    /// At most this many.
    pub page_size: usize,
    /// The token of the previous page.
    pub page_token: String,
    /// Which ones.
    pub filter: Filter,
    /// Whether the oldest come first.
    pub oldest_first: bool,
}

/// The verbs of executions.
pub struct Executions {
    pub(super) context: Arc<Context>,
    pub(super) reader: Arc<Reader>,
    pub(super) firing: Arc<Firing>,
    pub(super) tenants: Arc<Tenants>,
}

impl Executions {
    /// An execution with its payloads.
    pub async fn get(&self, name: &ExecutionName) -> Result<ExecutionView> {
        self.tenants.read(name.job.parent()).await;
        let operation = self.context.key(&name.operation());
        let begun = self.reader.read::<Execution>(keys(operation)[0]).await?;
        let begun = begun.filter(|begun| begun.record.job == name.job);
        let execution = begun.ok_or_else(|| not_found(name))?.record;
        let mut views = self.views(vec![execution]).await?;
        let mut view = views.pop().ok_or_else(|| not_found(name))?;
        view.load(&*self.context.store, keys(operation)).await?;
        Ok(view)
    }

    /// A page of executions without payloads, and the token of the next one.
    pub async fn list(
        &self,
        caller: &Caller,
        query: &ExecutionQuery,
    ) -> Result<(Vec<ExecutionView>, String)> {
        let ExecutionQuery { job, page_size, page_token, filter, oldest_first } = query;
        self.tenants.read(job.parent()).await;
        let order = if *oldest_first { "asc" } else { "desc" };
        let parts = [job.as_str(), filter.canonical(), order];
        let place = (EXECUTIONS, executions_prefix(job), !oldest_first);
        let mut list = PagedList::open(&self.context, caller, place, &parts, page_token)?;
        let (mut page, mut read) = (Vec::new(), 0);
        loop {
            let wanted =
                (page_size - page.len()).max(if filter.is_empty() { 1 } else { read }).min(AT_ONCE);
            let mut entries = list.entries(&self.context, wanted).await?;
            let more = entries.len() > wanted;
            entries.truncate(wanted);
            read += entries.len();
            for (entry, view) in self.read(entries).await? {
                if page.len() == *page_size {
                    return Ok((page, list.token(&self.context)?));
                }
                list.pass(&entry);
                page.extend(view.filter(|view| filter.test(view) == Verdict::Match));
            }
            if !more {
                return Ok((page, String::new()));
            }
            if page.len() == *page_size || read >= MAX_LIST_READS {
                return Ok((page, list.token(&self.context)?));
            }
        }
    }

    /// Removes an execution that is over.
    pub async fn delete(&self, name: &ExecutionName) -> Result<()> {
        self.tenants.write(name.job.parent())?;
        let operation = self.context.key(&name.operation());
        let [beginning, end] = keys(operation);
        let begun = self.reader.read::<Execution>(beginning).await?;
        if begun.is_none_or(|begun| begun.record.job != name.job) {
            return Err(not_found(name));
        }
        let Some(ended) = self.reader.read::<ExecutionEnd>(end).await? else {
            let why = format!("{name} is not over; cancel its operation, or wait for it");
            let refused = JobRejection::InvalidState {
                name: name.job.clone(),
                verb: "delete an execution of",
                why,
            };
            return Err(refused.into());
        };
        let ended = if ended.record.settled {
            Some(ended)
        } else {
            self.firing.settle(vec![(end, ended)]).await;
            self.reader.read::<ExecutionEnd>(end).await?
        };
        match ended {
            Some(ended) => self.firing.remove(operation, ended).await,
            // Its job keeps no more executions.
            None => Ok(()),
        }
    }

    async fn read(&self, entries: Vec<Entry>) -> Result<Vec<(Entry, Option<ExecutionView>)>> {
        let found: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        let begun = self.reader.read_each::<Execution>(&found).await?;
        let (mut all, mut executions) = (Vec::with_capacity(entries.len()), Vec::new());
        for (entry, begun) in entries.into_iter().zip(begun) {
            let begun = begun.ok().flatten();
            all.push((entry, begun.is_some()));
            executions.extend(begun.map(|begun| begun.record));
        }
        let mut views = self.views(executions).await?.into_iter();
        let view = |(entry, is_there): (Entry, bool)| {
            let view = if is_there { views.next() } else { None };
            (entry, view)
        };
        Ok(all.into_iter().map(view).collect())
    }

    /// Executions with their ends, or with their operations where there is none.
    async fn views(&self, executions: Vec<Execution>) -> Result<Vec<ExecutionView>> {
        let names: Vec<_> = executions.iter().map(|it| it.name().operation()).collect();
        let of: Vec<Key> = names.iter().map(|name| self.context.key(name)).collect();
        let ends: Vec<Key> = of.iter().map(|key| keys(*key)[1]).collect();
        let ends = self.reader.read_each::<ExecutionEnd>(&ends).await?;
        let ends: Vec<Option<ExecutionEnd>> =
            ends.into_iter().map(|end| end.ok().flatten().map(|end| end.record)).collect();
        let open: Vec<Key> =
            of.iter().zip(&ends).filter(|(_, end)| end.is_none()).map(|(key, _)| *key).collect();
        let mut open = self.reader.read_each::<Record>(&open).await?.into_iter();
        let mut views = Vec::with_capacity(executions.len());
        for ((execution, end), operation_name) in executions.into_iter().zip(ends).zip(names) {
            let found = if end.is_none() { open.next() } else { None };
            let operation = match found.and_then(std::result::Result::ok).flatten() {
                Some(Before { record: Record::Operation(operation), .. }) => Some(*operation),
                _ => None,
            };
            let (request, response) = (None, None);
            views.push(ExecutionView {
                execution,
                end,
                operation,
                request,
                response,
                operation_name,
            });
        }
        Ok(views)
    }
}

fn not_found(name: &ExecutionName) -> Box<Error> {
    Error::on(Reason::ExecutionNotFound, name.to_string(), format!("there is no execution {name}"))
}

/// Entries that are read together.
const AT_ONCE: usize = 200;
