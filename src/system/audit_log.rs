//! This crate's own audit log as a system under test.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;

use super::{Client, Entry, Failure, Findings, Held, Host, Name, Outcome, Peer, Promise, Promises, System};
use crate::{
    audit::{
        calls::error_chain,
        client::{self, AuditClient, ClientSettings, Delivered, LogReader, ReaderSettings, Tail},
        cluster::{self, Node, NodeSettings},
        leaf::{Body, ClientId, Content, Epoch, Leaf, Sequence},
        note::{NoteKey, SigningKey},
        serve::{self, ReplyHook, ServeSettings},
    },
    history::{EntryId, Found},
    scenario::Call,
};

/// The origin line of the simulated log's checkpoints.
const ORIGIN: &str = "gapless.example/audit";

/// The audit log of this crate, with nothing replaced.
#[derive(Default)]
pub struct AuditLog {
    key: OnceLock<Arc<SigningKey>>,
    log_id: OnceLock<[u8; 16]>,
    /// Servers whose data folder was made a member: an explicit act, once.
    members: Mutex<Vec<Name>>,
}

impl AuditLog {
    fn settings(&self, host: &Host) -> Result<NodeSettings, Failure> {
        let key = self.key.get().ok_or("the log was not prepared")?.clone();
        let log_id = *self.log_id.get().ok_or("the log was not prepared")?;
        let position = host.servers().iter().position(|server| server.name() == host.name());
        let node = position.ok_or("only a server serves")? as u64 + 1;
        Ok(NodeSettings {
            origin: ORIGIN.to_owned(),
            log_id,
            node,
            signing_key: key,
            limits: cluster::Limits::default(),
        })
    }

    fn note_key(&self) -> Result<NoteKey, Failure> {
        let key = self.key.get().ok_or("the log was not prepared")?.verifying_key();
        Ok(NoteKey { name: ORIGIN.to_owned(), key })
    }

    fn reader_settings(&self, host: &Host, servers: &[Peer]) -> Result<ReaderSettings, Failure> {
        let settings = self.client_settings(host)?;
        Ok(ReaderSettings { servers: servers_of(servers), ..ReaderSettings::from(&settings) })
    }

    fn client_settings(&self, host: &Host) -> Result<ClientSettings, Failure> {
        let name = ClientId::new(host.name())?;
        let servers = servers_of(host.servers());
        let mut settings = ClientSettings::new(name, servers, host.identity().clone(), self.note_key()?);
        settings.call = match host.call() {
            Call::Append => client::Call::Append,
            Call::AppendStream => client::Call::AppendStream,
        };
        Ok(settings)
    }
}

impl System for AuditLog {
    type Client = AuditClient;

    fn promises(&self) -> Promises {
        use Promise::*;
        Promises {
            kept: vec![
                AppendOnly,
                NoFork,
                NoGaps,
                AckedDurable,
                NoPhantoms,
                AccountedFor,
                Authentic,
                FaithfulReads,
                RealTimeOrder,
                DeadlinesKept,
                Recovers,
            ],
            declined: Vec::new(),
            may_repeat: None,
        }
    }

    fn can_suffer(&self, _fault: &str) -> Result<(), Cow<'static, str>> {
        Ok(())
    }

    fn servers_max(&self) -> u32 {
        1 // several would be several logs: they do not replicate
    }

    fn prepare(&mut self, _servers: &[Name], _clients: &[Name]) -> Result<(), Failure> {
        let key = SigningKey::generate();
        let mut log_id = [0; 16];
        // The log's id is public; it only has to differ from that of any other log.
        log_id.copy_from_slice(&key.verifying_key().0[..16]);
        self.key = Arc::new(key).into();
        self.log_id = log_id.into();
        Ok(())
    }

    fn log_key(&self) -> Option<String> {
        self.note_key().ok().map(|key| key.to_string())
    }

    async fn serve(&self, host: Host) -> Result<(), Failure> {
        let settings = self.settings(&host)?;
        let is_member = |members: &Vec<Name>| members.iter().any(|name| **name == *host.name());
        if !is_member(&self.members.lock().unwrap_or_else(PoisonError::into_inner)) {
            cluster::init(host.world(), &settings).await?;
            self.members.lock().unwrap_or_else(PoisonError::into_inner).push(host.name().into());
        }
        let (log_id, id) = (settings.log_id, settings.node);
        let node = Node::start(host.world().clone(), settings).await?;
        let identity = host.identity().clone().fixed();
        let mut settings = ServeSettings::new(&log_id, id, host.listen_address(), identity);
        settings.reply_hook = host.reply_filter().cloned().map(|flip| ReplyHook::new(move |bytes| flip(bytes)));
        serve::serve(host.world().clone(), node, settings, host.stop_requested()).await?;
        Ok(())
    }

    async fn client(&self, host: Host) -> Result<AuditClient, Failure> {
        let settings = self.client_settings(&host)?;
        Ok(AuditClient::open(host.world().clone(), settings).await?)
    }

    async fn read_back(&self, auditor: Host, server: &Peer, found: &mut Findings) -> Result<(), Failure> {
        let settings = self.reader_settings(&auditor, std::slice::from_ref(server))?;
        let reader = LogReader::connect(auditor.world().clone(), settings)?;
        let checkpoint = reader.checkpoint().await?;
        found.checkpoint(checkpoint.size, &checkpoint.root);
        let mut counting = Counting::default();
        let mut next = 0;
        while next < checkpoint.size {
            for (index, leaf) in reader.read(next).await? {
                found.note(counting.found(index.0, leaf));
                next = index.0 + 1;
            }
        }
        Ok(())
    }

    async fn follow(&self, reader: Host, mut found: Findings) {
        let Ok(settings) = self.reader_settings(&reader, reader.servers()) else { return };
        let Ok(mut tail) = Tail::new(reader.world().clone(), settings, 0) else { return };
        let mut counting = Counting::default();
        while let Ok((index, leaf)) = tail.next().await {
            found.note(counting.found(index.0, leaf));
        }
    }
}

impl Client for AuditClient {
    async fn append(&self, entry: &Entry) -> Outcome {
        match AuditClient::append(self, entry.bytes().clone()).await {
            Ok(Delivered::Receipt(receipt)) => Outcome::Acked { at: Some(receipt.index.0) },
            Ok(Delivered::DeadLetter { reason }) => Outcome::Refused { why: reason },
            Ok(Delivered::Owed) => Outcome::Unknown { why: "owed: the client ended first".to_owned() },
            Err(error) => Outcome::Unknown { why: error_chain(&error) },
        }
    }

    async fn held(&self) -> Result<Held, Failure> {
        let letters = self.dead_letters().await?;
        Ok(Held {
            outbox: self.outstanding().await?,
            dead_letters: letters.into_iter().map(|letter| letter.payload()).collect(),
        })
    }
}

fn servers_of(peers: &[Peer]) -> Vec<client::Server> {
    let server = |peer: &Peer| client::Server { address: peer.address(), tls_name: peer.name().to_owned() };
    peers.iter().map(server).collect()
}

/// Which entries count, told from the log alone: per client the next of its newest epoch. The reader's own account of
/// what the servers decided.
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
            found.bytes = payload.clone();
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
