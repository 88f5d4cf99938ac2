//! Reads from protobuf descriptors what reaches the wire. The descriptors may come from a stranger.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use super::{DESCRIPTORS_BYTES_MAX, EVENT, Field, Method, SERVICE, Schema, SchemaError};

pub(super) fn read(descriptors: &[u8]) -> Result<Schema, SchemaError> {
    if descriptors.len() > DESCRIPTORS_BYTES_MAX {
        return Err(SchemaError::TooLarge { bytes: descriptors.len() });
    }
    let set = FileDescriptorSet::decode(descriptors).map_err(|why| SchemaError::Unreadable(why.to_string()))?;
    let defined = Defined::of(&set)?;
    let mut schema = Schema { messages: BTreeMap::new(), enums: BTreeMap::new(), methods: BTreeMap::new() };
    let service = defined.services.get(SERVICE).ok_or_else(|| SchemaError::Undefined(SERVICE.to_owned()))?;
    let mut open = vec![EVENT.to_owned()];
    for method in &service.method {
        let (takes, gives) = (full(method.input_type())?, full(method.output_type())?);
        open.extend([takes.clone(), gives.clone()]);
        let (takes_stream, gives_stream) = (method.client_streaming(), method.server_streaming());
        once(&mut schema.methods, name(method.name())?, Method { takes, gives, takes_stream, gives_stream })?;
    }
    while let Some(next) = open.pop() {
        if schema.messages.contains_key(&next) || schema.enums.contains_key(&next) {
            continue;
        }
        if let Some(message) = defined.messages.get(&next) {
            let fields = fields(&next, message)?;
            open.extend(fields.values().map(|field| field.kind.clone()).filter(|kind| kind.contains('.')));
            schema.messages.insert(next, fields);
        } else if let Some(values) = defined.enums.get(&next) {
            schema.enums.insert(next, values_of(values)?);
        } else {
            return Err(SchemaError::Undefined(next));
        }
    }
    Ok(schema)
}

/// Everything that a set of files defines, by its full name.
#[derive(Default)]
struct Defined<'d> {
    services: BTreeMap<String, &'d ServiceDescriptorProto>,
    messages: BTreeMap<String, &'d DescriptorProto>,
    enums: BTreeMap<String, &'d EnumDescriptorProto>,
}

impl<'d> Defined<'d> {
    fn of(set: &'d FileDescriptorSet) -> Result<Self, SchemaError> {
        let mut defined = Defined::default();
        // Nested messages are read without recursion, because the sender chooses their depth.
        let mut open: Vec<(String, &DescriptorProto)> = Vec::new();
        for file in &set.file {
            let package = file.package();
            for service in &file.service {
                once(&mut defined.services, within(package, service.name())?, service)?;
            }
            for value in &file.enum_type {
                once(&mut defined.enums, within(package, value.name())?, value)?;
            }
            for message in &file.message_type {
                open.push((within(package, message.name())?, message));
            }
        }
        while let Some((full, message)) = open.pop() {
            for value in &message.enum_type {
                once(&mut defined.enums, within(&full, value.name())?, value)?;
            }
            for inner in &message.nested_type {
                open.push((within(&full, inner.name())?, inner));
            }
            once(&mut defined.messages, full, message)?;
        }
        Ok(defined)
    }
}

fn fields(message: &str, of: &DescriptorProto) -> Result<BTreeMap<i32, Field>, SchemaError> {
    let mut fields = BTreeMap::new();
    for field in &of.field {
        let twice = || SchemaError::Twice(format!("field {} of {message}", field.number()));
        let oneof = match field.oneof_index {
            // `optional` is a oneof with a single field, which does not show on the wire.
            Some(_) if field.proto3_optional() => None,
            Some(index) => usize::try_from(index).ok().and_then(|index| of.oneof_decl.get(index)),
            None => None,
        };
        let read = Field {
            name: name(field.name())?,
            kind: kind(field)?,
            repeated: field.label() == Label::Repeated,
            oneof: oneof.map(|oneof| name(oneof.name())).transpose()?,
        };
        if fields.insert(field.number(), read).is_some() {
            return Err(twice());
        }
    }
    Ok(fields)
}

/// Returns a scalar's name as `.proto` files write it, or a full name, which always contains a dot.
fn kind(field: &FieldDescriptorProto) -> Result<String, SchemaError> {
    let scalar = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => return full(field.type_name()),
        Type::Double => "double",
        Type::Float => "float",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Fixed64 => "fixed64",
        Type::Fixed32 => "fixed32",
        Type::Bool => "bool",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Uint32 => "uint32",
        Type::Sfixed32 => "sfixed32",
        Type::Sfixed64 => "sfixed64",
        Type::Sint32 => "sint32",
        Type::Sint64 => "sint64",
    };
    Ok(scalar.to_owned())
}

fn values_of(of: &EnumDescriptorProto) -> Result<BTreeMap<i32, BTreeSet<String>>, SchemaError> {
    let mut values: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
    for value in &of.value {
        values.entry(value.number()).or_default().insert(name(value.name())?);
    }
    Ok(values)
}

/// Checks an identifier without dots.
fn name(name: &str) -> Result<String, SchemaError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match !name.is_empty() && name.bytes().all(fits) {
        true => Ok(name.to_owned()),
        false => Err(SchemaError::Name(name.chars().take(40).collect())),
    }
}

fn within(scope: &str, inner: &str) -> Result<String, SchemaError> {
    Ok(format!("{scope}.{}", name(inner)?))
}

/// Reads a reference as descriptors write it: from the root, with a leading dot.
fn full(reference: &str) -> Result<String, SchemaError> {
    let path = reference.strip_prefix('.').ok_or_else(|| SchemaError::Name(reference.chars().take(40).collect()))?;
    path.split('.').try_for_each(|part| name(part).map(|_| ()))?;
    match path.contains('.') {
        true => Ok(path.to_owned()),
        false => Err(SchemaError::Name(path.to_owned())),
    }
}

fn once<V>(map: &mut BTreeMap<String, V>, key: String, value: V) -> Result<(), SchemaError> {
    match map.insert(key.clone(), value) {
        None => Ok(()),
        Some(_) => Err(SchemaError::Twice(key)),
    }
}
