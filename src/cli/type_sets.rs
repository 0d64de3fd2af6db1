//! `longhaul types`.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::connection::{Output, ServerArg};
use super::exit::Failure;
use super::{output, table};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::longhaul::v1::{
    CreateTypeSetRequest, DeleteTypeSetRequest, ListTypeSetsRequest, ListTypeSetsResponse, TypeSet,
};
use crate::types::Registry;

/// What `types` takes.
#[derive(Debug, Args)]
pub(super) struct TypeSetsArgs {
    #[command(subcommand)]
    command: TypeSetsCommand,
    #[command(flatten)]
    server: ServerArg,
    /// Text is for people, proto3 JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// What is done with type sets.
#[derive(Debug, Subcommand)]
enum TypeSetsCommand {
    /// Give the server a set of message types, for the operations of a parent and of all parents below it
    Create {
        /// The descriptors, with all imports (protoc --include_imports --descriptor_set_out=FILE)
        #[arg(long = "descriptor-set", value_name = "FILE")]
        file: PathBuf,
        /// The parent, such as projects/P; by default the root
        #[arg(long, default_value = "", hide_default_value = true, value_name = "PARENT")]
        parent: String,
        /// The id of the set; by default a UUID
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        id: String,
        /// Only check whether the set could be created
        #[arg(long)]
        validate_only: bool,
    },
    /// List type sets
    List {
        /// List only those of this parent, such as projects/P, projects/- or typeSets (the root). By default type sets of all
        /// parents are listed
        #[arg(long, default_value = "-", hide_default_value = true, value_name = "PARENT")]
        parent: String,
    },
    /// Show a type set and its messages
    Get {
        /// Full name of the set, such as typeSets/ID
        name: String,
        /// Write its descriptors to this file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Delete type sets; payloads of their types are kept and shown as bytes
    Delete {
        /// Full names of the sets
        #[arg(required = true)]
        names: Vec<String>,
        /// Delete only a set that has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

impl TypeSetsArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }

    fn show(&self, set: &TypeSet) {
        if self.output == Output::Json {
            output::message("longhaul.v1.TypeSet", set);
        } else {
            output::line(&set.name);
        }
    }
}

pub(super) async fn run(args: TypeSetsArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    match &args.command {
        TypeSetsCommand::Create { file, parent, id, validate_only } => {
            let set = fs::read(file)
                .with_context(|| format!("cannot read the descriptor set {}", file.display()))?;
            let type_set = Some(TypeSet { file_descriptor_set: set.into(), ..TypeSet::default() });
            let request = CreateTypeSetRequest {
                parent: parent.clone(),
                type_set_id: id.clone(),
                type_set,
                validate_only: *validate_only,
                ..CreateTypeSetRequest::default()
            };
            args.show(&client.create_type_set(request).await?);
        }
        TypeSetsCommand::List { parent } => {
            let mut request =
                ListTypeSetsRequest { parent: parent.clone(), ..ListTypeSetsRequest::default() };
            let mut all = Vec::new();
            loop {
                let page = client.list_type_sets(request.clone()).await?;
                all.extend(page.type_sets);
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            args.show_all(all);
        }
        TypeSetsCommand::Get { name, out } => {
            let set = client.get_type_set(name).await?;
            if let Some(out) = out {
                fs::write(out, &set.file_descriptor_set)
                    .with_context(|| format!("cannot write {}", out.display()))?;
            }
            args.show(&set);
            if args.output == Output::Text {
                for name in messages(&set) {
                    output::line(&format!("  {name}"));
                }
            }
        }
        TypeSetsCommand::Delete { names, etag } => {
            for name in names {
                let request = DeleteTypeSetRequest {
                    name: name.clone(),
                    etag: etag.clone(),
                    ..DeleteTypeSetRequest::default()
                };
                client.delete_type_set(request).await?;
                output::note(&format!("{name} is deleted"));
            }
        }
    }
    Ok(())
}

impl TypeSetsArgs {
    fn show_all(&self, type_sets: Vec<TypeSet>) {
        if self.output == Output::Json {
            let list = ListTypeSetsResponse { type_sets, next_page_token: String::new() };
            return output::message("longhaul.v1.ListTypeSetsResponse", &list);
        }
        if type_sets.is_empty() {
            return output::note("no type sets");
        }
        let width = type_sets.iter().map(|set| set.name.len()).max().unwrap_or_default().max(4);
        output::line(&format!("{:<width$}  MESSAGES  FILES  BYTES    AGE", "NAME"));
        let now = SystemClock::new().now();
        for set in type_sets {
            let created = set.create_time.as_ref().map(Timestamp::from).unwrap_or_default();
            let (name, messages, files) = (&set.name, set.message_count, set.file_count);
            let (bytes, age) = (set.size_bytes, table::span(now.since(created)));
            output::line(&format!("{name:<width$}  {messages:<8}  {files:<5}  {bytes:<7}  {age}"));
        }
    }
}

/// Full names of the messages of a set, those of built-in files left out.
fn messages(set: &TypeSet) -> Vec<String> {
    let builtin = Registry::builtin();
    let types = builtin.with(&set.file_descriptor_set).unwrap_or_else(|_| builtin.clone());
    let mut names: Vec<String> = types.names().filter(|name| !builtin.knows(name)).collect();
    names.sort_unstable();
    names
}
