//! The connections at a server's door: those that were accepted and have not yet proven whose they are.
//!
//! Anybody who reaches the port can open such connections. So they have places of their own, beside those of
//! established connections, and few of them. But no connection is refused a place, because an attacker could shut a
//! door that refuses newcomers by filling it first. When all places are taken, the newcomer gets the place of the
//! oldest connection of the origin that has the most places. Two things follow:
//!
//! * An origin that has no more than its even share of the places never loses one. A flood from one address takes
//!   places from itself.
//! * Among the connections of one origin (behind one NAT, or on one machine) the quick ones get in: a handshake fails
//!   only if as many newcomers as there are places come before it is over.
//!
//! There are two steps, each with its own places. On the first one stand connections that have not yet sent a whole
//! ClientHello; once it has, a connection moves to the second one. So silent connections take no place from those that
//! speak, and an honest peer, which speaks as soon as it is connected, leaves the first step at once, however far away
//! it is.
//!
//! The deadline of the handshake decides how long a connection may stand here. One whose handshake failed keeps its
//! place for a moment longer, until its peer has read why ([`Outcome::see_off`]).

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink},
    sync::Notify,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::tls;

/// The least and the most places of a step, whatever the number of connections that may be established.
const STEP_PLACES: (usize, usize) = (64, 512);

/// How long a peer that was turned away may take to read why, and how much it may send meanwhile, in bytes.
const FAREWELL: (Duration, u64) = (Duration::from_secs(2), 1024 * 1024);

/// The door of one server.
#[derive(Debug, Clone)]
pub struct Doorstep(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: usize,
    steps: Mutex<Steps>,
}

#[derive(Debug)]
struct Steps {
    silent: Crowd<Arc<Notify>>,
    speaking: Crowd<Arc<Notify>>,
    /// Counts the arrivals on both steps.
    came: u64,
}

/// The place of one connection at the door, for as long as this lives.
#[derive(Debug)]
pub struct Standing {
    doorstep: Doorstep,
    origin: Origin,
    number: u64,
    speaks: bool,
}

/// Is notified when a newcomer takes the place.
#[derive(Debug)]
pub struct Outcome(Arc<Notify>);

impl Doorstep {
    /// Makes the door of a server that serves up to `connections_max` connections: half as many may stand on each step,
    /// at least 64 and at most 512.
    pub fn new(connections_max: usize) -> Doorstep {
        let places = (connections_max / 2).clamp(STEP_PLACES.0, STEP_PLACES.1);
        let (silent, speaking) = (Crowd::new(places), Crowd::new(places));
        Doorstep(Arc::new(Inner { places, steps: Mutex::new(Steps { silent, speaking, came: 0 }) }))
    }

    /// Returns how many connections may stand at the door, on both steps together.
    pub fn places(&self) -> usize {
        2 * self.0.places
    }

    /// Puts one more connection on the first step. `address` is `host:port`.
    pub fn enter(&self, address: &str) -> (Standing, Outcome) {
        let gives_way = Arc::new(Notify::new());
        let origin = Origin::of(address);
        let mut steps = self.lock();
        let number = steps.next();
        crowd_out(steps.silent.admit(&origin, number, gives_way.clone()));
        drop(steps);
        (Standing { doorstep: self.clone(), origin, number, speaks: false }, Outcome(gives_way))
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        // Each update is complete before anything could panic.
        self.0.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steps {
    fn next(&mut self) -> u64 {
        self.came += 1;
        self.came
    }
}

impl Standing {
    /// Shakes hands. A connection moves to the second step with a whole ClientHello, and nothing is computed for a peer
    /// before. Gives the place up when the handshake succeeds, or when this is dropped.
    ///
    /// # Errors
    /// The reason why the handshake failed (see [`tls::handshake_reason`]), which an alert tells the peer as well.
    pub async fn shake<S>(self, stream: S, config: Arc<ServerConfig>) -> Result<TlsStream<S>, TurnedAway<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = match LazyConfigAcceptor::new(Acceptor::default(), stream).await {
            Ok(begun) => begun,
            Err(why) => return Err(tls::handshake_reason(&why).into()),
        };
        let standing = self.speaks();
        begun.into_stream(config).into_fallible().await.map_err(|(why, stream)| {
            let reason = tls::handshake_reason(&why);
            TurnedAway { reason, left: Some((standing, stream)) }
        })
    }

    fn speaks(mut self) -> Standing {
        let doorstep = self.doorstep.clone();
        let mut steps = doorstep.lock();
        // If the connection is not there any more, a newcomer has just taken its place, and the connection is told so.
        if let Some(gives_way) = steps.silent.leave(&self.origin, self.number) {
            (self.number, self.speaks) = (steps.next(), true);
            crowd_out(steps.speaking.admit(&self.origin, self.number, gives_way));
        }
        drop(steps);
        self
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let mut steps = self.doorstep.lock();
        let step = if self.speaks { &mut steps.speaking } else { &mut steps.silent };
        step.leave(&self.origin, self.number);
    }
}

impl Outcome {
    /// Resolves when a newcomer takes the place, and never once the connection has left the door by itself. Cancel
    /// safe.
    pub async fn crowded_out(&self) {
        self.0.notified().await;
    }

