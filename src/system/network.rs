//! The network of a host in the forms that tonic takes: a stream of connections for its server, and a connector for its
//! client. Connections carry plain bytes; TLS is up to the log.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use gapless_world::{Listener, Net};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tonic::transport::server::Connected;
use tower::Service;

use super::Name;

/// The time from one SYN to the next, which doubles each time, and the number of SYNs. Both are the defaults of Linux
/// (`tcp_syn_retries` = 6, after which a connect fails with `TimedOut`, after 127 s in all).
const SYN_AGAIN: Duration = Duration::from_secs(1);
const SYNS: u32 = 7;

/// One connection, at either end.
pub struct Connection {
    stream: Box<dyn gapless_world::Stream>,
    peer: Name,
}

impl Connection {
    /// Returns the name of the host at its other end. The name is not proved: that is what certificates are for.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What tonic puts into the extensions of each request that arrives over a [`Connection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the host at the other end.
    pub host: String,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller { host: self.peer.to_string() }
    }
}

/// The connections that reach a server, for `serve_with_incoming_shutdown`. The stream never ends.
pub struct Incoming(Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>);

impl Incoming {
    pub(super) fn new(listener: Box<dyn Listener>) -> Self {
        Self(Box::pin(futures::stream::unfold(listener, |mut listener| async {
            let accepted = listener.accept().await;
            let connection = accepted.map(|(stream, peer)| Connection { stream, peer: peer.into() });
            Some((connection, listener))
        })))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming")
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// Connects to `scheme://host:port`, for `connect_with_connector_lazy` and similar methods.
#[derive(Clone)]
pub struct Connector(pub(super) Arc<dyn Net>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Connection>>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let net = self.0.clone();
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("`{uri}` names no host to connect to"))
            })?;
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            let stream = connect(&*net, &format!("{host}:{port}")).await?;
            Ok(TokioIo::new(Connection { stream, peer: host.into() }))
        })
    }
}

/// Connects as a kernel does. A SYN without an answer is sent again, so that a host that comes back is reached; a host
/// that stays away is given up.
async fn connect(net: &dyn Net, address: &str) -> io::Result<Box<dyn gapless_world::Stream>> {
    let mut wait = SYN_AGAIN;
    for _ in 0..SYNS {
        if let Ok(connected) = timeout(wait, net.connect(address)).await {
            return connected;
        }
        wait *= 2;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use gapless_world::net::BoxFuture;

    /// Answers the `n`-th attempt only, counted from 1.
    struct Shy(u32, AtomicU32);

    impl Net for Shy {
        fn listen<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }

        fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn gapless_world::Stream>>> {
            let attempt = self.1.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move {
                if attempt < self.0 {
                    return std::future::pending().await;
                }
                Ok(Box::new(tokio::io::duplex(8).0) as Box<dyn gapless_world::Stream>)
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_syn_is_sent_again_until_127_seconds_are_over() {
        let begun = tokio::time::Instant::now();
        let mut connector = Connector(Arc::new(Shy(3, AtomicU32::new(0))));
        let connected = connector.call(Uri::from_static("https://server-1:50051")).await.expect("connected");
        assert_eq!(connected.inner().peer(), "server-1");
        assert_eq!(begun.elapsed().as_secs(), 3);
        let mut connector = Connector(Arc::new(Shy(9, AtomicU32::new(0))));
        let given_up = connector.call(Uri::from_static("https://server-1")).await.expect_err("nobody there");
        assert_eq!((given_up.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 3 + 127));
        assert!(given_up.to_string().contains("server-1:443"), "{given_up}");
    }

    #[tokio::test]
    async fn an_address_without_a_host_is_refused() {
        let mut connector = Connector(Arc::new(Shy(1, AtomicU32::new(0))));
        let refused = connector.call(Uri::from_static("/path")).await.expect_err("no host");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
