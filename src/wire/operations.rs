//! What callers with stock clients send.

use std::time::Duration;

use super::fields::{duration, not_yet};
use super::views::is_full;
use crate::engine::{Error, ListQuery, Listed, Reason, Result};
use crate::limits::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MAX_WAIT};
use crate::operation::name::ParentPattern;
use crate::proto::google::longrunning::{ListOperationsRequest, WaitOperationRequest};
use crate::proto::longhaul::v1::ListOperationRecordsRequest;

/// Reads a list; its `name` is the parent, with or without the collection (A12).
pub fn list(request: ListOperationsRequest) -> Result<ListQuery> {
    not_yet("filter", !request.filter.is_empty())?;
    whole(request.return_partial_success)?;
    query("name", &request.name, request.page_size, request.page_token, Listed::Operations)
}

/// Reads a list of records.
pub fn list_records(request: ListOperationRecordsRequest) -> Result<ListQuery> {
    not_yet("filter", !request.filter.is_empty())?;
    not_yet("order_by", !request.order_by.is_empty())?;
    not_yet("view", is_full(request.view)?)?;
    whole(request.return_partial_success)?;
    query("parent", &request.parent, request.page_size, request.page_token, Listed::Records)
}

fn whole(partial: bool) -> Result<()> {
    if partial {
        return Err(Error::new(
            Reason::NotSupported,
            "return_partial_success is not supported; leave it false",
        )
        .with("field", "return_partial_success"));
    }
    Ok(())
}

fn query(
    field: &str,
    parent: &str,
    page_size: i32,
    page_token: String,
    listed: Listed,
) -> Result<ListQuery> {
    let page_size = match usize::try_from(page_size) {
        Ok(0) => DEFAULT_PAGE_SIZE,
        Ok(size) => size.min(MAX_PAGE_SIZE),
        Err(_) => {
            return Err(Error::field(
                "page_size",
                format!("page_size is {page_size}; it must not be negative"),
            ));
        }
    };
    let parent = match parent.strip_suffix("operations") {
        Some("") => "",
        Some(parent) if parent.len() > 1 && parent.ends_with('/') => &parent[..parent.len() - 1],
        _ => parent,
    };
    let parent = ParentPattern::parse(parent)
        .map_err(|error| Box::<Error>::from(error).with("field", field))?;
    Ok(ListQuery { parent, page_size, page_token, listed })
}

/// How long a wait lasts: what was asked for, and no longer than the RPC's own deadline lets it.
pub fn wait(request: &WaitOperationRequest, longest: Option<Duration>) -> Result<Duration> {
    let asked = duration("timeout", request.timeout)?.unwrap_or(MAX_WAIT).min(MAX_WAIT);
    Ok(longest.map_or(asked, |longest| asked.min(longest)))
}
