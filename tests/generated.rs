//! What is kept of the contracts in `proto/` is what they generate. It is compiled with protox, so that no `protoc` has
//! to be installed.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use prost_types::{DescriptorProto, FileDescriptorSet};
use protox::prost::Message;
use tonic_prost_build::Builder;

/// If this environment variable is set, the test writes what the contracts generate.
const WRITE: &str = "GAPLESS_WRITE_GENERATED";

/// The contract of the log, of which there are several revisions.
const AUDIT: [&str; 2] = ["gapless/audit/v1/audit.proto", "gapless/audit/v1/event.proto"];
/// The contract between members, compiled separately: the descriptors and the fingerprint of the log's own contract do
/// not contain it.
const CLUSTER: [&str; 2] = ["gapless/cluster/v1/replication.proto", "gapless/cluster/v1/membership.proto"];
const ISSUER: [&str; 1] = ["gapless/issuer/v1/issuer.proto"];

#[test]
fn the_contracts_generate_what_is_kept() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (package, generate) in [("log", log as fn(&Path)), ("world", world)] {
        let (fresh, kept) = (tempfile::tempdir().unwrap(), root.join(package).join("generated"));
        generate(fresh.path());
        if env::var_os(WRITE).is_some() {
            let _ = fs::remove_dir_all(&kept);
            generate(&kept);
        }
        let (generated, names) = (files(fresh.path()), files(&kept));
        assert_eq!(names, generated, "the names in {}: {}", kept.display(), cure());
        for name in generated {
            let same = fs::read(kept.join(&name)).unwrap() == fs::read(fresh.path().join(&name)).unwrap();
            assert!(same, "{} is not what its contract generates: {}", kept.join(&name).display(), cure());
        }
    }
}

fn cure() -> String {
    format!("write it with `{WRITE}=1 cargo test --test generated`")
}

/// Returns the paths of all files in a folder, in order, relative to it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found
}

fn world(into: &Path) {
    generator(into).compile_fds(protox::compile(ISSUER, ["proto"]).unwrap()).unwrap();
}

/// Generates the code of the log, with the descriptor set of each revision for the reflection service and for the
/// exchange of schemas.
fn log(into: &Path) {
    generator(into).compile_fds(protox::compile(CLUSTER, ["proto"]).unwrap()).unwrap();
    let current = protox::compile(AUDIT, ["proto"]).unwrap();
    keep(&current, into);
    generator(into).compile_fds(current.clone()).unwrap();
    for revision in ["previous", "next", "breaking"] {
        let descriptors = protox::compile(AUDIT, [format!("proto/revisions/{revision}")]).unwrap();
        let into = into.join(revision);
        let mut build = generator(&into);
        keep(&descriptors, &into);
        for message in shared(&current, &descriptors) {
            let ours = format!("crate::wire::{message}");
            build = build.extern_path(format!(".gapless.audit.v1.{message}"), ours);
        }
        build.compile_fds(descriptors).unwrap();
    }
}

fn generator(into: &Path) -> Builder {
    fs::create_dir_all(into).unwrap();
    tonic_prost_build::configure().bytes(".").out_dir(into)
}

/// Writes only what reaches the wire: comments and positions in the source say nothing about it.
fn keep(descriptors: &FileDescriptorSet, into: &Path) {
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(into.join("audit.v1.bin"), bare.encode_to_vec()).unwrap();
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
