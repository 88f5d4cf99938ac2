//! An operator whose servers are far away.

use gapless_world::tls::server_config;
use tonic::{Request, Response, Status};

use super::{tls::Peerless, *};
use crate::cluster_wire::{
    AddRequest, Member, MembersRequest, MembersResponse, PromoteRequest, RemoveRequest,
    membership_server::{Membership, MembershipServer},
};

/// A cluster of one leader.
struct Leader;

fn members() -> Response<MembersResponse> {
    let leader = Member { node: 1, name: "server-1".to_owned(), ..Member::default() };
    Response::new(MembersResponse { node: 1, leader: 1, members: vec![leader], ..MembersResponse::default() })
}

type Answer = Result<Response<MembersResponse>, Status>;

#[tonic::async_trait]
impl Membership for Leader {
    async fn members(&self, _: Request<MembersRequest>) -> Answer {
        Ok(members())
    }

    async fn add(&self, _: Request<AddRequest>) -> Answer {
        Ok(members())
    }

    async fn promote(&self, _: Request<PromoteRequest>) -> Answer {
        Ok(members())
    }

    async fn remove(&self, _: Request<RemoveRequest>) -> Answer {
        Ok(members())
    }
}

/// A network on which connecting takes this long, TLS handshake included.
struct Far(Duration, DuplexNet);

impl Net for Far {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.1.listen(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            tokio::time::sleep(self.0).await;
            self.1.connect(address).await
        })
    }
}

/// Returns an operator whose leader is this far away.
async fn operator(connecting_takes: Duration) -> Operator {
    let issuer = Issuer::new("test authority", LONG_AGO, FAR_AWAY).unwrap();
    let shown = issuer.issue("server-1", 3, LONG_AGO, FAR_AWAY).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(&shown).unwrap());
    let (connections, mut accepted) = mpsc::unbounded_channel::<io::Result<DuplexStream>>();
    let (shaken, streams) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(stream)) = accepted.recv().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(shaken.send(Ok::<_, io::Error>(Peerless(stream))));
            }
        }
    });
    let leader = TonicServer::builder().add_service(MembershipServer::new(Leader));
    tokio::spawn(leader.serve_with_incoming(UnboundedReceiverStream::new(streams)));
    let net = Arc::new(Far(connecting_takes, DuplexNet(connections)));
    let world = World { disk: Arc::new(MemoryDisk::default()), net, observer: Arc::new(Witnessed::default()) };
    let own = issuer.issue("operator", 4, LONG_AGO, FAR_AWAY).unwrap();
    let server = Server { address: "server-1:50051".to_owned(), tls_name: "server-1".to_owned() };
    Operator::new(world, own.fixed(), &FakeLog::new().note_key(), vec![server])
}

/// A connection with TLS takes two round trips: 800 ms at 200 ms one way, five seconds at more than a second.
#[tokio::test(start_paused = true)]
async fn an_operator_reaches_a_leader_at_any_distance_at_which_a_client_does() {
    for connecting_takes in [0, 800, 1_200, 2_400, 4_900].map(Duration::from_millis) {
        let mut operator = operator(connecting_takes).await;
        let members = operator.members(Duration::from_secs(30)).await;
        assert_eq!(members.map(|members| members.leader).map_err(|why| why.to_string()), Ok(1), "{connecting_takes:?}");
        let removed = operator.change(&Change::Remove { node: 3 }, Duration::from_secs(30)).await;
        assert_eq!(removed.map(|members| members.leader).map_err(|why| why.to_string()), Ok(1), "{connecting_takes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_reaches_nobody_says_so_in_time() {
    let mut operator = operator(Duration::from_secs(3_600)).await;
    let late = operator.members(Duration::from_secs(30)).await;
    assert!(matches!(&late, Err(OperatorError::Late { last, .. }) if last.contains("server-1")), "{late:?}");
}
