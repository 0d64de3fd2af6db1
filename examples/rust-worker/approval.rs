//! Suspend and resume: a payment waits for a human's decision, for a minute or for a month, and holds no worker meanwhile.
//!
//! `cargo run --example approval [SERVER]`, then:
//!
//!     longhaul start --queue payments --method pay --operation-id rent --request '{"to": "Ada", "euros": 700}'
//!     longhaul get operations/rent            # SUSPENDED, with what it waits for
//!     longhaul resume operations/rent --input '{"approved": true, "by": "Grace"}'
//!     longhaul wait operations/rent           # paid

use longhaul::client::Client;
use longhaul::worker::{Connection, Context, Json, Stop, Worker};
use serde::{Deserialize, Serialize};
use tonic::Code;

#[derive(Clone, Serialize, Deserialize)]
struct Payment {
    to: String,
    euros: f64,
}

/// The checkpoint while the operation is suspended.
#[derive(Serialize, Deserialize)]
struct Prepared {
    payment: Payment,
    reference: String,
}

#[derive(Deserialize)]
struct Decision {
    approved: bool,
    by: String,
}

#[derive(Serialize)]
struct Receipt {
    reference: String,
    approved_by: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let client = Client::connect(&server).await?;
    worker(client).run_until(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}

/// Pays what is approved.
pub(crate) fn worker(connection: impl Into<Connection>) -> Worker {
    Worker::builder(connection).queue("payments").handler("pay", pay)
}

/// Runs once to prepare the payment, and again after the decision: the checkpoint tells which.
async fn pay(context: Context, Json(payment): Json<Payment>) -> Result<Json<Receipt>, Stop> {
    let Some(Json(prepared)) = context.checkpoint::<Json<Prepared>>()? else {
        // Do costly work now and store it; the slot is free until a caller resumes the operation.
        let reference = format!("{} euros to {}", payment.euros, payment.to);
        return Err(ask(Prepared { payment, reference }));
    };
    let Some(Json(decision)) = context.resume_input::<Json<Decision>>()? else {
        // Resumed without a decision.
        return Err(ask(prepared));
    };
    if !decision.approved {
        let message = format!("declined by {}", decision.by);
        return Err(Stop::fail(Code::PermissionDenied, message).do_not_retry());
    }
    Ok(Json(Receipt { reference: prepared.reference, approved_by: decision.by }))
}

fn ask(prepared: Prepared) -> Stop {
    Stop::suspend(r#"a decision: resume with {"approved": true, "by": "NAME"} or false"#)
        .checkpoint(&Json(prepared))
}
