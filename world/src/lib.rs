//! The seams to the outside: disk, network and an observer; and what any log needs in order to use them with mutual
//! TLS.
//!
//! The audit log reaches everything outside itself through a [`World`]. In production the parts are real; under
//! simulation they are not, and the log cannot tell. Entropy and clocks need no seam here: the simulator answers them
//! at libc.
//!
//! Nothing here knows any particular log: [`tls`] makes identities and both ends of a connection, [`renew`] renews
//! certificates over the network, [`doorstep`] and [`refusals`] deal with handshakes that are not over, or that came to
//! nothing, and [`calls`] reports gRPC calls to the observer.

// This module is first, so that its macro is known to all the others.
#[macro_use]
pub mod mark;

pub mod calls;
pub mod disk;
pub mod doorstep;
mod event_doc;
pub mod marks;
pub mod net;
pub mod observer;
pub mod real;
pub mod refusals;
pub mod renew;
pub mod tls;

use std::sync::Arc;

pub use disk::{Disk, File, OpenMode, Pending};
pub use event_doc::{EventDoc, ToldBy};
pub use net::{Listener, Net, Server, Stream};
pub use observer::{LogEvent, Observer, error_chain};

/// The contract between an issuer and the processes that renew their certificates, generated from `proto/`. What is
/// generated is kept, so that a project that tests its own log builds no generator.
pub mod issuer_wire {
    #![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub, clippy::unwrap_used)]
    include!("../generated/gapless.issuer.v1.rs");
}

/// Everything that a process gets from outside.
#[derive(Clone)]
pub struct World {
    /// Its files. Paths are relative to the data folder.
    pub disk: Arc<dyn Disk>,
    /// The network on which it listens and connects.
    pub net: Arc<dyn Net>,
    /// The observer that is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl World {
    /// Tells the observer.
    pub fn tell(&self, event: LogEvent) {
        self.observer.see(event);
    }
}
