//! How many entries are in flight: as many as help.
//!
//! A near log answers before a second handful of entries is on its way. A far one has to be sent a whole round trip's
//! worth, or its distance limits the rate at which it takes entries. Nobody announces the distance, and it changes. So
//! the width is found by trial: if the width holds entries back, it is doubled, and the larger one is kept if answers
//! then come faster; now and then the width is halved, and the smaller one is kept if answers come as fast. A log that
//! is busy rather than far gains nothing from a wider lane, and gets none.
//!
//! A server without room turns an entry away, and with it all that were sent behind it. A client that sends as many
//! again fills what little room there is with entries that cannot count yet, and so do all others. So each time the
//! width is halved, down to a single entry, and then grows by one entry every few rounds, much as a TCP connection does
//! after a loss (RFC 5681, 3.1).
//!
//! A rate is measured from when an entry was sent to when it was answered, as in BBR (draft-cardwell-iccrg-bbr,
//! "delivery rate samples"): the answers that came in that time, divided by it. It spans at least a round trip, so that
//! a burst does not look like speed.

use std::time::Duration;

use tokio::time::Instant;

/// More answers by this factor make a wider lane worth its memory.
const WORTH: f64 = 1.25;
/// A rate below this share shows that a narrower lane holds answers back.
const AS_FAST: f64 = 0.9;
/// Rounds between two trials of another width.
const ROUNDS_HELD: u32 = 8;
/// Rounds in which a lane that was turned away has to be too narrow before it grows by one entry: one entry too many
/// costs a round and a wait.
const ROUNDS_SQUEEZED: u32 = 3;
/// A trial of a wider lane doubles the width. Where answers take at least this long, it quadruples the width until the
/// first trial fails, because the right width would otherwise be found only after many seconds.
const FAR: Duration = Duration::from_millis(100);

/// What is known of the lane when an entry is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    at: Instant,
    /// The number of answers by then, and when the last of them came.
    answers: u64,
    answered_at: Instant,
}

/// The width of one lane. Pure: it is told what happens, and when.
#[derive(Debug)]
pub(super) struct Pace {
    least: usize,
    most: usize,
    width: usize,
    answers: u64,
    answered_at: Option<Instant>,
    round: Round,
    phase: Phase,
    /// Answers per second before the trial.
    before: f64,
    /// Whether the next trial is of a narrower lane.
    narrower_next: bool,
    /// Whether no trial has failed yet.
    growing: bool,
    /// The shortest time that an answer took.
    shortest: Option<Duration>,
}

/// A round ends with the answer to an entry that was sent after the round began.
#[derive(Debug, Default)]
struct Round {
    /// The number of answers when it began.
    begun: u64,
    /// Whether the width held entries back.
    limited: bool,
    /// The best rate that an answer in the round showed.
    rate: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No trial has been under way for this many rounds.
    Held(u32),
    /// A trial of a width above `from`. Its first entries are on their way or, with `seen`, have arrived.
    Wider {
        from: usize,
        seen: bool,
    },
    Narrower {
        seen: bool,
    },
}

impl Pace {
    /// Returns a pace between these widths, both included.
    pub(super) fn new(least: usize, most: usize) -> Pace {
        Pace {
            least,
            most,
            width: least,
            answers: 0,
            answered_at: None,
            round: Round::default(),
            // The first trial comes at once.
            phase: Phase::Held(ROUNDS_HELD),
            before: 0.0,
            narrower_next: false,
            growing: true,
            shortest: None,
        }
    }

    /// How many entries may be in flight.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Notes that the width held an entry back.
    pub(super) fn held_back(&mut self) {
        self.round.limited = true;
    }

    /// Notes that an entry is sent; `alone` if nothing else is in flight.
    pub(super) fn sent(&mut self, now: Instant, alone: bool) -> Mark {
        if alone {
            // Time without anything to send says nothing about the lane.
            self.answered_at = Some(now);
        }
        Mark { at: now, answers: self.answers, answered_at: self.answered_at.unwrap_or(now) }
    }

    /// Notes the answer to the entry with this mark. Answers come in the order of the entries.
    pub(super) fn answered(&mut self, now: Instant, mark: &Mark) {
        self.answers += 1;
        self.answered_at = Some(now);
        let took = now.duration_since(mark.at);
        self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
        let since = now.duration_since(mark.answered_at.min(mark.at)).as_secs_f64();
        if since > 0.0 {
            self.round.rate = self.round.rate.max((self.answers - mark.answers) as f64 / since);
        }
        // This is the first answer to an entry that was sent after the round began: at least a round trip has passed.
        if mark.answers >= self.round.begun {
            self.end_round();
        }
    }

