//! The authorities that sign certificates in a run, and those that are trusted: one state for the director, which
//! installs certificates by hand, and for the host `issuer`, which hands them out over the network.
//!
//! Certificates are Ed25519 throughout, and every key comes through the seam, so that a seed gives the same ones.

use std::{sync::Arc, time::Duration};

use gapless_world::{
    renew::{Authority, Replaced},
    tls::{Grant, Identity, Issuer, TlsError, Usage},
};
use tokio::sync::watch;

/// Certificates last for longer than any run, unless a step says otherwise.
pub(super) const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Authorities last longer than any certificate.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Certificates are valid from this long before the run on. Only what is issued before the run is backdated.
const EARLIER: Duration = Duration::from_secs(60 * 60);

/// The name in a certificate that is good, but for somebody else.
const SOMEBODY_ELSE: &str = "somebody-else";

/// All authorities of a run.
pub(super) struct Authorities {
    /// The wall clock at the start of the run, in seconds since 1970.
    epoch: i64,
    /// Signs the issuer's own certificate. Never replaced.
    root: Issuer,
    /// Every authority that signed something, oldest first. The last one is the newest.
    all: Vec<Arc<Issuer>>,
    /// The names of the trusted authorities, oldest first.
    trusted: Vec<String>,
    /// The authorities that were trusted, and when they were replaced.
    replaced: Vec<Replaced>,
    /// The index in `all` of the authority that signs.
    signs: usize,
    stranger: Option<Issuer>,
    next_serial: u64,
    /// The authority that the issuer's host uses.
    in_force: watch::Sender<Authority>,
}

impl Authorities {
    /// Makes one authority that signs and is trusted. `epoch` is the wall clock at the start of the run, in seconds
    /// since 1970.
    pub(super) fn new(epoch: i64) -> Result<Self, TlsError> {
        let root = authority("issuer's root", epoch)?;
        let first = Arc::new(authority("authority 1", epoch)?);
        let pem = first.ca_pem().to_owned();
        let in_force = Authority { signer: first.clone(), trusted_pem: pem, replaced: Vec::new() };
        Ok(Self {
            epoch,
            root,
            all: vec![first],
            trusted: vec![name(1)],
            replaced: Vec::new(),
            signs: 0,
            stranger: None,
            next_serial: 1,
            in_force: watch::Sender::new(in_force),
        })
    }

    /// Returns the identity that the issuer shows, whose host has this name.
    pub(super) fn issuers_own(&mut self, host: &str) -> Result<Identity, TlsError> {
        let (from, until) = self.usual();
        let serial = self.serial();
        self.root.issue(host, serial, from, until)
    }

    /// Returns the authority that hosts trust for the issuer's own certificate.
    pub(super) fn root_pem(&self) -> &str {
        self.root.ca_pem()
    }

    /// Returns the authority that the issuer's host uses.
    pub(super) fn in_force(&self) -> watch::Receiver<Authority> {
        self.in_force.subscribe()
    }

    /// Returns whether this authority is among those trusted at present.
    pub(super) fn trusts(&self, authority: &str) -> bool {
        self.trusted.iter().any(|trusted| trusted == authority)
    }

    /// Returns the name of the authority that signs.
    pub(super) fn signer(&self) -> String {
        name(self.signs + 1)
    }

    /// Issues a certificate as hosts have it from the start.
    pub(super) fn initial(&mut self, host: &str) -> Result<Identity, TlsError> {
        let (from, until) = self.usual();
        self.grant(host, from, until)
    }

    /// Issues a certificate that has been valid for a while and ends with this second.
    pub(super) fn ending(&mut self, host: &str, not_after: i64) -> Result<Identity, TlsError> {
        let from = self.usual().0.min(not_after - seconds(EARLIER));
        self.grant(host, from, not_after)
    }

    /// Issues a certificate that is valid from this second on.
    pub(super) fn fresh(&mut self, host: &str, not_before: i64) -> Result<Identity, TlsError> {
        self.grant(host, not_before, not_before + seconds(LIFETIME))
    }

