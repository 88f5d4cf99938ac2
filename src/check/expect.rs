//! Judges whether everything was seen that the engineer expects to see.
//!
//! This is the counterpart of `[expect]` in a scenario file. Two kinds of falling short are kept apart. What events
//! contradict (a bound exceeded, an event that must never happen) is a violation. What merely left no evidence makes
//! the run inconclusive, because a run that did not meet its incident says nothing about it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    dials,
    expectations::{Expect, Pattern, Untouched},
    index::{Index, StepRecord},
    verdict::{EVENTS_MAX, Facts, Hits, Unmet},
    words,
};
use crate::history::{Moment, Name, What};

/// Returns every expectation that was not met, and the counts of what is expected of a sweep.
pub(super) fn judge(index: &Index<'_>, facts: &Facts) -> (Vec<Unmet>, Vec<Hits>) {
    let expect = index.expect;
    let mut unmet = steps_without_trace(index);
    unmet.extend(bounds(index, facts));
    let lists = [&expect.seen, &expect.never, &expect.sometimes];
    let mut matches = Matches::of(index, lists.into_iter().flatten());
    let (seen, rest) = matches.0.split_at_mut(expect.seen.len());
    let (never, sometimes) = rest.split_at_mut(expect.never.len());
    for (pattern, _) in expect.seen.iter().zip(seen).filter(|(_, hits)| hits.count == 0) {
        unmet.push(unseen(pattern));
    }
    for (pattern, hits) in expect.never.iter().zip(never).filter(|(_, hits)| hits.count > 0) {
        unmet.push(happened(index, pattern, hits));
    }
    let counted = expect.sometimes.iter().zip(sometimes);
    let counted = counted.map(|(it, hits)| Hits { text: it.text.clone(), line: it.line, hits: hits.count });
    (unmet, counted.collect())
}

fn unseen(pattern: &Pattern) -> Unmet {
    let text = format!("expected but never seen: {}", pattern.text);
    let cure = format!("let a step bring it about, or expect it under `sometimes` · gapless explain {}", pattern.event);
    Unmet { text, cure: Some(cure), line: Some(pattern.line), contradicted: false, events: Vec::new() }
}

fn happened(index: &Index<'_>, pattern: &Pattern, hits: &mut Matched) -> Unmet {
    let first = hits.events.first().map(|&at| &index.history.events[at]);
    let first = first.map(|it| format!(", first at {} on {}", words::time(it.at), it.host)).unwrap_or_default();
    let times = words::count(hits.count, "time", "times");
    let text = format!("must never happen, and did {times}{first}: {}", pattern.text);
    let events = std::mem::take(&mut hits.events);
    Unmet { text, cure: None, line: Some(pattern.line), contradicted: true, events }
}

/// Returns the steps that left no trace: such a step proves nothing about what it was to break.
fn steps_without_trace(index: &Index<'_>) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    for step in index.steps.iter().filter(|step| !step.has_bitten()) {
        let known = index.catalogue.get(step.name);
        let events = [step.begins, step.ended, step.not_run.map(|(at, _)| at)].into_iter().flatten().collect();
        let text = format!("step `{}` left no trace: {}", step.name, why_untouched(index, step, known));
        let begun = step.not_run.is_none() && step.begins.is_some();
        let cure = known.map(|known| match begun {
            true => format!("{} · gapless explain {}", known.cure, known.action),
            false => "begin it `at` a time, or after a moment that every run has".to_owned(),
        });
        unmet.push(Unmet { text, cure, line: known.map(|known| known.line), contradicted: false, events });
    }
    unmet
}

fn why_untouched(index: &Index<'_>, step: &StepRecord<'_>, known: Option<&Untouched>) -> String {
    if let Some((_, why)) = step.not_run {
        return format!("it never ran: {why}");
    }
    let Some(began) = step.begins else { return "it never began".to_owned() };
    let what = known.map_or("nothing met it".to_owned(), |known| known.what.replace("{hosts}", &some(step.hosts)));
    let at = |event: usize| words::time(index.history.events[event].at);
    match step.ended.map(at) {
        None => format!("{what} from {} on, until the run was over", at(began)),
        Some(ended) if ended == at(began) => format!("{what} at {ended}"),
        Some(ended) => format!("{what} from {} to {ended}", at(began)),
    }
}

/// Names a few hosts.
fn some(hosts: &[Name]) -> String {
    const SHOWN: usize = 3;
    match hosts {
        [] => "nobody".to_owned(),
        hosts if hosts.len() <= SHOWN => hosts.join(", "),
        hosts => format!("{} and {} more hosts", hosts[..SHOWN - 1].join(", "), hosts.len() + 1 - SHOWN),
    }
}

