//! Compiles the protobuf definitions without a protoc on the machine.

fn main() {
    let files = ["dfs/v1/frame.proto"];
    let descriptors = protox::compile(files, ["proto"]).expect("the definitions compile");
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)
        .expect("the generated code can be written");
    println!("cargo::rerun-if-changed=proto");
}
