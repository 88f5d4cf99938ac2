//! The audit log of this repository as a system under test.

mod newness;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gapless_log::{
    client::{self, AuditClient, ClientError, ClientSettings, Delivered, LogReader, ReaderSettings, Tail},
    cluster::{self, ClusterSettings, Contact, MemberSettings, NodeSettings},
    leaf::{Body, ClientId, Content, Epoch, Leaf, PAYLOAD_BYTES_MAX, Sequence},
    note::{CosignerKey, NoteKey, Policy, SigningKey},
    schema::{EVENT_DETAIL, EVENT_ROOM, Revision, bytes_of_field},
    serve::{self, ReplyHook, ServeSettings},
    store::SEGMENT_BYTES,
    wire::{self, audit_event, breaking, next, previous},
};
use gapless_world::{
    Server, error_chain,
    renew::{RenewSettings, Renewer},
    tls::Identity,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{
    Client, Entry, Explored, Failure, Findings, Held, Host, Invariant, Name, Outcome, Peer, Promises, Sizes, System,
};
use crate::{
    history::{EntryId, Found},
    scenario::Call,
};

/// The origin line of the simulated log's checkpoints.
const ORIGIN: &str = "gapless.example/audit";

/// The audit log of this repository, with nothing replaced.
#[derive(Default)]
pub struct AuditLog {
    key: OnceLock<Arc<SigningKey>>,
    log_id: OnceLock<[u8; 16]>,
    /// The cosigners' keys of the first machines of several servers, in order; empty if there is one server.
    cosigners: Vec<Arc<SigningKey>>,
    /// The machines whose data folder was made a member, by server. This is an explicit act, done once for each
    /// machine.
    members: Mutex<Vec<(Name, u32)>>,
}

/// The number of machines of one server whose cosigners' keys are made ahead of time. Clients pin all of these keys, so
/// that a machine can be replaced while they run.
const MACHINES: u32 = 4;

/// How long the work of an operator may take before it is begun again.
const REPLACE_MAX: Duration = Duration::from_secs(60);

/// The name in the certificate of the host that operates the log.
const OPERATOR: &str = "auditor";

impl AuditLog {
    fn settings(&self, host: &Host) -> Result<NodeSettings, Failure> {
        let key = self.key.get().ok_or("the log was not prepared")?.clone();
        let log_id = *self.log_id.get().ok_or("the log was not prepared")?;
        let position = position(host, host.name())?;
        let usual = cluster::Limits::default();
        let payload_bytes = host.payload_max().unwrap_or(usual.payload_bytes);
        let segment_bytes = host.segment().unwrap_or(usual.segment_bytes);
        let cosigner = self.cosigner(position, host.machine());
        let cluster = cosigner.map(|cosigner| ClusterSettings {
            identity: host.identities(),
            cosigner,
            contacts: contacts(host),
        });
        Ok(NodeSettings {
            origin: ORIGIN.to_owned(),
            log_id,
            node: node_of(host, position, host.machine()),
            signing_key: key,
            cluster,
            limits: cluster::Limits { payload_bytes, segment_bytes, ..usual },
            memory: host.memory_budget(),
        })
    }

    /// Returns the key with which a machine of a server cosigns, or `None` in a log of one server. Each machine has its
    /// own key, as each disk must.
    fn cosigner(&self, position: usize, machine: u32) -> Option<Arc<SigningKey>> {
        let first = self.cosigners.get(position)?;
        if machine == 0 {
            return Some(first.clone());
        }
        let seed = Sha256::new().chain_update(first.seed()).chain_update(machine.to_be_bytes()).finalize();
        Some(Arc::new(SigningKey::from_seed(&seed.into())))
    }

    /// Returns a machine of a server as a member of the cluster, or `None` in a log of one server.
    fn member(&self, host: &Host, position: usize, machine: u32) -> Option<MemberSettings> {
        let server = host.servers().get(position)?;
        let (name, address) = (server.name().to_owned(), server.address());
        let cosigner = self.cosigner(position, machine)?.verifying_key();
        Some(MemberSettings { node: node_of(host, position, machine), name, address, cosigner })
    }

    /// Returns the first machines of all servers as members of one cluster; none if there is one server.
    fn founders(&self, host: &Host) -> Vec<MemberSettings> {
        (0..host.servers().len()).filter_map(|position| self.member(host, position, 0)).collect()
    }

    /// Returns what clients demand of a checkpoint: that more than half of the servers cosigned it, with whichever
    /// machine they have.
    fn policy(&self, host: &Host) -> Policy {
        let all = (0..host.servers().len()).flat_map(|position| (0..MACHINES).map(move |machine| (position, machine)));
        let keys: Vec<CosignerKey> = all
            .filter_map(|(position, machine)| self.member(host, position, machine))
            .map(|member| CosignerKey { name: member.name, key: member.cosigner })
            .collect();
        if keys.is_empty() { Policy::default() } else { Policy::majority(keys) }
    }

    fn note_key(&self) -> Result<NoteKey, Failure> {
        let key = self.key.get().ok_or("the log was not prepared")?.verifying_key();
        Ok(NoteKey { name: ORIGIN.to_owned(), key })
    }

    fn reader_settings(&self, host: &Host, servers: &[Peer], identity: Identity) -> Result<ReaderSettings, Failure> {
        let settings = self.client_settings(host, identity)?;
        Ok(ReaderSettings { servers: servers_of(servers), ..ReaderSettings::from(&settings) })
    }

    fn client_settings(&self, host: &Host, identity: Identity) -> Result<ClientSettings, Failure> {
        let name = ClientId::new(host.name())?;
        let servers = servers_of(host.servers());
        let mut settings = ClientSettings::new(name, servers, identity, self.note_key()?);
        settings.memory = host.memory_budget();
        settings.segment_bytes = host.segment().unwrap_or(settings.segment_bytes);
        settings.revision = revision(host)?;
        settings.policy = self.policy(host);
        settings.call = match host.call() {
            Call::Append => client::Call::Append,
            Call::AppendStream => client::Call::AppendStream,
        };
        Ok(settings)
    }
}

/// Moments in the middle of a batch, an election, a start, a repair, a replacement, a release, a renewal or a delivery.
/// An event is listed several times if it is worth aiming at more often.
const MOMENTS: [&str; 26] = [
    "batch-written",
    "batch-written",
    "batch-synced",
    "batch-committed",
    "checkpoint-signed",
    "call-started",
    "entry-accepted",
    "receipt-verified",
    "dead-lettered",
    "checkpoint-kept",
    "leader-change",
    "leader-change",
    "leader-change",
    "server-started",
    "server-started",
    "log-recovered",
    "log-recovered",
    "torn-tail-truncated",
    "corruption-found",
    "repair-stalled",
    "replica-rebuilt",
    "replica-repaired",
    "member-changed",
    "shutdown-begun",
    "cert-renewed",
    "retry",
];

impl System for AuditLog {
    type Client = Application;

    fn promises(&self) -> Promises {
        use Invariant::*;
        Promises {
            kept: vec![
                AppendOnly,
                NoFork,
                NoGaps,
                AtMostOnce,
                AckedDurable,
                NoPhantoms,
                AccountedFor,
                Authentic,
                TrustedPeers,
                FaithfulReads,
                RealTimeOrder,
                NoSilentCorruption,
                StaysUp,
                StopsWhenAsked,
                DeadlinesKept,
                Recovers,
                BoundedMemory,
            ],
            declined: Vec::new(),
            may_repeat: None,
        }
    }

    fn can_suffer(&self, _fault: &str) -> Result<(), Cow<'static, str>> {
        Ok(())
    }

    fn revisions(&self) -> &[&str] {
        Revision::NAMES
    }

    fn sizes(&self) -> Sizes {
        // An entry of the workload is the detail of an event, and the event is the payload.
        let entry_max = (PAYLOAD_BYTES_MAX - EVENT_ROOM) as u64;
        Sizes { entry_max, payload_max: PAYLOAD_BYTES_MAX as u64, segment: SEGMENT_BYTES }
    }

    fn explored(&self) -> Explored {
        Explored {
            servers: vec![1, 3, 3, 5],
            leader: true,
            renewals: true,
            dead_letters: true,
            paths: vec!["journal/", "journal/segments/", "checkpoint", "vote"],
            client_paths: vec!["outbox/"],
            moments: MOMENTS.to_vec(),
            marks: vec![&gapless_log::marks::TABLE, &gapless_world::marks::TABLE],
            ..Explored::default()
        }
    }

    fn prepare(&mut self, servers: &[Name], _clients: &[Name]) -> Result<(), Failure> {
        if servers.len() > 1 {
            self.cosigners = servers.iter().map(|_| Arc::new(SigningKey::generate())).collect();
        }
        let key = SigningKey::generate();
        let mut log_id = [0; 16];
        // The id of the log is public; it only has to differ from that of any other log.
        log_id.copy_from_slice(&key.verifying_key().0[..16]);
        self.key = Arc::new(key).into();
        self.log_id = log_id.into();
        Ok(())
    }

    fn log_key(&self) -> Option<String> {
        self.note_key().ok().map(|key| key.to_string())
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let node = self.settings(&host)?;
        self.make_member(&host, &node).await?;
        let mut settings = ServeSettings::new(&node.log_id, node.node, host.listen_address(), host.identities());
        settings.operators = vec![OPERATOR.to_owned()];
        settings.revision = revision(&host)?;
        settings.reply_hook = host.reply_filter().cloned().map(|flip| ReplyHook::new(move |bytes| flip(bytes)));
        let (world, mut stop) = (host.world().clone(), pin!(host.stop_requested()));
        let serving = async {
            match serve::start(&world, &node, &settings, stop.as_mut()).await? {
                Some(node) => serve::serve(world.clone(), node, settings, stop).await.map(drop).map_err(Failure::from),
                None => Ok(()),
            }
        };
        tokio::select! {
            biased;
            served = serving => served?,
            never = renewing(host.clone()) => match never {},
        };
        Ok(())
    }

    async fn client(&self, host: Host) -> Result<Application, Failure> {
        let mut identities = host.identities();
        let settings = self.client_settings(&host, identities.borrow_and_update().clone())?;
        let revision = settings.revision;
        let client = AuditClient::open(host.world().clone(), settings).await?;
        let shown = client.clone();
        tokio::spawn(async move {
            while identities.changed().await.is_ok() {
                // An identity that cannot be used is ignored: the old one stays in use.
                let _ = shown.replace_identity(&identities.borrow_and_update());
            }
        });
        tokio::spawn(renewing(host));
        Ok(Application { client, revision })
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Findings) -> Result<(), Failure> {
        let mut identities = auditor.identities();
        let identity = identities.borrow_and_update().clone();
        let settings = self.reader_settings(&auditor, std::slice::from_ref(server), identity)?;
        let reader = LogReader::connect(auditor.world().clone(), settings)?;
        let checkpoint = reader.checkpoint().await?;
        found.checkpoint(checkpoint.size, &checkpoint.root);
        let mut counting = Counting::default();
        let mut next = 0;
        while next < checkpoint.size {
            if identities.has_changed().unwrap_or(false) {
                reader.replace_identity(&identities.borrow_and_update())?;
            }
            for (index, leaf) in reader.read(next).await? {
                found.note(counting.found(index.0, leaf));
                next = index.0 + 1;
            }
        }
        Ok(())
    }

    async fn ask_how_new(&self, reader: Host) {
        if reader.servers().len() < 2 {
            return; // no other server could know more
        }
        let mut identities = reader.identities();
        let identity = identities.borrow_and_update().clone();
        let servers = reader.servers().iter().map(std::slice::from_ref);
        let settings = servers.map(|server| self.reader_settings(&reader, server, identity.clone()));
        let Ok(settings) = settings.collect() else { return };
        newness::ask(reader.clone(), identities, settings).await;
    }

    async fn replace(&self, operator: Host, server: &Peer, machine: u32) -> Result<(), Failure> {
        let position = position(&operator, server.name())?;
        let new = self.member(&operator, position, machine).ok_or("a log of one has no members to replace")?;
        let (node, old) = (new.node, machine.checked_sub(1).ok_or("the first machine replaces nobody")?);
        let old = node_of(&operator, position, old);
        let servers = servers_of(operator.servers());
        let mut by = client::Operator::new(operator.world().clone(), operator.identities(), &self.note_key()?, servers);
        let after = by.bring_in(new, Some(old), REPLACE_MAX, |_| {}).await?;
        let counts = after.members.iter().any(|member| member.node == node && member.voter);
        match counts && !after.members.iter().any(|member| member.node == old) && !after.changing {
            true => Ok(()),
            false => Err(format!("node {node} is not in the place of node {old}: {after:?}").into()),
        }
    }

    async fn follow(&self, reader: Host, mut found: Findings) {
        let mut identities = reader.identities();
        let identity = identities.borrow_and_update().clone();
        let Ok(settings) = self.reader_settings(&reader, reader.servers(), identity) else { return };
        let Ok(mut tail) = Tail::new(reader.world().clone(), settings, 0) else { return };
        if reader.servers().len() > 1 {
            tail = tail.within(FOLLOWED_WITHIN);
        }
        let mut counting = Counting::default();
        let following = async {
            loop {
                tokio::select! {
                    biased;
                    Ok(()) = identities.changed() => {
                        let _ = tail.replace_identity(&identities.borrow_and_update());
                    }
                    // If a server cannot vouch for the log, or skips entries, the tail asks another one after a wait.
                    next = tail.next() => if let Ok((index, leaf)) = next {
                        found.note(counting.found(index.0, leaf));
                    },
                }
            }
        };
        tokio::select! {
            biased;
            () = following => {}
            never = renewing(reader.clone()) => match never {},
        }
    }
}

