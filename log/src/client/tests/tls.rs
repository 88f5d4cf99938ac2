//! The client over mutual TLS: whose certificate fails, what it is told, and how it goes on.

use futures::StreamExt;
use gapless_world::tls::server_config;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Like [`live`], with TLS at both ends.
fn live_tls<T, F: Future<Output = T>>(log: &FakeLog, server: Identity, life: impl FnOnce(Life) -> F) -> T {
    let disk = MemoryDisk::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (connections, accepted) = mpsc::unbounded_channel();
    let seen = Witnessed::default();
    let world = World { disk: Arc::new(disk), net: Arc::new(DuplexNet(connections)), observer: Arc::new(seen.clone()) };
    runtime.block_on(async {
        let acceptor = TlsAcceptor::from(server_config(&server).unwrap());
        let streams = UnboundedReceiverStream::new(accepted).filter_map(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let stream = acceptor.accept(stream.ok()?).await.ok()?;
                Some(Ok::<_, io::Error>(Peerless(stream)))
            }
        });
        let server = TonicServer::builder().add_service(AuditLogServer::new(log.clone()));
        tokio::spawn(server.serve_with_incoming(streams));
        life(Life { world, seen, log: log.clone(), settings: settings(log, Call::AppendStream) }).await
    })
}

/// A stream that knows nothing of its peer, as tonic wants it.
pub(super) struct Peerless(pub(super) tokio_rustls::server::TlsStream<DuplexStream>);

impl tonic::transport::server::Connected for Peerless {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Peerless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl tokio::io::AsyncWrite for Peerless {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn an_expired_certificate_parks_delivery_until_it_is_replaced() {
    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let server = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
    let expired = issuer.issue("client-1", 3, LONG_AGO, LONG_AGO + 60).unwrap();
    let valid = issuer.issue("client-1", 4, LONG_AGO, FAR_AWAY).unwrap();
    let log = FakeLog::new();
    live_tls(&log, server, |mut life| async move {
        life.settings.identity = expired;
        let client = AuditClient::open(life.world.clone(), life.settings.clone()).await.unwrap();
        let mut submission = client.submit(payload(0)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut submission.delivered).await.is_err());
        assert_eq!(life.seen.count("parked"), 1, "{:?}", life.seen.all());
        client.replace_identity(&valid).unwrap();
        assert!(matches!(submission.delivered.await, Delivered::Receipt(_)));
        assert_eq!((life.seen.count("parked"), life.seen.count("resumed")), (1, 1));
        assert_eq!(life.seen.count("handshake-accepted"), 1);
        assert!(life.seen.count("handshake-refused") > 0);
    });
    assert_gapless(&log);
}

#[test]
fn a_refusal_by_the_server_after_the_handshake_is_told_and_parks() {
    let ours = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let theirs = Issuer::new("other authority", LONG_AGO, FAR_AWAY).unwrap();
    let server = ours.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
    let log = FakeLog::new();
    live_tls(&log, server, |mut life| async move {
        let stranger = theirs.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        life.settings.identity = Identity { ca_pem: ours.ca_pem().to_owned(), ..stranger };
        let client = AuditClient::open(life.world.clone(), life.settings.clone()).await.unwrap();
        let submission = client.submit(payload(0)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), submission.delivered).await.is_err());
        assert_eq!(life.seen.count("parked"), 1, "{:?}", life.seen.all());
        assert!(life.seen.count("handshake-refused") > 0, "{:?}", life.seen.all());
    });
    assert!(log.payloads().is_empty());
}

#[test]
fn a_server_of_another_authority_is_refused_and_told() {
    let ours = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let theirs = Issuer::new("other authority", LONG_AGO, FAR_AWAY).unwrap();
    let server = theirs.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
    let log = FakeLog::new();
    live_tls(&log, server, |mut life| async move {
        life.settings.identity = ours.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        let client = AuditClient::open(life.world.clone(), life.settings.clone()).await.unwrap();
        let submission = client.submit(payload(0)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), submission.delivered).await.is_err());
        let refused = life
            .seen
            .all()
            .into_iter()
            .any(|event| matches!(event, LogEvent::HandshakeRefused { reason, .. } if reason == "unknown-issuer"));
        assert!(refused, "{:?}", life.seen.all());
        assert_eq!(life.seen.count("parked"), 1);
    });
    assert!(log.payloads().is_empty());
}

#[test]
fn a_replaced_identity_gets_a_new_connection_while_delivery_runs() {
    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let server = issuer.issue("server-1", 2, LONG_AGO, FAR_AWAY).unwrap();
    let log = FakeLog::new();
    live_tls(&log, server, |mut life| async move {
        life.settings.identity = issuer.issue("client-1", 3, LONG_AGO, FAR_AWAY).unwrap();
        let client = AuditClient::open(life.world.clone(), life.settings.clone()).await.unwrap();
        client.append(payload(0)).await.unwrap();
        client.replace_identity(&issuer.issue("client-1", 4, LONG_AGO, FAR_AWAY - 1).unwrap()).unwrap();
        client.append(payload(1)).await.unwrap();
        let ends: Vec<i64> = (life.seen.all().iter())
            .filter_map(|event| match event {
                LogEvent::HandshakeAccepted { not_after, .. } => Some(*not_after),
                _ => None,
            })
            .collect();
        assert_eq!(ends, [FAR_AWAY, FAR_AWAY - 1]);
        assert_eq!(life.seen.count("retry"), 0);
    });
}
