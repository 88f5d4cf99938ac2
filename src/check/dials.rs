//! Counts how often a host opens connections: the figure behind `connections-at-most`.
//!
//! A client that is refused and dials again at once harms nobody in a run and everybody in a data centre: each attempt
//! takes a handshake of the server. Only established connections count, attributed to the server or client that opened
//! them, from t = 0 on, because all hosts connect at once when they begin. The auditor that reads the log to judge it
//! does not count.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::history::{History, Name, RunClock, What};

/// The host that opened the most connections within one stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Busiest {
    pub(super) host: Name,
    pub(super) count: u64,
    /// When the first of them was opened.
    pub(super) from: RunClock,
    /// Indexes of their events.
    pub(super) events: Vec<usize>,
}

/// Returns the most connections that any host opened within any stretch of that length, the first such stretch if there
/// are several; `None` if no host opened one.
pub(super) fn busiest(history: &History, within: Duration) -> Option<Busiest> {
    let mut recent: BTreeMap<&Name, VecDeque<(RunClock, usize)>> = BTreeMap::new();
    let mut busiest: Option<Busiest> = None;
    let judged = |host: &Name| history.header.clients.contains(host) || history.header.servers.contains(host);
    for (at, event) in history.events.iter().enumerate() {
        match &event.what {
            What::Began {} => {
                recent.clear();
                busiest = None;
            }
            What::Connected { .. } if judged(&event.host) => {
                let dials = recent.entry(&event.host).or_default();
                dials.push_back((event.at, at));
                while dials.front().is_some_and(|(first, _)| event.at.saturating_sub(*first) >= within) {
                    dials.pop_front();
                }
                let count = dials.len() as u64;
                if let Some((from, _)) = dials.front()
                    && busiest.as_ref().is_none_or(|known| count > known.count)
                {
                    let (host, events) = (event.host.clone(), dials.iter().map(|(_, at)| *at).collect());
                    busiest = Some(Busiest { host, count, from: *from, events });
                }
            }
            _ => {}
        }
    }
    busiest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Verdict, testing::Story},
        fault::{Per, Rate},
    };

    /// Client 2 dials every 100 ms from 10 s on, 30 times; the others dial now and then.
    fn story() -> Story {
        let mut story = Story::healthy();
        let dial = |story: &mut Story, ms, host: &str, connection| {
            let dialled = Duration::from_millis(ms);
            story.at(ms).says(host, What::Connected { peer: "server-1".into(), connection, dialled });
        };
        for n in 0..30 {
            dial(&mut story, 210_000 + n * 100, "client-2", n);
            dial(&mut story, 210_000 + n * 100, "auditor", 200 + 2 * n);
            dial(&mut story, 210_000 + n * 100, "auditor", 201 + 2 * n);
            if n % 10 == 0 {
                dial(&mut story, 210_050 + n * 100, "client-1", 100 + n);
            }
        }
        story
    }

    #[test]
    fn the_busiest_host_is_found_by_any_stretch_of_time() {
        let history = story().history;
        let second = busiest(&history, Duration::from_secs(1)).expect("somebody dialled");
        assert_eq!((&*second.host, second.count, second.from), ("client-2", 10, Duration::from_secs(210)));
        assert_eq!(second.events.len(), 10);
        let minute = busiest(&history, Duration::from_secs(60)).expect("somebody dialled");
        assert_eq!((&*minute.host, minute.count), ("client-2", 30));
        assert_eq!(busiest(&Story::healthy().history, Duration::from_secs(1)), None);
    }

    #[test]
    fn what_was_opened_before_t_0_does_not_count() {
        let mut story = Story::new();
        for connection in 0..5 {
            let what = What::Connected { peer: "server-1".into(), connection, dialled: Duration::ZERO };
            story.at(1).says("client-1", what);
        }
        story.at(2).says("harness", What::Began {});
        assert_eq!(busiest(&story.history, Duration::from_secs(1)), None);
    }

    #[test]
    fn a_bound_on_connections_is_kept_or_named() {
        let mut story = story();
        let allowed = |count| Some(Rate { count, per: Per::Second });
        assert_eq!(story.judge().facts.most_connections, Some((10, "client-2".into())));
        story.expect.connections_at_most = allowed(10);
        assert_eq!(story.judge().verdict, Verdict::Holds);
        story.expect.connections_at_most = allowed(9);
        let judgement = story.judge();
        assert_eq!(judgement.verdict, Verdict::Violated);
        let text = "client-2 opened 10 connections within 1.0s, from 210.000s on, where connections-at-most allows 9";
        assert_eq!(judgement.unmet[0].text, text);
        assert_eq!(judgement.unmet[0].events.len(), 10);
    }
}
