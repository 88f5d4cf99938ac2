//! The rules of compatibility on small contracts, and how the four revisions relate to each other.

use prost::Message as _;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

use super::*;

fn set(revision: Revision) -> FileDescriptorSet {
    FileDescriptorSet::decode(revision.descriptors()).unwrap()
}

fn schema(set: &FileDescriptorSet) -> Schema {
    Schema::read(&set.encode_to_vec()).unwrap()
}

/// Returns `current` with one change.
fn changed(change: impl FnOnce(&mut FileDescriptorSet)) -> Schema {
    let mut set = set(Revision::Current);
    change(&mut set);
    schema(&set)
}

fn message<'s>(set: &'s mut FileDescriptorSet, name: &str) -> &'s mut prost_types::DescriptorProto {
    set.file.iter_mut().flat_map(|file| &mut file.message_type).find(|message| message.name() == name).unwrap()
}

fn field<'s>(set: &'s mut FileDescriptorSet, of: &str, name: &str) -> &'s mut prost_types::FieldDescriptorProto {
    message(set, of).field.iter_mut().find(|field| field.name() == name).unwrap()
}

fn judged(change: impl FnOnce(&mut FileDescriptorSet)) -> Result<(), String> {
    let (ours, theirs) = (schema(&set(Revision::Current)), changed(change));
    let there = compatible(&ours, &theirs);
    let back = compatible(&theirs, &ours);
    assert_eq!(there.is_ok(), back.is_ok(), "both ends judge alike");
    there.map_err(|why| why.to_string())
}

#[test]
fn every_revision_differs_and_only_breaking_is_incompatible() {
    let all: Vec<Schema> = Revision::ALL.iter().map(|revision| schema(&set(*revision))).collect();
    for (ours, one) in all.iter().zip(Revision::ALL.iter().copied()) {
        for (theirs, other) in all.iter().zip(Revision::ALL.iter().copied()) {
            assert_eq!(ours.fingerprint() == theirs.fingerprint(), one == other, "{one:?} {other:?}");
            let broken = one != other && [one, other].contains(&Revision::Breaking);
            assert_eq!(compatible(ours, theirs).is_err(), broken, "{one:?} {other:?}");
        }
    }
    let why = compatible(&all[1], &all[3]).unwrap_err().to_string();
    assert_eq!(
        why,
        "field 2 of `gapless.audit.v1.AppendRequest` is `uint64 known_size` here and `fixed64 known_size` there; give \
         what is new a new number"
    );
}

#[test]
fn names_of_roles_are_those_of_the_revisions() {
    let names: Vec<_> = Revision::ALL.iter().map(|revision| revision.name()).collect();
    assert_eq!(names, Revision::NAMES);
    assert!(Revision::ALL.iter().all(|revision| Revision::named(revision.name()) == Some(*revision)));
    assert_eq!(Revision::named("r2"), None);
}

#[test]
fn order_comments_and_what_is_out_of_reach_leave_the_fingerprint_alone() {
    let ours = schema(&set(Revision::Current)).fingerprint();
    let shuffled = changed(|set| {
        set.file.reverse();
        for file in &mut set.file {
            file.name = Some("elsewhere.proto".to_owned());
            file.message_type.reverse();
            file.service.iter_mut().for_each(|service| service.method.reverse());
            file.source_code_info = Some(Default::default());
        }
        let mut stranger = message(set, "Receipt").clone();
        stranger.name = Some("Stranger".to_owned());
        set.file[0].message_type.push(stranger);
    });
    assert_eq!(shuffled.fingerprint(), ours);
    let renumbered = changed(|set| field(set, "Receipt", "leaf").number = Some(9));
    assert_ne!(renumbered.fingerprint(), ours);
}

#[test]
fn what_only_one_end_has_is_fine() {
    assert_eq!(judged(|set| message(set, "Receipt").field.retain(|field| field.name() != "repeated")), Ok(()));
    assert_eq!(judged(|set| message(set, "AuditEvent").enum_type[0].value.truncate(2)), Ok(()));
    assert_eq!(
        judged(|set| set.file.iter_mut().for_each(|f| f.service.iter_mut().for_each(|s| s.method.truncate(3)))),
        Ok(())
    );
}