fn bounds(index: &Index<'_>, facts: &Facts) -> Vec<Unmet> {
    let expect = index.expect;
    let unmet = |contradicted, text| Unmet { text, cure: None, line: None, contradicted, events: Vec::new() };
    let mut all = Vec::new();
    if let (Some(most), Some((blind, client))) = (expect.blind_at_most, &facts.longest_blind)
        && *blind > most
    {
        let (blind, most) = (words::span(*blind), words::span(most));
        all.push(unmet(true, format!("{client} was blind for {blind}, longer than blind-at-most = {most}")));
    }
    if facts.dead_letters > expect.dead_letters {
        let (have, most) = (words::count(facts.dead_letters, "dead letter", "dead letters"), expect.dead_letters);
        all.push(unmet(true, format!("{have} at the end, more than dead-letters = {most}")));
    }
    if let Some(most) = expect.connections_at_most
        && let Some(busiest) = dials::busiest(index.history, most.per.length())
        && busiest.count > u64::from(most.count)
    {
        let (count, from) = (words::number(busiest.count), words::time(busiest.from));
        let (within, allowed) = (words::span(most.per.length()), words::number(u64::from(most.count)));
        let text = format!(
            "{} opened {count} connections within {within}, from {from} on, where connections-at-most allows {allowed}",
            busiest.host
        );
        let events = busiest.events.into_iter().take(EVENTS_MAX).collect();
        all.push(Unmet { text, cure: None, line: None, contradicted: true, events });
    }
    for client in &index.history.header.clients {
        let acked = index.acked_of(client);
        if acked < expect.acked_at_least {
            let (acked, least) = (words::number(acked), words::number(expect.acked_at_least));
            all.push(unmet(false, format!("{client} had {acked} acknowledged, fewer than acked-at-least = {least}")));
        }
    }
    all
}

/// A client that is blind for this long is reported where the scenario sets no bound.
const LONG_BLIND: Duration = Duration::from_secs(30);

/// Returns a remark on a long time without an acknowledgement that no expectation bounds: the run may hold although
/// nobody could use the log.
pub(super) fn unbounded(expect: &Expect, facts: &Facts) -> Option<Unmet> {
    let (blind, client) = facts.longest_blind.as_ref().filter(|(blind, _)| *blind >= LONG_BLIND)?;
    let text = format!(
        "UNBOUNDED: {client} had something to send and no acknowledgement for {}, and nothing says how long is too long",
        words::span(*blind)
    );
    let cure = Some("write blind-at-most under [expect]: anything longer is then a violation".to_owned());
    let remark = Unmet { text, cure, line: None, contradicted: false, events: Vec::new() };
    expect.blind_at_most.is_none().then_some(remark)
}

/// What one pattern matched.
#[derive(Debug, Default)]
struct Matched {
    count: u64,
    events: Vec<usize>,
}

/// What each pattern matched, in one pass over the events.
struct Matches(Vec<Matched>);

impl Matches {
    fn of<'p>(index: &Index<'_>, patterns: impl Iterator<Item = &'p Pattern>) -> Matches {
        let patterns: Vec<Resolved<'p>> = patterns.map(|pattern| Resolved::of(index, pattern)).collect();
        let mut matched: Vec<Matched> = patterns.iter().map(|_| Matched::default()).collect();
        let mut by_event: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (n, pattern) in patterns.iter().enumerate() {
            by_event.entry(pattern.pattern.event.as_str()).or_default().push(n);
        }
        if by_event.is_empty() {
            return Matches(matched);
        }
        for (at, event) in index.history.events.iter().enumerate() {
            let mark = if let What::Marked { mark } = &event.what { by_event.get(mark.as_str()) } else { None };
            for &n in by_event.get(event.what.name()).into_iter().chain(mark).flatten() {
                if patterns[n].matches(at, &event.host, event.what.reason()) {
                    matched[n].count += 1;
                    if matched[n].events.len() < EVENTS_MAX {
                        matched[n].events.push(at);
                    }
                }
            }
        }
        Matches(matched)
    }
}

/// A pattern with its hosts and moments looked up.
struct Resolved<'p> {
    pattern: &'p Pattern,
    hosts: Option<Vec<Name>>,
    /// Indexes of events, both exclusive; `None` where the moment never came, so that nothing can match.
    between: Option<(Option<usize>, usize)>,
}

