//! Checks what only the whole file can answer: do the steps, hosts and events that it names exist, can each step begin
//! and bite, can the expected events happen at all?
//!
//! A scenario that could only end inconclusive is refused here, before anybody waits for it. What depends on the seed
//! or on the run gets the benefit of the doubt.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use gapless_world::{EventDoc, ToldBy};

use super::{
    draft::{Draft, DraftPattern, DraftStep},
    model::{EventPattern, Moment, Sizes, Start},
    order::{Order, Reference},
    problem::{PROBLEMS_MAX, Problem, quote, suggest},
    quantity::{print_duration, print_size},
    reasons::{Cause, reasons},
    walk::Problems,
};
use crate::fault::{ActsOn, CATALOGUE, End, Fault, HostRef, Link, Overlap};

/// Events that an entry which is too large causes without any step.
pub(crate) const OVERSIZE_CAUSES: &[&str] = &["entry-refused", "dead-lettered"];

/// Events that every run has, or that the workload alone can bring about.
const ALWAYS: &[&str] = &[
    "server-started",
    "log-recovered",
    "leader-change",
    "batch-written",
    "batch-synced",
    "batch-committed",
    "checkpoint-signed",
    "load-shed",
    "handshake-accepted",
    "call-started",
    "call-message",
    "call-ended",
    "entry-accepted",
    "outbox-recovered",
    "receipt-verified",
    "checkpoint-kept",
    "outbox-full",
    "tail-started",
    "bounded-read",
    "linearizable-read",
    "leaf-read",
    "memory-used",
    "cert-renewed",
];

/// Returns whether every run has an event, or the workload alone can bring it about (`cert-renewed`: if there is an
/// issuer).
pub fn happens_anyway(event: &str) -> bool {
    ALWAYS.contains(&event)
}

/// Files every contradiction between the parts of a draft.
pub(super) fn validate(draft: &Draft, sizes: &Sizes, problems: &mut Problems) {
    let names = Names { draft };
    names.validate_names(problems);
    for (index, step) in draft.steps.iter().enumerate() {
        validate_hosts(&names, step, problems);
        validate_link(draft, step, problems);
        validate_start(&names, index, step, problems);
    }
    for pattern in &draft.patterns {
        validate_pattern(&names, pattern, problems);
    }
    validate_payloads(draft, sizes, problems);
    let order = Order::of(&draft.steps);
    order.report_circles(&draft.steps, problems);
    validate_times(draft, &order, problems);
    validate_overlaps(draft, problems);
}

/// Checks the sizes of payloads.
fn validate_payloads(draft: &Draft, sizes: &Sizes, problems: &mut Problems) {
    let most = draft.cluster.as_ref().and_then(|cluster| cluster.payload_max);
    if let Some(span) = &draft.oversize_span {
        match (&draft.payload_max_span, most) {
            (None, _) => problems.file(
                "missing-key",
                span.clone(),
                "`oversize-every` without a `payload-max` that its entries exceed",
                "write payload-max = \"1KiB\" under [cluster]",
            ),
            (Some(at), Some(most)) if most + most / 2 > sizes.payload_max => problems.file(
                "out-of-range",
                at.clone(),
                "no client takes an entry that is larger than this by half",
                format!("with `oversize-every` at most {}", print_size(sizes.payload_max * 2 / 3)),
            ),
            _ => {}
        }
    }
    if let (Some(at), Some(most), Some(workload)) = (&draft.payload_max_span, most, &draft.workload)
        && workload.size > most
    {
        let message = format!("every entry has {}: none could be accepted", print_size(workload.size));
        problems.file("cannot-happen", at.clone(), message, "raise it, or lower `size` under [workload]");
    }
}

/// The names of steps, and what refers to them.
struct Names<'d> {
    draft: &'d Draft,
}

impl<'d> Names<'d> {
    fn validate_names(&self, problems: &mut Problems) {
        for (index, step) in self.draft.steps.iter().enumerate() {
            let mut before = self.draft.steps[..index].iter();
            if before.any(|other| other.name == step.name && (other.named || step.named)) {
                let message = format!("a second step is called `{}`", step.name);
                problems.file("duplicate-name", step.name_span.clone(), message, "give it a name of its own");
            }
        }
    }

