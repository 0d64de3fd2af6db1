//! `longhaul dev`: a server, a sample worker, and commands to try.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::output;
use super::place::{PlaceArgs, environment};
use super::serve::{run_server, serve, shutdown_signals};
use crate::config::{Config, Overrides, TlsOverrides, WebhooksOverrides};
use crate::worker::demo;

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Delete all data at the end
    #[arg(long, conflicts_with = "store")]
    ephemeral: bool,
}

pub(super) fn run(args: &DevArgs) -> anyhow::Result<()> {
    let environment = environment();
    // Plain text, which the sample worker and the commands to try speak.
    let mut overrides = Overrides { tls: TlsOverrides::off(), ..args.place.overrides() };
    overrides.webhooks = Some(WebhooksOverrides::of_this_machine());
    // It is deleted when this goes out of scope.
    let folder = args.ephemeral.then(tempfile::tempdir).transpose().context("no place for data")?;
    if let Some(folder) = &folder {
        overrides.store = Some(format!("embedded:{}", folder.path().display()));
    } else if overrides.store.is_none() && !environment.contains_key("LONGHAUL_STORE") {
        overrides = Overrides {
            store: Some(format!("embedded:{}", data_directory()?.display())),
            ..overrides
        };
    }
    let config = Config::load(None, &environment, &overrides)?;
    run_server(&config, async {
        let shutdown = shutdown_signals()?;
        let stop = shutdown.clone();
        serve(&config, shutdown, |address| async move {
            let client = demo::connect(address).await?;
            output::note(&welcome(address, args.ephemeral));
            demo::work(&client, stop.cancelled_owned()).await
        })
        .await
    })
}

/// A separate directory, so that `dev` never opens the data of a real server.
fn data_directory() -> anyhow::Result<PathBuf> {
    let base = match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
        (Some(data), _) if !data.is_empty() => PathBuf::from(data),
        (_, Some(home)) => PathBuf::from(home).join(".local/share"),
        _ => anyhow::bail!(
            "no HOME to keep the data of `dev` in; name a place with --store embedded:PATH"
        ),
    };
    let path = base.join("longhaul/dev");
    std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// No command has an id, so that each works again although the earlier operations still exist.
fn welcome(address: SocketAddr, ephemeral: bool) -> String {
    let usual = address == SocketAddr::from((Ipv4Addr::LOCALHOST, 50051));
    let flag = if usual { String::new() } else { format!(" --server {address}") };
    let data = if ephemeral { "deletes" } else { "keeps" };
    format!(
        r#"
longhaul is ready at {address}; a sample worker waits on queue "demo" and takes about five seconds.

Start an operation, and watch it:
  longhaul start --queue demo --request '{{"hello": "world"}}' --watch{flag}
  longhaul list{flag}

Start one, and say later what to do with it, by the name that start prints:
  NAME=$(longhaul start --queue demo{flag})
  longhaul watch $NAME{flag}
  longhaul record $NAME{flag}

Let a program of yours do the work of another queue:
  longhaul work --queue mine{flag} -- sh -c 'echo progress 0.5 half way; sleep 2; cat'
  longhaul start --queue mine --request '{{"n": 1}}' --wait{flag}

The same with grpcurl, as any gRPC client would:
  grpcurl -plaintext -d '{{"queue": "demo"}}' {address} longhaul.v1.Producers/StartOperation
  grpcurl -plaintext -d "{{\"name\": \"$NAME\"}}" {address} longhaul.v1.Callers/WatchOperation
  grpcurl -plaintext {address} google.longrunning.Operations/ListOperations

The same with curl, as JSON over HTTP (http://{address}/docs has all routes):
  curl -i --json '{{"queue": "demo"}}' http://{address}/v1/operations:start
  curl -i -H 'Prefer: wait=30' http://{address}/v1/$NAME
  curl -H 'Accept: text/event-stream' http://{address}/v1/$NAME:watch
  curl http://{address}/v1/$NAME/result

Callbacks may go to this machine, over http too, and `longhaul webhook listen` prints them; a server that is not `dev` calls public
https addresses only.

Ctrl-C stops the server and {data} its operations.
"#
    )
}
