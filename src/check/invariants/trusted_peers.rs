//! # trusted-peers
//!
//! No request is accepted over a connection whose certificate is, by the acceptor's clock at that moment, expired, not
//! yet valid, or somebody else's.
//!
//! **Where it comes from.** RFC 5280 (section 6.1) says when a certificate is good, and RFC 8446 (section 4.6.1) lets a
//! resumed session do without one: measured with the defaults of a common TLS library, a channel whose two certificates
//! had both ended reconnected and was served. An HTTP/2 connection lives for days, and nobody looks at a certificate
//! twice. "Expired at midnight" then means an outage at the next reconnect, or no outage at all and no security either.
//!
//! **What it looks at.** Every acknowledged entry, from outside. Between its submission and its answer there must have
//! been a moment at which its client had a good connection to some server: each end's certificate valid by the other
//! end's wall clock, issued for that host's name and for its end of a connection, by an authority that the other end
//! trusts. The certificate that an end shows on a connection is the last one that its software had taken up when the
//! connection was dialled, or one that it took up until five seconds after the connection was opened, while the
//! handshake may last: the log gets the benefit of the doubt.
//!
//! **What leaves it idle.** Every connection was good for as long as it lasted: nothing had to be turned away. That is
//! no fault of the run, unless the run was meant to be about certificates; then its steps left no evidence either.
//!
//! **A corner that goes wrong.** A connection is opened in the last second of a certificate and lives for a week. A
//! resumed session asks for no certificate. A reload takes up the new certificate and keeps trusting the authority that
//! was thrown out. A slow clock accepts a certificate that ended a minute ago: by that clock the certificate is good,
//! so this is not held against the server.

use std::{collections::BTreeMap, time::Duration};

use super::super::{
    index::{Entry, Index},
    verdict::{Finding, Violation},
    violations::Violations,
    wall::WallClocks,
    words,
};
use crate::history::{Name, RunClock, What};

/// The time after which a handshake is over.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// From the first moment to the one after the last.
type Span = (RunClock, RunClock);

pub(super) fn check(index: &Index<'_>) -> Finding {
    let told = Told::of(index);
    let mut clients: BTreeMap<&Name, Sight<'_>> = BTreeMap::new();
    let mut doubtful = 0;
    for connection in &told.connections {
        let (good, whole) = told.good_spans(connection);
        doubtful += u64::from(!whole);
        let sight = clients.entry(connection.client).or_default();
        sight.good.extend(good);
        sight.alive.push((connection.opened, connection.closed));
        sight.connections.push(connection);
    }
    clients.values_mut().for_each(Sight::merge);
    let mut violations = Violations::default();
    let mut judged = 0;
    for entry in &index.entries {
        let (Some((submitted, _)), Some((answered, _))) = (entry.submitted, entry.acked()) else { continue };
        let Some(sight) = clients.get(entry.client) else { continue };
        let span = (index.event(submitted).at, index.event(answered).at);
        judged += 1;
        if meets(&sight.alive, span) && !meets(&sight.good, span) {
            violations
                .add("untrusted", Some(entry.id()), || untrusted(&told, sight, entry, (submitted, answered), span));
        }
    }
    let judged = if doubtful > 0 { judged } else { 0 };
    let exercised = || {
        let connections = words::count(doubtful, "connection", "connections");
        format!("{} and {connections} that were not good throughout", words::count(judged, "entry", "entries"))
    };
    violations.or_held(judged, exercised, "every connection was good for as long as it lasted")
}

/// The connections that one client's entries could travel over.
#[derive(Debug, Default)]
struct Sight<'t> {
    /// When it had a good connection, and when it had any: in order and disjoint.
    good: Vec<Span>,
    alive: Vec<Span>,
    connections: Vec<&'t Connection<'t>>,
}

impl Sight<'_> {
    fn merge(&mut self) {
        merge(&mut self.good);
        merge(&mut self.alive);
    }
}

fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    spans.dedup_by(|next, before| {
        let touch = next.0 <= before.1;
        if touch {
            before.1 = before.1.max(next.1);
        }
        touch
    });
}

/// Returns whether one of the spans has a moment in common with this one. Both ends count.
fn meets(spans: &[Span], (from, to): Span) -> bool {
    let before = spans.partition_point(|span| span.0 <= to);
    before.checked_sub(1).is_some_and(|last| spans[last].1 >= from)
}

/// The contents of a certificate.
#[derive(Debug)]
struct Certificate<'h> {
    serial: u64,
    name: &'h str,
    authority: &'h str,
    not_before: i64,
    not_after: i64,
    for_servers: bool,
    for_clients: bool,
    trusts: &'h [String],
}

