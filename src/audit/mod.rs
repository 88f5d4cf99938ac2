//! The audit log: append-only, signed, verifiable, replicated. Production code that does not know that simulation
//! exists; everything outside reaches it through [`crate::world`].

pub mod calls;
pub mod client;
pub mod cluster;
pub mod leaf;
pub mod note;
pub mod serve;
pub mod store;
pub mod tls;
pub mod tree;

/// The wire contract, generated from `proto/`.
pub mod wire {
    #![allow(missing_docs, clippy::all, unreachable_pub, clippy::unwrap_used)]
    tonic::include_proto!("gapless.audit.v1");
    /// The compiled descriptors, for reflection and for the schema fingerprint.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/audit.v1.bin"));
}