    /// Returns the one step that a word means; files a problem if there is none or more than one.
    fn find(&self, word: &str, span: &Range<usize>, problems: &mut Problems) -> Option<&'d DraftStep> {
        let mut named = self.draft.steps.iter().filter(|step| step.name == word);
        let Some(step) = named.next() else {
            let message = format!("no step is called {}", quote(word));
            // A file can hold a hundred thousand wrong words: not each of them is worth a comparison with every name.
            let note = if problems.0.len() < 5 * PROBLEMS_MAX { self.suggest(word) } else { String::new() };
            problems.file("unknown-step", span.clone(), message, note);
            return None;
        };
        if !step.named && named.next().is_some() {
            let message = format!("more than one step is called `{word}`");
            problems.file("ambiguous-name", span.clone(), message, "give the one that you mean a `name`");
            return None;
        }
        Some(step)
    }

    fn suggest(&self, word: &str) -> String {
        let mut known: Vec<_> = self.draft.steps.iter().map(|step| step.name.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        suggest(word, &known)
    }

    /// Checks a moment. `within_run`: the moment must come before the final heal to be of any use.
    fn validate_moment(&self, moment: &Moment, span: &Range<usize>, within_run: bool, problems: &mut Problems) {
        let Some(step) = moment.step().and_then(|word| self.find(word, span, problems)) else { return };
        let Some(fault) = step.fault else { return };
        match moment {
            Moment::Nth(_, n) if fault.counted.is_none() => {
                let message = format!("`{0}` happens only once, so `{0}:{n}` never comes", step.name);
                let note = format!("write {0}, {0}:begins or {0}:bites", step.name);
                problems.file("cannot-happen", span.clone(), message, note);
            }
            Moment::Nth(_, n) if times_at_most(self.draft, step).is_some_and(|most| u64::from(*n) > most) => {
                let most = times_at_most(self.draft, step).unwrap_or_default();
                let message = format!("`{0}` happens {most} times at most, so `{0}:{n}` never comes", step.name);
                problems.file("cannot-happen", span.clone(), message, "count from 1");
            }
            Moment::Ended(name)
                if within_run && fault.end == End::Healed && step.duration.is_none() && !step.has_for =>
            {
                let message = format!("`{name}` lasts until the final heal: nothing comes after it");
                let note = format!("give `{name}` a `for`, or write {name}:begins");
                problems.file("cannot-happen", span.clone(), message, note);
            }
            _ => {}
        }
    }

    /// Returns whether some step, other than the one with this index, can cause an event, for this reason.
    fn can_happen(&self, event: &str, cause: Cause, except: Option<usize>) -> bool {
        let anyway = happens_anyway(event) && (event != "cert-renewed" || has_issuer(self.draft));
        let mut others = self.draft.steps.iter().enumerate().filter(|(index, _)| Some(*index) != except);
        let oversize = self.draft.oversize_span.is_some() && OVERSIZE_CAUSES.contains(&event);
        let able = |step: &DraftStep| {
            let values = step.action.as_ref().map(|action| action.values());
            step.fault.is_none_or(|fault| fault.causes.contains(&event) && cause.allows(fault, values))
        };
        oversize || (anyway && cause == Cause::Anything) || others.any(|(_, step)| able(step))
    }
}

/// Returns whether there is an issuer of certificates; also true if the file does not tell.
fn has_issuer(draft: &Draft) -> bool {
    draft.cluster.as_ref().is_none_or(|cluster| cluster.renew_before.is_some())
}

/// Returns the most often that a repeated step can do what it does, if that is known before the run.
fn times_at_most(draft: &Draft, step: &DraftStep) -> Option<u64> {
    let action = step.action.as_ref()?;
    if let Some(every) = action.duration("every") {
        return u64::try_from(step.duration?.as_millis().checked_div(every.as_millis())?).ok()?.checked_add(1);
    }
    let count = |host: &HostRef| match host {
        HostRef::Servers | HostRef::Followers => draft.servers.map(u64::from),
        HostRef::Clients => draft.clients.map(u64::from),
        HostRef::Step(_) => None,
        _ => Some(1),
    };
    action.on()?.iter().map(count).sum()
}

