//! The renewer: makes sure that a process has a valid certificate for as long as it runs.
//!
//! It asks for a new certificate well before the old one ends, by the wall clock, which it checks again and again
//! because a clock may jump. A renewal that fails is tried again, with growing, random waits, for ever: also after the
//! old certificate has ended, because that is when it matters. A new certificate that begins in the future, as those of
//! an issuer whose clock is ahead do, is kept back until it begins or the old one is over. The key of every certificate
//! is fresh and never leaves the process.

use std::{convert::Infallible, io, time::Duration};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    LogEvent, Server, World,
    calls::{Attempt, Calls, code_name},
    error_chain,
    issuer_wire::{RenewRequest, issuer_client::IssuerClient},
    net::BoxFuture,
    tls::{self, CertificateRequest, Identity, KeyKind, Succession, TlsError},
};

/// The wall clock is checked at least this often.
const LOOK: Duration = Duration::from_secs(5);
/// After a renewal the next one is at least this far away, so that an issuer of very short certificates is not overrun.
const REST: Duration = Duration::from_secs(10);
/// A renewal comes earlier by a random part, up to this one, of [`RenewSettings::before`], so that hosts that were set
/// up together do not ask together for ever.
const JITTER: f64 = 0.1;
/// Answers larger than this are refused.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How certificates are renewed.
#[derive(Debug, Clone)]
pub struct RenewSettings {
    /// The address of the issuer, and the name that its certificate must hold.
    pub issuer: Server,
    /// The authority of the issuer's own certificate, PEM. No other authority is trusted for it.
    pub issuer_ca_pem: String,
    /// A new certificate is asked for this long before the old one ends.
    pub before: Duration,
    /// The time by which one attempt ends, from connecting to the answer.
    pub deadline: Duration,
    /// The first wait after a failure is drawn from zero to this; the range doubles with each further failure.
    pub retry_base: Duration,
    /// The limit to which the range grows.
    pub retry_cap: Duration,
}

impl RenewSettings {
    /// Returns settings with the usual deadline and waits.
    pub fn new(issuer: Server, issuer_ca_pem: String, before: Duration) -> RenewSettings {
        RenewSettings {
            issuer,
            issuer_ca_pem,
            before,
            deadline: Duration::from_secs(10),
            retry_base: Duration::from_millis(500),
            retry_cap: Duration::from_secs(10),
        }
    }
}

/// Why one attempt at a renewal failed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Keys, requests or certificates cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The configured name cannot be the name of an issuer.
    #[error("`{0}` cannot be the name of an issuer; name it as its certificate does")]
    Name(String),
    /// The call failed.
    #[error("{0}")]
    Call(String),
    /// No answer came in time.
    #[error("the issuer did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The certificate is for another name.
    #[error("the issuer answered with a certificate for `{found}` and not for `{expected}`")]
    Foreign {
        /// The name that asked.
        expected: String,
        /// The name that the certificate is for.
        found: String,
    },
    /// The certificate has already ended.
    #[error("the issuer answered with a certificate that ended at {0} (seconds since 1970); check its clock")]
    Ended(i64),
}

/// Stores a renewed identity. The identity must then show up in the channel that tells the renewer what is in force.
pub type Keep = Box<dyn Fn(Identity) + Send + Sync>;

/// Renews one process's certificate. See [`Renewer::run`].
pub struct Renewer {
    world: World,
    settings: RenewSettings,
    in_force: watch::Receiver<Identity>,
    asked: watch::Receiver<u64>,
    keep: Keep,
    calls: Calls,
    coming: Option<Coming>,
}

/// A renewed identity that is not shown yet.
struct Coming {
    /// The chain that is shown meanwhile. If somebody replaces it by hand, the replacement is newer than this renewal.
    over: String,
    renewed: Identity,
    begins: i64,
    not_after: i64,
}