    /// Notes that the server had no room for the oldest entry in flight.
    pub(super) fn turned_away(&mut self) {
        self.width = (self.width / 2).max(1);
        self.phase = Phase::Held(0);
        mark!("lane-squeezed", self.width < self.least);
    }

    /// Notes that what was in flight is given up: the next entries begin anew, at this width.
    pub(super) fn restarted(&mut self) {
        self.answers = 0;
        self.answered_at = None;
        self.round = Round::default();
        if let Phase::Wider { .. } | Phase::Narrower { .. } = self.phase {
            self.phase = Phase::Held(0);
        }
    }

    fn end_round(&mut self) {
        let Round { limited, rate, .. } = std::mem::take(&mut self.round);
        self.round.begun = self.answers;
        self.phase = match self.phase {
            Phase::Held(rounds) if self.width < self.least && limited => match rounds + 1 {
                ROUNDS_SQUEEZED => {
                    self.width += 1;
                    Phase::Held(0)
                }
                rounds => Phase::Held(rounds),
            },
            phase if self.width < self.least => phase,
            // A lane that is not used to the full needs no other width. Once it is used to the full, the next trial is
            // due.
            Phase::Held(rounds) if !limited => Phase::Held((rounds + 1).min(ROUNDS_HELD)),
            _ if !limited => Phase::Held(0),
            Phase::Wider { from, seen: false } => Phase::Wider { from, seen: true },
            Phase::Narrower { seen: false } => Phase::Narrower { seen: true },
            Phase::Wider { seen: true, .. } if rate >= self.before * WORTH => self.widen(rate),
            Phase::Wider { from, seen: true } => {
                (self.width, self.growing) = (from, false);
                Phase::Held(0)
            }
            Phase::Narrower { seen: true } if rate >= self.before * AS_FAST => Phase::Held(0),
            Phase::Narrower { seen: true } => {
                self.width = (self.width * 2).min(self.most);
                Phase::Held(0)
            }
            Phase::Held(rounds) if rounds < ROUNDS_HELD => Phase::Held(rounds + 1),
            Phase::Held(_) if self.narrower_next && self.width > self.least => {
                self.narrower_next = false;
                self.before = rate;
                self.width = (self.width / 2).max(self.least);
                Phase::Narrower { seen: false }
            }
            Phase::Held(_) => self.widen(rate),
        };
    }

