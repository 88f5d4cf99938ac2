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

/// The wire contract, generated from `proto/`: revision `current`, and what differs from it in the other revisions.
pub mod wire {
    #![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub, clippy::unwrap_used)]
    tonic::include_proto!("gapless.audit.v1");
    /// The compiled descriptors, for reflection and for the exchange of schemas.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/audit.v1.bin"));

    /// The previous revision.
    pub mod previous {
        pub use super::AppendRequest;
        include!(concat!(env!("OUT_DIR"), "/previous/gapless.audit.v1.rs"));
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/previous/audit.v1.bin"));
    }

    /// A compatible successor.
    #[cfg(feature = "rehearsal")]
    pub mod next {
        include!(concat!(env!("OUT_DIR"), "/next/gapless.audit.v1.rs"));
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/next/audit.v1.bin"));
    }

    /// An incompatible successor.
    #[cfg(feature = "rehearsal")]
    pub mod breaking {
        include!(concat!(env!("OUT_DIR"), "/breaking/gapless.audit.v1.rs"));
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/breaking/audit.v1.bin"));
    }
}

/// What the members of a cluster say to each other, generated from `proto/`.
pub(crate) mod cluster_wire {
    #![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub, clippy::unwrap_used)]
    tonic::include_proto!("gapless.cluster.v1");
}
