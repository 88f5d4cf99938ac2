//! A connection that ends when its certificates do.
//!
//! TLS checks certificates once, at the handshake. A connection could then outlive them for as long as neither end
//! closes it. This stream ends itself when the first of the two certificates ends, and when the clock goes back to
//! before the server's certificate began. It goes by the wall clock of this side, so that it notices a clock that jumps
//! as well. Calls in flight fail as on any broken connection and are made again on a new one; a repeated append is
//! answered with the first receipt.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use gapless_world::{
    LogEvent, Observer,
    tls::{self, Lifetime, wall_seconds},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::condition::{Condition, credentials_are_at_fault};

/// How often the wall clock is checked while nothing is said.
const LOOK: Duration = Duration::from_secs(30);

/// A stream, what ends it, and who is told.
pub(crate) struct Expiring<S> {
    stream: S,
    /// `None` if no certificate is involved.
    lifetime: Option<Lifetime>,
    timer: Pin<Box<Sleep>>,
    peer: String,
    observer: Arc<dyn Observer>,
    condition: Condition,
    closed: bool,
}

impl<S> Expiring<S> {
    pub(crate) fn new(
        stream: S,
        lifetime: Option<Lifetime>,
        peer: String,
        observer: Arc<dyn Observer>,
        condition: Condition,
    ) -> Expiring<S> {
        let timer = Box::pin(sleep_until(next_look(lifetime)));
        Expiring { stream, lifetime, timer, peer, observer, condition, closed: false }
    }

    /// Fails while the certificates are not valid. Registers for the next check.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(lifetime) = self.lifetime else {
            return Ok(());
        };
        if let Err(outside) = lifetime.check() {
            mark!("connection-outlived-its-certificate");
            let error = io::Error::other(outside);
            self.close(&error);
            return Err(error);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(next_look(self.lifetime));
        }
        Ok(())
    }

    fn close(&mut self, error: &io::Error) {
        self.condition.note(error);
        if !self.closed && credentials_are_at_fault(error) {
            // A TLS 1.3 client has finished its handshake before the server checks its certificate.
            let reason = tls::handshake_reason(error).to_owned();
            self.observer.see(LogEvent::HandshakeRefused { peer: self.peer.clone(), reason });
        }
        self.tell_closed(error.to_string());
    }

    fn tell_closed(&mut self, why: String) {
        if !self.closed {
            self.closed = true;
            self.observer.see(LogEvent::ConnectionClosed { peer: self.peer.clone(), why });
        }
    }

    fn noting<T>(&mut self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &outcome {
            self.close(error);
        }
        outcome
    }
}

/// Returns the moment of the next check. A certificate is valid through its last second, so the connection ends one
/// second later.
fn next_look(lifetime: Option<Lifetime>) -> Instant {
    let left = lifetime.map_or(LOOK, |lifetime| {
        let left = lifetime.not_after.saturating_sub(wall_seconds()).saturating_add(1);
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    });
    Instant::now() + left.clamp(Duration::from_secs(1), LOOK)
}

impl<S: AsyncRead + Unpin> AsyncRead for Expiring<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.look(cx)?;
        let before = into.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, into);
        if matches!(outcome, Poll::Ready(Ok(()))) && into.remaining() > 0 && into.filled().len() == before {
            self.close(&io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"));
        }
        self.noting(outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Expiring<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.look(cx)?;
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noting(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.noting(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noting(outcome)
    }
}

impl<S> Drop for Expiring<S> {
    fn drop(&mut self) {
        self.tell_closed("no longer needed".to_owned());
    }
}