    fn widen(&mut self, rate: f64) -> Phase {
        self.narrower_next = true;
        self.before = rate;
        if self.width >= self.most {
            return Phase::Held(0);
        }
        let far = self.shortest.is_some_and(|shortest| shortest >= FAR);
        let from = self.width;
        self.width = (from * if self.growing && far { 4 } else { 2 }).min(self.most);
        Phase::Wider { from, seen: false }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use super::*;

    /// A lane to a log; the caller of [`run`](Lane::run) says how far and how fast the log is.
    struct Lane {
        pace: Pace,
        /// The number of entries for which the log has room; with one more, all are turned away for a while.
        places: usize,
        now: Instant,
        flight: VecDeque<(Instant, Mark)>,
        free_at: Instant,
        waiting: f64,
    }

    impl Lane {
        fn new(least: usize, most: usize) -> Lane {
            let now = Instant::now();
            Lane {
                pace: Pace::new(least, most),
                places: usize::MAX,
                now,
                flight: VecDeque::new(),
                free_at: now,
                waiting: 0.0,
            }
        }

        /// Runs for some time over a line with this round trip, to a log that takes `rate` entries per second, while
        /// `offered` entries per second are to be sent. Returns how many were answered.
        fn run(&mut self, time: Duration, trip: Duration, rate: f64, offered: f64) -> u64 {
            let (step, mut answers) = (Duration::from_millis(1), 0);
            let end = self.now + time;
            while self.now < end {
                self.waiting += offered * step.as_secs_f64();
                while let Some((_, mark)) = self.flight.front().filter(|(due, _)| *due <= self.now) {
                    self.pace.answered(self.now, mark);
                    self.flight.pop_front();
                    answers += 1;
                }
                while self.waiting >= 1.0 {
                    if self.flight.len() >= self.pace.width() {
                        self.pace.held_back();
                        break;
                    }
                    if self.flight.len() == self.places {
                        self.waiting += self.flight.len() as f64;
                        self.flight.clear();
                        self.pace.turned_away();
                        self.pace.restarted();
                        self.now += trip + ms(200);
                        self.free_at = self.now;
                        break;
                    }
                    let mark = self.pace.sent(self.now, self.flight.is_empty());
                    self.free_at = self.free_at.max(self.now + trip / 2) + Duration::from_secs_f64(1.0 / rate);
                    self.flight.push_back((self.free_at + trip / 2, mark));
                    self.waiting -= 1.0;
                }
                self.now += step;
            }
            answers
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_log_is_sent_what_its_distance_takes() {
        for (trip, seconds) in [(100, 4), (200, 6), (400, 10), (600, 15), (3_000, 60)] {
            let mut lane = Lane::new(128, 16_384);
            lane.run(SECOND * seconds, ms(trip), 20_000.0, 2_000.0);
            let answers = lane.run(SECOND * 10, ms(trip), 20_000.0, 2_000.0);
            assert!(answers >= 19_900, "{trip} ms: {answers} in 10 s at a width of {}", lane.pace.width());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_near_log_that_is_busy_is_sent_no_more_than_before() {
        for trip in [2, 10] {
            let mut lane = Lane::new(128, 16_384);
            lane.run(SECOND * 60, ms(trip), 500.0, 1e6);
            for _ in 0..600 {
                lane.run(ms(100), ms(trip), 500.0, 1e6);
                assert!(lane.pace.width() <= 256, "{}: a trial at most", lane.pace.width());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_comes_nearer_is_sent_less_again_and_one_that_goes_away_more() {
        let mut lane = Lane::new(128, 16_384);
        lane.run(SECOND * 20, ms(400), 5_000.0, 1e6);
        let far = lane.pace.width();
        assert!(far >= 2_000, "{far}");
        lane.run(SECOND * 60, ms(10), 5_000.0, 1e6);
        let near = lane.pace.width();
        assert!(near <= 512, "{near}");
        lane.run(SECOND * 30, ms(400), 5_000.0, 1e6);
        let answers = lane.run(SECOND * 10, ms(400), 5_000.0, 1e6);
        assert!(answers >= 40_000, "{answers} at a width of {}", lane.pace.width());
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_lane_that_was_idle_is_as_wide_as_it_has_to_be_within_a_few_round_trips() {
        for idle in [0, 5, 60] {
            let mut lane = Lane::new(16, 240);
            lane.run(SECOND * idle, ms(1_500), 1e4, 2.0);
            lane.run(SECOND * 12, ms(1_500), 1e4, 70.0);
            let answers = lane.run(SECOND * 10, ms(1_500), 1e4, 70.0);
            assert!(answers >= 690, "{answers} in 10 s at a width of {}, after {idle} s", lane.pace.width());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_with_little_room_is_sent_what_it_has_room_for() {
        for places in [1, 2, 5, 15, 100] {
            let mut lane = Lane { places, ..Lane::new(16, 240) };
            lane.run(SECOND * 60, ms(400), 1e4, 1e4);
            let answers = lane.run(SECOND * 240, ms(400), 1e4, 1e4);
            let most = places as u64 * 240 * 10 / 4;
            assert!(answers >= most * 2 / 5, "{answers} of {most} with {places} places");
            lane.places = usize::MAX;
            lane.run(SECOND * 60, ms(400), 1e4, 1e4);
            assert_eq!(lane.pace.width(), 240, "there is room again, after {places} places");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn widths_keep_to_their_bounds() {
        let mut lane = Lane::new(16, 100);
        lane.run(SECOND * 60, ms(3_000), 1e5, 1e5);
        assert_eq!(lane.pace.width(), 100);
        let mut idle = Lane::new(16, 100);
        idle.run(SECOND * 60, ms(3_000), 1e5, 2.0);
        assert_eq!(idle.pace.width(), 16, "what is not needed is not tried");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_brought_nothing_ends_where_it_began() {
        let mut lane = Lane::new(16, 100);
        let mut widths = vec![16];
        for _ in 0..600 {
            lane.run(ms(100), ms(200), 320.0, 1e5);
            if widths.last() != Some(&lane.pace.width()) {
                widths.push(lane.pace.width());
            }
        }
        assert_eq!(widths[..4], [16, 64, 100, 64]);
    }
}
