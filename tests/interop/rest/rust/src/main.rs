//! Google's own crates for operations, over REST: rest-caller SERVER COMMAND NAME. `tests/interop/rest_tests.py` runs it.

use std::sync::Arc;
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::Result;
use google_cloud_gax::error::Error;
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_gax::polling_error_policy::Aip194Strict;
use google_cloud_longrunning::client::Operations;
use google_cloud_lro::internal::{Operation, new_poller};
use google_cloud_lro::{Poller, PollingResult};
use google_cloud_type::model::{Fraction, Money};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, command, name] = &arguments[..] else { panic!("SERVER COMMAND NAME") };
    // Without one the client does not start, although it speaks plain text here.
    rustls::crypto::ring::default_provider().install_default().expect("the only provider");
    let builder = Operations::builder()
        .with_endpoint(format!("http://{server}"))
        .with_credentials(anonymous::Builder::new().build());
    let client = builder.build().await.expect("a client");
    if let Err(error) = run(&client, command, name).await {
        println!("{}", line(&error));
    }
}

async fn run(client: &Operations, command: &str, name: &str) -> Result<()> {
    match command {
        "get" => {
            let operation = client.get_operation().set_name(name).send().await?;
            let state = if operation.done { "done" } else { "running" };
            println!("{} {state}", operation.name);
        }
        "list" => {
            let listing = client.list_operations().set_name("operations").set_filter(name);
            let mut listed = listing.set_page_size(2).by_item();
            while let Some(operation) = listed.next().await {
                println!("{}", operation?.name);
            }
        }
        "cancel" => {
            client.cancel_operation().set_name(name).send().await?;
            println!("ok");
        }
        "delete" => {
            client.delete_operation().set_name(name).send().await?;
            println!("ok");
        }
        "result" => result(client, name).await?,
        _ => panic!("no command {command}"),
    }
    Ok(())
}

/// Polls as generated clients do; their start has returned the operation.
async fn result(client: &Operations, name: &str) -> Result<()> {
    let get = |client: Operations, name: String| async move {
        client.get_operation().set_name(name).send().await.map(Operation::<Money, Fraction>::new)
    };
    let backoff = ExponentialBackoffBuilder::new()
        .with_initial_delay(Duration::from_millis(20))
        .with_maximum_delay(Duration::from_millis(200))
        .build()
        .expect("a backoff");
    let (started, polled, name) = (client.clone(), client.clone(), name.to_owned());
    let mut poller = new_poller(
        Arc::new(Aip194Strict),
        Arc::new(backoff),
        move || get(started, name),
        move |name| get(polled.clone(), name),
    );
    let mut last = None;
    while let Some(polled) = poller.poll().await {
        match polled {
            PollingResult::InProgress(metadata) => {
                let share = metadata.map(|it| format!("{}/{}", it.numerator, it.denominator));
                if share != last {
                    println!("metadata {}", share.as_deref().unwrap_or("none"));
                    last = share;
                }
            }
            PollingResult::PollingError(error) => return Err(error),
            PollingResult::Completed(result) => {
                let price = result?;
                println!("result {} {}", price.currency_code, price.units);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn line(error: &Error) -> String {
    match error.status() {
        Some(status) => format!("error {} {}", status.code.name(), status.message),
        None => format!("no status: {error}"),
    }
}
