//! A stream under HTTP/2 whose answers leave together.
//!
//! The library flushes after every larger piece of a body and each time that it has looked after its connection. Of ten answers that are
//! given in one turn each would be a system call and a TLS record of its own. Here its flushes do nothing: what it writes gathers
//! (`Wire` bounds how much), and leaves when whoever serves the connection has nothing more to say for the moment.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::wire::Wire;

/// The stream as the library has it.
#[derive(Debug)]
pub(super) struct Gathering(Arc<Mutex<Box<Wire>>>);

/// The way out of what has gathered.
pub(super) struct Outlet(Arc<Mutex<Box<Wire>>>);

impl Outlet {
    /// A stream for the library, and the way out.
    pub(super) fn new(wire: Box<Wire>) -> (Gathering, Self) {
        let wire = Arc::new(Mutex::new(wire));
        (Gathering(Arc::clone(&wire)), Self(wire))
    }

    /// Waits until `work`, which drives the connection, is done. Before each wait what has gathered leaves, as far as the peer takes it.
    ///
    /// # Errors
    /// When the connection is broken, or the peer takes nothing for longer than its patience.
    pub(super) fn drive<T>(
        &self,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> impl Future<Output = io::Result<T>> {
        poll_fn(move |cx| match work(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => match Pin::new(&mut **self.0.lock()).poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            },
        })
    }
}

impl AsyncRead for Gathering {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_take(cx, buffer)
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.lock()).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Gathering {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "the connection was gone before it was closed");
        }
    }
}

impl UniqueID for Gathering {
    fn id(&self) -> i32 {
        self.0.lock().descriptor()
    }
}

// What is known of the connection is in `Connection`; pingora needs none of it.
impl Ssl for Gathering {}
impl Peek for Gathering {}

impl GetTimingDigest for Gathering {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Gathering {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Gathering {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::super::wire::{Allowance, Transport};
    use super::*;

    async fn connected() -> (Gathering, Outlet, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let mut wire = Box::new(Wire::new(Transport::Plain(accepted), Duration::from_secs(5)));
        wire.allow(Allowance::Unbounded);
        let (stream, outlet) = Outlet::new(wire);
        (stream, outlet, peer)
    }

    #[tokio::test]
    async fn what_is_written_in_a_turn_leaves_at_its_end() {
        let (mut stream, outlet, mut peer) = connected().await;
        for piece in ["one ", "two ", "three"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            assert!(timeout(Duration::ZERO, stream.read_u8()).await.is_err());
        }
        assert_eq!(peer.try_read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut read = [0; 13];
        let mut hearing = Box::pin(stream.read_u8());
        let waiting = outlet.drive(|cx| hearing.as_mut().poll(cx));
        tokio::select! {
            _ = waiting => panic!("the peer says nothing"),
            all = peer.read_exact(&mut read) => { all.unwrap(); }
        }
        assert_eq!(&read, b"one two three");
    }

    #[tokio::test]
    async fn closing_writes_what_has_gathered() {
        let (mut stream, _outlet, mut peer) = connected().await;
        stream.write_all(b"last words").await.unwrap();
        AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last words");
    }
}
