//! Steps that follow another step on the same hosts or link, to bring its effect to light or to strike in the middle of
//! it.
//!
//! A refused port shows only to a host that has to connect, a disk that lied or is slow when the power fails, a flipped
//! bit when answers are repeated, a release when its process connects to all others anew, and a wrong clock with a
//! certificate that has just become valid. In addition, what a fault sets in motion (a repair, a change of the members,
//! an election) is struck again while it lasts, because those few milliseconds would not be hit by chance.

use std::time::Duration;

use super::{
    dice::Dice,
    scene::{Scene, length},
};
use crate::{
    fault::{Action, HostRef, INSTALLED_BEFORE, Link, find},
    scenario::{Moment, Start, Step},
};

/// When the following step begins.
#[derive(Clone, Copy)]
enum When {
    /// While the first step lasts, at most this many milliseconds after its beginning.
    While(u64),
    /// With, or soon after, the first such event since the first step began.
    Meets(&'static str),
    /// Within a few milliseconds after the first such event since the first step began.
    Amid(&'static str),
}

/// A fault that follows another fault.
struct Sequel {
    after: &'static str,
    fault: &'static str,
    /// In how many of eight cases it follows.
    in_eight: u64,
    when: When,
}

const fn sequel(after: &'static str, fault: &'static str, in_eight: u64, when: When) -> Sequel {
    Sequel { after, fault, in_eight, when }
}

static SEQUELS: &[Sequel] = &[
    sequel("refuse", "reset", 7, When::While(5_000)),
    sequel("fsync-error", "power-loss", 5, When::While(20_000)),
    sequel("slow-disk", "power-loss", 4, When::While(20_000)),
    sequel("bit-flip", "crash", 4, When::While(20_000)),
    sequel("upgrade", "crash", 4, When::While(20_000)),
    sequel("torn-write", "power-loss", 7, When::While(20_000)),
    sequel("misdirected-write", "power-loss", 7, When::While(20_000)),
    sequel("bit-rot", "crash", 5, When::While(10_000)),
    sequel("clock-skew", "cert-rotate", 4, When::While(10_000)),
    sequel("clock-drift", "cert-rotate", 4, When::While(10_000)),
    sequel("clock-jump", "cert-rotate", 4, When::While(10_000)),
    sequel("cert-rotate", "clock-jump", 2, When::While(8_000)),
    // The middle of a repair: from the discovery of the damage until another log has taken the place of the damaged
    // one.
    sequel("bit-rot", "slow-disk", 2, When::Meets("corruption-found")),
    sequel("bit-rot", "power-loss", 3, When::Meets("corruption-found")),
    sequel("bit-rot", "crash", 2, When::Meets("corruption-found")),
    // The few milliseconds in which it takes that place.
    sequel("bit-rot", "power-loss", 5, When::Amid("replica-rebuilt")),
    sequel("bit-rot", "crash", 2, When::Amid("replica-rebuilt")),
    sequel("misdirected-write", "power-loss", 3, When::Amid("replica-rebuilt")),
    sequel("torn-write", "crash", 2, When::Amid("replica-rebuilt")),
    // What a repair has put in place may be lost again.
    sequel("bit-rot", "power-loss", 2, When::Meets("replica-repaired")),
    sequel("misdirected-write", "power-loss", 2, When::Meets("replica-repaired")),
    sequel("torn-write", "slow-disk", 2, When::Meets("corruption-found")),
    sequel("torn-write", "power-loss", 2, When::Meets("corruption-found")),
    sequel("misdirected-write", "slow-disk", 2, When::Meets("corruption-found")),
    sequel("misdirected-write", "power-loss", 2, When::Meets("corruption-found")),
    // A tail that is torn where a tail was torn before.
    sequel("power-loss", "power-loss", 3, When::Meets("torn-tail-truncated")),
    // A new machine that is lost while it joins the log.
    sequel("replace", "crash", 2, When::While(4_000)),
    sequel("replace", "power-loss", 2, When::Meets("member-changed")),
    // A new machine that is there, but does not answer or catches up slowly.
    sequel("replace", "pause", 2, When::Meets("member-changed")),
    sequel("replace", "isolate", 2, When::Meets("member-changed")),
    sequel("replace", "slow-disk", 2, When::While(2_000)),
];

/// Returns the steps that follow `first`, which in many cases are none. `name` names the n-th of them, counted from 0.
pub(super) fn of(
    dice: &mut Dice,
    scene: &Scene<'_>,
    first: &Step,
    work: Duration,
    name: impl Fn(usize) -> String,
) -> Vec<Step> {
    let mut more: Vec<Step> = Vec::new();
    let mut add = |dice: &mut Dice, action: Action, start: Start| {
        let mut duration = length(dice, &action, work);
        // The issuer is away for longer than a renewal waits, so that the renewal is tried again.
        if action.on().is_some_and(|on| matches!(on[..], [HostRef::Issuer])) && dice.one_in(2) {
            duration = duration.map(|duration| duration.max(Duration::from_millis(dice.between(10_000, 40_000))));
        }
        // The following step ends while the first one lasts: damage by the first that is put right before the process
        // comes back is never read.
        if let (Start::After { moment: Moment::Begins(_), wait, .. }, Some(lasts)) = (&start, first.duration) {
            let most = lasts.saturating_sub(*wait).max(Duration::from_millis(2)) / 2;
            duration = duration.map(|duration| duration.min(most));
        }
        more.push(Step { name: name(more.len()), duration, action, start, line: 0 });
    };
    for Sequel { fault, in_eight, when, .. } in SEQUELS.iter().filter(|it| it.after == first.action.name()) {
        let Some(fault) = find(fault).filter(|_| dice.below(8) < *in_eight) else { continue };
        if let (Some(action), Some(start)) = (scene.meeting(dice, fault, first), start(dice, scene, first, *when, work))
        {
            add(dice, action, start);
        }
    }
    for (action, start) in [connecting(dice, scene, first), renewing(dice, scene, first)].into_iter().flatten() {
        add(dice, action, start);
    }
    if first.action.name() == "replace"
        && dice.one_in(2)
        && scene.is_led()
        && let Some(blow) = dice.pick(BLOWS).and_then(|blow| find(blow))
        && let Some(action) = scene.with(dice, blow, vec![HostRef::Leader], &[])
        && let Some(start) = start(dice, scene, first, When::Meets("member-changed"), work)
    {
        add(dice, action, start);
    }
    more
}

/// Faults that take a leader away.
pub(super) static BLOWS: &[&str] = &["crash", "power-loss", "isolate", "pause"];

/// In every third case of a fault that can take a leader away, the leader is struck, and the next leader is struck at
/// its beginning. At that time only few members hold what the old leader promised, and it has yet to be shown. The next
/// leader gets another blow as it begins to lead, or has slow disks all the while.
pub(super) fn next_blow(
    dice: &mut Dice,
    scene: &Scene<'_>,
    first: &mut Step,
    name: String,
    work: Duration,
) -> Option<Step> {
    let event = "leader-change";
    let able = BLOWS.contains(&first.action.name()) && scene.is_led() && scene.moments().contains(&event);
    if !able || !dice.one_in(3) {
        return None;
    }
    let begins = Moment::Begins(first.name.clone());
    let (action, start) = if dice.one_in(3) {
        let start = Start::After { moment: begins, wait: Duration::ZERO, since: None };
        (scene.with(dice, find("slow-disk")?, vec![HostRef::Servers], &[])?, start)
    } else {
        let wait = Duration::from_millis(if dice.one_in(2) { 0 } else { dice.magnitude(1, 200) });
        let start = Start::After { moment: Moment::First(event.to_owned()), wait, since: Some(begins) };
        let blow = find(dice.pick(BLOWS).copied()?)?;
        let on = vec![if dice.one_in(2) { HostRef::Leader } else { scene.any_server(dice)? }];
        (scene.with(dice, blow, on, &[])?, start)
    };
    first.action = first.action.map(&mut |_| vec![HostRef::Leader]);
    let duration = length(dice, &action, work);
    Some(Step { name, duration, action, start, line: 0 })
}

fn start(dice: &mut Dice, scene: &Scene<'_>, first: &Step, when: When, work: Duration) -> Option<Start> {
    let begins = Moment::Begins(first.name.clone());
    Some(match when {
        When::While(most) => {
            let within = first.duration.unwrap_or(work).min(work);
            let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).min(most);
            let wait = if dice.one_in(4) { dice.magnitude(1, within) } else { dice.between(1, within.max(1)) };
            Start::After { moment: begins, wait: Duration::from_millis(wait), since: None }
        }
        When::Meets(event) | When::Amid(event) => {
            scene.moments().iter().find(|moment| **moment == event)?;
            let wait = match when {
                // The event sets a sequence of steps in motion, and each of them is equally good.
                When::Amid(_) => dice.between(0, 30),
                _ if dice.one_in(4) => 0,
                _ => dice.magnitude(1, 1_000),
            };
            let moment = Moment::First(event.to_owned());
            Start::After { moment, wait: Duration::from_millis(wait), since: Some(begins) }
        }
    })
}

/// A certificate is seen only when a connection is opened. If the step does not force this, connections are cut off
/// soon after it, or, if the certificate ends at a known time, shortly before that, so that it ends during the new
/// connections.
fn connecting(dice: &mut Dice, scene: &Scene<'_>, first: &Step) -> Option<(Action, Start)> {
    let on = first.action.on().filter(|_| first.action.name().starts_with("cert-"))?;
    let in_eight = if first.action.flag("reconnect")? { 1 } else { 6 };
    let wanted = dice.below(8) < in_eight;
    let link = link_of(dice, on)?;
    let start = match (first.action.name(), &first.start) {
        // The certificate is installed ten seconds before it ends.
        ("cert-expire", Start::At(ends)) => {
            let before = Duration::from_millis(dice.between(500, 9_000));
            Start::At(ends.checked_sub(before).filter(|at| !at.is_zero())?)
        }
        _ => {
            let wait = Duration::from_millis(dice.magnitude(1, 4_000));
            Start::After { moment: Moment::Begins(first.name.clone()), wait, since: None }
        }
    };
    scene.on_link("reset", link).filter(|_| wanted).map(|action| (action, start))
}

/// Faults of the host that issues certificates.
static ISSUER_FAULTS: &[&str] = &["crash", "power-loss", "pause", "isolate", "clock-jump", "clock-skew"];

/// If hosts renew by themselves, the issuer is struck while certificates come to their end or an authority is replaced.
/// Then all tries to renew may be in vain, or the issuer may grant a certificate that is not yet valid or has expired.
fn renewing(dice: &mut Dice, scene: &Scene<'_>, first: &Step) -> Option<(Action, Start)> {
    let renewed_before = match first.action.name() {
        // The issuer is asked for another certificate at the earliest when this one is installed.
        "cert-expire" => scene.renews()?.min(INSTALLED_BEFORE),
        "ca-rotate" => Duration::ZERO,
        _ => return None,
    };
    let fault = find(dice.pick(ISSUER_FAULTS).copied()?).filter(|_| dice.below(8) < 6)?;
    let action = scene.of_the_issuer(dice, fault)?;
    let start = match first.start {
        Start::At(at) => {
            // Shortly before the issuer is asked, or while it is asked again and again.
            let before = match dice.one_in(2) {
                true => renewed_before + Duration::from_millis(dice.magnitude(1, 2_000)),
                false => Duration::from_millis(dice.between(500, 11_000)),
            };
            Start::At(at.checked_sub(before).filter(|at| !at.is_zero())?)
        }
        Start::After { .. } => {
            let wait = Duration::from_millis(dice.magnitude(1, 4_000));
            Start::After { moment: Moment::Begins(first.name.clone()), wait, since: None }
        }
    };
    Some((action, start))
}

/// Returns a link between these hosts and the hosts that they talk to.
fn link_of(dice: &mut Dice, on: &[HostRef]) -> Option<Link> {
    // The run decides which hosts these are. As the end of a link, the words would stand for other hosts.
    let is_drawn = |host: &HostRef| matches!(host, HostRef::AnyServer | HostRef::AnyClient | HostRef::Step(_));
    if on.iter().any(is_drawn) {
        return None;
    }
    let serves = on.iter().any(HostRef::is_server);
    let there = if serves && dice.one_in(2) { HostRef::Clients } else { HostRef::Servers };
    Some(Link::Between(on.to_vec(), vec![there]))
}