fn validate_start(names: &Names<'_>, index: usize, step: &DraftStep, problems: &mut Problems) {
    let Some(Start::After { moment, since, .. }) = &step.start else { return };
    names.validate_moment(moment, &step.start_span, true, problems);
    if let Some(since) = since {
        names.validate_moment(since, &step.since_span, true, problems);
    }
    let moments = [(Some(moment), &step.start_span), (since.as_ref(), &step.since_span)];
    for (moment, span) in moments {
        if let Some(Moment::First(event)) = moment
            && !names.can_happen(event, Cause::Anything, Some(index))
        {
            let message = format!("no other step here can cause `{event}`");
            problems.file("cannot-happen", span.clone(), message, "this step would never begin");
        }
    }
}

fn validate_hosts(names: &Names<'_>, step: &DraftStep, problems: &mut Problems) {
    let fault = step.fault;
    for (host, span) in &step.hosts {
        validate_count(names.draft, host, span, problems);
        let HostRef::Step(word) = host else { continue };
        let hit = names.find(word, span, problems).and_then(|other| other.fault);
        let elsewhere = hit.and_then(|fault| match fault.acts_on {
            ActsOn::Links { .. } => Some("a link"),
            ActsOn::Workload => Some("the workload"),
            ActsOn::Hosts { .. } => None,
        });
        if let Some(place) = elsewhere {
            let message = format!("`@{word}`: that step acts on {place}, not on hosts");
            problems.file("wrong-host", span.clone(), message, "name the hosts themselves");
        }
    }
    let Some((fault, ActsOn::Hosts { servers, clients, auditor, issuer })) = fault.map(|fault| (fault, fault.acts_on))
    else {
        return;
    };
    if let Some(servers) = names.draft.servers.filter(|servers| *servers < fault.servers_min)
        && let Some((_, span)) = step.hosts.first()
    {
        let least = fault.servers_min;
        let message = format!("`{}` on a log of {servers}: the others would be no majority", fault.name);
        problems.file("too-few-servers", span.clone(), message, format!("write servers = {least}, or more"));
    }
    for (host, span) in &step.hosts {
        let wrong = match host {
            HostRef::Auditor => !auditor,
            HostRef::Issuer => !issuer,
            host => (host.is_server() && !servers) || (host.is_client() && !clients),
        };
        if wrong {
            let message = format!("`{}` does not act on `{host}`", fault.name);
            let note = format!("only on {}", fault.acts_on.kinds().join(" and "));
            problems.file("wrong-host", span.clone(), message, note);
        }
    }
}

fn validate_count(draft: &Draft, host: &HostRef, span: &Range<usize>, problems: &mut Problems) {
    let (kind, n, count) = match host {
        HostRef::Server(n) => ("server", *n, draft.servers),
        HostRef::Client(n) => ("client", *n, draft.clients),
        HostRef::Followers if draft.servers == Some(1) => {
            problems.file("empty-selection", span.clone(), "one server has no followers", "raise `servers`");
            return;
        }
        HostRef::Issuer if !has_issuer(draft) => {
            let note = "add renew-before = \"30s\" under [cluster]";
            problems.file("empty-selection", span.clone(), "there is no issuer: nobody here renews", note);
            return;
        }
        _ => return,
    };
    let Some(count) = count.filter(|count| n > *count) else { return };
    let all = if count == 1 { format!("{kind}-1") } else { format!("{kind}-1 … {kind}-{count}") };
    let message = format!("there is no `{host}`");
    problems.file("empty-selection", span.clone(), message, format!("there is {all}"));
}