    /// Closes a connection that was turned away so that its peer can read why. Ends this side of it, and takes what the
    /// peer still sends, for at most two seconds and 1 MiB, or until a newcomer takes the place.
    ///
    /// A TLS 1.3 client sends its first requests before the server has looked at its certificate. If the server closes
    /// the connection with these requests unread, TCP resets it, and a reset can erase the alert before the peer has
    /// read it (RFC 9112, section 9.6, has the same for responses of HTTP/1.1).
    pub async fn see_off<S: AsyncRead + AsyncWrite + Unpin>(&self, away: TurnedAway<S>) {
        let Some((_standing, mut stream)) = away.left else { return };
        let farewell = async {
            stream.shutdown().await?;
            copy(&mut stream.take(FAREWELL.1), &mut sink()).await
        };
        tokio::select! {
            biased;
            () = self.crowded_out() => (),
            // It makes no difference how it ends: the connection is over.
            _ = timeout(FAREWELL.0, farewell) => (),
        }
    }
}

/// A connection without a handshake.
#[derive(Debug)]
pub struct TurnedAway<S> {
    /// Why, in the words of [`tls::handshake_reason`].
    pub reason: &'static str,
    /// The connection, if the peer was sent an alert.
    left: Option<(Standing, S)>,
}

impl<S> From<&'static str> for TurnedAway<S> {
    /// There is nothing left that could be closed with care.
    fn from(reason: &'static str) -> TurnedAway<S> {
        TurnedAway { reason, left: None }
    }
}

fn crowd_out(somebody: Option<Arc<Notify>>) {
    if let Some(gives_way) = somebody {
        gives_way.notify_one();
    }
}

/// The origin of connections that count as one party here: an IPv4 address, or an IPv6 /64, because any host has all
/// addresses of its /64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    V4(Ipv4Addr),
    V6([u16; 4]),
    Named(String),
}

impl Origin {
    fn of(address: &str) -> Origin {
        match address.parse::<SocketAddr>().map(|address| address.ip().to_canonical()) {
            Ok(IpAddr::V4(host)) => Origin::V4(host),
            Ok(IpAddr::V6(host)) => {
                let [a, b, c, d, ..] = host.segments();
                Origin::V6([a, b, c, d])
            }
            Err(_) => Origin::Named(address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned()),
        }
    }
}

/// The connections on one step: by origin, and in the order in which they came.
#[derive(Debug)]
struct Crowd<T> {
    places: usize,
    taken: usize,
    by_origin: BTreeMap<Origin, BTreeMap<u64, T>>,
}

impl<T> Crowd<T> {
    fn new(places: usize) -> Crowd<T> {
        Crowd { places, taken: 0, by_origin: BTreeMap::new() }
    }

    /// Gives a place to a connection that comes after all others. Returns the connection that must go for it, if one
    /// must.
    fn admit(&mut self, origin: &Origin, number: u64, one: T) -> Option<T> {
        self.by_origin.entry(origin.clone()).or_default().insert(number, one);
        self.taken += 1;
        if self.taken <= self.places {
            return None;
        }
        // Looks at every origin, of which there are no more than places. Of equal origins, the one with the oldest
        // connection loses it.
        let most = self.by_origin.iter().max_by_key(|(_, standing)| {
            (standing.len(), Reverse(standing.first_key_value().map(|(number, _)| *number)))
        });
        let (origin, oldest) =
            most.and_then(|(origin, standing)| Some((origin.clone(), *standing.first_key_value()?.0)))?;
        self.leave(&origin, oldest)
    }