/// A connection of a client to a server.
#[derive(Debug)]
struct Connection<'h> {
    number: u64,
    event: usize,
    client: &'h Name,
    server: &'h Name,
    dialled: RunClock,
    opened: RunClock,
    closed: RunClock,
}

/// What the history says about certificates and connections.
struct Told<'h> {
    clocks: WallClocks<'h>,
    /// When wall clocks were set, by host.
    settings: BTreeMap<&'h Name, Vec<RunClock>>,
    /// Certificates as they were installed: one may be installed again with a different set of trusted authorities.
    certificates: BTreeMap<(&'h Name, u64), Vec<(RunClock, Certificate<'h>)>>,
    /// The certificates that each host's software took up, and when.
    takes: BTreeMap<&'h Name, Vec<(RunClock, u64)>>,
    connections: Vec<Connection<'h>>,
    slack: Duration,
    end: RunClock,
}

impl<'h> Told<'h> {
    fn of(index: &Index<'h>) -> Self {
        let header = &index.history.header;
        let mut told = Told {
            clocks: WallClocks::of(index.history),
            settings: BTreeMap::new(),
            certificates: BTreeMap::new(),
            takes: BTreeMap::new(),
            connections: Vec::new(),
            // Hosts take turns within a tick, and software that is told of a change acts on it in its next turn.
            slack: header.tick * 2,
            end: index.end,
        };
        let mut open: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, event) in index.history.events.iter().enumerate() {
            match &event.what {
                What::Clock { .. } => told.settings.entry(&event.host).or_default().push(event.at),
                What::Took { serial } => told.takes.entry(&event.host).or_default().push((event.at, *serial)),
                What::Connected { peer, connection, dialled }
                    if header.clients.contains(&event.host) && header.servers.contains(peer) =>
                {
                    open.insert(*connection, told.connections.len());
                    told.connections.push(Connection {
                        number: *connection,
                        event: at,
                        client: &event.host,
                        server: peer,
                        dialled: (*dialled).min(event.at),
                        opened: event.at,
                        closed: index.end,
                    });
                }
                What::Disconnected { connection } => {
                    if let Some(n) = open.remove(connection) {
                        told.connections[n].closed = event.at;
                    }
                }
                What::Down { .. } => open.retain(|_, n| {
                    let ends = *told.connections[*n].client == event.host;
                    if ends {
                        told.connections[*n].closed = event.at;
                    }
                    !ends
                }),
                what => told.take_certificate(&event.host, event.at, what),
            }
        }
        told
    }

    fn take_certificate(&mut self, host: &'h Name, at: RunClock, what: &'h What) {
        let What::Certificate {
            serial,
            name,
            authority,
            not_before,
            not_after,
            for_servers,
            for_clients,
            trusts,
            why: _,
        } = what
        else {
            return;
        };
        let certificate = Certificate {
            serial: *serial,
            name,
            authority,
            not_before: *not_before,
            not_after: *not_after,
            for_servers: *for_servers,
            for_clients: *for_clients,
            trusts,
        };
        self.certificates.entry((host, *serial)).or_default().push((at, certificate));
    }

    /// Returns a certificate of a host as it was installed when its software took it up.
    fn certificate(&self, host: &'h Name, at: RunClock, serial: u64) -> Option<&Certificate<'h>> {
        let installed = self.certificates.get(&(host, serial))?;
        let before = installed.partition_point(|(installed, _)| *installed <= at);
        installed.get(before.saturating_sub(1)).map(|(_, certificate)| certificate)
    }

    /// Returns the certificates that a host may show on a connection. `None` if nothing is known about the host.
    fn shown(&self, host: &'h Name, connection: &Connection<'_>) -> Option<Vec<&Certificate<'h>>> {
        let takes = self.takes.get(host)?;
        let surely = takes.partition_point(|(at, _)| *at + self.slack <= connection.dialled).saturating_sub(1);
        let maybe = takes.partition_point(|(at, _)| *at <= connection.opened.saturating_add(HANDSHAKE));
        let serials = takes.get(surely..maybe).filter(|serials| !serials.is_empty())?;
        serials.iter().map(|(at, serial)| self.certificate(host, *at, *serial)).collect()
    }

    /// Returns when a connection was good, and whether it was good throughout.
    fn good_spans(&self, connection: &Connection<'h>) -> (Vec<Span>, bool) {
        let whole = (connection.opened, connection.closed.max(connection.opened));
        let (client, server) = (connection.client, connection.server);
        let (Some(clients), Some(servers)) = (self.shown(client, connection), self.shown(server, connection)) else {
            return (vec![whole], true);
        };
        let mut good = Vec::new();
        for (ours, theirs) in clients.iter().flat_map(|ours| servers.iter().map(move |theirs| (ours, theirs))) {
            if fault(ours, client, theirs, ours.for_clients).is_none()
                && fault(theirs, server, ours, theirs.for_servers).is_none()
            {
                let ours = self.valid(ours, server);
                let theirs = self.valid(theirs, client);
                good.extend(ours.iter().flat_map(|a| theirs.iter().filter_map(|b| both(*a, *b))));
            }
        }
        merge(&mut good);
        let within: Vec<Span> = good.into_iter().filter_map(|span| both(span, whole)).collect();
        let throughout = within.first() == Some(&whole);
        (within, throughout)
    }

    /// Returns when a certificate is valid by the clock of `watcher`.
    fn valid(&self, certificate: &Certificate<'_>, watcher: &'h Name) -> Vec<Span> {
        let settings = self.settings.get(watcher).map_or(&[][..], Vec::as_slice);
        let starts = std::iter::once(RunClock::ZERO).chain(settings.iter().copied());
        let ends = settings.iter().copied().chain([self.end + Duration::from_secs(1)]);
        // Between two settings a clock only goes forward, so the certificate is valid in one span.
        let spans = starts.zip(ends).filter_map(|(start, end)| {
            let reaches = |second: i64| first(start, end, |at| self.clocks.seconds(watcher, at) >= second);
            let (from, to) = (reaches(certificate.not_before)?, reaches(certificate.not_after.saturating_add(1)));
            let to = to.unwrap_or(end);
            (from < to).then_some((from.saturating_sub(self.slack), to + self.slack))
        });
        let mut spans: Vec<Span> = spans.collect();
        merge(&mut spans);
        spans
    }
}