fn validate_link(draft: &Draft, step: &DraftStep, problems: &mut Problems) {
    let Some(link) = step.action.as_ref().and_then(|action| action.link()) else { return };
    let (a, b) = link.ends();
    let lonely = |hosts: &[HostRef]| match hosts {
        [one] => lone_host(draft, one),
        _ => None,
    };
    if let (Some(a), Some(b)) = (lonely(a), lonely(b))
        && a == b
    {
        let message = format!("this is a link from `{a}` to itself");
        problems.file("self-link", step.place.clone(), message, "name two different ends");
        return;
    }
    let no_server = |hosts: &[HostRef]| hosts.iter().all(|host| host.is_client() || *host == HostRef::Auditor);
    let issuer = |hosts: &[HostRef]| hosts.contains(&HostRef::Issuer);
    if no_server(a) && no_server(b) && !issuer(a) && !issuer(b) {
        let message = "no call ever goes over this link: one end has to be a server";
        problems.file("cannot-happen", step.place.clone(), message, "this step would never bite");
    }
}

/// Returns the name of the one host that a word can mean, or the word itself if it always means the same host.
fn lone_host(draft: &Draft, host: &HostRef) -> Option<String> {
    let servers = matches!(host, HostRef::Servers | HostRef::Leader | HostRef::AnyServer);
    if servers && draft.servers == Some(1) {
        return Some(HostRef::Server(1).to_string());
    }
    if matches!(host, HostRef::Clients | HostRef::AnyClient) && draft.clients == Some(1) {
        return Some(HostRef::Client(1).to_string());
    }
    let one =
        matches!(host, HostRef::Leader | HostRef::Auditor | HostRef::Issuer | HostRef::Server(_) | HostRef::Client(_));
    one.then(|| host.to_string())
}

fn validate_pattern(names: &Names<'_>, pattern: &DraftPattern, problems: &mut Problems) {
    let DraftPattern { list, pattern, span, hosts, during_span, after_span } = pattern;
    if *list != "never" {
        validate_cause(names, list, pattern, span, problems);
        validate_teller(pattern, span, problems);
    }
    for (host, span) in hosts {
        validate_count(names.draft, host, span, problems);
        match host {
            HostRef::Step(word) => {
                names.find(word, span, problems);
            }
            HostRef::AnyServer | HostRef::AnyClient => {
                let message = format!("`{host}` is drawn for a step, and this is not a step");
                problems.file("wrong-host", span.clone(), message, "write @STEP for the hosts that a step hit");
            }
            _ => {}
        }
    }
    if let Some(word) = &pattern.during {
        let step = names.find(word, during_span, problems);
        if step.and_then(|step| step.fault).is_some_and(|fault| fault.end == End::Instant) {
            let message = format!("`{word}` happens at one instant: nothing can happen during it");
            problems.file("cannot-happen", during_span.clone(), message, format!("write after = \"{word}\""));
        }
    }
    if let Some(after) = &pattern.after {
        names.validate_moment(after, after_span, false, problems);
        if let Moment::First(event) = after
            && *list != "never"
            && !names.can_happen(event, Cause::Anything, None)
        {
            let message = format!("no step here can cause `{event}`");
            problems.file("cannot-happen", after_span.clone(), message, "that moment never comes");
        }
    }
}

/// Checks that some step can cause an expected event, for the reason that is asked for.
fn validate_cause(names: &Names<'_>, list: &str, pattern: &EventPattern, span: &Range<usize>, problems: &mut Problems) {
    let EventPattern { event, reason, .. } = pattern;
    let every = if list == "seen" { "every run would be inconclusive" } else { "no sweep would ever see it" };
    if event == "renewal-failed" && !has_issuer(names.draft) {
        problems.0.push(
            Problem::new("cannot-happen", span.clone(), "nobody here renews: there is no issuer", every)
                .cured_by("add renew-before = \"30s\" under [cluster], or drop the line"),
        );
        return;
    }
    let cause = reason.as_ref().and_then(|reason| reasons(event).into_iter().find(|(word, _)| word == reason));
    let cause = cause.map_or(Cause::Anything, |(_, cause)| cause);
    if names.can_happen(event, cause, None) {
        return;
    }
    let with = reason.as_ref().map(|reason| format!(" with reason {}", quote(reason))).unwrap_or_default();
    let able = CATALOGUE.iter().filter(|fault| fault.causes.contains(&event.as_str()) && cause.allows(fault, None));
    let able: Vec<_> = able.map(|fault| cause.described(fault)).collect();
    let cure = match able.join(", ") {
        able if able.is_empty() => "drop the line: no action causes it".to_owned(),
        able => format!("add a step that can ({able}), or drop the line"),
    };
    let message = format!("no step here can cause `{event}`{with}");
    problems.0.push(Problem::new("cannot-happen", span.clone(), message, every).cured_by(cure));
}

