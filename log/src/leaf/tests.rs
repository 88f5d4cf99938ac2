//! The laws of the encoding: one encoding for each value, version 1 forever the same, and no bytes that panic.

use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn any_body() -> impl Strategy<Value = Body> {
    let previous = proptest::option::of((any::<u64>(), any::<u64>()).prop_map(|(e, s)| (Epoch(e), Sequence(s))));
    prop_oneof![
        (any::<[u8; 32]>(), previous)
            .prop_map(|(key, previous)| Body::EpochOpened { key: VerifyingKey(key), previous }),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|payload| Body::Event(payload.into())),
        (any::<[u8; 32]>(), ".{0,40}").prop_map(|(digest, reason)| Body::DeadLettered { digest, reason }),
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    ("[a-z0-9.-]{1,253}", any::<u64>(), any::<u64>(), any_body()).prop_map(|(client, epoch, sequence, body)| Entry {
        client: ClientId::new(&client).unwrap(),
        epoch: Epoch(epoch),
        sequence: Sequence(sequence),
        body,
    })
}

fn any_leaf() -> impl Strategy<Value = Leaf> {
    let content = prop_oneof![
        any_entry().prop_map(|entry| Content::Entry(entry.sign(&key()))),
        any::<u64>().prop_map(|node| Content::LeaderStarted { node }),
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| Content::Membership(bytes.into())),
        (any::<u64>(), any::<i64>()).prop_map(|(node, by_ms)| Content::ClockAnomaly { node, by_ms }),
    ];
    (any::<u64>(), any::<u64>(), any::<u32>(), content).prop_map(|(term, raft_index, position, content)| Leaf {
        term,
        raft_index,
        position,
        content,
    })
}

fn literal_entry() -> Entry {
    Entry {
        client: ClientId::new("a.example").unwrap(),
        epoch: Epoch(2),
        sequence: Sequence(3),
        body: Body::Event(Bytes::from_static(b"hi")),
    }
}

const LITERAL_ENTRY: &str = concat!(
    "6761706c6573732f656e7472792f763100",                               // domain
    "09612e6578616d706c65",                                             // client
    "0000000000000002",                                                 // epoch
    "0000000000000003",                                                 // sequence
    "02",                                                               // an event
    "00000000000000026869",                                             // its payload
    "e45278da2d128628a6568d9c79b6510209d82cf32a749b7d7c1a1f0f2f9884f1", // signature
    "06ddd9159286f4b5422957beaba14daac97cccb1ec7ec4cc9a727e1971c15903",
);

#[test]
fn the_bytes_of_version_1_never_change() {
    let signed = literal_entry().sign(&key());
    assert_eq!(hex(signed.bytes()), LITERAL_ENTRY);
    let leaf = Leaf { term: 4, raft_index: 5, position: 6, content: Content::Entry(signed) };
    let head = "6761706c6573732f6c6561662f763100\
        0000000000000004000000000000000500000006010000000000000076";
    assert_eq!(hex(&leaf.encode()), format!("{head}{LITERAL_ENTRY}"));
    let leaf = Leaf { term: 4, raft_index: 5, position: 6, content: Content::LeaderStarted { node: 7 } };
    let head = "6761706c6573732f6c6561662f763100\
        0000000000000004000000000000000500000006020000000000000008";
    assert_eq!(hex(&leaf.encode()), format!("{head}0000000000000007"));
}

#[test]
fn the_other_bodies_of_version_1_never_change() {
    let opened = |previous| Body::EpochOpened { key: VerifyingKey([0xaa; 32]), previous };
    assert_eq!(hex(&opened(None).encode()), format!("{}00", "aa".repeat(32)));
    let previous = opened(Some((Epoch(1), Sequence(9))));
    assert_eq!(hex(&previous.encode()), format!("{}0100000000000000010000000000000009", "aa".repeat(32)));
    let dead = Body::DeadLettered { digest: [0xbb; 32], reason: "too old".into() };
    assert_eq!(hex(&dead.encode()), format!("{}746f6f206f6c64", "bb".repeat(32)));
    assert_eq!([previous.kind(), literal_entry().body.kind(), dead.kind()], [1, 2, 3]);
}