/// How long a follower of several servers waits for one before it turns to another.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

impl AuditLog {
    /// Makes the data folder of a machine a member, once: of a new log, or of the log that exists.
    async fn make_member(&self, host: &Host, settings: &NodeSettings) -> Result<(), Failure> {
        let this = (Name::from(host.name()), host.machine());
        if self.members.lock().unwrap_or_else(PoisonError::into_inner).contains(&this) {
            return Ok(());
        }
        match host.machine() {
            0 => cluster::init(host.world(), settings, &self.founders(host)).await?,
            _ => cluster::join(host.world(), settings).await?,
        }
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push(this);
        Ok(())
    }
}

/// Returns the node of a machine of a server. No two machines ever share a node.
fn node_of(host: &Host, position: usize, machine: u32) -> u64 {
    (position + 1) as u64 + u64::from(machine) * host.servers().len() as u64
}

fn position(host: &Host, name: &str) -> Result<usize, Failure> {
    let position = host.servers().iter().position(|server| server.name() == name);
    Ok(position.ok_or("only a server serves")?)
}

/// Renews the certificate of the host, if the scenario has an issuer. A renewed certificate shows up in
/// `Host::identities`, where servers, clients and readers pick it up like anything else that is installed.
async fn renewing(host: Host) -> Infallible {
    let Some(renewal) = host.renewal() else { return std::future::pending().await };
    let issuer = Server { address: renewal.issuer.address(), tls_name: renewal.issuer.name().to_owned() };
    let settings = RenewSettings::new(issuer, renewal.issuer_ca_pem, renewal.before);
    let (world, identities): (_, watch::Receiver<Identity>) = (host.world().clone(), host.identities());
    let keep = Box::new(move |identity| host.install(identity));
    Renewer::new(world, settings, identities, renewal.now, keep).run().await
}

