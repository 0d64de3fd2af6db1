//! Lists of jobs, oldest first within their parent.

use super::calls::Jobs;
use super::pages::{PagedList, parent_of};
use super::view::JobView;
use crate::engine::access::Caller;
use crate::engine::error::Result;
use crate::job::Job;
use crate::operation::name::ParentPattern;
use crate::record::job::{JOBS, jobs_prefix};
use crate::store::{Entry, Key};

/// A list of jobs.
#[derive(Clone, Debug)]
pub struct JobQuery {
    /// Of which parents.
    pub parent: ParentPattern,
    /// At most this many.
    pub page_size: usize,
    /// The token of the previous page.
    pub page_token: String,
}

impl Jobs {
    /// A page of jobs without their requests, and the token of the next one.
    pub async fn list(&self, caller: &Caller, query: &JobQuery) -> Result<(Vec<JobView>, String)> {
        let JobQuery { parent, page_size, page_token } = query;
        self.tenants.read(parent.as_str()).await;
        let prefix = if parent.is_wildcard() {
            parent.prefix().as_bytes().to_vec()
        } else {
            jobs_prefix(parent.as_str())
        };
        let place = (JOBS, prefix, false);
        let mut list =
            PagedList::open(&self.context, caller, place, &[parent.as_str()], page_token)?;
        let mut page = Vec::new();
        for _ in 0..BATCHES {
            let wanted = page_size - page.len();
            let mut entries = list.entries(&self.context, wanted).await?;
            let more = entries.len() > wanted;
            entries.truncate(wanted);
            match entries.last() {
                Some(last) if matches(parent, last) => list.pass(last),
                Some(last) => list.pass_parent(last),
                None => {}
            }
            entries.retain(|entry| matches(parent, entry));
            page.extend(self.listed(entries).await?);
            if !more {
                return Ok((page, String::new()));
            }
            if page.len() == *page_size {
                break;
            }
        }
        let token = list.token(&self.context)?;
        Ok((page, token))
    }

    async fn listed(&self, entries: Vec<Entry>) -> Result<impl Iterator<Item = JobView>> {
        let found: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        let jobs = self.reader.read_each::<Job>(&found).await?;
        let jobs = jobs.into_iter().filter_map(|job| job.ok().flatten());
        let jobs = jobs.filter(|before| !before.record.deleted);
        Ok(jobs.map(|before| JobView { job: before.record, request: None }))
    }
}

fn matches(pattern: &ParentPattern, entry: &Entry) -> bool {
    std::str::from_utf8(parent_of(entry)).is_ok_and(|parent| pattern.matches(parent))
}

/// How many times a page reads entries; a page may be short, even empty (AIP-158).
const BATCHES: usize = 50;
