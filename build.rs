//! Compiles `proto/` without protoc: protox reads the definitions, tonic-prost-build writes the Rust.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost_build::{Service, ServiceGenerator};

#[path = "build/comments.rs"]
mod comments;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    println!("cargo:rerun-if-changed=build/comments.rs");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();

    // The stored form is not part of the API.
    let stored = root.join("longhaul/store");
    let served: Vec<&Path> =
        files.iter().map(PathBuf::as_path).filter(|file| !file.starts_with(&stored)).collect();

    let mut compiler = compiler(root)?;
    compiler.include_source_info(true).open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("served.binpb"), encoded(root, &served)?)?;
    fs::write(out.join("stored.binpb"), encoded(root, &[&stored.join("v1/store.proto")])?)?;
    fs::write(out.join("sources.rs"), sources(root, &served)?)?;
    fs::write(out.join("comments.rs"), comments::written(&compiler.file_descriptor_set()))?;
    tonic_prost_build::Config::new()
        .bytes([".longhaul.store.v1", ".longhaul.v1.TypeSet"])
        // Its payload is shared, not copied.
        .extern_path(".google.protobuf.Any", "crate::proto::google::protobuf::Any")
        // Sorted, so that the same content always gives the same bytes.
        .btree_map(["."])
        .service_generator(Box::new(Services::new()))
        .compile_fds(compiler.file_descriptor_set())?;
    example(root)
}

/// Generates clients as usual, and servers that have a codec of their own and send encoded watch events.
struct Services {
    clients: Box<dyn ServiceGenerator>,
    servers: Box<dyn ServiceGenerator>,
}

impl Services {
    fn new() -> Self {
        let configure = tonic_prost_build::configure;
        Self {
            clients: configure().build_server(false).service_generator(),
            servers: configure()
                .build_client(false)
                .codec_path("crate::proto::codec::ServiceCodec")
                .service_generator(),
        }
    }
}

impl ServiceGenerator for Services {
    fn generate(&mut self, mut service: Service, buffer: &mut String) {
        self.clients.generate(service.clone(), buffer);
        for method in &mut service.methods {
            if matches!(&*method.proto_name, "WatchOperation" | "WatchOperations") {
                "crate::proto::encoded::Encoded".clone_into(&mut method.output_type);
            }
        }
        self.servers.generate(service, buffer);
    }
}

/// The API of `examples/facade`, compiled here because an example has no build script.
fn example(root: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new("examples/facade/proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut compiler = protox::Compiler::new([folder, root])?;
    compiler.include_source_info(true).open_file("library.proto")?;
    let mut config = tonic_prost_build::Config::new();
    // Its messages need their names for `StartOperation`.
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".google.longrunning", "::longhaul::proto::google::longrunning")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

fn compiler(root: &Path) -> Result<protox::Compiler, protox::Error> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true);
    Ok(compiler)
}

/// The definitions for reflection. Encoded by protox itself, since prost's own descriptor types would lose the HTTP annotations.
fn encoded(root: &Path, served: &[&Path]) -> Result<Vec<u8>, protox::Error> {
    let mut compiler = compiler(root)?;
    compiler.open_files(served)?;
    compiler.open_files(WELL_KNOWN)?;
    Ok(compiler.encode_file_descriptor_set())
}

/// The files that `longhaul proto` writes, as a Rust slice of paths and texts.
fn sources(root: &Path, served: &[&Path]) -> Result<String, Box<dyn std::error::Error>> {
    let here = env::current_dir()?;
    let mut list = String::from("&[\n");
    for file in served {
        let (name, text) = (file.strip_prefix(root)?, here.join(file));
        writeln!(list, "(r#\"{}\"#, include_str!(r#\"{}\"#)),", name.display(), text.display())?;
    }
    Ok(list + "]")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Served by reflection whether or not one of our definitions imports them, so that tools can show any payload.
const WELL_KNOWN: [&str; 11] = [
    "google/protobuf/any.proto",
    "google/protobuf/api.proto",
    "google/protobuf/descriptor.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/source_context.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/type.proto",
    "google/protobuf/wrappers.proto",
];
