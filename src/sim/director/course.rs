//! The course of a step: what its family keeps of it. This is the only place that knows all families.

use super::{
    certificates::Certificates, clocks::Clocks, disks::Disks, family::Family, load::Load, network::Network,
    processes::Processes, releases::Releases, replies::Replies,
};
use crate::fault::Effect;

/// What the family of a step keeps of it.
#[derive(Debug)]
pub(super) enum Course {
    Processes(Processes),
    Disks(Disks),
    Network(Network),
    Replies(Replies),
    Certificates(Certificates),
    Clocks(Clocks),
    Releases(Releases),
    Load(Load),
}

impl Course {
    /// Returns the course of a step that has not begun.
    pub(super) fn new(effect: &Effect) -> Self {
        match effect {
            Effect::Process(fault) => Course::Processes(Processes::new(*fault)),
            Effect::Disk { fault, path } => Course::Disks(Disks::new(*fault, path.clone())),
            Effect::Network(fault) => Course::Network(Network::new(*fault)),
            Effect::Reply(fault) => Course::Replies(Replies::new(*fault)),
            Effect::Certificate(fault) => Course::Certificates(Certificates::new(*fault)),
            Effect::Clock(fault) => Course::Clocks(Clocks::new(*fault)),
            Effect::Release(fault) => Course::Releases(Releases::new(*fault)),
            Effect::Load(fault) => Course::Load(Load::new(*fault)),
        }
    }

    /// Returns its family.
    pub(super) fn family(&self) -> &dyn Family {
        match self {
            Course::Processes(family) => family,
            Course::Disks(family) => family,
            Course::Network(family) => family,
            Course::Replies(family) => family,
            Course::Certificates(family) => family,
            Course::Clocks(family) => family,
            Course::Releases(family) => family,
            Course::Load(family) => family,
        }
    }

    /// Returns its family, which is to act.
    pub(super) fn family_mut(&mut self) -> &mut dyn Family {
        match self {
            Course::Processes(family) => family,
            Course::Disks(family) => family,
            Course::Network(family) => family,
            Course::Replies(family) => family,
            Course::Certificates(family) => family,
            Course::Clocks(family) => family,
            Course::Releases(family) => family,
            Course::Load(family) => family,
        }
    }
}
