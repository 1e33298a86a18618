//! A stream lent to pingora for one request.
//!
//! Pingora owns the stream it serves and drops it after every failure. Here a dropped stream goes home, and whoever
//! lent it decides whether the connection lives on.

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

/// The stream while it is lent.
#[derive(Debug)]
pub(super) struct Lent {
    wire: Option<Box<Wire>>,
    home: Home,
}

/// Where the stream is found after it has been dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Home(Arc<Mutex<Option<Box<Wire>>>>);

impl Lent {
    /// Lends a stream.
    pub(super) fn new(wire: Box<Wire>) -> (Self, Home) {
        let home = Home::default();
        (Self { wire: Some(wire), home: home.clone() }, home)
    }

    fn wire(&mut self) -> Pin<&mut Wire> {
        Pin::new(self.wire.as_mut().expect("only `drop` takes the stream away"))
    }
}

impl Home {
    /// The stream, when it has come home.
    pub(super) fn take(&self) -> Option<Box<Wire>> {
        self.0.lock().take()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.home.0.lock() = self.wire.take();
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().wire().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire().poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Lent {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "the connection was gone before it was closed");
        }
    }
}

impl UniqueID for Lent {
    fn id(&self) -> i32 {
        self.wire.as_ref().map_or(-1, |wire| wire.descriptor())
    }
}

// What is known of the connection is in `Connection`; pingora needs none of it.
impl Ssl for Lent {}
impl Peek for Lent {}

impl GetTimingDigest for Lent {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Lent {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Lent {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
