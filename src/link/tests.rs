//! Faults on links, over an ordinary duplex pipe.

use std::time::Duration;

use rand::SeedableRng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, timeout},
};

use super::*;

struct NoTap;

impl Tap for NoTap {
    fn passed(&self, _: &Name, _: &Name, _: &[u8]) {}
}

type End = LinkStream<DuplexStream>;

fn links() -> Links {
    Links::new(ChaCha8Rng::seed_from_u64(0), Arc::new(NoTap))
}

fn name(name: &str) -> Name {
    name.into()
}

/// The two ends of a connection between `a` and `b`; each has its own number.
fn connect(links: &Links, number: u32) -> (End, End) {
    let (x, y) = duplex(64 * 1024);
    let key = (format!("a:{number}"), "b:1".to_owned());
    (links.adopt(key.clone(), &name("a"), &name("b"), x), links.adopt(key, &name("b"), &name("a"), y))
}

/// Returns what arrives within a second, or `None` if nothing arrives, not even the end of the stream.
async fn arrives(end: &mut End) -> Option<io::Result<Vec<u8>>> {
    let mut bytes = vec![0; 100];
    let read = timeout(Duration::from_secs(1), end.read(&mut bytes)).await.ok()?;
    Some(read.map(|n| bytes[..n].to_vec()))
}

async fn hears(end: &mut End, said: &[u8]) -> bool {
    matches!(arrives(end).await, Some(Ok(bytes)) if bytes == said)
}

#[tokio::test(start_paused = true)]
async fn faults_overlap_and_each_is_lifted_alone() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    links.apply(1, &name("a"), &name("b"), LinkFault::Stall);
    links.apply(2, &name("a"), &name("b"), LinkFault::Stall);
    a.write_all(b"one").await.unwrap();
    assert!(arrives(&mut b).await.is_none());
    links.lift(1);
    assert!(arrives(&mut b).await.is_none(), "the other fault still holds");
    links.lift(2);
    assert!(hears(&mut b, b"one").await);
    assert_eq!((links.evidence(1).stalled, links.evidence(2).stalled), (3, 3));
    assert!(links.lock().directions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_one_direction_and_the_end_of_the_stream_too() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    links.apply(1, &name("a"), &name("b"), LinkFault::Stall);
    b.write_all(b"back").await.unwrap();
    assert!(hears(&mut a, b"back").await);
    a.write_all(b"last words").await.unwrap();
    drop(a);
    assert!(arrives(&mut b).await.is_none());
    links.lift(1);
    assert!(hears(&mut b, b"last words").await);
    assert!(hears(&mut b, b"").await, "the end comes after the bytes");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_is_woken_when_the_stall_ends() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    links.apply(1, &name("a"), &name("b"), LinkFault::Stall);
    let waiting = tokio::spawn(async move { hears(&mut b, b"late").await });
    tokio::task::yield_now().await;
    a.write_all(b"late").await.unwrap();
    tokio::task::yield_now().await;
    links.lift(1);
    assert!(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_blackhole_kills_only_the_connections_that_lost_bytes() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    let (mut c, mut d) = connect(&links, 2);
    links.apply(1, &name("a"), &name("b"), LinkFault::Blackhole);
    a.write_all(b"lost").await.unwrap();
    assert!(arrives(&mut b).await.is_none());
    links.lift(1);
    a.write_all(b"into the void").await.unwrap();
    assert!(arrives(&mut b).await.is_none(), "a dead connection spoke");
    c.write_all(b"alive").await.unwrap();
    assert!(hears(&mut d, b"alive").await);
    assert_eq!(links.evidence(1).swallowed, 4);
}

#[tokio::test(start_paused = true)]
async fn a_reset_counts_and_strikes_only_what_is_alive() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    let (mut dead, mut peer) = connect(&links, 2);
    let (gone, _) = connect(&links, 3);
    drop(gone);
    links.apply(1, &name("a"), &name("b"), LinkFault::Blackhole);
    dead.write_all(b"lost").await.unwrap();
    assert!(arrives(&mut peer).await.is_none());
    links.lift(1);
    assert_eq!(links.reset(2, &name("b"), &name("a")), 1, "either order of the ends");
    let kind = |result: Option<io::Result<Vec<u8>>>| result.map(|it| it.unwrap_err().kind());
    assert_eq!(kind(arrives(&mut a).await), Some(io::ErrorKind::ConnectionReset));
    assert_eq!(kind(arrives(&mut b).await), Some(io::ErrorKind::ConnectionReset));
    assert!(arrives(&mut dead).await.is_none(), "a dead connection was told");
    assert_eq!(links.reset(3, &name("a"), &name("b")), 0);
    assert!(!links.evidence(3).is_some());
    assert_eq!(links.evidence(2).to_string(), "1 connections reset");
}

