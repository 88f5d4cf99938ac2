//! Tests our audit service against the incidents in tests/scenarios.

use std::io::{self, Read, Seek, Write};

use acme_audit::{AuditClient, AuditServer, Event, Position, Storage, Stored};
use gapless::{Client, Entry, Failure, Found, Host, Invariant, Outcome, Peer, Promises, System};
use tonic::transport::Server;

struct Acme;
struct Caller(AuditClient);
struct OnSimulatedDisk(gapless::File); // our production `Storage`, over a disk that can fail

impl Storage for OnSimulatedDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        self.0.rewind()?;
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.sync_data() // with Ok(()) instead, power-loss-in-a-batch fails
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.0.sync_all()
    }
}

impl System for Acme {
    type Client = Caller;

    fn promises(&self) -> Promises {
        Promises::of_an_append_only_log().without(Invariant::NoGaps, "clients append concurrently, without numbers")
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let id = host.identity();
        let audit = AuditServer::open(OnSimulatedDisk(host.disk().append_to("audit.log")?))?;
        let tls = acme_audit::server_tls(&id.chain_pem, &id.key_pem, &id.ca_pem);
        let server = Server::builder().tls_config(tls)?.add_service(audit);
        server.serve_with_incoming_shutdown(host.listen()?, host.stop_requested()).await?;
        Ok(())
    }

    async fn client(&self, host: Host) -> Result<Caller, Failure> {
        dial(&host, &host.servers()[0]).map(Caller)
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Found) -> Result<(), Failure> {
        let mut stored = dial(&auditor, server)?.export(Position { id: 0 }).await?;
        while let Some(Stored { id, event }) = stored.message().await? {
            found.entry(id, event.unwrap_or_default().body);
        }
        Ok(())
    }
}

impl Client for Caller {
    async fn append(&self, entry: &Entry) -> Outcome {
        let event = Event { actor: entry.client().to_owned(), body: entry.bytes().to_vec() };
        match self.0.record(event).await {
            Ok(done) => Outcome::acked(done.id),
            Err(status) => status.into(), // unknown: it may have been written
        }
    }
}

fn dial(host: &Host, to: &Peer) -> Result<AuditClient, Failure> {
    let id = host.identity();
    let endpoint = acme_audit::endpoint(to.uri(), to.name(), (&id.chain_pem, &id.key_pem, &id.ca_pem))?;
    Ok(AuditClient::new(endpoint.connect_with_connector_lazy(host.connector())))
}

gapless::main!(Acme, "tests/scenarios");
