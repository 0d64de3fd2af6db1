//! Removing executions: beyond the history limit of their job, and with their job.

use crate::clock::Timestamp;
use crate::engine::commands::apply::Commands;
use crate::engine::error::Result;
use crate::engine::firing::transactions::{JobTransaction, RemoveExecution};
use crate::engine::transact::{Decision, Ended};
use crate::job::{Execution, ExecutionEnd, Job, Trimmed};
use crate::record::execution::{EXECUTIONS, executions_prefix, keys};
use crate::record::{Before, Change};
use crate::store::{Entry, Index, Key, Scan};

/// Which executions may be removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Removable {
    /// Those that are over, and whose jobs know it.
    Settled,
    /// All.
    All,
}

/// Removes the oldest executions beyond the limit of the job, a bounded number.
pub(super) async fn trim(commands: &Commands, job: &Job) -> Result<Trimmed> {
    let limit = job.config.history_limit as usize;
    // Not beyond the last one: on disk, what was removed before lies there.
    let most = job.kept.map_or(usize::MAX, |kept| kept as usize).min(limit + AT_ONCE);
    let mut scan = Scan::first(Index::new(EXECUTIONS), most);
    scan = Scan { descending: true, ..scan }.with_prefix(&executions_prefix(&job.name));
    let entries = commands.context().store.scan(scan).await?;
    let found = entries.len();
    let oldest = entries.into_iter().skip(limit).collect();
    let removed = remove(commands, oldest, Removable::Settled).await?;
    let left = if found < most {
        Some((found - removed) as u32)
    } else {
        job.kept.map(|kept| kept.saturating_sub(removed as u32))
    };
    Ok(Trimmed { seen: job.kept, left })
}

/// Removes executions of a deleted job, a bounded number, and the job once there are none. Whether anything was removed.
pub(super) async fn purge(commands: &Commands, key: Key, job: &Job) -> Result<bool> {
    let scan = Scan::first(Index::new(EXECUTIONS), AT_ONCE);
    let scan = scan.with_prefix(&executions_prefix(&job.name));
    let entries = commands.context().store.scan(scan).await?;
    if !entries.is_empty() {
        return Ok(remove(commands, entries, Removable::All).await? > 0);
    }
    let mut removal = JobTransaction::new(key, |before: Option<&Before<Job>>, now| match before {
        Some(Before { record, .. }) if record.deleted && record.runs.is_empty() => {
            let is_remembered = record.forget_time.is_some_and(|time| time > now);
            match is_remembered {
                true if record.emptied => Decision::Keep,
                true => Decision::Commit(Box::new(Change::of(Some(emptied(record, now))))),
                false => Decision::Commit(Box::new(Change::of(None))),
            }
        }
        _ => Decision::Keep,
    });
    let ended = commands.transactor().transact_one(&mut removal).await.into_result()?;
    Ok(matches!(ended, Ended::Written { .. }))
}

/// What is left of a deleted job until its deletion is forgotten.
fn emptied(job: &Job, now: Timestamp) -> Job {
    let mut job = Job { emptied: true, ..job.clone() };
    job.config.spec.make_mut().request = None;
    job.settle(now);
    job
}

/// Removes the executions of these entries; how many were removed.
async fn remove(commands: &Commands, entries: Vec<Entry>, which: Removable) -> Result<usize> {
    let found: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
    if found.is_empty() {
        return Ok(0);
    }
    let (mut orphans, mut removals) = (Vec::new(), Vec::new());
    let begun = commands.reader().read_each::<Execution>(&found).await?;
    for ((entry, key), begun) in entries.into_iter().zip(found).zip(begun) {
        match begun {
            Ok(Some(begun)) => {
                let operation = commands.context().key(&begun.record.name().operation());
                removals.push(RemoveExecution { operation, key, end: None });
            }
            Ok(None) => orphans.push(entry),
            // Noted where it was read.
            Err(_) => {}
        }
    }
    let mut removed = orphans.len();
    commands.reader().drop_orphans(&Index::new(EXECUTIONS), orphans).await;
    let ends: Vec<Key> = removals.iter().map(|it| keys(it.operation)[1]).collect();
    let ends = commands.reader().read_each::<ExecutionEnd>(&ends).await?;
    for (removal, end) in removals.iter_mut().zip(ends) {
        removal.end = end.ok().flatten();
    }
    let is_settled = |end: &Before<ExecutionEnd>| end.record.settled;
    removals.retain(|it| which == Removable::All || it.end.as_ref().is_some_and(is_settled));
    let ended = commands.transactor().transact(&mut removals).await;
    removed += ended.iter().filter(|ended| matches!(ended, Ended::Written { .. })).count();
    Ok(removed)
}

/// Removes one execution that is over.
///
/// # Errors
/// If the store does not answer.
pub(super) async fn remove_one(
    commands: &Commands,
    operation: Key,
    end: Before<ExecutionEnd>,
) -> Result<()> {
    let mut removal = RemoveExecution { operation, key: keys(operation)[0], end: Some(end) };
    match commands.transactor().transact_one(&mut removal).await {
        Ended::Unreadable(damage) => Err(damage.error()),
        ended => ended.into_result().map(drop),
    }
}

/// Executions that are removed in one go.
const AT_ONCE: usize = 100;
