//! The way to a server: it stays while the server behind it is another one, and can be slammed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::dice::Dice;

/// Forwards between clients and server until it must cut them off.
pub(super) struct Door {
    address: SocketAddr,
    behind: Arc<Mutex<Behind>>,
    _tasks: JoinSet<()>,
}

struct Behind {
    server: SocketAddr,
    connections: Vec<AbortHandle>,
}

impl Door {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let behind = Arc::new(Mutex::new(Behind { server, connections: Vec::new() }));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, behind.clone()));
        Self { address, behind, _tasks: tasks }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it leads there.
    pub(super) fn lead_to(&self, server: SocketAddr) {
        lock(&self.behind).server = server;
    }

    /// Cuts connections, each with that chance in a hundred; how many.
    pub(super) fn slam(&self, dice: &mut Dice, often: u64) -> usize {
        let mut behind = lock(&self.behind);
        let before = behind.connections.len();
        behind.connections.retain(|connection| {
            let cut = dice.percent(often);
            if cut {
                connection.abort();
            }
            !cut
        });
        before - behind.connections.len()
    }
}

async fn accept(listener: TcpListener, behind: Arc<Mutex<Behind>>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.expect("a connection");
        let server = lock(&behind).server;
        let connection = connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(server).await {
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
        let mut behind = lock(&behind);
        behind.connections.retain(|connection| !connection.is_finished());
        behind.connections.push(connection);
    }
}

fn lock(behind: &Mutex<Behind>) -> MutexGuard<'_, Behind> {
    behind.lock().unwrap_or_else(PoisonError::into_inner)
}
