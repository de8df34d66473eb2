//! Compiles the messages between the planes; in Rust alone, so that nobody needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/push.proto");
    let files = protox::compile(["proto/push.proto"], ["proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes([".bulkhead.push.v1.Chunk.body", ".bulkhead.push.v1.File.contents"]);
    config.compile_fds(files)?;
    Ok(())
}
