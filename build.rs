//! Compiles `proto/` with protox, so that no `protoc` has to be installed, and keeps the descriptor set for the
//! reflection service and for the schema fingerprint.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["gapless/audit/v1/audit.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("audit.v1.bin"), prost_bytes(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-env=GAPLESS_SOURCE={:016x}", digest(Path::new("src"), FNV_OFFSET)?);
    Ok(())
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over all source files: a seed holds for one build, and this tells builds apart.
fn digest(folder: &Path, mut hash: u64) -> io::Result<u64> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash = digest(&path, hash)?;
            continue;
        }
        for byte in fs::read(&path)? {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Ok(hash)
}

fn prost_bytes(descriptors: &impl protox::prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
