//! Webhook endpoints: create, get, change, delete, rotate, resume; and which of them are called about an operation.

pub(super) mod alter;
pub(super) mod calls;
pub(super) mod found;
pub(super) mod listening;
