//! How a member proves itself to another whose log does not name it yet: by a signature of the log's own key, which all
//! members have, over the log, the node and the name in its certificate.
//!
//! The log of a node that joins is empty, and the log of one that was cut off may end before the present leader was
//! added. Neither could be sent anything if only the membership counted. A holder of the log's key could sign any log,
//! so this gives nobody more power than before. It must never count for a node that the log has named: there the log
//! decides.

use bytes::Bytes;

use super::NodeSettings;

/// No checkpoint begins like this, and nothing else is signed by the log's key.
const DOMAIN: &[u8] = b"gapless/member/v1\0";

/// The vouch that this node presents, for the name in its certificate.
pub(super) fn vouch(settings: &NodeSettings, name: &str) -> Bytes {
    settings.signing_key.sign(&text(settings, settings.node, name)).to_vec().into()
}

/// Returns whether a caller with this name, which claims to be this node, belongs to this log.
pub(super) fn is_vouched(settings: &NodeSettings, node: u64, name: &str, vouch: &[u8]) -> bool {
    settings.signing_key.verifying_key().verify(&text(settings, node, name), vouch).is_ok()
}

fn text(settings: &NodeSettings, node: u64, name: &str) -> Vec<u8> {
    [DOMAIN, &settings.log_id, &node.to_be_bytes(), name.as_bytes()].concat()
}