/// Checks that an event is expected of hosts that can report it.
fn validate_teller(pattern: &EventPattern, span: &Range<usize>, problems: &mut Problems) {
    let (Some(on), Some(doc)) = (&pattern.on, EventDoc::find(&pattern.event)) else { return };
    let reads = |host: &HostRef| host.is_client() || *host == HostRef::Auditor;
    let (wrong, who) = match doc.told_by {
        ToldBy::Servers => (on.iter().all(reads), "servers"),
        ToldBy::Clients => (on.iter().all(HostRef::is_server), "clients"),
        ToldBy::Both => return,
    };
    if wrong {
        let message = format!("`{}` is reported by {who} alone", pattern.event);
        problems.file("cannot-happen", span.clone(), message, format!("write on = \"{who}\", or drop it"));
    }
}

/// Checks for steps that would begin once the workload is over, and for steps that strike the hosts of a step that has
/// not struck yet.
fn validate_times(draft: &Draft, order: &Order, problems: &mut Problems) {
    for (index, step) in draft.steps.iter().enumerate() {
        let Some(earliest) = order.earliest(index) else { continue };
        if let Some(work) = draft.work.filter(|work| earliest >= *work) {
            let message = format!(
                "the workload ends at {}, and this step begins at {} or later",
                print_duration(work),
                print_duration(earliest)
            );
            problems.file("starts-after-end", step.start_span.clone(), message, "begin earlier, or work longer");
        }
        for reference in order.references(index) {
            let Reference::Hosts { step: other, span } = reference else { continue };
            if let (Some(Start::At(at)), Some(struck)) = (&step.start, order.earliest(*other))
                && struck > *at
            {
                let message =
                    format!("`{}` has not struck anybody at {}", draft.steps[*other].name, print_duration(*at));
                problems.file("cannot-happen", span.clone(), message, "begin later");
            }
        }
    }
}

fn validate_overlaps(draft: &Draft, problems: &mut Problems) {
    let timed: Vec<_> = draft.steps.iter().filter_map(|step| Timed::new(draft, step)).collect();
    for (index, one) in timed.iter().enumerate() {
        let end = |other: &Timed<'_>| other.end.map_or("the final heal".to_owned(), print_duration);
        let span = one.step.start_span.clone();
        if let Some(other) = timed[..index].iter().find(|other| one.clashes(other)) {
            let place = one.shared(other);
            let message = format!("this step overlaps `{}`, the same action {place}", other.step.name);
            let again = one.rule == Overlap::Refused;
            let note = if again { "it would find nothing to strike" } else { "which of the two values counts?" };
            let cure = if other.end == Some(other.begin) {
                format!("`{}` happens at {} too", other.step.name, print_duration(other.begin))
            } else {
                format!("`{}` lasts from {} to {}", other.step.name, print_duration(other.begin), end(other))
            };
            problems.0.push(Problem::new("overlap", span, message, note).cured_by(cure));
        } else if let Some((_, other)) =
            timed.iter().enumerate().find(|(at, other)| (other.begin, *at) < (one.begin, index) && one.is_moot(other))
        {
            let message = format!("`{}` keeps the same hosts down at that moment", other.step.name);
            let cure = format!("it lasts from {} to {}", print_duration(other.begin), end(other));
            let note = "it would find nothing to strike";
            problems.0.push(Problem::new("overlap", span, message, note).cured_by(cure));
        }
    }
}