/// Returns the revision that a host runs.
fn revision(host: &Host) -> Result<Revision, Failure> {
    let named = Revision::named(host.revision());
    Ok(named.ok_or_else(|| format!("this log has no revision `{}`", host.revision()))?)
}

/// An application that appends. It writes events of its own revision, with the bytes of the workload as their detail.
///
/// A log that decoded events and encoded them again would drop the fields that it does not know, and would be found
/// out.
pub struct Application {
    client: AuditClient,
    revision: Revision,
}

impl Application {
    /// Returns the entry as an event of this revision.
    fn event(&self, entry: &Entry) -> Bytes {
        let (actor, action) = (entry.client().to_owned(), "read".to_owned());
        let (number, detail) = (entry.id().number, entry.bytes().clone());
        let event = match self.revision {
            Revision::Previous => {
                let outcome = previous::audit_event::Outcome::Succeeded.into();
                previous::AuditEvent { actor, action, outcome, detail }.encode_to_vec()
            }
            Revision::Current => {
                let (resource, outcome) = (format!("record/{number}"), audit_event::Outcome::Denied.into());
                wire::AuditEvent { actor, action, resource, outcome, detail }.encode_to_vec()
            }
            Revision::Next => {
                let (resource, outcome) = (format!("record/{number}"), next::audit_event::Outcome::Partly.into());
                let trace = format!("{actor}/{number}");
                next::AuditEvent { actor, action, resource, outcome, trace, detail }.encode_to_vec()
            }
            Revision::Breaking => {
                let outcome = "partly".to_owned();
                breaking::AuditEvent { actor, action, record: number, outcome, detail }.encode_to_vec()
            }
        };
        event.into()
    }
}

