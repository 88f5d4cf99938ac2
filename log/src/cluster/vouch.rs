//! By what a member is known to one whose log does not name it yet: a signature by the log's own key, which all members
//! have, over which node of which log it is and the name in its certificate.
//!
//! The log of a node that joins is empty, and that of one that was cut off may end before whoever leads today was added.
//! Neither could be sent anything if only the membership counted. Whoever has the log's key could sign any log, so that
//! this gives nobody more than it has. It must never count for a node that the log has named: of those the log decides.

use bytes::Bytes;

use super::NodeSettings;

/// No checkpoint begins like this, and nothing else is signed by the log's key.
const DOMAIN: &[u8] = b"gapless/member/v1\0";

/// What this node shows, under the name that its certificate has.
pub(super) fn vouch(settings: &NodeSettings, name: &str) -> Bytes {
    settings.signing_key.sign(&text(settings, settings.node, name)).to_vec().into()
}

/// Whether somebody of that name, who says to be that node, belongs to this log.
pub(super) fn is_vouched(settings: &NodeSettings, node: u64, name: &str, vouch: &[u8]) -> bool {
    settings.signing_key.verifying_key().verify(&text(settings, node, name), vouch).is_ok()
}

fn text(settings: &NodeSettings, node: u64, name: &str) -> Vec<u8> {
    [DOMAIN, &settings.log_id, &node.to_be_bytes(), name.as_bytes()].concat()
}
