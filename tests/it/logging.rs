//! Log lines during lasting trouble.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::support::stream::hello;
use crate::support::*;

scenarios! {
    a_store_that_is_away_is_told_of_once_in_ten_seconds,
}

/// The log of this thread, which runs the whole server.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes in what is logged on this thread until the guard is dropped.
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let format = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(false);
        tracing::subscriber::set_default(format.finish())
    }

    /// What was logged.
    pub(crate) fn text(&self) -> String {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(text).expect("text")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

async fn a_store_that_is_away_is_told_of_once_in_ten_seconds(fixture: &Fixture) {
    let log = Log::default();
    let guard = log.listen();
    let server = fixture.with_agents().await;
    let lease = server.running(start("q")).await;
    let stream = WorkerStream::serving(&server, hello("q"), 4).await;
    let mut watcher = server.watch(watch(&lease.operation)).await;
    watcher.expect(EventType::Snapshot).await;

    fixture.store.set_away(true);
    for _ in 0..136 {
        for _ in 0..3 {
            server.get(&lease.operation).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
        }
        server.report(report(&lease)).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
        server.clock.advance(Duration::from_millis(250));
    }
    fixture.store.set_away(false);
    let well = async { while server.get(&lease.operation).await.is_err() {} };
    server.passing("the store to answer", well).await;
    stream.cut().await;
    drop(guard);

    let text = log.text();
    let troubled: Vec<&str> =
        text.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).collect();
    // 34 seconds, two servers, and on each the lines of the store and of health.
    assert!(
        (2..=2 * 2 * 4).contains(&troubled.len()),
        "{}:\n{}",
        troubled.len(),
        troubled.join("\n")
    );
}