impl Client for Application {
    async fn append(&self, entry: &Entry) -> Outcome {
        match self.client.append(self.event(entry)).await {
            Ok(Delivered::Receipt(receipt)) => Outcome::Acked { at: Some(receipt.index.0) },
            Ok(Delivered::DeadLetter { reason }) => Outcome::Refused { why: reason },
            Ok(Delivered::Owed) => Outcome::Unknown { why: "owed: the client ended first".to_owned() },
            Err(error @ ClientError::Oversize { .. }) => Outcome::Refused { why: error_chain(&error) },
            Err(error) => Outcome::Unknown { why: error_chain(&error) },
        }
    }

    async fn failed(&self) -> Failure {
        match self.client.failed().await {
            Some(why) => why.into(),
            None => std::future::pending().await, // closed by its owner
        }
    }

    async fn held(&self) -> Result<Held, Failure> {
        let letters = self.client.dead_letters().await?;
        Ok(Held {
            outbox: self.client.outstanding().await?,
            dead_letters: letters.into_iter().map(|letter| letter.payload()).collect(),
        })
    }
}

/// Returns where the members of a cluster are found.
fn contacts(host: &Host) -> Vec<Contact> {
    let contact =
        |(node, server): (u64, &Peer)| Contact { node, name: server.name().to_owned(), address: server.address() };
    (1..).zip(host.servers()).map(contact).collect()
}

