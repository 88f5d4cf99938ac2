//! The marks of this package: rare situations of handshakes and of certificates. See [`mark`](mod@crate::mark).

crate::marks! {
    "handshakes" {
        "refusals-were-counted": "So many handshakes were refused that the rest were only counted.",
    }
    "certificates" {
        "another-one-by-hand": "Somebody gave a host another certificate while a renewal of the old one was failing.",
        "expired-one-was-renewed": "An issuer renewed a certificate that had ended, within its period of grace.",
        "issuer-did-not-answer": "An issuer did not answer a renewal in time.",
        "later-one-has-begun": "A certificate that was to begin in the future has begun, and is shown.",
        "renewal-tried-again": "A renewal failed several times in a row.",
        "renewed-for-later": "A renewed certificate begins in the future, and the old one is shown until then.",
        "renewed-in-time": "A certificate was renewed, and the new one is shown at once.",
    }
}
