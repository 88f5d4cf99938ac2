//! A log under test without its type.
//!
//! The simulator is compiled once, in this crate, for every log. Were it generic, each test of each project would
//! compile it anew, which takes far longer than the boxes here cost at run time.

use std::{borrow::Cow, sync::Arc};

use gapless_world::net::BoxFuture;

use super::{Client, Entry, Explored, Failure, Findings, Held, Host, Name, Outcome, Peer, Promises, Sizes, System};

/// Any [`System`].
pub(crate) trait AnySystem: Send + Sync {
    fn promises(&self) -> Promises;
    fn can_suffer(&self, fault: &str) -> Result<(), Cow<'static, str>>;
    fn revisions(&self) -> &[&str];
    fn sizes(&self) -> Sizes;
    fn servers_max(&self) -> u32;
    fn explored(&self) -> Explored;
    fn prepare(&mut self, servers: &[Name], clients: &[Name]) -> Result<(), Failure>;
    fn log_key(&self) -> Option<String>;
    fn serve(&self, host: Host) -> BoxFuture<'_, Result<(), Failure>>;
    fn client(&self, host: Host) -> BoxFuture<'_, Result<Arc<dyn AnyClient>, Failure>>;
    fn read_back<'a>(
        &'a self,
        auditor: Host,
        server: &'a Peer,
        found: &'a mut Findings,
    ) -> BoxFuture<'a, Result<(), Failure>>;
    fn follow(&self, reader: Host, found: Findings) -> BoxFuture<'_, ()>;
    fn ask_how_new(&self, reader: Host) -> BoxFuture<'_, ()>;
    fn replace<'a>(&'a self, operator: Host, server: &'a Peer, machine: u32) -> BoxFuture<'a, Result<(), Failure>>;
}

/// Any [`Client`].
pub(crate) trait AnyClient: Send + Sync {
    fn append<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Outcome>;
    fn failed(&self) -> BoxFuture<'_, Failure>;
    fn held(&self) -> BoxFuture<'_, Result<Held, Failure>>;
}

impl<S: System> AnySystem for S {
    fn promises(&self) -> Promises {
        System::promises(self)
    }

    fn can_suffer(&self, fault: &str) -> Result<(), Cow<'static, str>> {
        System::can_suffer(self, fault)
    }

    fn revisions(&self) -> &[&str] {
        System::revisions(self)
    }

    fn sizes(&self) -> Sizes {
        System::sizes(self)
    }

    fn servers_max(&self) -> u32 {
        System::servers_max(self)
    }

    fn explored(&self) -> Explored {
        System::explored(self)
    }

    fn prepare(&mut self, servers: &[Name], clients: &[Name]) -> Result<(), Failure> {
        System::prepare(self, servers, clients)
    }

    fn log_key(&self) -> Option<String> {
        System::log_key(self)
    }

    fn serve(&self, host: Host) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(System::serve(self, host))
    }

    fn client(&self, host: Host) -> BoxFuture<'_, Result<Arc<dyn AnyClient>, Failure>> {
        Box::pin(async { Ok(Arc::new(System::client(self, host).await?) as _) })
    }

    fn read_back<'a>(
        &'a self,
        auditor: Host,
        server: &'a Peer,
        found: &'a mut Findings,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(System::read_back(self, auditor, server, found))
    }

    fn follow(&self, reader: Host, found: Findings) -> BoxFuture<'_, ()> {
        Box::pin(System::follow(self, reader, found))
    }

    fn ask_how_new(&self, reader: Host) -> BoxFuture<'_, ()> {
        Box::pin(System::ask_how_new(self, reader))
    }

    fn replace<'a>(&'a self, operator: Host, server: &'a Peer, machine: u32) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(System::replace(self, operator, server, machine))
    }
}

impl<C: Client> AnyClient for C {
    fn append<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Outcome> {
        Box::pin(Client::append(self, entry))
    }

    fn failed(&self) -> BoxFuture<'_, Failure> {
        Box::pin(Client::failed(self))
    }

    fn held(&self) -> BoxFuture<'_, Result<Held, Failure>> {
        Box::pin(Client::held(self))
    }
}