#[test]
fn a_client_name_outside_its_bounds_is_refused() {
    for name in ["", "A", "a_b", "ä", "a b", &"a".repeat(254)] {
        assert!(ClientId::new(name).is_err(), "{name}");
        assert!(serde_json::from_value::<ClientId>(name.into()).is_err(), "{name}");
    }
    let client = ClientId::new("node-1.example").unwrap();
    assert_eq!(serde_json::to_value(&client).unwrap(), "node-1.example");
}

#[test]
fn an_error_says_what_was_wrong() {
    let whole = literal_entry().sign(&key()).bytes().clone();
    let longer = Bytes::from([&whole[..], b"x"].concat());
    let say = |bytes| SignedEntry::decode(bytes).unwrap_err().to_string();
    assert_eq!(say(whole.slice(..20)), "entry ends after 20 bytes");
    assert_eq!(say(longer), "entry: 1 bytes follow its end");
    assert_eq!(say(Bytes::from_static(&[0; 40])), "entry: it does not begin with the domain of version 1");
    assert_eq!(ClientId::new("A").unwrap_err().to_string(), "client: its name has `A`, which is none of `a-z 0-9 - .`");
}

#[test]
fn a_payload_over_the_servers_limit_still_decodes() {
    let body = Body::Event(vec![1; PAYLOAD_BYTES_MAX + 1].into());
    let signed = Entry { body, ..literal_entry() }.sign(&key());
    assert_eq!(SignedEntry::decode(signed.bytes().clone()).unwrap(), signed);
}

#[test]
fn the_largest_leaf_fits_an_entry_bundle() {
    let client = ClientId::new(&"a".repeat(CLIENT_BYTES_MAX)).unwrap();
    let body = Body::Event(vec![1; PAYLOAD_BYTES_MAX].into());
    let content = Content::Entry(Entry { client, body, ..literal_entry() }.sign(&key()));
    assert!(Leaf { term: 1, raft_index: 1, position: 0, content }.encode().len() <= 65_535);
}

proptest! {
    #[test]
    fn an_entry_is_read_as_it_was_written(entry in any_entry()) {
        let signed = entry.sign(&key());
        let decoded = SignedEntry::decode(signed.bytes().clone()).unwrap();
        prop_assert_eq!(decoded.entry(), &entry);
        prop_assert_eq!(decoded.digest(), signed.digest());
        prop_assert!(decoded.verify(&key().verifying_key()).is_ok());
        prop_assert!(decoded.verify(&SigningKey::from_seed(&[8; 32]).verifying_key()).is_err());
    }

    #[test]
    fn a_leaf_is_read_as_it_was_written(leaf in any_leaf()) {
        prop_assert_eq!(Leaf::decode(leaf.encode()).unwrap(), leaf);
    }

    #[test]
    fn an_entry_with_an_altered_byte_never_verifies(entry in any_entry(), at: usize, flip in 1u8..=255) {
        let mut bytes = entry.sign(&key()).bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(altered) = SignedEntry::decode(bytes.into()) {
            prop_assert!(altered.verify(&key().verifying_key()).is_err());
        }
    }

    #[test]
    fn a_cut_or_lengthened_encoding_is_refused(leaf in any_leaf(), at: usize, more in 1usize..9) {
        let bytes = leaf.encode();
        prop_assert!(Leaf::decode(bytes.slice(..at % bytes.len())).is_err());
        prop_assert!(Leaf::decode([&bytes[..], &vec![0; more]].concat().into()).is_err());
    }

    #[test]
    fn whatever_decodes_has_one_encoding(leaf in any_leaf(), at: usize, to: u8) {
        let mut bytes = leaf.encode().to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(decoded) = Leaf::decode(bytes.clone().into()) {
            prop_assert_eq!(decoded.encode(), &bytes);
            if let Content::Entry(signed) = decoded.content {
                let unsigned = signed.entry().encode_unsigned();
                prop_assert_eq!(&signed.bytes()[..signed.bytes().len() - SIGNATURE_BYTES], &unsigned[..]);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = SignedEntry::decode(bytes.clone().into());
        let _ = Leaf::decode(bytes.clone().into());
        let _ = SignedEntry::decode([ENTRY_DOMAIN, &bytes].concat().into());
        let _ = Leaf::decode([LEAF_DOMAIN, &bytes].concat().into());
    }
}
