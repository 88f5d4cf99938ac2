//! What a family of faults brings to a step: how the step begins, goes on and ends, and what proves it.

use gapless_world::LogEvent;

use super::Director;

/// What a step does and what it has done so far, as its family keeps it. What all steps have in common is in the
/// director, at the `index` of the step.
pub(super) trait Family {
    /// Does to the step's hosts, or to its link, what the step does as it begins.
    fn begin(&mut self, director: &mut Director<'_>, index: usize);

    /// Does what can be done before the step begins. Called in each tick up to then.
    fn prepare(&mut self, _director: &mut Director<'_>, _index: usize) {}

    /// Does what the active step does in this tick. Returns whether there is more to do before the step may end.
    fn go_on(&mut self, _director: &mut Director<'_>, _index: usize) -> bool {
        false
    }

    /// Undoes what the step did. Called again in each tick until every host that the step took down has been started.
    fn end(&mut self, _director: &mut Director<'_>, _index: usize) {}

    /// Handles an event of the log on one of the step's hosts while the step is active.
    fn notice(&mut self, _event: &LogEvent) {}

    /// Looks whether something has come about that makes the step bite.
    fn look_for_evidence(&mut self, _director: &mut Director<'_>, _index: usize) {}

    /// Returns what was counted for the step so far, in words, besides what links counted.
    fn evidence(&self, _director: &Director<'_>, _index: usize) -> Option<String> {
        None
    }

    /// Returns what the step did to its hosts, as the history tells it at the end, or `None` if that proves nothing.
    fn told(&self, director: &Director<'_>, index: usize) -> Option<Vec<String>> {
        Some(director.steps[index].did.clone())
    }

    /// Returns whether the evidence may come after the step has ended.
    fn may_bite_late(&self) -> bool {
        false
    }

    /// Returns whether the step can end only once other steps have been undone, perhaps at the final heal.
    fn waits_for_the_heal(&self, _director: &Director<'_>, _index: usize) -> bool {
        false
    }
}