impl Renewer {
    /// Makes a renewer. `in_force` is the identity that counts, whoever replaces it; `asked` changes when somebody
    /// wants a renewal now; `keep` takes each renewed identity.
    pub fn new(
        world: World,
        settings: RenewSettings,
        in_force: watch::Receiver<Identity>,
        asked: watch::Receiver<u64>,
        keep: Keep,
    ) -> Renewer {
        let calls = Calls::new(world.observer.clone());
        Renewer { world, settings, in_force, asked, keep, calls, coming: None }
    }

    /// Renews for ever. If it is dropped in the middle of a renewal, it leaves the old identity, and at worst a
    /// certificate that nobody uses.
    pub fn run(self) -> BoxFuture<'static, Infallible> {
        Box::pin(self.renew_for_ever())
    }

    async fn renew_for_ever(mut self) -> Infallible {
        let mut not_before = Instant::now();
        loop {
            self.until_due(not_before).await;
            let (renewed, not_after) = self.renew_until_it_works().await;
            self.take_up(renewed, not_after);
            if let Some(Coming { begins, .. }) = &self.coming {
                let seconds = until(*begins).as_secs();
                tracing::warn!(
                    seconds,
                    "the renewed certificate begins in the future, so the old one is shown until then; compare the \
                     clocks of the issuer and of this host"
                );
            }
            not_before = Instant::now() + REST;
        }
    }

    /// Waits until the newest certificate is about to end, or somebody asks.
    async fn until_due(&mut self, not_before: Instant) {
        let before = self.settings.before.mul_f64(1.0 + JITTER * rand::random::<f64>());
        let before = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
        let mut ends = None;
        loop {
            if self.take_up_what_begins() || ends.is_none() || self.in_force.has_changed().unwrap_or(false) {
                // An identity that cannot be read cannot be renewed: it waits for another.
                let in_force = self.in_force.borrow_and_update().peer().map_or(i64::MAX, |peer| peer.not_after);
                ends = Some(self.coming.as_ref().map_or(in_force, |coming| coming.not_after));
            }
            let due_in = until(ends.unwrap_or(i64::MAX).saturating_sub(before));
            let wait = due_in.max(not_before.saturating_duration_since(Instant::now()));
            if wait.is_zero() {
                return;
            }
            let look = self.look();
            tokio::select! {
                biased;
                Ok(()) = self.asked.changed() => return,
                Ok(()) = self.in_force.changed() => ends = None,
                () = sleep(wait.min(look)) => {}
            }
        }
    }

    /// Takes up a renewed identity, or keeps it back if its certificate begins later and the old one is still good.
    fn take_up(&mut self, renewed: Identity, not_after: i64) {
        let shown = self.in_force.borrow_and_update().clone();
        self.coming = None;
        match Succession::of(&shown, renewed) {
            Succession::Now(renewed) => {
                mark!("renewed-in-time");
                (self.keep)(renewed);
                self.world.tell(LogEvent::CertRenewed { not_after });
            }
            Succession::Later { meanwhile, renewed, begins } => {
                mark!("renewed-for-later");
                self.coming = Some(Coming { over: shown.chain_pem, renewed, begins, not_after });
                if meanwhile.ca_pem != shown.ca_pem {
                    (self.keep)(meanwhile);
                }
            }
        }
    }

    /// Takes up what was kept back, once it begins or the shown certificate is no longer good. Returns whether it did,
    /// or found that somebody had replaced the shown certificate.
    fn take_up_what_begins(&mut self) -> bool {
        let Some(Coming { over, renewed, not_after, .. }) = self.coming.take() else { return false };
        if self.in_force.borrow().chain_pem != over {
            return true;
        }
        mark!("later-one-has-begun");
        self.take_up(renewed, not_after);
        self.coming.is_none()
    }

    /// Returns how long the wall clock need not be checked.
    fn look(&self) -> Duration {
        let begins_in = self.coming.as_ref().map_or(LOOK, |coming| until(coming.begins));
        begins_in.clamp(Duration::from_secs(1), LOOK)
    }

    async fn renew_until_it_works(&mut self) -> (Identity, i64) {
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.take_up_what_begins();
            let shown = self.in_force.borrow_and_update().clone();
            let why = match self.renew(&shown, attempt).await {
                Ok(renewed) => return renewed,
                Err(why) => why.to_string(),
            };
            let RenewSettings { retry_base, retry_cap, .. } = self.settings;
            let range = retry_base.saturating_mul(1 << (attempt - 1).min(16)).min(retry_cap);
            let wait = range.mul_f64(rand::random::<f64>());
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            mark!("renewal-tried-again", attempt > 2);
            self.world.tell(LogEvent::RenewalFailed { attempt, wait_ms, why });
            tokio::select! {
                biased;
                Ok(()) = self.asked.changed() => {}
                // Somebody installed another certificate, perhaps because this one is good for no renewal.
                Ok(()) = self.in_force.changed() => {
                    mark!("another-one-by-hand");
                }
                () = sleep(wait) => {}
            }
        }
    }

    /// Makes one attempt. Returns the new identity and its last second.
    async fn renew(&self, shown: &Identity, attempt: u32) -> Result<(Identity, i64), RenewError> {
        let by = Instant::now() + self.settings.deadline;
        let who = shown.peer()?.name;
        let request = CertificateRequest::new(KeyKind::like(shown), &who)?;
        let channel = self.calls.observe(self.channel(shown)?, &self.settings.issuer.tls_name);
        let mut issuer = IssuerClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut call = Request::new(RenewRequest { certificate_request: request.der().to_vec().into() });
        call.set_timeout(self.settings.deadline);
        call.extensions_mut().insert(Attempt(attempt));
        let answer = match timeout_at(by, issuer.renew(call)).await {
            Ok(answer) => answer.map_err(|status| RenewError::Call(told(&status)))?.into_inner(),
            Err(_) => {
                mark!("issuer-did-not-answer");
                return Err(RenewError::TimedOut(self.settings.deadline));
            }
        };
        let identity = request.fulfilled(answer.chain, answer.trusted)?;
        let found = identity.peer()?;
        if found.name != who {
            return Err(RenewError::Foreign { expected: who, found: found.name });
        }
        // A certificate that is not yet valid by the clock of this host is not refused for that: see `take_up`.
        if found.not_after < tls::wall_seconds() {
            return Err(RenewError::Ended(found.not_after));
        }
        Ok((identity, found.not_after))
    }

    /// Makes a connection for one attempt: nothing of the last one is worth keeping.
    fn channel(&self, shown: &Identity) -> Result<Channel, RenewError> {
        let Server { address, tls_name } = &self.settings.issuer;
        let as_shown = Identity { ca_pem: self.settings.issuer_ca_pem.clone(), ..shown.clone() };
        let connector = TlsConnector::from(tls::client_config(&as_shown)?);
        let misnamed = || RenewError::Name(tls_name.clone());
        let name = ServerName::try_from(tls_name.clone()).map_err(|_| misnamed())?;
        let endpoint = Endpoint::from_shared(format!("http://{tls_name}")).map_err(|_| misnamed())?;
        let (net, address) = (self.world.net.clone(), address.clone());
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            let (net, address, connector, name) = (net.clone(), address.clone(), connector.clone(), name.clone());
            async move {
                let stream = net.connect(&address).await?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        })))
    }
}

/// Returns the time until the wall clock shows that second.
fn until(second: i64) -> Duration {
    Duration::from_secs(u64::try_from(second.saturating_sub(tls::wall_seconds())).unwrap_or(0))
}

fn told(status: &Status) -> String {
    let caused = std::error::Error::source(status).map(error_chain);
    format!("{}: {}", code_name(status.code()), caused.unwrap_or_else(|| status.message().to_owned()))
}