impl<'p> Resolved<'p> {
    fn of(index: &Index<'_>, pattern: &'p Pattern) -> Self {
        let hosts = pattern.on.as_ref().map(|names| {
            let of_step =
                |name: &Name| name.strip_prefix('@').and_then(|step| index.step(step)).map(|s| s.hosts.to_vec());
            names.iter().flat_map(|name| of_step(name).unwrap_or_else(|| vec![name.clone()])).collect()
        });
        Resolved { pattern, hosts, between: between(index, pattern) }
    }

    fn matches(&self, at: usize, host: &Name, reason: Option<&str>) -> bool {
        self.between.is_some_and(|(after, before)| after.is_none_or(|after| at > after) && at < before)
            && self.hosts.as_ref().is_none_or(|hosts| hosts.contains(host))
            && self.pattern.reason.as_deref().is_none_or(|wanted| reason == Some(wanted))
    }
}

fn between(index: &Index<'_>, pattern: &Pattern) -> Option<(Option<usize>, usize)> {
    let (mut after, mut before) = (None, usize::MAX);
    if let Some(during) = &pattern.during {
        let step = index.step(during)?;
        before = step.ended.unwrap_or(usize::MAX);
        after = Some(step.begins?);
    }
    if let Some(moment) = &pattern.after {
        after = after.max(Some(event_of(index, moment)?));
    }
    Some((after, before))
}

