//! What callers with stock clients send.

use std::time::Duration;

use super::fields::{duration, not_yet};
use crate::engine::{Error, ListQuery, Reason, Result};
use crate::limits::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MAX_WAIT};
use crate::operation::name::ParentPattern;
use crate::proto::google::longrunning::{ListOperationsRequest, WaitOperationRequest};

/// Reads a list; its `name` is the parent, with or without the collection (A12).
pub fn list(request: ListOperationsRequest) -> Result<ListQuery> {
    not_yet("filter", !request.filter.is_empty())?;
    if request.return_partial_success {
        return Err(Error::new(
            Reason::NotSupported,
            "return_partial_success is not supported; leave it false",
        )
        .with("field", "return_partial_success"));
    }
    let page_size = match usize::try_from(request.page_size) {
        Ok(0) => DEFAULT_PAGE_SIZE,
        Ok(size) => size.min(MAX_PAGE_SIZE),
        Err(_) => {
            return Err(Error::field(
                "page_size",
                format!("page_size is {}; it must not be negative", request.page_size),
            ));
        }
    };
    let parent = match request.name.strip_suffix("operations") {
        Some("") => "",
        Some(parent) if parent.len() > 1 && parent.ends_with('/') => &parent[..parent.len() - 1],
        _ => &request.name,
    };
    let parent = ParentPattern::parse(parent)
        .map_err(|error| Box::<Error>::from(error).with("field", "name"))?;
    Ok(ListQuery { parent, page_size, page_token: request.page_token })
}

/// How long a wait lasts: what was asked for, and no longer than the RPC's own deadline lets it.
pub fn wait(request: &WaitOperationRequest, longest: Option<Duration>) -> Result<Duration> {
    let asked = duration("timeout", request.timeout)?.unwrap_or(MAX_WAIT).min(MAX_WAIT);
    Ok(longest.map_or(asked, |longest| asked.min(longest)))
}
