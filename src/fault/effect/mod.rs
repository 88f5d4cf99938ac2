//! What a fault does once its values are given: one file per family.
//!
//! A family is a group of faults that are performed and proved in the same way, such as all faults of disks. Whoever
//! performs steps, in the simulator or on real processes, has one place for each family. It matches on these types
//! without a wildcard, so the compiler names every place that has to handle a new fault. Nothing here knows how a fault
//! is performed.

/// Defines the words that a parameter takes, each with its meaning.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal: $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// Each word of a scenario file with its meaning.
            pub const WORDS: &'static [(&'static str, &'static str)] = &[$(($word, $text)),*];

            /// Returns the word in scenario files.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            /// Returns the meaning of a word, or `None` if it is not one of these words.
            pub fn read(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }
    };
}

mod certificates;
mod clocks;
mod disks;
mod load;
mod network;
mod processes;
mod releases;
mod replies;

pub use certificates::{CertificateFault, Mismatch};
pub use clocks::ClockFault;
pub use disks::{Access, DiskFault};
pub use load::LoadFault;
pub use network::NetworkFault;
pub use processes::ProcessFault;
pub use releases::{ReleaseFault, RevisionRole};
pub use replies::ReplyFault;

/// What a step does, by family. The hosts or the link that it strikes are in its [`Action`](super::Action).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Processes end, stand still or lose their machines.
    Process(ProcessFault),
    /// Disks fail, fill up, slow down or lie.
    Disk {
        /// What they do.
        fault: DiskFault,
        /// Which files are struck; empty for all.
        path: String,
    },
    /// Connections stall, break, or carry less.
    Network(NetworkFault),
    /// Replies are not what the server computed.
    Reply(ReplyFault),
    /// Certificates end or are replaced, by good or by bad ones.
    Certificate(CertificateFault),
    /// Wall clocks are wrong.
    Clock(ClockFault),
    /// Hosts run another release.
    Release(ReleaseFault),
    /// Memory becomes scarce, or there is more to do.
    Load(LoadFault),
}
