//! Renewal of certificates: an [issuer](serve_issuer) that hands them out over the network, and a [`Renewer`] that asks
//! it in time, again and again until it has a new one.
//!
//! The issuer knows a caller by the certificate that it shows, and gives it nothing but a later one with the same
//! names. Three things must never lock a renewal out: a certificate that ended while the issuer could not be reached
//! (it is good for a renewal, and for nothing else, for [a day longer](GRACE)); an authority that was replaced (its
//! certificates are good for a renewal for [a week](REPLACED), unless it was thrown out because its key was stolen);
//! and the issuer's own certificate, which comes from an authority of its own that renewals trust by name and that no
//! rotation touches.

mod grace;
mod issuer;
mod renewer;
#[cfg(test)]
mod tests;

pub use issuer::{Authority, GRACE, IssuerError, IssuerSettings, REPLACED, Replaced, serve_issuer};
pub use renewer::{Keep, RenewError, RenewSettings, Renewer};