/// Returns the index of the event at which a moment came.
fn event_of(index: &Index<'_>, moment: &Moment) -> Option<usize> {
    match moment {
        Moment::First(event) => index.history.events.iter().position(|it| it.what.name() == event),
        Moment::Begins(step) => index.step(step)?.begins,
        Moment::Bites(step) => index.step(step)?.bites,
        Moment::Nth(step, n) => index.step(step)?.nth.iter().find(|(nth, _)| nth == n).map(|&(_, at)| at),
        Moment::Ended(step) => index.step(step)?.ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Verdict, testing::Story},
        history::StepEvent,
    };
    use gapless_world::LogEvent;

    fn pattern(event: &str) -> Pattern {
        Pattern { event: event.to_owned(), text: format!("{{ event = \"{event}\" }}"), line: 30, ..Pattern::default() }
    }

    fn ended(step: &str) -> Option<Moment> {
        Some(Moment::Ended(step.to_owned()))
    }

    fn refused(reason: &str) -> What {
        What::Log { event: LogEvent::HandshakeRefused { peer: "client-1".to_owned(), reason: reason.to_owned() } }
    }

    /// A healthy run in which `cut` lasts from 10 to 20 s on server-2.
    fn story() -> Story {
        let mut story = Story::healthy();
        let cut = |event| What::Step { step: "cut".into(), event };
        story.at(10_000).says("harness", cut(StepEvent::Begins { hosts: vec!["server-2".into()] }));
        story.at(15_000).says("server-2", refused("expired"));
        story.at(20_000).says("harness", cut(StepEvent::Ended { evidence: Some("1 refused".to_owned()) }));
        story.at(25_000).says("server-1", refused("not-yet-valid"));
        story
    }

    #[test]
    fn patterns_narrow_by_host_reason_and_moment() {
        let on = |name: &str| Some(vec![Name::from(name)]);
        let count = |pattern: Pattern| {
            let mut story = story();
            story.expect.sometimes = vec![pattern];
            story.judge().sometimes[0].hits
        };
        let all = || pattern("handshake-refused");
        assert_eq!(count(all()), 2);
        assert_eq!(count(Pattern { on: on("server-2"), ..all() }), 1);
        assert_eq!(count(Pattern { on: on("@cut"), ..all() }), 1);
        assert_eq!(count(Pattern { on: on("server-3"), ..all() }), 0);
        assert_eq!(count(Pattern { reason: Some("expired".to_owned()), ..all() }), 1);
        assert_eq!(count(Pattern { during: Some("cut".into()), ..all() }), 1);
        assert_eq!(count(Pattern { after: ended("cut"), ..all() }), 1);
        assert_eq!(count(Pattern { after: ended("another"), ..all() }), 0);
        let first = Some(Moment::First("handshake-refused".to_owned()));
        assert_eq!(count(Pattern { after: first, ..all() }), 1);
        assert_eq!(count(Pattern { after: ended("cut"), during: Some("cut".into()), ..all() }), 0);
    }

    #[test]
    fn what_was_to_be_seen_and_was_not_is_inconclusive() {
        let mut story = story();
        story.expect.seen = vec![pattern("handshake-refused"), pattern("leader-change")];
        let judgement = story.judge();
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        assert_eq!(judgement.unmet.len(), 1);
        assert!(judgement.unmet[0].text.contains("leader-change"));
    }

    #[test]
    fn what_must_never_happen_and_does_violates() {
        let mut story = story();
        story.expect.never = vec![pattern("handshake-refused")];
        let judgement = story.judge();
        assert_eq!(judgement.verdict, Verdict::Violated);
        assert!(judgement.unmet[0].text.contains("2 times, first at 15.000s on server-2"), "{judgement:?}");
    }

    #[test]
    fn a_mark_is_named_by_its_text() {
        let mut story = story();
        story.says("server-1", What::Marked { mark: "rare thing".to_owned() });
        story.expect.seen = vec![pattern("rare thing"), pattern("marked")];
        assert_eq!(story.judge().verdict, Verdict::Holds);
    }

    /// A run with a step that nothing met, one that never came, and one of an instant, each known by its action.
    fn untouched() -> Story {
        let mut story = story();
        let jump = |event| What::Step { step: "jump".into(), event };
        let hosts = ["server-1", "server-2", "server-3", "client-1"].map(Name::from);
        story.at(40_000).says("harness", jump(StepEvent::Begins { hosts: hosts.to_vec() }));
        story.at(70_000).says("harness", jump(StepEvent::Ended { evidence: None }));
        let later = |event| What::Step { step: "later".into(), event };
        story.says("harness", later(StepEvent::NotRun { why: "`jump:bites` never came".to_owned() }));
        let reset = |event| What::Step { step: "reset".into(), event };
        story.says("harness", reset(StepEvent::Begins { hosts: vec![] }));
        story.says("harness", reset(StepEvent::Ended { evidence: None }));
        story
    }

    #[test]
    fn a_step_without_evidence_is_inconclusive_and_says_when_it_lasted() {
        let judgement = untouched().judge();
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        let texts: Vec<&str> = judgement.unmet.iter().map(|unmet| unmet.text.as_str()).collect();
        let expected = [
            "step `jump` left no trace: nothing met it from 40.000s to 70.000s",
            "step `later` left no trace: it never ran: `jump:bites` never came",
            "step `reset` left no trace: nothing met it at 70.000s",
        ];
        assert_eq!(texts, expected);
        assert_eq!(judgement.facts.faults_bit, (1, 4));
    }

    #[test]
    fn a_step_without_evidence_says_what_was_missing_and_what_to_do() {
        let mut story = untouched();
        let untouched = |action: &str, what: &str, line| Untouched {
            action: action.to_owned(),
            what: what.to_owned(),
            cure: "add a reset".to_owned(),
            line,
            may_end: false,
        };
        story.catalogue = BTreeMap::from([
            ("jump".into(), untouched("clock-jump", "nothing read {hosts}'s clock", 12)),
            ("later".into(), untouched("crash", "nothing ran", 20)),
        ]);
        let [jump, later, reset] = &story.judge().unmet[..] else { panic!("three") };
        assert!(
            jump.text.ends_with("nothing read server-1, server-2 and 2 more hosts's clock from 40.000s to 70.000s")
        );
        assert_eq!((jump.cure.as_deref(), jump.line), (Some("add a reset · gapless explain clock-jump"), Some(12)));
        assert!(later.cure.as_ref().is_some_and(|cure| cure.starts_with("begin it `at` a time")));
        assert_eq!((&reset.cure, reset.line), (&None, None));
    }

    #[test]
    fn bounds_are_kept_or_named() {
        let mut story = story();
        story.expect.acked_at_least = 1_000;
        assert_eq!(story.judge().verdict, Verdict::Inconclusive);
        let mut story = self::story();
        story.expect.blind_at_most = Some(Duration::from_millis(1));
        assert_eq!(story.judge().verdict, Verdict::Violated);
    }

    #[test]
    fn half_a_minute_without_an_answer_is_remarked_upon_unless_it_is_bounded_or_shorter() {
        let blind = |ms: u64, most: Option<u64>| {
            let mut story = Story::healthy();
            story.at(31_000).submits("client-2", 2).accepts("client-2", 2);
            story.at(31_000 + ms).acked("client-2", 2, None);
            story.history.events.sort_by_key(|event| event.at);
            story.expect.blind_at_most = most.map(Duration::from_millis);
            story.judge().remarks
        };
        let [remark] = &blind(30_000, None)[..] else { panic!("one") };
        let told = "UNBOUNDED: client-2 had something to send and no acknowledgement for 30.0s,";
        assert!(remark.text.starts_with(told), "{remark:?}");
        assert_eq!(blind(29_900, None), []);
        assert_eq!(blind(30_000, Some(40_000)), []);
    }
}