    /// Frees a place; `None` if that connection has none.
    fn leave(&mut self, origin: &Origin, number: u64) -> Option<T> {
        let standing = self.by_origin.get_mut(origin)?;
        let one = standing.remove(&number)?;
        if standing.is_empty() {
            self.by_origin.remove(origin);
        }
        self.taken -= 1;
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;
    use rustls_pki_types::ServerName;
    use tokio::{
        net::{TcpListener, TcpStream},
        sync::oneshot,
        time::Instant,
    };
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::{Identity, Issuer};

    const LONG: Duration = Duration::from_secs(20);

    /// Returns a door with one connection of which the peer was sent an alert.
    fn turned_away<S>(stream: S) -> (Doorstep, Outcome, TurnedAway<S>) {
        let door = Doorstep::new(1_024);
        let (standing, outcome) = door.enter("10.0.0.66:4000");
        (door, outcome, TurnedAway { reason: "unknown-issuer", left: Some((standing.speaks(), stream)) })
    }

    #[tokio::test]
    async fn who_sends_before_it_reads_can_still_read_why_it_was_turned_away() {
        let [ours, theirs] = ["ours", "theirs"].map(|name| Issuer::new(name, 0, i64::from(u32::MAX)).unwrap());
        let issue = |issuer: &Issuer, name| issuer.issue(name, 2, 0, i64::from(u32::MAX)).unwrap();
        let config = tls::server_config(&issue(&ours, "server-1")).unwrap();
        let stranger = Identity { ca_pem: ours.ca_pem().to_owned(), ..issue(&theirs, "client-1") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (turned_away, when) = oneshot::channel();
        let server = tokio::spawn(async move {
            let (stream, from) = listener.accept().await.unwrap();
            let (standing, outcome) = Doorstep::new(1_024).enter(&from.to_string());
            let away = standing.shake(stream, config).await.unwrap_err();
            turned_away.send(away.reason).unwrap();
            outcome.see_off(away).await;
        });
        let client = async {
            let connector = TlsConnector::from(tls::client_config(&stranger).unwrap());
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("server-1").unwrap();
            let mut stream = connector.connect(name, stream).await.expect("TLS 1.3 does not wait for the server");
            assert_eq!(when.await.unwrap(), "unknown-issuer");
            // A client that cannot write does not go on to read.
            stream.write_all(&[0; 256 * 1024]).await.expect("the server takes it");
            stream.read_u8().await.unwrap_err()
        };
        let told = timeout(LONG, client).await.expect("it is told");
        assert_eq!(tls::handshake_reason(&told), "unknown-issuer", "{told}");
        timeout(LONG, server).await.expect("it ends").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_stays_at_the_door_after_it_was_turned_away() {
        let began = Instant::now();
        let (_silent, stream) = tokio::io::duplex(64);
        let (_door, outcome, away) = turned_away(stream);
        outcome.see_off(away).await;
        assert_eq!(began.elapsed(), FAREWELL.0);

        let (mut talking, stream) = tokio::io::duplex(64);
        let (_door, outcome, away) = turned_away(stream);
        let talks = tokio::spawn(async move {
            let mut said = 0;
            while talking.write_all(&[0; 64]).await.is_ok() {
                said += 64;
            }
            said
        });
        outcome.see_off(away).await;
        assert!((FAREWELL.1..FAREWELL.1 + 1_024).contains(&talks.await.unwrap()));

        let (going, stream) = tokio::io::duplex(64);
        let (_door, outcome, away) = turned_away(stream);
        drop(going);
        outcome.see_off(away).await;
        assert_eq!(began.elapsed(), FAREWELL.0, "only the silent one was waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_turned_away_gives_way_to_newcomers() {
        let began = Instant::now();
        let (_silent, stream) = tokio::io::duplex(64);
        let (door, outcome, away) = turned_away(stream);
        let newcomers: Vec<_> = (0..door.places()).map(|n| door.enter(&format!("10.0.0.66:{n}"))).collect();
        let _speaking: Vec<_> = newcomers.into_iter().map(|(standing, _)| standing.speaks()).collect();
        outcome.see_off(away).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    fn is_out(outcome: &Outcome) -> bool {
        outcome.crowded_out().now_or_never().is_some()
    }

    #[test]
    fn a_flood_from_one_address_takes_no_place_from_another() {
        let door = Doorstep::new(1_024);
        let member = door.enter("10.0.0.2:4000");
        let flood: Vec<_> = (0..5_000).map(|n| door.enter(&format!("10.0.0.66:{n}"))).collect();
        assert!(!is_out(&member.1));
        let out = flood.iter().filter_map(|one| is_out(&one.1).then_some(())).count();
        assert_eq!(out, 5_000 - 511);
        assert!(!is_out(&flood.last().unwrap().1), "whoever came last has a place");
    }

    #[test]
    fn whoever_speaks_is_not_crowded_out_by_those_that_do_not_even_from_its_own_address() {
        let door = Doorstep::new(1_024);
        let (standing, outcome) = door.enter("127.0.0.1:4000");
        let _standing = standing.speaks();
        let _flood: Vec<_> = (0..5_000).map(|n| door.enter(&format!("127.0.0.1:{n}"))).collect();
        assert!(!is_out(&outcome));
    }

    #[test]
    fn of_one_address_that_speaks_too_often_the_oldest_goes() {
        let door = Doorstep::new(1_024);
        let flood: Vec<_> = (0..514)
            .map(|n| {
                let (standing, outcome) = door.enter(&format!("127.0.0.1:{n}"));
                (standing.speaks(), outcome)
            })
            .collect();
        let out: Vec<bool> = flood.iter().map(|one| is_out(&one.1)).collect();
        assert_eq!(out, [vec![true; 2], vec![false; 512]].concat());
    }

    #[test]
    fn who_leaves_by_itself_frees_its_place_and_is_forgotten() {
        let door = Doorstep::new(1);
        let (standing, outcome) = door.enter("10.0.0.2:1");
        let (spoken, _outcome) = door.enter("10.0.0.2:2");
        let spoken = spoken.speaks();
        let taken = || {
            let steps = door.lock();
            (steps.silent.taken, steps.speaking.taken)
        };
        assert_eq!(taken(), (1, 1));
        drop((standing, spoken));
        assert!(!is_out(&outcome));
        assert_eq!(taken(), (0, 0));
        let steps = door.lock();
        assert!(steps.silent.by_origin.is_empty() && steps.speaking.by_origin.is_empty());
    }

    #[test]
    fn both_ends_of_what_may_be_configured_have_places() {
        for (connections_max, places) in [(1, 128), (128, 128), (130, 130), (1_024, 1_024), (usize::MAX, 1_024)] {
            assert_eq!(Doorstep::new(connections_max).places(), places, "{connections_max}");
        }
    }

    #[test]
    fn ports_make_no_origin_and_neither_do_the_addresses_of_one_host() {
        let same = [
            ("10.0.0.1:1", "10.0.0.1:2"),
            ("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:2"),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
            ("client-1:1", "client-1:2"),
        ];
        same.iter().for_each(|(one, other)| assert_eq!(Origin::of(one), Origin::of(other)));
        let others = [("10.0.0.1:1", "10.0.0.2:1"), ("[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1"), ("a:1", "b:1")];
        others.iter().for_each(|(one, other)| assert_ne!(Origin::of(one), Origin::of(other)));
    }

    proptest! {
        /// Whatever comes and goes, an even share is safe, a newcomer has its place, and there are never too many
        /// connections.
        #[test]
        fn an_origin_with_no_more_than_an_even_share_loses_nothing(
            moves in prop::collection::vec((0_u8..6, prop::bool::weighted(0.2)), 1..200),
            places in 1_usize..12,
        ) {
            let mut crowd = Crowd::new(places);
            for (number, (origin, leaves)) in (0_u64..).zip(moves) {
                let origin = Origin::Named(origin.to_string());
                if leaves {
                    let oldest = crowd.by_origin.get(&origin).and_then(|those| those.first_key_value().map(|(n, _)| *n));
                    oldest.and_then(|oldest| crowd.leave(&origin, oldest));
                    continue;
                }
                let out = crowd.admit(&origin, number, (origin.clone(), number));
                let standing = |origin: &Origin| crowd.by_origin.get(origin).map_or(0, BTreeMap::len);
                prop_assert!(crowd.by_origin.get(&origin).is_some_and(|those| those.contains_key(&number)));
                prop_assert_eq!(crowd.taken, crowd.by_origin.keys().map(standing).sum::<usize>());
                prop_assert!(crowd.taken <= places);
                if let Some((loser, _)) = out {
                    let had = standing(&loser) + 1;
                    let origins = crowd.by_origin.len() + usize::from(had == 1);
                    prop_assert!(had * origins > places, "{had} of {places} by one of {origins}");
                }
            }
        }
    }
}
