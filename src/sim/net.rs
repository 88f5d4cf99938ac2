//! A host's network: turmoil's TCP, each end behind the faults of its links.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use gapless_world::{Listener, Net, Stream, net::BoxFuture};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::recorder::Recorder;
use crate::{
    history::{Name, What},
    link::{LinkStream, Links},
    seam,
};

/// The host of each address. It is complete before the first host runs.
pub(super) type AddressBook = Arc<BTreeMap<IpAddr, Name>>;

/// The network as one host sees it.
pub(super) struct SimNet {
    me: Name,
    links: Links,
    book: AddressBook,
    recorder: Recorder,
    /// The number of connections made so far, by all hosts.
    connections: Arc<AtomicU64>,
    /// Set once something listens here.
    listens: Arc<AtomicBool>,
}

impl SimNet {
    /// Makes the network of `me`. `connections` counts the connections of the whole run.
    pub(super) fn new(
        me: Name,
        links: Links,
        book: AddressBook,
        recorder: Recorder,
        connections: Arc<AtomicU64>,
        listens: Arc<AtomicBool>,
    ) -> Self {
        Self { me, links, book, recorder, connections, listens }
    }
}

impl Net for SimNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            self.listens.store(true, Ordering::Relaxed);
            let (me, links, book) = (self.me.clone(), self.links.clone(), self.book.clone());
            Ok(Box::new(SimListener { me, links, book, listener }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (host, _) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
            let peer: Name = host.into();
            if self.links.is_dark(&self.me) || self.links.is_dark(&peer) {
                mark!("dialled-into-the-dark");
                // A SYN to a dark host is not answered; the caller's deadline decides.
                return std::future::pending().await;
            }
            self.links.may_connect(&self.me, &peer)?;
            let dialled = seam::now();
            let stream = TcpStream::connect(address).await?;
            let key = (stream.local_addr()?.to_string(), stream.peer_addr()?.to_string());
            let stream = self.links.adopt(key, &self.me, &peer, stream);
            let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
            self.recorder.record_of(&self.me, What::Connected { peer, connection, dialled });
            let (me, recorder) = (self.me.clone(), self.recorder.clone());
            Ok(Box::new(Dialled { stream, me, recorder, connection }) as Box<dyn Stream>)
        })
    }
}

/// The end that made a connection; it records when the connection is over.
struct Dialled {
    stream: LinkStream<TcpStream>,
    me: Name,
    recorder: Recorder,
    connection: u64,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.recorder.record_of(&self.me, What::Disconnected { connection: self.connection });
    }
}

impl AsyncRead for Dialled {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct SimListener {
    me: Name,
    links: Links,
    book: AddressBook,
    listener: TcpListener,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            let peer = self.book.get(&from.ip()).cloned().unwrap_or_else(|| from.ip().to_string().into());
            let key = (from.to_string(), stream.local_addr()?.to_string());
            let stream = self.links.adopt(key, &self.me, &peer, stream);
            Ok((Box::new(stream) as Box<dyn Stream>, peer.to_string()))
        })
    }

    fn local_address(&self) -> String {
        self.listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string())
    }
}
