//! What is installed at one host. It stands for the certificate files of a machine, which outlive its processes.
//!
//! It notes what was installed and what the software picked up, because nothing else about certificates can be seen
//! from outside, whatever TLS library the software uses. Only the host's own software gets the keys.

use std::sync::{Mutex, MutexGuard, PoisonError};

use gapless_world::tls::Identity;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::history::What;

/// The certificate files of one host.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: watch::Sender<Identity>,
    /// Counts how often the host was told to renew at once.
    asked: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The serial number of what is installed, and how often something was installed. The same certificate may be
    /// installed again with other trusted authorities.
    installed: (u64, u64),
    /// What the software of this life picked up last.
    taken: Option<(u64, u64)>,
    /// Whether the software follows changes by itself.
    follows: bool,
    /// Whether the software renews by itself.
    renews: bool,
}

/// A function that records events of this host.
type Record<'r> = &'r dyn Fn(What);

impl Certificates {
    /// Creates files that hold this identity from the start.
    pub(crate) fn new(identity: Identity, record: Record<'_>) -> Self {
        let this =
            Self { files: watch::Sender::new(identity.clone()), asked: watch::Sender::new(0), state: Mutex::default() };
        this.install(identity, "issued at the start", record);
        this
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that new software starts on this host, which has picked up nothing yet.
    pub(crate) fn begin_life(&self) {
        let mut state = self.state();
        *state = State { installed: state.installed, ..State::default() };
    }

    /// Replaces what is installed.
    pub(crate) fn install(&self, identity: Identity, why: &str, record: Record<'_>) {
        if let Some((serial, what)) = describe(&identity, why) {
            record(what);
            let mut state = self.state();
            state.installed = (serial, state.installed.1 + 1);
        }
        self.files.send_replace(identity);
        if self.state().follows {
            self.take(record);
        }
    }

    /// Returns what is installed, without the software picking it up.
    pub(crate) fn installed(&self) -> Identity {
        self.files.borrow().clone()
    }

    /// Reads the files on behalf of the software.
    pub(crate) fn read(&self, record: Record<'_>) -> Identity {
        self.take(record);
        self.files.borrow().clone()
    }

    /// Makes the software follow the files from now on.
    pub(crate) fn follow(&self, record: Record<'_>) -> watch::Receiver<Identity> {
        self.take(record);
        self.state().follows = true;
        self.files.subscribe()
    }

    fn take(&self, record: Record<'_>) {
        let mut state = self.state();
        if state.taken != Some(state.installed) {
            state.taken = Some(state.installed);
            let (serial, _) = state.installed;
            drop(state);
            record(What::Took { serial });
        }
    }

    /// Notes that the software will renew whenever it is told to.
    pub(crate) fn renewals(&self) -> watch::Receiver<u64> {
        self.state().renews = true;
        self.asked.subscribe()
    }

    /// Tells the software to renew now. Returns false if it does not renew by itself.
    pub(crate) fn ask_to_renew(&self) -> bool {
        let renews = self.state().renews;
        self.asked.send_modify(|asked| *asked += 1);
        renews
    }
}

/// Returns the serial number and a description of the certificate that an identity presents, or `None` if it cannot be
/// read.
fn describe(identity: &Identity, why: &str) -> Option<(u64, What)> {
    let leaf = identity.leaf_certificate().ok()?;
    let peer = identity.peer().ok()?;
    let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
    // Of a longer serial number the last eight bytes are used: they only have to differ within one run.
    let serial = parsed.raw_serial().iter().fold(0_u64, |serial, byte| serial << 8 | u64::from(*byte));
    let usage = parsed.extended_key_usage().ok()?.map(|usage| usage.value);
    let what = What::Certificate {
        serial,
        name: peer.name,
        authority: common_name(parsed.issuer()),
        not_before: peer.not_before,
        not_after: peer.not_after,
        for_servers: usage.is_none_or(|usage| usage.server_auth || usage.any),
        for_clients: usage.is_none_or(|usage| usage.client_auth || usage.any),
        trusts: trusted(identity),
        why: why.to_owned(),
    };
    Some((serial, what))
}

/// Returns the names of the authorities that an identity trusts.
fn trusted(identity: &Identity) -> Vec<String> {
    let all = identity.trusted_certificates().unwrap_or_default();
    let named = all.iter().filter_map(|der| Some(common_name(X509Certificate::from_der(der).ok()?.1.subject())));
    named.collect()
}

fn common_name(name: &X509Name<'_>) -> String {
    let first = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    first.map_or_else(|| name.to_string(), str::to_owned)
}
