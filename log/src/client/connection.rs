//! Connections: one tonic channel to one server at a time, over the world's network and mutual TLS.
//!
//! A connection that failed is thrown away and never repaired: the next one goes to the next server.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gapless_world::{Server, calls::Calls};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use super::{agreement::Agreed, distance::Distance, error::ClientError, rpc::Rpc, settings::Deadlines};
use crate::{
    dial::{Condition, Dial, Trouble},
    schema::Exchange,
};

/// The most bytes of answers that may be on their way to one call, and to this end of a connection.
const WINDOWS: (u32, u32) = (8 * 1024 * 1024, 16 * 1024 * 1024);

/// Opens connections, one server after the other.
pub(crate) struct Connector {
    dial: Dial,
    servers: Vec<Server>,
    next: usize,
    /// The server whose connection was opened last.
    newest: Option<usize>,
    /// The servers that were asked in vain since one served or all had been asked.
    vain: BTreeSet<usize>,
    calls: Calls,
    /// What is known of schemas, across all connections.
    exchange: Arc<Exchange>,
    deadlines: Deadlines,
    distance: Distance,
}

impl Connector {
    /// Checks the names of the servers, so that opening a connection cannot fail.
    pub(crate) fn new(
        dial: Dial,
        servers: Vec<Server>,
        calls: Calls,
        exchange: Arc<Exchange>,
        deadlines: Deadlines,
    ) -> Result<Connector, ClientError> {
        if servers.is_empty() {
            return Err(ClientError::Settings("no server is named; name at least one".to_owned()));
        }
        for server in &servers {
            ServerName::try_from(server.tls_name.as_str())
                .map_err(|why| ClientError::Settings(format!("the server name `{}`: {why}", server.tls_name)))?;
            endpoint(server, deadlines, deadlines.keepalive_timeout)?;
        }
        let distance = Distance::new(deadlines);
        let vain = BTreeSet::new();
        Ok(Connector { dial, servers, next: 0, newest: None, vain, calls, exchange, deadlines, distance })
    }

    /// Returns how many servers there are to turn to.
    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Returns whether there is a server of this name.
    pub(crate) fn knows(&self, tls_name: &str) -> bool {
        self.servers.iter().any(|server| server.tls_name == tls_name)
    }

    /// Makes the server of this name the next one. Returns false if there is none, or if it was already asked in vain:
    /// the server that names it has not heard of that yet, and the others are asked first.
    pub(crate) fn prefer(&mut self, tls_name: &str) -> bool {
        let found = self.servers.iter().position(|server| server.tls_name == tls_name);
        let found = found.filter(|at| !self.vain.contains(at));
        self.next = found.unwrap_or(self.next);
        found.is_some()
    }

    /// Notes that the server of the newest connection did not serve. Once none is left that might serve, all of them
    /// might again.
    pub(crate) fn in_vain(&mut self) {
        self.vain.extend(self.newest);
        if self.vain.len() >= self.servers.len() {
            self.vain.clear();
        }
    }

    /// Notes that the server of the newest connection served.
    pub(crate) fn served(&mut self) {
        self.vain.clear();
    }

    /// Returns how long a few round trips to the server of the newest connection take, or zero if that is not known.
    pub(crate) fn few_round_trips(&self) -> Duration {
        self.newest.map_or(Duration::ZERO, |at| self.distance.answer_within(at, Duration::ZERO))
    }

    /// Returns the next server in turn that was not asked in vain.
    fn following(&self) -> usize {
        let mut turn = (self.next..self.servers.len()).chain(0..self.next);
        turn.find(|at| !self.vain.contains(at)).unwrap_or(self.next)
    }

    /// Returns a connection to the next server. The first call makes it.
    pub(crate) fn open(&mut self) -> Result<Connection, ClientError> {
        let at = self.following();
        let server = self.servers[at].clone();
        self.newest = Some(at);
        self.next = (at + 1) % self.servers.len();
        let condition = Condition::default();
        let (dial, target, noted) = (self.dial.clone(), server.clone(), condition.clone());
        let distance = self.distance.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let (begun, distance) = (Instant::now(), distance.clone());
            let stream = dial(target.clone(), noted.clone(), distance.connect_within(at));
            async move {
                let stream = stream.await;
                distance.note(at, begun.elapsed(), &stream);
                stream.map(TokioIo::new)
            }
        });
        let patience = self.distance.answer_within(at, self.deadlines.keepalive_timeout);
        let channel = endpoint(&server, self.deadlines, patience)?.connect_with_connector_lazy(connector);
        let channel = self.calls.observe(channel, &server.tls_name);
        let (exchange, observer) = (self.exchange.clone(), self.calls.observer());
        let channel = Agreed::new(channel, exchange, observer, &server.tls_name, self.deadlines.call);
        let rpc = Rpc::new(self.exchange.revision(), channel);
        Ok(Connection { rpc, server: server.tls_name.into(), condition })
    }
}

fn endpoint(server: &Server, deadlines: Deadlines, pong_within: Duration) -> Result<Endpoint, ClientError> {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.tls_name))
        .map_err(|_| ClientError::Settings(format!("`{}` cannot be the name of a server", server.tls_name)))?;
    Ok(endpoint
        .http2_keep_alive_interval(deadlines.keepalive_interval)
        .keep_alive_timeout(pong_within)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1))
}

/// One channel to one server.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) rpc: Rpc,
    /// The name of its server.
    pub(crate) server: Arc<str>,
    condition: Condition,
}

impl Connection {
    /// Returns what broke the connection, if anything did.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.condition.trouble()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use gapless_world::observer::Unobserved;

    use super::*;
    use crate::schema::Revision;

    fn connector() -> Connector {
        let servers = ["a", "b", "c"];
        let server = |name: &str| Server { address: format!("{name}:1"), tls_name: name.to_owned() };
        let dial: Dial = Arc::new(|_, _, _| Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))));
        let exchange = Exchange::new(Revision::default()).unwrap();
        let calls = Calls::new(Arc::new(Unobserved));
        Connector::new(dial, servers.map(server).to_vec(), calls, exchange, Deadlines::default()).unwrap()
    }

    /// The name of the server to which the next connection goes.
    fn turn(connector: &mut Connector) -> String {
        connector.open().unwrap();
        connector.servers[connector.newest.unwrap()].tls_name.clone()
    }

    #[tokio::test]
    async fn a_server_that_was_asked_in_vain_is_not_believed_to_lead_until_all_others_were_asked() {
        let mut connector = connector();
        assert_eq!(turn(&mut connector), "a");
        connector.in_vain();
        assert_eq!(turn(&mut connector), "b");
        assert!(!connector.prefer("a"), "lost a moment ago, and `b` has not heard of it");
        connector.in_vain();
        assert_eq!(turn(&mut connector), "c", "not back to either of the two");
        connector.in_vain();
        assert!(connector.prefer("b"), "all were asked: any of them may lead by now");
        assert_eq!(turn(&mut connector), "b");
        connector.in_vain();
        connector.served();
        assert!(connector.prefer("b"));
        assert!(!connector.prefer("nobody"));
    }
}
