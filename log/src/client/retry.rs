//! When to retry: the only backoff of the client, and the failures that it is for.
//!
//! No layer below retries. A failure that can pass by itself is retried after a random wait that grows (full jitter). A
//! failure that somebody has to cure is retried too, but slowly. Nothing here ever gives up: a caller that may give up,
//! such as a reader with a deadline, decides that for itself.

use std::time::Duration;

use tonic::{Code, Status};

use super::settings::RetrySettings;
use crate::dial::Trouble;
use crate::words::{LEADER, PUSHBACK};

/// What it takes for a failed call to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cure {
    /// Time.
    Time,
    /// Another server: a certificate failed, on either side of this connection. If that happens with every server, it
    /// takes somebody.
    Elsewhere,
    /// Somebody: a permission is missing, or the log is not the one that it was.
    Somebody,
}

/// Classifies a failed call. `trouble` is what its connection noticed.
pub(crate) fn cure(status: &Status, trouble: Option<&Trouble>) -> Cure {
    if let Some(Trouble::Credentials(_)) = trouble {
        return Cure::Elsewhere;
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => Cure::Time,
        Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition => Cure::Somebody,
        // When a transport breaks, these codes come from the transport itself and not from the server.
        Code::Unknown | Code::Cancelled | Code::Internal if trouble.is_some() || of_transport(status) => Cure::Time,
        _ => Cure::Somebody,
    }
}

/// Returns whether the server itself sent this status, over a connection that is good for the next call, which the
/// server may serve.
pub(crate) fn is_answer(status: &Status, trouble: Option<&Trouble>) -> bool {
    let passes = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Aborted);
    passes && trouble.is_none() && !of_transport(status)
}

/// Errors of the transport have a source. A stream that ended without any status is recognised only by its text.
fn of_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some() || status.message().contains("missing grpc-status")
}

/// Returns how long a server asks to be left alone: `grpc-retry-pushback-ms` (gRFC A6). A negative value asks for no
/// retry, which an outbox cannot grant; it then stays away for `cap`.
pub(crate) fn pushback(status: &Status, cap: Duration) -> Option<Duration> {
    let text = status.metadata().get(PUSHBACK)?.to_str().ok()?;
    match text.parse::<i64>() {
        Ok(ms) => Some(u64::try_from(ms).map_or(cap, Duration::from_millis)),
        Err(_) => Some(cap),
    }
}

/// Returns whom a server that does not lead takes for the leader, by the name in the leader's certificate.
pub(crate) fn leader(status: &Status) -> Option<String> {
    Some(status.metadata().get(LEADER)?.to_str().ok()?.to_owned())
}

/// A budget token, in thousandths.
const TOKEN: u32 = 1_000;

/// The state between failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    settings: RetrySettings,
    /// The number of servers. The wait grows only once all of them have failed: another one may well answer.
    servers: u32,
    /// Failures since the last success.
    failures: u32,
    /// Connections that failed because of a certificate since a server last answered.
    turned_away: u32,
    /// Thousandths of budget tokens left.
    budget: u32,
}

impl Backoff {
    /// Returns a backoff for calls that go to this many servers in turn.
    pub(crate) fn new(settings: RetrySettings, servers: usize) -> Backoff {
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        let mut backoff = Backoff { settings, servers, failures: 0, turned_away: 0, budget: 0 };
        backoff.budget = backoff.budget_max();
        backoff
    }

    /// Each server may fail as often as a single one could.
    fn budget_max(&self) -> u32 {
        self.settings.budget_tokens.saturating_mul(TOKEN).saturating_mul(self.servers)
    }

