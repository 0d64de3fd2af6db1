//! Retries of the published service configuration: five attempts with pauses from 0.5 s, doubling up to 10 s, if the server is
//! unreachable.

use std::future::Future;
use std::time::Duration;

use tonic::{Response, Status};
use tonic_types::StatusExt;

use super::outage::{Outage, outage};
use crate::clock::{Clock, SystemClock};

/// Calls until the server answers, at most five times.
pub(super) async fn retried<T, F: Future<Output = Result<Response<T>, Status>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, Status> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(status) if matches!(outage(&status), Some(Outage::Away | Outage::Broken)) => {
                rest(pause.max(asked_for(&status))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            answer => return answer.map(Response::into_inner),
        }
    }
    call().await.map(Response::into_inner)
}

/// The retry delay that the server asks for.
pub(super) fn asked_for(status: &Status) -> Duration {
    status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default()
}

pub(super) async fn rest(pause: Duration) {
    if !pause.is_zero() {
        SystemClock::new().sleep(pause.min(LONGEST_PAUSE)).await;
    }
}

const ATTEMPTS: u32 = 5;
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
