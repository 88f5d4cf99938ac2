//! A host's network: turmoil's TCP, each end behind the faults of its links.

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc};

use turmoil::net::{TcpListener, TcpStream};

use crate::{
    history::Name,
    link::Links,
    world::{Listener, Net, Stream, net::BoxFuture},
};

/// Which host has which address. Complete before the first host runs.
pub(super) type AddressBook = Arc<BTreeMap<IpAddr, Name>>;

/// The network as one host sees it.
pub(super) struct SimNet {
    me: Name,
    links: Links,
    book: AddressBook,
}

impl SimNet {
    /// The network of `me`.
    pub(super) fn new(me: Name, links: Links, book: AddressBook) -> Self {
        Self { me, links, book }
    }
}

impl Net for SimNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let (me, links, book) = (self.me.clone(), self.links.clone(), self.book.clone());
            Ok(Box::new(SimListener { me, links, book, listener }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (host, _) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
            let peer: Name = host.into();
            if self.links.is_dark(&self.me) || self.links.is_dark(&peer) {
                // A SYN into the dark is not answered; the caller's deadline decides.
                return std::future::pending().await;
            }
            self.links.may_connect(&self.me, &peer)?;
            let stream = TcpStream::connect(address).await?;
            let key = (stream.local_addr()?.to_string(), stream.peer_addr()?.to_string());
            Ok(Box::new(self.links.adopt(key, &self.me, &peer, stream)) as Box<dyn Stream>)
        })
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
