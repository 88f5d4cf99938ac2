//! A bit that flips in memory: what no checksum on the wire or on disk can see, because it happens before both.

use std::time::Duration;

use super::{ActsOn, Effect, End, Fault, Given, Kind, Need, Overlap, Parameter, ReplyFault, Value};

/// The entry of `bit-flip`.
pub(super) static FAULT: Fault = Fault {
    name: "bit-flip",
    summary: "a bit of a reply is flipped in the memory of a server",
    group: "memory that lies",
    does: "\
Once every `every`, one bit of a reply about an append is flipped, after the server has encoded
the reply and before TLS protects it. Replies to clients and replies from a follower to its
leader are struck alike. The seed draws the position of the bit. The connection is intact and its
checksums are right; only the content is wrong. A client that believes what it is told would take
a false receipt for a true one; a client that verifies its receipts rejects the false one, keeps
the entry and asks again. A leader that believes it would count entries that a follower does not
have.",
    loses: "\
Lost: nothing at rest. The log, its disk and its signatures stay as they were; only the copy in
transit is false. If the flipped bit belongs to the frame of the message, the call fails instead,
which counts as well.",
    simulated: "\
The reply passes through the bit flipper of its host on the way to TLS.",
    drilled: "\
Only for the copy of the log that the harness itself starts, which has the same bit flipper. A
process that was attached from outside cannot be reached before its TLS, and `check --target`
says so.",
    evidence: "\
At least one reply left a server with a flipped bit. The run shows the number of these replies
and the position of each bit.",
    untouched: "no reply about an append left {hosts}",
    cure: "make `for` longer than `every`, or raise `appends`",
    acts_on: ActsOn::Hosts { servers: true, clients: false, auditor: false, issuer: false },
    end: End::Healed,
    overlap: Overlap::SameValues,
    counted: Some("flip"),
    parameters: &[Parameter {
        name: "every",
        kind: Kind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(3600) },
        need: Need::Default(Value::Duration(Duration::from_secs(3))),
        means: "from one flipped reply to the next",
    }],
    causes: &["receipt-rejected", "retry", "duplicate-answered", "connection-closed", "parked", "resumed"],
    build,
    ..Fault::USUAL
};

fn build(given: &Given) -> Option<Effect> {
    Some(Effect::Reply(ReplyFault::BitFlip { every: given.duration("every")? }))
}
