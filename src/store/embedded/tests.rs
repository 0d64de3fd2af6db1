use std::path::Path;

use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::store::conformance::{Harness, suite};

fn options(path: &Path, clock: &Arc<ManualClock>) -> Options {
    Options { path: path.to_owned(), keyspace: None, accept_loss: false, clock: clock.clone() }
}

fn clock() -> Arc<ManualClock> {
    ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000))
}

async fn fresh() -> Harness {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let clock = clock();
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("a new store");
    let again = clock.clone();
    let reopen = move || {
        let (directory, clock) = (directory.clone(), again.clone());
        async move {
            let store = EmbeddedStore::open(options(directory.path(), &clock));
            store.expect("the same store") as Arc<dyn Store>
        }
        .boxed()
    };
    Harness::new(store, clock, Some(Box::new(reopen)))
}

suite!(fresh);
