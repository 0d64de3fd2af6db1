//! The Tic Tac Toe API of the OpenAPI Initiative's examples: a move is asynchronous, and its caller is called with the board.
//!
//! `cargo run --example tictactoe [SERVER] [ADDRESS:PORT]`, with a server that calls loopback, such as `longhaul dev`. README.md
//! has a game.

mod api;
mod game;

use longhaul::client::Client;
use tokio::net::TcpListener;

use self::game::Game;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let client = Client::connect(&server).await?;
    let game = Game::default();
    let worker = game.worker(client.clone());
    let listener = TcpListener::bind(&address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving the board");
    tokio::select! {
        ended = api::serve(listener, client.channel(), game) => ended?,
        ended = worker.run_until(async { drop(tokio::signal::ctrl_c().await) }) => ended?,
    }
    Ok(())
}
