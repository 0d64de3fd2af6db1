//! Arguments of commands that call a server, and the connection to it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit::Failure;
use super::{output, table};
use crate::client::{Client, read_server};
use crate::clock::{Clock, SystemClock};
use crate::types::Registry;

/// The server to call.
#[derive(Clone, Debug, Args)]
pub(super) struct ServerArg {
    /// The server
    #[arg(
        long = "server",
        default_value = "127.0.0.1:50051",
        env = "LONGHAUL_SERVER",
        value_name = "HOST:PORT",
        value_parser = read_server
    )]
    pub(super) address: String,
}

/// Message types besides the built-in ones.
#[derive(Clone, Debug, Args)]
pub(super) struct TypesArg {
    /// Descriptors of the message types of payloads (protoc --include_imports --descriptor_set_out=FILE); may be given
    /// several times
    #[arg(long = "descriptor-set", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

impl ServerArg {
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.address).await?)
    }
}

impl TypesArg {
    pub(super) fn registry(&self) -> Result<Registry, Failure> {
        Registry::load(&self.files).map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// The server, and the format of the output.
#[derive(Clone, Debug, Args)]
pub(super) struct Connection {
    #[command(flatten)]
    server: ServerArg,
    #[command(flatten)]
    types: TypesArg,
    /// Text is for people, proto3 JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

impl Connection {
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        self.server.connect().await
    }

    /// Connects, and waits for the server up to the timeout if there is one.
    pub(super) async fn connect_within(
        &self,
        patience: Option<Duration>,
    ) -> Result<Client, Failure> {
        let Some(patience) = patience else { return self.connect().await };
        let clock = SystemClock::new();
        let connected = async {
            let mut said = false;
            loop {
                match self.connect().await {
                    Ok(client) => return client,
                    Err(failure) if !said => {
                        output::note(&format!("longhaul: {}; trying again", failure.message()));
                        said = true;
                    }
                    Err(_) => {}
                }
                clock.sleep(PAUSE).await;
            }
        };
        tokio::select! {
            client = connected => Ok(client),
            () = clock.sleep(patience) => {
                let (server, patience) = (self.server(), table::span(patience));
                Err(Failure::NoAnswer(format!("no server answered at {server} within {patience}")))
            }
        }
    }

    pub(super) fn server(&self) -> &str {
        &self.server.address
    }

    /// The types that payloads are shown and read by.
    pub(super) fn types(&self) -> Result<Registry, Failure> {
        self.types.registry()
    }

    pub(super) fn wants_json(&self) -> bool {
        self.output == Output::Json
    }
}

/// Pause between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);
