//! A thread per core: one accepts connections, each other serves those that it was handed.
//!
//! Each thread has a runtime of its own, so a call is served where its connection is, and replies of the store
//! arrive on that thread: no work is stolen, and no other thread is woken. Against one runtime for all, this saves about a quarter of
//! the CPU time of a call (`docs/performance.md`). The price is balance: a connection stays where it is, so the least busy
//! thread gets the next one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Accepted, Admission, Connections};
use super::lane;

/// The threads, from start to end.
pub(crate) struct Cores {
    cores: Vec<Core>,
    end: CancellationToken,
}

struct Core {
    /// Bounded: where a thread does not take its connections, accepting waits. Closed, the thread serves those that it has.
    connections: Option<mpsc::Sender<Handed>>,
    load: Arc<AtomicUsize>,
    served: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// A connection on its way to its thread.
struct Handed {
    stream: std::net::TcpStream,
    place: Admission,
    counted: ThreadLoad,
}

/// Counts as load of a thread while it lives.
struct ThreadLoad(Arc<AtomicUsize>);

impl Cores {
    /// Starts so many threads; each does `serve` with its connections, and stays for its tasks until [`Self::end`].
    pub(crate) fn start<F, S>(count: usize, serve: F) -> anyhow::Result<Self>
    where
        F: Fn(Accepted) -> S + Clone + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let end = CancellationToken::new();
        let core = |number| Core::start(number, serve.clone(), end.clone());
        let cores = (1..=count.max(1)).map(core).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { cores, end })
    }

    /// Hands connections out while there are to be any, then waits until all are served.
    pub(crate) async fn accept(
        &mut self,
        listener: TcpListener,
        connections: &Connections,
    ) -> anyhow::Result<()> {
        while let Some(accepted) = connections.accept(&listener).await {
            self.hand_out(accepted).await;
        }
        drop(listener);
        for core in &mut self.cores {
            core.connections = None;
            // A thread that is gone has said why when it went.
            let _ = (&mut core.served).await;
        }
        Ok(())
    }

    async fn hand_out(&self, accepted: Accepted) {
        let least_busy = self.cores.iter().min_by_key(|core| core.load.load(Ordering::Relaxed));
        let Some(core) = least_busy else { return };
        let Some(connections) = &core.connections else { return };
        let Accepted { stream, place } = accepted;
        let Ok(stream) = stream.into_std() else { return };
        let counted = ThreadLoad::new(&core.load);
        if connections.send(Handed { stream, place, counted }).await.is_err() {
            tracing::error!("a thread that serves connections is gone");
        }
    }

    /// Ends the threads, and with them what still runs there.
    pub(crate) async fn end(self) {
        self.end.cancel();
        let threads: Vec<_> = self.cores.into_iter().map(|core| core.thread).collect();
        let joined =
            tokio::task::spawn_blocking(|| threads.into_iter().try_for_each(JoinHandle::join))
                .await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("a thread that served connections has panicked");
        }
    }
}

impl Core {
    fn start<F, S>(number: usize, serve: F, end: CancellationToken) -> io::Result<Self>
    where
        F: Fn(Accepted) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let (connections, handed) = mpsc::channel(QUEUE);
        let (done, served) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let thread = std::thread::Builder::new().name(format!("longhaul-core-{number}")).spawn(
            move || {
                lane::enter(number);
                runtime.block_on(async move {
                    let serving = async {
                        serve_handed(handed, serve).await;
                        // Not heard where the server's patience has ended.
                        let _ = done.send(());
                    };
                    end.run_until_cancelled(serving).await;
                    end.cancelled().await;
                });
                // A read that hangs, as on a broken disk, must not keep the process from ending.
                runtime.shutdown_background();
            },
        )?;
        Ok(Self { connections: Some(connections), load: Arc::default(), served, thread })
    }
}

/// Serves what is handed over until there will be no more, and all of it has ended.
async fn serve_handed<F, S>(mut handed: mpsc::Receiver<Handed>, serve: F)
where
    F: Fn(Accepted) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let tasks = TaskTracker::new();
    while let Some(Handed { stream, place, counted }) = handed.recv().await {
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let served = serve(Accepted { stream, place });
        tasks.spawn(async move {
            served.await;
            drop(counted);
        });
    }
    tasks.close();
    tasks.wait().await;
}

impl ThreadLoad {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for ThreadLoad {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections that wait for their thread.
const QUEUE: usize = 64;
/// Threads of each runtime for what waits for a disk.
const BLOCKING_THREADS: usize = 32;
