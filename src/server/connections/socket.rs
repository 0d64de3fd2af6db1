//! The socket of a connection: plain or with TLS, counting what it reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::account::Account;

/// A socket, and the account that its bytes count on.
pub(super) struct Socket {
    pub(super) stream: SocketStream,
    pub(super) account: Arc<Account>,
}

/// What the bytes of requests and responses go through.
pub(super) enum SocketStream {
    /// Plain text.
    Plain(TcpStream),
    /// TLS. What was received counts when it is decrypted: a handshake alone is silence.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Does the same with either.
macro_rules! either {
    ($socket:expr, $stream:ident => $what:expr) => {
        match &mut $socket.stream {
            SocketStream::Plain(plain) => {
                let $stream = Pin::new(plain);
                $what
            }
            SocketStream::Encrypted(encrypted) => {
                let $stream = Pin::new(&mut **encrypted);
                $what
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = either!(self, stream => stream.poll_read(context, buffer));
        self.account.received(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            SocketStream::Plain(stream) => stream.is_write_vectored(),
            SocketStream::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}
