//! The turn of a call to read whole operations. A call that is made to wait gives it up meanwhile, so that others go on.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

tokio::task_local! {
    static TURN: Turn;
}

/// A place among the calls of a connection that read at the same time, and one among those of all connections.
pub(crate) struct Turn(RefCell<Option<Places>>);

type Places = [OwnedSemaphorePermit; 2];

impl Turn {
    /// Waits for a place in each, in this order; `None` if they are closed.
    pub(crate) async fn take(own: &Arc<Semaphore>, all: &Arc<Semaphore>) -> Option<Self> {
        let own = Arc::clone(own).acquire_owned().await.ok()?;
        let all = Arc::clone(all).acquire_owned().await.ok()?;
        Some(Self(RefCell::new(Some([own, all]))))
    }
}

/// Runs a call that has a turn, or needs none, and returns the turn that it has at its end.
pub(crate) fn run<T>(
    turn: Option<Turn>,
    call: impl Future<Output = T>,
) -> impl Future<Output = (T, Option<Turn>)> {
    let Some(turn) = turn else { return Either::Right(call.map(|output| (output, None))) };
    let call = call.map(|output| {
        let places = TURN.with(|turn| turn.0.take());
        (output, places.map(|places| Turn(RefCell::new(Some(places)))))
    });
    Either::Left(TURN.scope(turn, call))
}

impl fmt::Debug for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Turn").finish_non_exhaustive()
    }
}

/// Waits for something without the turn of this call, if it has one, and takes another turn afterwards.
pub(crate) async fn pause<T>(wait: impl Future<Output = T>) -> T {
    let places = TURN.try_with(|turn| turn.0.take()).ok().flatten();
    let of = places.as_ref().map(|[own, all]| (own.semaphore().clone(), all.semaphore().clone()));
    drop(places);
    let output = wait.await;
    if let Some((own, all)) = of
        && let Some(next) = Turn::take(&own, &all).await
    {
        // It runs within this very call.
        let _ = TURN.try_with(|turn| turn.0.swap(&next.0));
    }
    output
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_call_that_is_made_to_wait_leaves_its_turn_to_others_and_takes_another() {
        let (own, all) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let (goes_on, ends) = (Notify::new(), Notify::new());
        let first = Turn::take(&own, &all).await;
        let mut call = Box::pin(run(first, async {
            pause(goes_on.notified()).await;
            ends.notified().await;
        }));
        assert!(Turn::take(&own, &all).now_or_never().is_none(), "there is one place");
        assert!((&mut call).now_or_never().is_none());
        let second = Turn::take(&own, &all).now_or_never().expect("its place");
        goes_on.notify_one();
        assert!((&mut call).now_or_never().is_none(), "it waits for a turn");
        drop(second);
        assert!((&mut call).now_or_never().is_none(), "it runs");
        assert!(Turn::take(&own, &all).now_or_never().is_none(), "with the place");
        ends.notify_one();
        let ((), turn) = call.await;
        assert!(Turn::take(&own, &all).now_or_never().is_none(), "until its answer is written");
        drop(turn);
        assert!(Turn::take(&own, &all).now_or_never().is_some());
        // Without a turn there is none to give up.
        assert!(run(None, pause(async {})).await.1.is_none());
    }
}