fn servers_of(peers: &[Peer]) -> Vec<Server> {
    let server = |peer: &Peer| Server { address: peer.address(), tls_name: peer.name().to_owned() };
    peers.iter().map(server).collect()
}

/// Returns the bytes of the workload in an event of any revision. They are found by the number of the field, so that
/// nothing else in the event has to be understood. A payload that is not an event stands for itself.
fn detail(payload: &Bytes) -> Bytes {
    bytes_of_field(payload, EVENT_DETAIL).map_or_else(|| payload.clone(), |detail| payload.slice_ref(detail))
}

/// Which entries count, derived from the log alone: for each client, the next entry of its newest epoch. This is the
/// reader's own account of what the servers decided.
#[derive(Default)]
struct Counting {
    clients: BTreeMap<ClientId, (Epoch, Sequence)>,
}

impl Counting {
    fn found(&mut self, position: u64, leaf: Bytes) -> Found {
        let mut found = Found {
            position,
            entry: None,
            counts: false,
            numbered: None,
            bytes: Bytes::new(),
            leaf: Some(Findings::leaf(leaf.clone())),
        };
        let Ok(Leaf { content: Content::Entry(signed), .. }) = Leaf::decode(leaf) else { return found };
        let entry = signed.entry();
        found.counts = self.counts(&entry.client, entry.epoch, entry.sequence, &entry.body);
        found.numbered = Some((entry.client.as_str().into(), entry.epoch.0, entry.sequence.0));
        if let Body::Event(payload) = &entry.body {
            found.entry = EntryId::find(payload);
            found.bytes = detail(payload);
        }
        found
    }

    fn counts(&mut self, client: &ClientId, epoch: Epoch, sequence: Sequence, body: &Body) -> bool {
        let known = self.clients.get(client).copied();
        let opens = matches!(body, Body::EpochOpened { .. }) && sequence.0 == 0;
        let is_next = match known {
            _ if opens => known.is_none_or(|(newest, _)| epoch > newest),
            Some((newest, next)) => epoch == newest && sequence == next,
            None => false,
        };
        if is_next {
            self.clients.insert(client.clone(), (epoch, Sequence(sequence.0 + 1)));
        }
        is_next
    }
}
