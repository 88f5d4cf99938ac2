//! Compiles the contract of certificate issuers in `proto/` with protox, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/gapless/issuer");
    let issuer = protox::compile(["gapless/issuer/v1/issuer.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(issuer)?;
    Ok(())
}