#[test]
fn refusing_is_per_direction_and_counted() {
    let links = links();
    let (a, b) = (name("a"), name("b"));
    links.apply(1, &a, &b, LinkFault::Refuse);
    assert_eq!(links.may_connect(&a, &b).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(links.may_connect(&b, &a).is_ok());
    links.lift(1);
    assert!(links.may_connect(&a, &b).is_ok());
    assert_eq!(links.evidence(1).refused, 1);
}

#[tokio::test(start_paused = true)]
async fn delays_of_several_faults_add_up_and_end_one_by_one() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    let delay = |ms| LinkFault::Delay { delay: Duration::from_millis(ms), jitter: Duration::ZERO };
    links.apply(1, &name("a"), &name("b"), delay(100));
    links.apply(2, &name("a"), &name("b"), delay(200));
    for (lifted, takes) in [(None, 300), (Some(1), 200), (Some(2), 0)] {
        lifted.into_iter().for_each(|fault| links.lift(fault));
        let sent = Instant::now();
        a.write_all(b"x").await.unwrap();
        b.read_exact(&mut [0]).await.unwrap();
        // tokio's timer counts whole milliseconds.
        let took = sent.elapsed().as_millis();
        assert!((takes..=takes + 1).contains(&took), "{took} ms after {lifted:?} was lifted");
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_keeps_the_order() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    let delay =
        |delay, jitter| LinkFault::Delay { delay: Duration::from_millis(delay), jitter: Duration::from_millis(jitter) };
    links.apply(1, &name("a"), &name("b"), delay(100, 0));
    links.apply(2, &name("a"), &name("b"), delay(200, 400));
    for byte in 0..20_u8 {
        a.write_all(&[byte]).await.unwrap();
        let _ = timeout(Duration::from_millis(1), b.read(&mut [])).await; // so that each is a chunk of its own
    }
    let mut got = vec![0; 20];
    timeout(Duration::from_secs(2), b.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, (0..20).collect::<Vec<u8>>());
}

#[tokio::test(start_paused = true)]
async fn a_host_without_power_is_silent_until_it_is_back() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    links.darken(&name("b"));
    assert!(links.is_dark(&name("b")) && !links.is_dark(&name("a")));
    drop(b.write_all(b"nothing").await);
    assert!(arrives(&mut a).await.is_none());
    a.write_all(b"into the void").await.unwrap();
    links.lighten(&name("b"));
    assert!(arrives(&mut a).await.is_none(), "it speaks only when spoken to");
    let error = a.write_all(b"anybody there?").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(arrives(&mut a).await.is_some_and(|result| result.is_err()));
}

#[test]
fn connections_that_are_gone_are_forgotten() {
    let links = links();
    let kept: Vec<(End, End)> = (0..10).map(|number| connect(&links, number)).collect();
    for number in 10..5_000 {
        connect(&links, number);
    }
    assert!(links.lock().connections.len() < 200);
    assert_eq!(links.reset(1, &name("a"), &name("b")), kept.len() as u64);
}

/// Reads until this many bytes have arrived, and returns how long that took.
async fn takes_for(end: &mut End, bytes: usize) -> Duration {
    let begun = Instant::now();
    let mut got = vec![0; bytes];
    timeout(Duration::from_secs(3_600), end.read_exact(&mut got)).await.unwrap().unwrap();
    assert!(got.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8), "out of order");
    begun.elapsed()
}

fn numbered(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_takes_its_bytes_a_second_and_the_sender_feels_it() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    links.apply(1, &name("a"), &name("b"), LinkFault::Throttle { bytes: 10_000 });
    // This is more than the pipe, the link's own buffer and the reader can hold.
    let all = 64 * 1024 + 256 * 1024 + 300_000;
    let sent = tokio::spawn(async move {
        let begun = Instant::now();
        a.write_all(&numbered(all)).await.unwrap();
        (begun.elapsed(), a)
    });
    // A tenth of a second's worth arrives at once; each further byte takes its time.
    let took = takes_for(&mut b, all).await;
    let exact = Duration::from_nanos((all as u64 - 1_000) * 100_000);
    assert!(took >= exact && took <= exact + Duration::from_millis(101), "{took:?} instead of {exact:?}");
    let (sending, _a) = sent.await.unwrap();
    assert!(sending > Duration::from_secs(25), "the sender was done after {sending:?}");
    assert_eq!(links.evidence(1).throttled, all as u64 - 1_000, "each byte that waited counts once");
    assert_eq!(links.evidence(1).to_string(), format!("{} bytes waited for the reader", all - 1_000));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_is_per_connection_and_direction_and_ends_when_it_is_lifted() {
    let links = links();
    let ((mut a, mut b), (mut c, mut d)) = (connect(&links, 1), connect(&links, 2));
    links.apply(1, &name("a"), &name("b"), LinkFault::Throttle { bytes: 1_000 });
    for end in [&mut a, &mut c, &mut b] {
        end.write_all(&numbered(2_000)).await.unwrap();
    }
    assert_eq!(takes_for(&mut a, 2_000).await, Duration::ZERO, "the other direction");
    let both = tokio::join!(takes_for(&mut b, 1_100), takes_for(&mut d, 1_100));
    assert_eq!(both, (Duration::from_secs(1), Duration::from_secs(1)), "each has a rate of its own");
    links.lift(1);
    let mut rest = vec![0; 900];
    let begun = Instant::now();
    b.read_exact(&mut rest).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(rest, &numbered(2_000)[1_100..]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_idle_does_not_make_up_for_it() {
    let links = links();
    let (mut a, mut b) = connect(&links, 1);
    links.apply(1, &name("a"), &name("b"), LinkFault::Throttle { bytes: 1_000 });
    a.write_all(&numbered(100)).await.unwrap();
    takes_for(&mut b, 100).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    a.write_all(&numbered(600)).await.unwrap();
    assert_eq!(takes_for(&mut b, 600).await, Duration::from_millis(500));
}