/// A step whose times and places are all known before the run.
struct Timed<'d> {
    step: &'d DraftStep,
    fault: &'static Fault,
    rule: Overlap,
    begin: Duration,
    /// `None`: the final heal. For a step of one instant, the beginning itself.
    end: Option<Duration>,
    /// Hosts as pairs with themselves, links as pairs from sender to receiver, the workload as one place.
    places: BTreeSet<(String, String)>,
    /// Whether these are all its places: none is left to the seed or to the run.
    all: bool,
}

impl<'d> Timed<'d> {
    fn new(draft: &Draft, step: &'d DraftStep) -> Option<Self> {
        let (Some(Start::At(begin)), Some(action)) = (&step.start, &step.action) else { return None };
        let fault = action.fault();
        if fault.overlap == Overlap::Allowed && !fault.needs_process {
            return None;
        }
        let mut places = BTreeSet::new();
        if fault.acts_on == ActsOn::Workload {
            places.insert(Default::default());
        }
        if let Some(on) = action.on() {
            places.extend(certain(draft, on).into_iter().map(|host| (host.clone(), host)));
        }
        if let Some(link) = action.link() {
            let (a, b) = link.ends();
            let (a, b) = (certain(draft, a), certain(draft, b));
            for one in &a {
                for other in b.iter().filter(|other| *other != one) {
                    places.insert((one.clone(), other.clone()));
                    if let Link::Between(..) = link {
                        places.insert((other.clone(), one.clone()));
                    }
                }
            }
        }
        let all =
            action.on().is_some_and(|on| on.iter().all(|host| !certain(draft, std::slice::from_ref(host)).is_empty()));
        let end = match fault.end {
            End::Instant => Some(*begin),
            _ => step.duration.and_then(|length| begin.checked_add(length)),
        };
        Some(Timed { step, fault, rule: fault.overlap, begin: *begin, end, places, all })
    }

    /// Names the first place that both strike.
    fn shared(&self, other: &Timed<'_>) -> String {
        match self.places.intersection(&other.places).next() {
            Some((one, other)) if one.is_empty() && other.is_empty() => "on the workload".to_owned(),
            Some((one, other)) if one == other => format!("on {one}"),
            Some((one, other)) => format!("on the way from {one} to {other}"),
            None => "in the same place".to_owned(),
        }
    }

    fn clashes(&self, other: &Timed<'_>) -> bool {
        let (Some(mine), Some(theirs)) = (&self.step.action, &other.step.action) else { return false };
        let differ = || mine.values() != theirs.values();
        mine.name() == theirs.name()
            && (self.rule == Overlap::Refused || (self.rule == Overlap::SameValues && differ()))
            && (self.begin == other.begin
                || (other.end.is_none_or(|end| self.begin < end) && self.end.is_none_or(|end| other.begin < end)))
            && !self.places.is_disjoint(&other.places)
    }

    /// Returns whether the other step, which began before, keeps down every process that this step would strike.
    fn is_moot(&self, other: &Timed<'_>) -> bool {
        self.fault.name != other.fault.name
            && self.fault.needs_process
            && other.fault.keeps_down
            && other.end.is_none_or(|end| self.begin < end)
            && self.all
            && self.places.is_subset(&other.places)
    }
}

/// Returns the names of the hosts that a selection certainly contains, whatever the seed and the run.
fn certain(draft: &Draft, hosts: &[HostRef]) -> Vec<String> {
    let all =
        |host: fn(u32) -> HostRef, count: Option<u32>| (1..=count.unwrap_or(0)).map(|n| host(n).to_string()).collect();
    let mut names = Vec::new();
    for host in hosts {
        let more: Vec<String> = match host {
            HostRef::Servers => all(HostRef::Server, draft.servers),
            HostRef::Clients => all(HostRef::Client, draft.clients),
            HostRef::Step(_) => Vec::new(),
            // Of several servers, another one may lead by then.
            HostRef::Leader if draft.servers != Some(1) => Vec::new(),
            host => lone_host(draft, host).into_iter().collect(),
        };
        names.extend(more);
    }
    names
}
