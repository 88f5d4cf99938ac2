//! Compiles the contracts of the log in `proto/` with protox, so that no `protoc` has to be installed, and keeps the
//! descriptor set of each revision for the reflection service and for the exchange of schemas. Revisions that only a
//! rehearsal speaks are compiled only with that feature.

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
};

use prost_types::{DescriptorProto, FileDescriptorSet};
use protox::prost::Message;

const FILES: [&str; 2] = ["gapless/audit/v1/audit.proto", "gapless/audit/v1/event.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Compiled separately, so that the descriptors and the fingerprint of the log's own contract do not contain it.
    let cluster = ["gapless/cluster/v1/replication.proto", "gapless/cluster/v1/membership.proto"];
    let cluster = protox::compile(cluster, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(cluster)?;
    let current = protox::compile(FILES, ["proto"])?;
    keep(&current, &out)?;
    tonic_prost_build::configure().bytes(".").compile_fds(current.clone())?;
    let rehearsed: &[&str] = if env::var_os("CARGO_FEATURE_REHEARSAL").is_some() { &["next", "breaking"] } else { &[] };
    for revision in ["previous"].iter().chain(rehearsed) {
        let descriptors = protox::compile(FILES, [format!("proto/revisions/{revision}")])?;
        let out = out.join(revision);
        fs::create_dir_all(&out)?;
        keep(&descriptors, &out)?;
        let mut build = tonic_prost_build::configure().bytes(".").out_dir(&out);
        for message in shared(&current, &descriptors) {
            let ours = format!("crate::wire::{message}");
            build = build.extern_path(format!(".gapless.audit.v1.{message}"), ours);
        }
        build.compile_fds(descriptors)?;
    }
    Ok(())
}

/// Writes only what reaches the wire: comments and positions in the source say nothing about it.
fn keep(descriptors: &FileDescriptorSet, out: &Path) -> io::Result<()> {
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("audit.v1.bin"), bare.encode_to_vec())
}

/// Returns the messages that a revision has in common with `current`, down to everything that they contain: one Rust
/// type stands for both.
fn shared(current: &FileDescriptorSet, revision: &FileDescriptorSet) -> Vec<String> {
    let messages = |set: &FileDescriptorSet| -> Vec<DescriptorProto> {
        set.file.iter().flat_map(|file| file.message_type.clone()).collect()
    };
    let (ours, theirs) = (messages(current), messages(revision));
    let mut differ: BTreeSet<String> =
        theirs.iter().filter(|message| !ours.contains(message)).map(|message| message.name().to_owned()).collect();
    loop {
        let holds_one = |message: &&DescriptorProto| {
            let types = message.field.iter().filter_map(|field| field.type_name().rsplit('.').next());
            !differ.contains(message.name()) && types.into_iter().any(|name| differ.contains(name))
        };
        let more: Vec<String> = theirs.iter().filter(holds_one).map(|message| message.name().to_owned()).collect();
        if more.is_empty() {
            break;
        }
        differ.extend(more);
    }
    theirs.iter().map(|message| message.name().to_owned()).filter(|name| !differ.contains(name)).collect()
}