#[test]
fn a_number_that_stands_for_something_else_is_named_with_both_meanings() {
    let re_typed = judged(|set| field(set, "TailResponse", "index").r#type = Some(Type::Int64.into()));
    assert!(
        re_typed
            .unwrap_err()
            .starts_with("field 1 of `gapless.audit.v1.TailResponse` is `uint64 index` here and `int64 index` there")
    );
    let re_used = judged(|set| field(set, "AuditEvent", "actor").name = Some("session".to_owned()));
    assert!(re_used.unwrap_err().contains("is `string actor` here and `string session` there"));
    let repeated = judged(|set| {
        let label = prost_types::field_descriptor_proto::Label::Repeated;
        field(set, "AuditEvent", "action").label = Some(label.into());
    });
    assert!(repeated.unwrap_err().contains("`string action` here and `repeated string action` there"));
    let freed = judged(|set| field(set, "AppendResponse", "refusal").oneof_index = None);
    assert!(freed.unwrap_err().contains("is `oneof outcome gapless.audit.v1.Refusal refusal` here"));
    let value = judged(|set| message(set, "AuditEvent").enum_type[0].value[1].name = Some("GRANTED".to_owned()));
    assert_eq!(
        value.unwrap_err(),
        "value 1 of `gapless.audit.v1.AuditEvent.Outcome` is `SUCCEEDED` here and `GRANTED` there; give what is new a \
         new number"
    );
    let streams = judged(|set| {
        let methods = set.file.iter_mut().flat_map(|file| &mut file.service).flat_map(|service| &mut service.method);
        methods.for_each(|method| method.client_streaming = Some(false));
    });
    assert!(streams.unwrap_err().starts_with("method `AppendStream` is `(stream gapless.audit.v1.AppendRequest)"));
}

#[test]
fn an_optional_field_is_one_without_a_label_on_the_wire() {
    let optional = judged(|set| {
        let message = message(set, "TailRequest");
        message.oneof_decl.push(prost_types::OneofDescriptorProto { name: Some("_start".to_owned()), options: None });
        message.field[0].oneof_index = Some(0);
        message.field[0].proto3_optional = Some(true);
    });
    assert_eq!(optional, Ok(()));
}

#[test]
fn descriptors_of_a_stranger_are_refused_with_their_fault() {
    let read = |change: &dyn Fn(&mut FileDescriptorSet)| {
        let mut set = set(Revision::Current);
        change(&mut set);
        Schema::read(&set.encode_to_vec()).unwrap_err()
    };
    assert_eq!(Schema::read(&vec![0; DESCRIPTORS_BYTES_MAX + 1]).unwrap_err(), SchemaError::TooLarge { bytes: 65_537 });
    assert!(matches!(Schema::read(b"\xff\xff"), Err(SchemaError::Unreadable(_))));
    assert_eq!(Schema::read(b"").unwrap_err(), SchemaError::Undefined(SERVICE.to_owned()));
    let lacking = read(&|set| set.file.iter_mut().for_each(|f| f.message_type.retain(|m| m.name() != "Receipt")));
    assert_eq!(lacking, SchemaError::Undefined("gapless.audit.v1.Receipt".to_owned()));
    let twice = read(&|set| field(set, "Receipt", "leaf").number = Some(1));
    assert_eq!(twice, SchemaError::Twice("field 1 of gapless.audit.v1.Receipt".to_owned()));
    let named = read(&|set| field(set, "Receipt", "leaf").name = Some("leaf\nfield 3 string x".to_owned()));
    assert!(matches!(named, SchemaError::Name(_)));
}

#[test]
fn verdicts_are_reached_once_and_bounded() {
    let exchange = Exchange::new(Revision::Current).unwrap();
    assert_eq!(exchange.verdict(&exchange.fingerprint()), Some(Judged::Same));
    let next = schema(&set(Revision::Next)).fingerprint();
    assert_eq!(exchange.verdict(&next), None, "the build holds it, this end has not met it");
    let learnt = exchange.learn("next\n\u{1b}[31m", Revision::Next.descriptors()).unwrap();
    assert_eq!(learnt, (next, Judged::Compatible("next[31m".to_owned())));
    assert_eq!(exchange.verdict(&next), Some(learnt.1));
    for n in 0..=255 {
        exchange.remember(Fingerprint([n; 32]), Judged::Incompatible(String::new()));
    }
    assert_eq!(exchange.verdict(&next), None, "the oldest made room");
    assert!(exchange.verdict(&Fingerprint([255; 32])).is_some());
}

#[test]
fn a_fingerprint_reads_as_it_is_written() {
    let fingerprint = schema(&set(Revision::Current)).fingerprint();
    assert_eq!(Fingerprint::read(&fingerprint.to_string()), Some(fingerprint));
    for wrong in ["", "00", &"g".repeat(64), &"A".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
        assert_eq!(Fingerprint::read(wrong), None, "{wrong}");
    }
}

#[test]
fn a_field_is_found_by_its_number_whoever_wrote_the_message() {
    let event = wire::next::AuditEvent {
        actor: "client-1".to_owned(),
        outcome: wire::next::audit_event::Outcome::Partly.into(),
        trace: "t".to_owned(),
        detail: b"own bytes".as_slice().into(),
        ..Default::default()
    };
    let bytes = event.encode_to_vec();
    assert_eq!(bytes_of_field(&bytes, EVENT_DETAIL), Some(b"own bytes".as_slice()));
    assert_eq!(bytes_of_field(&bytes, 14), None);
    assert_eq!(bytes_of_field(&bytes[..bytes.len() - 1], EVENT_DETAIL), None, "cut off");
    assert_eq!(bytes_of_field(b"plain text", EVENT_DETAIL), None);
}

proptest::proptest! {
    #[test]
    fn nothing_that_a_stranger_sends_panics(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..300)) {
        let _ = Schema::read(&bytes);
        let _ = bytes_of_field(&bytes, EVENT_DETAIL);
    }
}