    /// Issues a certificate as somebody on call would: valid from the start of the run, and until long after it.
    pub(super) fn good(&mut self, host: &str, now: i64) -> Result<Identity, TlsError> {
        let from = self.usual().0;
        self.grant(host, from, now + seconds(LIFETIME))
    }

    /// Returns the name of the newest authority.
    pub(super) fn newest(&self) -> String {
        name(self.all.len())
    }

    /// Issues a certificate for somebody else.
    pub(super) fn misnamed(&mut self) -> Result<Identity, TlsError> {
        let (from, until) = self.usual();
        self.grant(SOMEBODY_ELSE, from, until)
    }

    /// Issues a certificate of an authority that nobody trusts.
    pub(super) fn foreign(&mut self, host: &str) -> Result<Identity, TlsError> {
        let ((from, until), serial) = (self.usual(), self.serial());
        if self.stranger.is_none() {
            self.stranger = Some(authority("a stranger", self.epoch)?);
        }
        let stranger = self.stranger.as_ref().ok_or(TlsError::Empty { what: "authority" })?;
        let identity = stranger.issue(host, serial, from, until)?;
        Ok(Identity { ca_pem: self.trusted_pem(), ..identity })
    }

    /// Issues a certificate that is good for only one end of a connection.
    pub(super) fn one_ended(&mut self, host: &str, usage: Usage) -> Result<Identity, TlsError> {
        let ((not_before, not_after), serial) = (self.usual(), self.serial());
        let identity = self.all[self.signs].grant(&Grant { names: &[host], serial, not_before, not_after, usage })?;
        Ok(Identity { ca_pem: self.trusted_pem(), ..identity })
    }

    /// Adds a new authority. It signs nothing yet and is trusted beside the others.
    pub(super) fn found(&mut self) -> Result<(), TlsError> {
        let n = self.all.len() + 1;
        self.all.push(Arc::new(authority(&name(n), self.epoch)?));
        self.trusted.push(name(n));
        self.publish();
        Ok(())
    }

    /// Makes the newest authority sign from now on.
    pub(super) fn sign_with_newest(&mut self) {
        self.signs = self.all.len() - 1;
        self.publish();
    }

    /// Trusts only the signing authority from now on; `now` is in seconds since 1970.
    pub(super) fn trust_signer_only(&mut self, now: i64) {
        let signer = self.signer();
        let gone = self.all.iter().zip(1..).filter(|(_, n)| name(*n) != signer && self.trusts(&name(*n)));
        let gone = gone.map(|(issuer, _)| Replaced { ca_pem: issuer.ca_pem().to_owned(), at: now });
        let gone: Vec<Replaced> = gone.collect();
        self.replaced.extend(gone);
        self.trusted = vec![signer];
        self.publish();
    }

    fn grant(&mut self, host: &str, not_before: i64, not_after: i64) -> Result<Identity, TlsError> {
        let serial = self.serial();
        let identity = self.all[self.signs].issue(host, serial, not_before, not_after)?;
        Ok(Identity { ca_pem: self.trusted_pem(), ..identity })
    }

    fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    fn usual(&self) -> (i64, i64) {
        (self.epoch - seconds(EARLIER), self.epoch + seconds(LIFETIME))
    }

    fn trusted_pem(&self) -> String {
        let numbered = self.all.iter().zip(1..);
        numbered.filter(|(_, n)| self.trusts(&name(*n))).map(|(authority, _)| authority.ca_pem()).collect()
    }

    fn publish(&self) {
        self.in_force.send_replace(Authority {
            signer: self.all[self.signs].clone(),
            trusted_pem: self.trusted_pem(),
            // A host whose certificate nobody trusts any more can still renew it: no rotation locks a host out.
            replaced: self.replaced.clone(),
        });
    }
}

fn name(n: usize) -> String {
    format!("authority {n}")
}

fn authority(name: &str, epoch: i64) -> Result<Issuer, TlsError> {
    Issuer::new(name, epoch - seconds(EARLIER), epoch + seconds(AUTHORITY_LIFETIME))
}

/// Returns whole seconds, as certificates count them.
pub(super) fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 4)
}