/// Returns the first moment of `[start, end)`, to the microsecond, from which on `so` is true; `so` never becomes false
/// again.
fn first(start: RunClock, end: RunClock, so: impl Fn(RunClock) -> bool) -> Option<RunClock> {
    let last = end.checked_sub(Duration::from_nanos(1)).filter(|last| *last >= start)?;
    if so(start) {
        return Some(start);
    }
    if !so(last) {
        return None;
    }
    let (mut not, mut is) = (start, last);
    while is - not > Duration::from_micros(1) {
        let middle = not + (is - not) / 2;
        if so(middle) { is = middle } else { not = middle }
    }
    Some(is)
}

fn both(a: Span, b: Span) -> Option<Span> {
    let span = (a.0.max(b.0), a.1.min(b.1));
    (span.0 <= span.1).then_some(span)
}

/// Returns what is wrong with a certificate whenever it is shown, as judged by the end that shows `other`.
fn fault(shown: &Certificate<'_>, by: &Name, other: &Certificate<'_>, for_its_end: bool) -> Option<String> {
    let serial = shown.serial;
    if shown.name != &**by {
        return Some(format!("{by} showed certificate {serial:x}, which is for `{}`", shown.name));
    }
    if !for_its_end {
        return Some(format!("{by} showed certificate {serial:x}, which is not good for its end of a connection"));
    }
    if !other.trusts.iter().any(|trusted| trusted == shown.authority) {
        return Some(format!(
            "{by} showed certificate {serial:x} of `{}`, which its peer does not trust",
            shown.authority
        ));
    }
    None
}

fn untrusted(
    told: &Told<'_>,
    sight: &Sight<'_>,
    entry: &Entry<'_>,
    (submitted, answered): (usize, usize),
    span: Span,
) -> Violation {
    let (client, from, to) = (entry.client, words::time(span.0), words::time(span.1));
    let summary = format!(
        "{} was submitted at {from} and acknowledged at {to}, and in that time {client} had no connection whose \
         certificates were good.",
        entry.id(),
    );
    let over = sight.connections.iter().rev().find(|it| it.opened <= span.1 && it.closed >= span.0);
    let why = over.map(|connection| why_not(told, connection, span.1));
    let shown = over.map(|connection| connection.event);
    Violation::new(summary).because(why).shown_by([submitted, answered].into_iter().chain(shown))
}

