//! Conversions for `google.longrunning.Operations`, and for lists of records.

use std::time::Duration;

use super::fields::{duration, not_yet};
use super::views::{is_full, published, record};
use crate::engine::{Engine, Error, ListPage, ListQuery, Listed, Reason, Result, Stats};
use crate::filter::{Filter, Order};
use crate::limits::{DEADLINE_MARGIN, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MAX_WAIT};
use crate::operation::counters;
use crate::operation::name::ParentPattern;
use crate::proto::google::longrunning::{
    ListOperationsRequest, ListOperationsResponse, WaitOperationRequest,
};
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::operation_stats::{Count, QueueCount};
use crate::proto::longhaul::v1::{
    GetOperationStatsRequest, ListOperationRecordsRequest, ListOperationRecordsResponse,
    OperationStats,
};
use crate::types::Registry;

/// The types that a list of these parents is filtered by.
pub async fn types(engine: &Engine, parent: &str, filter: &str) -> Result<Registry> {
    if filter.is_empty() {
        return Ok(engine.types().clone());
    }
    engine.types_at(self::parent(parent)).await
}

/// Reads a list; its `name` is the parent, with or without the collection (A12).
pub fn list(request: ListOperationsRequest, types: &Registry) -> Result<ListQuery> {
    Ok(ListQuery {
        page_size: page_size(request.page_size)?,
        parent: pattern("name", &request.name)?,
        filter: filter(&request.filter, types)?,
        order: Order::default(),
        page_token: request.page_token,
        partial: request.return_partial_success,
        listed: Listed::Operations,
    })
}

/// Reads a list of records.
pub fn list_records(request: ListOperationRecordsRequest, types: &Registry) -> Result<ListQuery> {
    not_yet("view", is_full(request.view)?)?;
    Ok(ListQuery {
        page_size: page_size(request.page_size)?,
        parent: pattern("parent", &request.parent)?,
        filter: filter(&request.filter, types)?,
        order: order(&request.order_by)?,
        page_token: request.page_token,
        partial: request.return_partial_success,
        listed: Listed::Records,
    })
}

pub(super) fn filter(text: &str, types: &Registry) -> Result<Filter> {
    Filter::parse(text, types).map_err(|error| {
        Error::new(Reason::InvalidFilter, format!("filter is wrong {error}"))
            .with("field", "filter")
            .with("position", error.position)
    })
}

fn order(text: &str) -> Result<Order> {
    Order::parse(text).map_err(|error| {
        Error::field("order_by", format!("order_by is wrong {error}"))
            .with("position", error.position)
    })
}

/// The parent in the text of a list, which may name the collection instead.
pub(super) fn parent(text: &str) -> &str {
    match text.strip_suffix("operations") {
        Some("") => "",
        Some(parent) if parent.len() > 1 && parent.ends_with('/') => &parent[..parent.len() - 1],
        _ => text,
    }
}

pub(super) fn page_size(page_size: i32) -> Result<usize> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(size) => Ok(size.min(MAX_PAGE_SIZE)),
        Err(_) => Err(Error::field(
            "page_size",
            format!("page_size is {page_size}; it must not be negative"),
        )),
    }
}

pub(super) fn pattern(field: &str, text: &str) -> Result<ParentPattern> {
    ParentPattern::parse(parent(text))
        .map_err(|error| Box::<Error>::from(error).with("field", field))
}

/// A page of a list.
pub fn list_reply(page: ListPage) -> ListOperationsResponse {
    let operations = page.views.into_iter().map(published).collect();
    let next_page_token = page.next_page_token;
    ListOperationsResponse { operations, next_page_token, unreachable: page.unreachable }
}

/// A page of a list of records.
pub fn list_records_reply(page: ListPage) -> ListOperationRecordsResponse {
    let operation_records = page.views.into_iter().map(|view| record(view, None)).collect();
    let next_page_token = page.next_page_token;
    ListOperationRecordsResponse {
        operation_records,
        next_page_token,
        unreachable: page.unreachable,
    }
}

/// Reads what to count.
pub fn stats(request: &GetOperationStatsRequest) -> Result<ParentPattern> {
    pattern("parent", &request.parent)
}

/// The counts.
pub fn stats_reply(stats: Stats) -> OperationStats {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let count = |(state, operations): (State, u64)| Count {
        state: state.into(),
        operations: number(operations),
    };
    let queue = |(queue, counts): (String, counters::QueueCount)| QueueCount {
        queue,
        pending_operations: number(counts.pending),
        running_operations: number(counts.running),
    };
    OperationStats {
        counts: stats.states.map(count).into(),
        stored_bytes: number(stats.stored_bytes),
        read_time: Some(stats.read_time.into()),
        queue_counts: stats.queues.into_iter().map(queue).collect(),
    }
}

/// Reads how long a wait lasts; `time_left` is how long its caller waits for the reply.
pub fn wait(request: &WaitOperationRequest, time_left: Option<Duration>) -> Result<Duration> {
    let asked = duration("timeout", request.timeout)?.unwrap_or(MAX_WAIT).min(MAX_WAIT);
    Ok(wait_within(asked, time_left))
}

/// As long as `asked`, and no longer than lets the reply arrive while its caller still waits.
pub fn wait_within(asked: Duration, time_left: Option<Duration>) -> Duration {
    let longest = |left: Duration| left.saturating_sub(DEADLINE_MARGIN.min(left / 4));
    time_left.map_or(asked, |left| asked.min(longest(left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_call_answers_while_its_caller_still_waits() {
        let wait = |left| wait_within(MAX_WAIT, left);
        assert_eq!(wait(Some(Duration::from_secs(2))), Duration::from_millis(1_900));
        assert_eq!(wait(Some(Duration::from_millis(100))), Duration::from_millis(75));
        assert_eq!(wait(Some(Duration::from_hours(99_999_999))), MAX_WAIT);
        assert_eq!(wait(None), MAX_WAIT);
    }
}
