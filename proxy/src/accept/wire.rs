//! An agent's byte stream, with or without TLS, as the HTTP code reads and writes it.
//!
//! Reading ends where the current request ends: what an agent pipelines behind it stays here. Writing gathers small
//! pieces, so that an answer's head and body leave in one packet and one TLS record. Neither holds a buffer while the
//! connection is idle.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// The bytes below, encrypted or not.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The stream of one connection.
#[derive(Debug)]
pub(super) struct Wire {
    transport: Transport,
    /// Read, but not yet taken.
    ahead: BytesMut,
    allowance: Allowance,
    /// Taken, but not yet written.
    gathered: BytesMut,
    stall: Stall,
}

/// How much of what comes may be read as part of the current request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// This many bytes more; then only the end of the stream is reported.
    Exactly(u64),
    /// Whatever comes.
    Unbounded,
}

impl Wire {
    /// A stream. A peer that takes no byte for `patience` while there is something to write is given up.
    pub(super) fn new(transport: Transport, patience: Duration) -> Self {
        Self {
            transport,
            ahead: BytesMut::new(),
            allowance: Allowance::Exactly(0),
            gathered: BytesMut::new(),
            stall: Stall { patience, timer: None },
        }
    }

    /// What has been read and not been taken.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Forgets the first `count` of these bytes.
    pub(super) fn skip(&mut self, count: usize) {
        self.ahead.advance(count);
    }

    /// Takes all of them.
    pub(super) fn take_ahead(&mut self) -> BytesMut {
        std::mem::take(&mut self.ahead)
    }

    /// Gives back what was taken and is not used; nothing has been read ahead in between.
    pub(super) fn give_back(&mut self, ahead: BytesMut) {
        debug_assert!(self.ahead.is_empty(), "bytes would change places");
        // What is empty is dropped: it may have memory.
        if !ahead.is_empty() {
            self.ahead = ahead;
        }
    }

    /// Reads at most `limit` bytes to the end of `buffer`, past what has been read ahead. The count is zero at the end of the stream.
    pub(super) async fn read_into(&mut self, buffer: &mut BytesMut, limit: usize) -> io::Result<usize> {
        self.transport.read_buf(&mut buffer.limit(limit)).await
    }

    /// Writes two pieces at once, past what is gathered, which leaves before them. A peer that takes longer over them than its patience
    /// is given up.
    pub(super) async fn write_through(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        self.write_counted(first, second, &mut 0).await
    }

    /// The same, and adds to `taken` how many bytes of the second piece the peer's side of the kernel has, however it ends.
    pub(super) async fn write_counted(&mut self, first: &[u8], second: &[u8], taken: &mut u64) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.flush().await?;
        }
        let mut both = Buf::chain(first, second);
        let writing = async {
            self.transport.write_all_buf(&mut both).await?;
            self.transport.flush().await
        };
        let ended = timeout(self.stall.patience, writing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        *taken += second.len().saturating_sub(both.remaining()) as u64;
        ended
    }

    /// Writes of both pieces what can be written without waiting, past what is gathered, behind which nothing is written. Gives how many bytes
    /// that were, and whether the kernel has all of them.
    pub(super) fn write_now(&mut self, first: &[u8], second: &[u8]) -> io::Result<(usize, bool)> {
        if !self.gathered.is_empty() {
            return Ok((0, false));
        }
        // Nobody is to be woken: who has something left writes again.
        let cx = &mut Context::from_waker(Waker::noop());
        let transport = Pin::new(&mut self.transport);
        let written = match second {
            [] => transport.poll_write(cx, first),
            _ => transport.poll_write_vectored(cx, &[io::IoSlice::new(first), io::IoSlice::new(second)]),
        };
        let Poll::Ready(count) = written? else { return Ok((0, false)) };
        let flushed = Pin::new(&mut self.transport).poll_flush(cx)?.is_ready();
        Ok((count, flushed && count == first.len() + second.len()))
    }

    /// Reads once more. The count is zero at the end of the stream.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Says how much may be read from now on.
    pub(super) fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Whether all that was allowed has been read.
    pub(super) fn is_spent(&self) -> bool {
        self.allowance == Allowance::Exactly(0)
    }

    /// The socket's number.
    pub(super) fn descriptor(&self) -> i32 {
        match &self.transport {
            Transport::Plain(tcp) => tcp.as_raw_fd(),
            Transport::Tls(tls) => tls.get_ref().0.as_raw_fd(),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // On the stack: it is gone while the connection waits.
        let mut space = [MaybeUninit::uninit(); FILL];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Reads what is allowed. What has been gathered stays: that it leaves is for the caller to see to.
    pub(super) fn poll_take(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowed = match self.allowance {
            Allowance::Exactly(0) => return self.poll_end(cx),
            Allowance::Exactly(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Allowance::Unbounded => usize::MAX,
        };
        let wanted = buffer.remaining().min(allowed);
        let before = buffer.filled().len();
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(wanted);
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
        } else if wanted == buffer.remaining() {
            ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
        } else {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(wanted));
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut part))?;
            let count = part.filled().len();
            buffer.advance(count);
        }
        if let Allowance::Exactly(left) = &mut self.allowance {
            *left -= (buffer.filled().len() - before) as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the end of the stream; bytes of a following request are kept.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < MAX_AHEAD {
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // Enough is waiting: nobody needs to be woken before the current request has ended.
        Poll::Pending
    }

    /// Writes what has been gathered, as far as the peer takes it now: whoever waits for the peer has no more to say
    /// for the moment. Pingora does not flush the pieces of a forwarded answer that has a length.
    fn push(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        match self.poll_gathered(cx) {
            Poll::Ready(Ok(())) => match Pin::new(&mut self.transport).poll_flush(cx) {
                Poll::Ready(flushed) => flushed,
                Poll::Pending => Ok(()),
            },
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(()),
        }
    }

    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            match Pin::new(&mut self.transport).poll_write(cx, &self.gathered) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.gathered.advance(count);
                    self.stall.progressed();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.stall.poll(cx),
            }
        }
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// Most requests fit.
const FILL: usize = 4096;

