//! `longhaul proto`.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::output;
use crate::proto::SOURCES;

/// What `proto` takes.
#[derive(Debug, Args)]
pub(super) struct ProtoArgs {
    /// The folder to write to, for protoc's --proto_path
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &ProtoArgs) -> anyhow::Result<()> {
    for (name, text) in SOURCES {
        let path = args.out.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::note(&format!(
        "wrote {} definitions to {}; stubs are to be made of longhaul/v1/*.proto",
        SOURCES.len(),
        args.out.display()
    ));
    Ok(())
}