    /// Returns the number of the next attempt, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.failures.saturating_add(1)
    }

    /// Notes a failure. Returns what it takes, with the other servers taken into account, and how long to wait before
    /// the next attempt. A server that asks for a wait has answered.
    pub(crate) fn failed(&mut self, cure: Cure, pushback: Option<Duration>) -> (Cure, Duration) {
        if pushback.is_some() {
            self.answered();
        }
        let mut cure = cure;
        if cure == Cure::Elsewhere {
            self.turned_away = self.turned_away.saturating_add(1);
            if self.turned_away >= self.servers {
                mark!("every-server-turned-away");
                cure = Cure::Somebody;
            }
        }
        let rounds = self.failures / self.servers;
        let range = self.settings.base.saturating_mul(1 << rounds.min(16)).min(self.settings.cap);
        self.failures = self.failures.saturating_add(1);
        let spent = self.budget < TOKEN;
        mark!("budget-was-spent", spent);
        self.budget = self.budget.saturating_sub(TOKEN);
        let wait = match (pushback, cure) {
            (Some(asked), _) => asked,
            (None, Cure::Somebody) => self.settings.cap,
            // Without budget the wait is near the cap, but still random, so that clients do not come back all at once.
            (None, _) if spent => self.settings.cap.mul_f64(0.5 + 0.5 * rand::random::<f64>()),
            (None, _) => range.mul_f64(rand::random::<f64>()),
        };
        (cure, wait)
    }

    /// Notes that a server answered, if only to name another: at least there, certificates are in order.
    pub(crate) fn answered(&mut self) {
        self.turned_away = 0;
    }

    pub(crate) fn succeeded(&mut self) {
        self.answered();
        self.failures = 0;
        let back = (f64::from(TOKEN) * self.settings.budget_ratio.clamp(0.0, 1_000.0)) as u32;
        self.budget = self.budget.saturating_add(back).min(self.budget_max());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_random_below_a_range_that_doubles_up_to_the_cap() {
        let settings = RetrySettings { budget_tokens: 1_000, ..RetrySettings::default() };
        let mut backoff = Backoff::new(settings, 1);
        for failure in 0..40u32 {
            let range = settings.base.saturating_mul(1 << failure.min(16)).min(settings.cap);
            assert_eq!(backoff.attempt(), failure + 1);
            assert!(backoff.failed(Cure::Time, None).1 <= range);
        }
        backoff.succeeded();
        assert!(backoff.failed(Cure::Time, None).1 <= settings.base);
    }

    #[test]
    fn among_several_servers_the_range_doubles_once_all_have_failed() {
        let settings = RetrySettings { budget_tokens: 1_000, ..RetrySettings::default() };
        let mut backoff = Backoff::new(settings, 3);
        for failure in 0..40u32 {
            let range = settings.base.saturating_mul(1 << (failure / 3).min(16)).min(settings.cap);
            assert!(backoff.failed(Cure::Time, None).1 <= range, "{failure}");
        }
    }

    #[test]
    fn a_certificate_needs_somebody_only_once_every_server_was_met_with_the_same() {
        let settings = RetrySettings::default();
        let mut alone = Backoff::new(settings, 1);
        assert_eq!(alone.failed(Cure::Elsewhere, None), (Cure::Somebody, settings.cap));
        let mut among = Backoff::new(settings, 3);
        let cure = |backoff: &mut Backoff, pushback| backoff.failed(Cure::Elsewhere, pushback).0;
        for _ in 0..5 {
            assert_eq!(cure(&mut among, None), Cure::Elsewhere);
            assert_eq!(cure(&mut among, None), Cure::Elsewhere);
            among.answered();
        }
        assert_eq!([(); 3].map(|()| cure(&mut among, None)), [Cure::Elsewhere, Cure::Elsewhere, Cure::Somebody]);
        assert_eq!(among.failed(Cure::Time, None).0, Cure::Time);
        assert_eq!(cure(&mut among, None), Cure::Somebody, "what passes by itself says nothing about certificates");
        among.failed(Cure::Time, Some(Duration::ZERO));
        assert_eq!(cure(&mut among, None), Cure::Elsewhere, "whoever asks for a wait has answered");
    }

    #[test]
    fn a_spent_budget_slows_down_and_successes_earn_it_back() {
        let settings = RetrySettings::default();
        let mut backoff = Backoff::new(settings, 1);
        for _ in 0..10 {
            backoff.failed(Cure::Time, None);
        }
        backoff.failures = 0;
        assert!(backoff.failed(Cure::Time, None).1 >= settings.cap / 2);
        for _ in 0..10 {
            backoff.succeeded();
        }
        assert!(backoff.failed(Cure::Time, None).1 <= settings.base);
    }

    #[test]
    fn pushback_is_honoured_to_the_millisecond_and_a_refusal_of_retries_means_the_cap() {
        let cap = Duration::from_secs(10);
        let with = |text: &str| {
            let mut status = Status::resource_exhausted("full");
            status.metadata_mut().insert("grpc-retry-pushback-ms", text.parse().unwrap());
            pushback(&status, cap)
        };
        assert_eq!(with("1234"), Some(Duration::from_millis(1234)));
        assert_eq!(with("-1"), Some(cap));
        assert_eq!(with("soon"), Some(cap));
        assert_eq!(pushback(&Status::unavailable(""), cap), None);
    }

    #[test]
    fn a_connection_stays_for_what_its_server_said_and_will_not_say_again() {
        let closed = Trouble::Transport("closed by the server".to_owned());
        for code in [Code::Unavailable, Code::ResourceExhausted, Code::Aborted] {
            assert!(is_answer(&Status::new(code, ""), None), "{code:?}");
            assert!(!is_answer(&Status::new(code, ""), Some(&closed)), "{code:?}");
        }
        for code in [Code::DeadlineExceeded, Code::PermissionDenied, Code::Unauthenticated, Code::Unknown] {
            assert!(!is_answer(&Status::new(code, ""), None), "{code:?}");
        }
        assert!(!is_answer(&Status::from_error("connection reset".into()), None));
    }

    #[test]
    fn only_what_can_pass_by_itself_is_left_to_time() {
        let code = |code| cure(&Status::new(code, ""), None);
        for passing in [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Aborted] {
            assert_eq!(code(passing), Cure::Time, "{passing:?}");
        }
        for lasting in [
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::FailedPrecondition,
            Code::Cancelled,
            Code::Unknown,
            Code::Internal,
            Code::Unimplemented,
        ] {
            assert_eq!(code(lasting), Cure::Somebody, "{lasting:?}");
        }
        let broken = Status::from_error("connection reset".into());
        assert_eq!(cure(&broken, None), Cure::Time);
        let refused = Trouble::Credentials("expired".to_owned());
        assert_eq!(cure(&broken, Some(&refused)), Cure::Elsewhere);
        let closed = Trouble::Transport("closed by the server".to_owned());
        assert_eq!(cure(&Status::unknown(""), Some(&closed)), Cure::Time);
        assert_eq!(cure(&Status::permission_denied("not you"), Some(&closed)), Cure::Somebody);
    }
}
