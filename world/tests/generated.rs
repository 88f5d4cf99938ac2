//! What is kept of the contract of certificate issuers is what the contract generates.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::{env, fs, path::Path};

/// If this environment variable is set, the test writes what the contract generates.
const WRITE: &str = "GAPLESS_WRITE_GENERATED";

#[test]
fn the_contract_generates_what_is_kept() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, name) = (tempfile::tempdir().unwrap(), "gapless.issuer.v1.rs");
    let contract = protox::compile(["gapless/issuer/v1/issuer.proto"], [package.join("proto")]).unwrap();
    tonic_prost_build::configure().bytes(".").out_dir(folder.path()).compile_fds(contract).unwrap();
    let generated = fs::read_to_string(folder.path().join(name)).unwrap();
    let kept = package.join("src/generated").join(name);
    if env::var_os(WRITE).is_some() {
        fs::write(&kept, &generated).unwrap();
    }
    assert!(
        fs::read_to_string(&kept).is_ok_and(|kept| kept == generated),
        "{} is not what the contract generates: write it with `{WRITE}=1 cargo test -p gapless-world --test generated`",
        kept.display()
    );
}
