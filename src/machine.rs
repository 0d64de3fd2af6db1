//! The machine and the process that this is.

use std::sync::LazyLock;

use crate::clock::{Clock, SystemClock, Timestamp};

/// The name of this host; empty if it is no text.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_str().unwrap_or_default().to_owned()
}

/// The name of this process: that of its host, and its id there.
pub(crate) fn process_name() -> String {
    format!("{}-{}", host(), std::process::id())
}

/// When this process was first asked, which tells it from an earlier one of the same id.
pub(crate) fn started() -> Timestamp {
    static STARTED: LazyLock<Timestamp> = LazyLock::new(|| SystemClock::new().now());
    *STARTED
}
