//! Works on queue `hello` until it is stopped: `cargo run --example rust-worker [SERVER]`.

use std::time::Duration;

use longhaul::client::Client;
use longhaul::clock::{Clock, SystemClock};
use longhaul::proto::longhaul::v1::Progress;
use longhaul::worker::{Context, Json, Stop, Worker};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Greeting {
    name: String,
}

#[derive(Serialize)]
struct Greeted {
    greeting: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let client = Client::connect(&server).await?;
    let worker = Worker::builder(client).queue("hello").handler("greet", greet).concurrency(8);
    worker.run_until(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}

async fn greet(context: Context, Json(request): Json<Greeting>) -> Result<Json<Greeted>, Stop> {
    for step in 1..=STEPS {
        SystemClock::new().sleep(STEP).await;
        context.progress(Progress::units(step, STEPS, "steps").saying(format!("step {step}")));
        // The operation may have been cancelled.
        context.check()?;
    }
    Ok(Json(Greeted { greeting: format!("hello {}", request.name) }))
}

const STEPS: i64 = 5;
const STEP: Duration = Duration::from_millis(300);
