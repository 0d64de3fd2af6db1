//! The Tic Tac Toe API of `examples/tictactoe`: a move is accepted, and the board comes to `progressUrl`.

#[path = "../../../examples/tictactoe/api.rs"]
mod api;
#[path = "../../../examples/tictactoe/game.rs"]
mod game;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};

use longhaul::client::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::game::Game;
use super::binary::Longhaul;
use super::bounds::LONG;
use super::receiver::{Arrived, LOOPBACK, listen};
use crate::support::http::{ask, ask_with};

/// The API and its worker, in front of a server.
struct Table {
    address: SocketAddr,
    calls: Receiver<Arrived>,
    /// The value of the header `progressUrl`.
    progress_url: String,
    _server: (Longhaul, tempfile::TempDir),
    _running: JoinSet<()>,
}

impl Table {
    async fn set() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = format!("embedded:{}", folder.path().display());
        let server = Longhaul::serve_in(&store, &[], &LOOPBACK).await;
        let client = Client::connect(&server.address().to_string()).await.expect("a client");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (game, channel_to_server) = (Game::default(), client.channel());
        let mut running = JoinSet::new();
        let worker = game.worker(client);
        running.spawn(async move { drop(worker.run().await) });
        running.spawn(async move { drop(api::serve(listener, channel_to_server, game).await) });
        let (sender, calls) = channel();
        let url = listen(move |arrived| {
            // The test may be over.
            let _ = sender.send(arrived);
            Some(200)
        });
        let progress_url = format!("{url}/done?game=1");
        Self { address, calls, progress_url, _server: (server, folder), _running: running }
    }

    async fn put(&self, path: &str, mark: &str, progress_url: Option<&str>) -> (u16, String) {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(progress_url.map(|url| ("progressUrl", url)));
        let answer = ask_with(self.address, "PUT", path, &headers, mark).await;
        (answer.status, answer.body)
    }

    async fn put_told(&self, path: &str, mark: &str) {
        let put = self.put(path, mark, Some(&self.progress_url)).await;
        assert_eq!(put, (202, String::new()), "{path}");
    }

    /// The body of the next call.
    fn told(&self) -> Value {
        let call = self.calls.recv_timeout(LONG).expect("a call");
        assert_eq!(call.path, "/done?game=1");
        assert_eq!(call.header("content-type"), "application/json");
        call.json()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_board_comes_to_the_progress_url_once_the_move_is_made() {
    let table = Table::set().await;
    table.put_told("/board/2/2", r#""X""#).await;
    let board = json!([[".", ".", "."], [".", "X", "."], [".", ".", "."]]);
    assert_eq!(table.told(), json!({"winner": ".", "board": board}));

    // Without the header there is no call: the next one is about the move after it.
    assert_eq!(table.put("/board/1/1", r#""O""#, None).await.0, 202);
    table.put_told("/board/1/2", r#""X""#).await;
    assert_eq!(table.told()["board"][0][1], "X");
    // A move that cannot be made is told, too.
    table.put_told("/board/1/1", r#""X""#).await;
    assert_eq!(table.told()["message"], "Square is not empty.");
    table.put_told("/board/3/2", r#""X""#).await;
    assert_eq!(table.told()["winner"], "X");
    let square = ask(table.address, "GET", "/board/2/2").await;
    assert_eq!((square.status, &*square.body), (200, r#""X""#));
    assert_eq!(ask(table.address, "GET", "/board").await.json()["winner"], "X");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_breaks_the_rules_or_names_no_url_is_refused_at_once() {
    let table = Table::set().await;
    for (path, mark) in [
        ("/board/4/1", r#""X""#),
        ("/board/0/1", r#""X""#),
        ("/board/x/1", r#""X""#),
        ("/board/3/3", r#""Y""#),
        ("/board/3/3", "X"),
        ("/board/3/3", ""),
    ] {
        assert_eq!(table.put(path, mark, Some(&table.progress_url)).await.0, 400, "{path} {mark}");
    }
    for url in ["file:///etc/passwd", "nowhere", "http://user@127.0.0.1/"] {
        let (status, why) = table.put("/board/3/3", r#""X""#, Some(url)).await;
        assert_eq!(status, 400, "{url}: {why}");
    }
    assert_eq!(ask(table.address, "GET", "/board/3/3").await.body, r#"".""#);
    let document = ask(table.address, "GET", "/openapi.yaml").await;
    assert_eq!(document.body, api::DOCUMENT);
    assert!(document.body.contains("\"{$request.header.progressUrl}\":\n"), "{document:?}");
}
