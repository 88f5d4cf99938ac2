//! The network seam: byte streams by name and port.

use std::{future::Future, io, pin::Pin};

use tokio::io::{AsyncRead, AsyncWrite};

/// A future that borrows from its maker.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// How a process reaches others.
pub trait Net: Send + Sync + 'static {
    /// Binds `host:port`.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
    /// Connects to `host:port`. It has no deadline of its own: the caller sets one.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// A bound address.
pub trait Listener: Send + 'static {
    /// Waits for the next connection and returns it with the address of its peer. Cancel safe.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;
    /// Returns the bound address, with the real port where port 0 was asked for.
    fn local_address(&self) -> String;
}

/// A server, as the hosts that connect to it know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The address at which it listens, `host:port`.
    pub address: String,
    /// The name that its certificate must hold.
    pub tls_name: String,
}
