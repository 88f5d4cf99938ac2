//! The audit log: append-only, signed, verifiable, replicated. This is production code that does not know that
//! simulation exists: it reaches everything outside itself through [`gapless_world::World`].

// First, so that all other modules see its macro.
#[macro_use]
extern crate gapless_world as _;

pub mod budget;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod cluster;
mod dial;
mod key;
pub mod leaf;
pub mod marks;
#[cfg(test)]
mod meddled;
pub mod note;
mod revisions;
pub mod schema;
pub mod serve;
pub mod store;
pub mod tree;
pub mod words;

/// The wire contract, generated from `proto/`: revision `current`, and what differs from it in the other revisions. What
/// is generated is kept, so that no build of the log waits for a generator.
pub mod wire {
    #![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub, clippy::unwrap_used)]
    include!("../generated/gapless.audit.v1.rs");
    /// The compiled descriptors, for reflection and for the exchange of schemas.
    pub const DESCRIPTORS: &[u8] = include_bytes!("../generated/audit.v1.bin");

    /// The previous revision.
    pub mod previous {
        pub use super::AppendRequest;
        include!("../generated/previous/gapless.audit.v1.rs");
        pub const DESCRIPTORS: &[u8] = include_bytes!("../generated/previous/audit.v1.bin");
    }

    /// A compatible successor.
    #[cfg(feature = "rehearsal")]
    pub mod next {
        include!("../generated/next/gapless.audit.v1.rs");
        pub const DESCRIPTORS: &[u8] = include_bytes!("../generated/next/audit.v1.bin");
    }

    /// An incompatible successor.
    #[cfg(feature = "rehearsal")]
    pub mod breaking {
        include!("../generated/breaking/gapless.audit.v1.rs");
        pub const DESCRIPTORS: &[u8] = include_bytes!("../generated/breaking/audit.v1.bin");
    }
}

/// What the members of a cluster say to each other, generated from `proto/`.
pub(crate) mod cluster_wire {
    #![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub, clippy::unwrap_used)]
    include!("../generated/gapless.cluster.v1.rs");
}