/// Returns why a connection was not good at a moment.
fn why_not(told: &Told<'_>, connection: &Connection<'_>, at: RunClock) -> String {
    let Connection { number, client, server, opened, .. } = connection;
    let opening = format!("connection {number} to {server}, opened at {}", words::time(*opened));
    let one = |host: &Name| {
        let (host, takes) = told.takes.get_key_value(host)?;
        let last = takes.iter().rev().find(|(taken, _)| *taken <= connection.opened)?;
        told.certificate(host, last.0, last.1)
    };
    let (Some(ours), Some(theirs)) = (one(client), one(server)) else { return opening };
    let always =
        fault(ours, client, theirs, ours.for_clients).or_else(|| fault(theirs, server, ours, theirs.for_servers));
    let by_clock = |shown: &Certificate<'_>, by: &Name, watcher: &Name| {
        let wall = told.clocks.seconds(watcher, at);
        let serial = shown.serial;
        if wall > shown.not_after {
            let ago = words::span(Duration::from_secs(wall.abs_diff(shown.not_after)));
            Some(format!("{by} had shown certificate {serial:x}, which had ended {ago} ago by the clock of {watcher}"))
        } else if wall < shown.not_before {
            let in_ = words::span(Duration::from_secs(wall.abs_diff(shown.not_before)));
            Some(format!(
                "{by} had shown certificate {serial:x}, which begins only {in_} later by the clock of {watcher}"
            ))
        } else {
            None
        }
    };
    let why = always.or_else(|| by_clock(ours, client, server)).or_else(|| by_clock(theirs, server, client));
    why.map_or(opening.clone(), |why| format!("{opening}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::testing::Story,
        history::{Down, Invariant},
    };

    const EPOCH: i64 = 1_767_225_600;

    /// A certificate of `host`, valid from `from` to `until` seconds of the run, that its software takes up.
    fn shows(story: &mut Story, host: &str, serial: u64, from: i64, until: i64) {
        installs(story, host, serial, |what| {
            if let What::Certificate { not_before, not_after, .. } = what {
                (*not_before, *not_after) = (EPOCH + from, EPOCH + until - 1);
            }
        });
    }

    fn installs(story: &mut Story, host: &str, serial: u64, change: impl FnOnce(&mut What)) {
        let mut what = What::Certificate {
            serial,
            name: host.to_owned(),
            authority: "authority 1".to_owned(),
            not_before: EPOCH - 3_600,
            not_after: EPOCH + 90 * 86_400,
            for_servers: true,
            for_clients: true,
            trusts: vec!["authority 1".to_owned()],
            why: "a test".to_owned(),
        };
        change(&mut what);
        story.says(host, what).says(host, What::Took { serial });
    }

    fn connects(story: &mut Story, connection: u64) {
        let at = story.now();
        story.says("client-1", What::Connected { peer: "server-1".into(), connection, dialled: at });
    }

    fn entry(story: &mut Story, number: u64, from: u64, to: u64) {
        story.at(from).submits("client-1", number).at(to).acked("client-1", number, None);
    }

    /// Both ends have good certificates, then `tell` runs.
    fn finding(tell: impl FnOnce(&mut Story)) -> Finding {
        let mut story = Story::new();
        story.history.header.promises.kept = vec![Invariant::TrustedPeers];
        shows(&mut story, "server-1", 1, -3_600, 7_776_000);
        shows(&mut story, "client-1", 2, -3_600, 7_776_000);
        tell(&mut story);
        story.at(100_000).says("harness", What::Healed {});
        story.finding(Invariant::TrustedPeers)
    }

    fn why(finding: Finding) -> String {
        let Finding::Violated(violations) = finding else { panic!("{finding:?} is no violation") };
        assert!(violations[0].summary.contains("client-1 #0"), "{violations:?}");
        violations[0].why.clone().expect("a reason")
    }

    #[test]
    fn what_travels_over_good_connections_leaves_it_idle() {
        let idle = finding(|story| {
            connects(story.at(1_000), 1);
            entry(story, 0, 2_000, 2_050);
        });
        assert!(matches!(idle, Finding::Idle { .. }), "{idle:?}");
        assert!(matches!(finding(|_| ()), Finding::Idle { .. }));
    }

    #[test]
    fn a_connection_that_outlives_its_certificate_is_a_violation_once_something_is_accepted_over_it() {
        let tell = |submitted: u64, story: &mut Story| {
            shows(story.at(500), "client-1", 3, -3_600, 20);
            connects(story.at(10_000), 1);
            entry(story, 0, submitted, submitted + 50);
        };
        assert!(matches!(finding(|story| tell(19_990, story)), Finding::Holds { .. }));
        let why = why(finding(|story| tell(25_000, story)));
        assert!(why.contains("client-1 had shown certificate 3, which had ended 6.0s ago"), "{why}");
    }

    #[test]
    fn an_entry_that_could_have_travelled_over_a_good_connection_did() {
        let holds = finding(|story| {
            shows(story.at(500), "client-1", 3, -3_600, 20);
            connects(story.at(10_000), 1);
            shows(story.at(24_000), "client-1", 4, -3_600, 7_776_000);
            connects(story.at(30_100), 2);
            entry(story, 0, 25_000, 30_200);
        });
        assert!(matches!(holds, Finding::Holds { .. }), "{holds:?}");
    }

    /// At 20 s the server's certificate is installed again, trusting a set that leaves the client's authority out.
    #[test]
    fn whom_a_certificate_comes_with_later_says_nothing_of_before() {
        let tell = |submitted: u64, story: &mut Story| {
            connects(story.at(1_000), 1);
            installs(story.at(20_000), "server-1", 1, |what| {
                if let What::Certificate { trusts, .. } = what {
                    *trusts = vec!["authority 2".to_owned()];
                }
            });
            story.says("client-1", What::Disconnected { connection: 1 });
            connects(story.at(30_000), 2);
            entry(story, 0, submitted, submitted + 50);
        };
        let before = finding(|story| tell(2_000, story));
        assert!(matches!(before, Finding::Holds { .. }), "{before:?}");
        let why = why(finding(|story| tell(31_000, story)));
        assert!(why.contains("authority 1"), "{why}");
    }

    #[test]
    fn a_connection_that_was_closed_carries_nothing() {
        let nothing = finding(|story| {
            shows(story.at(500), "client-1", 3, -3_600, 20);
            connects(story.at(10_000), 1);
            story.at(15_000).says("client-1", What::Disconnected { connection: 1 });
            connects(story.at(30_000), 2);
            entry(story, 0, 31_000, 31_010);
        });
        assert!(matches!(nothing, Finding::Violated(_)), "{nothing:?}");
        let died = finding(|story| {
            shows(story.at(500), "client-1", 3, -3_600, 20);
            connects(story.at(10_000), 1);
            story.at(15_000).says("client-1", What::Down { how: Down::Crash });
            entry(story, 0, 31_000, 31_010);
        });
        assert!(matches!(died, Finding::Idle { .. }), "nothing can be said of it: {died:?}");
    }

    #[test]
    fn names_authorities_and_usages_count() {
        let with = |change: fn(&mut What)| {
            finding(|story| {
                installs(story.at(500), "client-1", 3, change);
                connects(story.at(10_000), 1);
                entry(story, 0, 11_000, 11_050);
            })
        };
        let named = why(with(|what| {
            if let What::Certificate { name, .. } = what {
                *name = "somebody-else".to_owned();
            }
        }));
        assert!(named.ends_with("client-1 showed certificate 3, which is for `somebody-else`"), "{named}");
        let signed = why(with(|what| {
            if let What::Certificate { authority, .. } = what {
                *authority = "a stranger".to_owned();
            }
        }));
        assert!(signed.ends_with("of `a stranger`, which its peer does not trust"), "{signed}");
        let used = why(with(|what| {
            if let What::Certificate { for_clients, .. } = what {
                *for_clients = false;
            }
        }));
        assert!(used.ends_with("not good for its end of a connection"), "{used}");
        let distrusts = with(|what| {
            if let What::Certificate { trusts, .. } = what {
                *trusts = vec!["authority 2".to_owned()];
            }
        });
        assert!(matches!(distrusts, Finding::Violated(_)), "the client trusted somebody else: {distrusts:?}");
    }

    #[test]
    fn what_is_taken_up_while_the_handshake_may_last_has_the_benefit_of_the_doubt() {
        let taken = |ms| {
            finding(|story| {
                shows(story.at(500), "client-1", 3, 1_000, 2_000);
                connects(story.at(10_000), 1);
                shows(story.at(ms), "client-1", 4, -3_600, 7_776_000);
                entry(story, 0, 20_000, 20_050);
            })
        };
        assert!(!matches!(taken(14_000), Finding::Violated(_)));
        assert!(matches!(taken(16_000), Finding::Violated(_)));
    }

    #[test]
    fn the_clock_that_counts_is_that_of_who_looks() {
        let by = |host: &str| {
            finding(|story| {
                let slow = What::Clock { offset: -90_000_000_000, rate_ppm: 0 };
                story.at(100).says(host, slow);
                shows(story.at(500), "client-1", 3, -3_600, 20);
                connects(story.at(10_000), 1);
                entry(story, 0, 25_000, 25_050);
            })
        };
        assert!(!matches!(by("server-1"), Finding::Violated(_)), "by its own clock the server was right");
        assert!(matches!(by("client-1"), Finding::Violated(_)));
    }
}
