//! A thread per core: one accepts connections, each other serves those that it was handed.
//!
//! Each thread has a runtime of its own, so a call is served where its connection is, and what it asks of the store comes
//! back on that thread: no work is stolen, nobody else is woken. Against one runtime for all, this saves about a quarter of
//! the CPU time of a call (`docs/performance.md`). The price is balance: a connection stays where it is, so the least busy
//! thread gets the next one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::clock::Clock;
use crate::lane;

/// The threads, from start to end.
pub(crate) struct Cores {
    cores: Vec<Core>,
    end: CancellationToken,
}

struct Core {
    /// Bounded: where a thread does not take its connections, accepting waits.
    connections: mpsc::Sender<Handed>,
    load: Arc<AtomicUsize>,
    served: oneshot::Receiver<anyhow::Result<()>>,
    thread: JoinHandle<()>,
}

/// A connection on its way to its thread.
struct Handed {
    stream: std::net::TcpStream,
    counted: Counted,
}

/// Counts as load of a thread while it lives.
struct Counted(Arc<AtomicUsize>);

/// A connection that counts.
pub(crate) struct Connection {
    stream: TcpStream,
    _counted: Counted,
}

impl Cores {
    /// Starts so many threads; each serves what `serve` makes of its connections, and stays for its tasks until [`Self::end`].
    pub(crate) fn start<F, S>(count: usize, serve: F) -> anyhow::Result<Self>
    where
        F: Fn(Incoming) -> S + Clone + Send + 'static,
        S: Future<Output = anyhow::Result<()>>,
    {
        let end = CancellationToken::new();
        let core = |number| Core::start(number, serve.clone(), end.clone());
        let cores = (1..=count.max(1)).map(core).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { cores, end })
    }

    /// Hands connections out until `until` resolves, then waits until all are served.
    pub(crate) async fn accept(
        &mut self,
        listener: TcpListener,
        clock: &dyn Clock,
        until: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        tokio::pin!(until);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut until => break,
            };
            match accepted {
                Ok((stream, _)) => self.hand_out(stream).await,
                // Such as too many open files, or a caller that is gone again: the next one may fare better.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    clock.sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        for core in &mut self.cores {
            // A thread that is gone has said why when it went.
            if let Ok(served) = (&mut core.served).await {
                served?;
            }
        }
        Ok(())
    }

    async fn hand_out(&self, stream: TcpStream) {
        let least_busy = self.cores.iter().min_by_key(|core| core.load.load(Ordering::Relaxed));
        let prepared = stream.set_nodelay(true).and_then(|()| stream.into_std());
        let (Some(core), Ok(stream)) = (least_busy, prepared) else { return };
        let counted = Counted::new(&core.load);
        if core.connections.send(Handed { stream, counted }).await.is_err() {
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
        F: Fn(Incoming) -> S + Send + 'static,
        S: Future<Output = anyhow::Result<()>>,
    {
        let (connections, handed) = mpsc::channel(QUEUE);
        let (done, served) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("longhaul-core-{number}")).spawn(
            move || {
                lane::enter(number);
                runtime.block_on(async move {
                    let result = serve(incoming(handed)).await;
                    // Nobody waits for it where the server's patience has ended.
                    let _ = done.send(result);
                    end.cancelled().await;
                });
            },
        )?;
        Ok(Self { connections, load: Arc::default(), served, thread })
    }
}

pub(crate) type Incoming = Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>;

fn incoming(mut handed: mpsc::Receiver<Handed>) -> Incoming {
    let handed = futures_util::stream::poll_fn(move |context| handed.poll_recv(context));
    Box::pin(handed.map(|Handed { stream, counted }| {
        Ok(Connection { stream: TcpStream::from_std(stream)?, _counted: counted })
    }))
}

impl Counted {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Connections that wait for their thread.
const QUEUE: usize = 64;
const PAUSE: Duration = Duration::from_millis(50);
