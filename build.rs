//! Tells builds apart: a seed holds for one build.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Everything from which the program and the log under test are made.
const SOURCES: [&str; 6] = ["Cargo.lock", "log/generated", "log/src", "src", "world/generated", "world/src"];

fn main() -> io::Result<()> {
    let mut hash = FNV_OFFSET;
    // Those of the other packages are not there where this one stands alone.
    for source in SOURCES.map(Path::new).into_iter().filter(|source| source.exists()) {
        println!("cargo:rerun-if-changed={}", source.display());
        hash = digest(source, hash)?;
    }
    println!("cargo:rustc-env=GAPLESS_SOURCE={hash:016x}");
    Ok(())
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over a file, or over all files of a folder.
fn digest(source: &Path, mut hash: u64) -> io::Result<u64> {
    if source.is_dir() {
        let entries = fs::read_dir(source)?.map(|entry| Ok(entry?.path()));
        let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort();
        return paths.iter().try_fold(hash, |hash, path| digest(path, hash));
    }
    for byte in fs::read(source)? {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Ok(hash)
}