/// Bytes of pipelined requests kept while one is worked on.
const MAX_AHEAD: usize = 64 * 1024;

/// Bytes gathered before they are written: one full TLS record.
const GATHER: usize = 16 * 1024;

/// Watches over a peer that does not take what is written.
#[derive(Debug)]
struct Stall {
    patience: Duration,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Stall {
    fn progressed(&mut self) {
        self.timer = None;
    }

    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.push(cx)?;
        this.poll_take(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gathered.len() + bytes.len() > GATHER {
            ready!(this.poll_gathered(cx))?;
        }
        if bytes.len() < GATHER {
            if !this.gathered.is_empty() {
                // Where there are two pieces there are more: growing step by step would move them each time.
                this.gathered.reserve(GATHER - this.gathered.len());
            }
            this.gathered.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut this.transport).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                this.stall.progressed();
                Poll::Ready(written)
            }
            Poll::Pending => this.stall.poll(cx),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_gathered(cx))?;
        match Pin::new(&mut this.transport).poll_flush(cx) {
            Poll::Ready(flushed) => {
                this.stall.progressed();
                Poll::Ready(flushed)
            }
            Poll::Pending => this.stall.poll(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_gathered(cx))?;
        match Pin::new(&mut this.transport).poll_shutdown(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => this.stall.poll(cx),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (Wire::new(Transport::Plain(accepted), Duration::from_secs(5)), peer)
    }

    #[tokio::test]
    async fn reading_ends_where_the_request_ends() {
        let (mut wire, mut peer) = pair().await;
        peer.write_all(b"first secondNEXT").await.unwrap();
        while wire.ahead().len() < 6 {
            wire.fill().await.unwrap();
        }
        wire.allow(Allowance::Exactly(12));
        let mut request = [0; 12];
        wire.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"first second");
        assert!(wire.is_spent());
        drop(peer);
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0, "only the end is reported");
        assert_eq!(wire.ahead(), b"NEXT");
    }

    #[tokio::test]
    async fn small_writes_leave_together_when_flushed() {
        let (mut wire, mut peer) = pair().await;
        wire.write_all(b"head ").await.unwrap();
        wire.write_all(b"body").await.unwrap();
        assert_eq!(wire.gathered.len(), 9);
        wire.flush().await.unwrap();
        assert_eq!(wire.gathered.capacity(), 0, "no buffer is held between answers");
        let mut answer = [0; 9];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"head body");
    }

    #[tokio::test]
    async fn what_was_gathered_leaves_when_the_peer_is_waited_for() {
        let (mut wire, mut peer) = pair().await;
        wire.write_all(b"piece").await.unwrap();
        let (mut answer, mut request) = ([0; 5], [0; 8]);
        tokio::select! {
            _ = wire.read(&mut request) => panic!("the peer says nothing"),
            read = peer.read_exact(&mut answer) => { read.unwrap(); }
        }
        assert_eq!(&answer, b"piece");
    }

    #[tokio::test]
    async fn what_can_be_written_at_once_is_and_the_rest_is_told() {
        let (mut wire, mut peer) = pair().await;
        // A socket is known to take something once it has been asked.
        wire.write_through(b"-", b"").await.unwrap();
        assert_eq!(wire.write_now(b"head ", b"body").unwrap(), (9, true));
        let mut answer = [0; 10];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"-head body");
        let large = vec![7; 64 << 20];
        let (count, whole) = wire.write_now(b"", &large).unwrap();
        assert!(count < large.len() && !whole);
        wire.write_all(b"gathered").await.unwrap();
        assert_eq!(wire.write_now(b"not past it", b"").unwrap(), (0, false));
    }

    #[tokio::test]
    async fn a_large_write_follows_what_was_gathered() {
        let (mut wire, mut peer) = pair().await;
        let large = vec![7; GATHER * 2];
        wire.write_all(b"head").await.unwrap();
        wire.write_all(&large).await.unwrap();
        wire.flush().await.unwrap();
        let mut answer = vec![0; 4 + large.len()];
        peer.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"head") && answer[4..] == large);
    }
}
