//! The client commands while the server is away, and without any server.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::binary::Longhaul;
use super::bounds::{eventually, retried};
use super::redis::Redis;
use super::typed::Typist;

/// An nginx with one server.
struct Nginx {
    address: SocketAddr,
    folder: tempfile::TempDir,
    _process: Longhaul,
}

impl Nginx {
    /// Listens at a port of its own, by `protocol`, and does `what`.
    async fn that(protocol: &str, what: &str) -> Self {
        let address = free_address();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display();
        let settings = format!(
            "daemon off; pid {path}/pid; error_log {path}/log;\n\
             events {{}}\n\
             http {{\n\
               access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
               fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
               server {{ listen {address} {protocol}; location / {{ {what} }} }}\n\
             }}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, settings).expect("written");
        let program = ["nginx", "-c", file.to_str().expect("a path"), "-e", "/dev/null"];
        let process = Longhaul::launch_beside(&program, &[]);
        eventually("nginx", || async { std::net::TcpStream::connect(address).ok() }).await;
        Self { address, folder, _process: process }
    }

    /// How often it called the server behind it in vain.
    fn refusals(&self) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("Connection refused")).count()
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

fn serve_at(address: SocketAddr, folder: &Path) -> Longhaul {
    let store = format!("embedded:{}", folder.display());
    Longhaul::launch(&["serve", "--listen", &address.to_string(), "--store", &store])
}

#[tokio::test]
async fn a_client_waits_through_an_outage_of_the_server_and_behind_a_proxy() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let mut server = serve_at(address, folder.path());
    server.says(" serving ").await;
    let proxy = Nginx::that("http2", &format!("grpc_pass grpc://{address};")).await;
    let (direct, behind) = (address.to_string(), proxy.address.to_string());
    server.client().start("one", "q").await.expect("a start");

    let mut followers = Vec::new();
    for (at, line) in [
        (&direct, "wait operations/one --timeout 10m"),
        (&direct, "watch operations/one --output json"),
        (&direct, "start --operation-id two --queue q --watch"),
        (&behind, "watch operations/one --timeout 10m"),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        followers.push((at, line, Typist::at(at).beside(&args)));
    }
    for (_, line, follower) in &followers[1..] {
        eventually(line, || async { follower.output().contains("PENDING").then_some(()) }).await;
    }
    server.kill();
    for (at, line, follower) in &followers {
        let what = format!("longhaul: reconnecting to {at}: ");
        eventually(line, || async { follower.output().contains(&what).then_some(()) }).await;
    }
    // A single call gives up after five tries.
    eventually("many tries", || async { (proxy.refusals() > 5).then_some(()) }).await;
    let server = serve_at(address, folder.path());
    server.says(" serving ").await;
    let _worker = Typist::at(&direct).works("q", &[], "cat");
    for (_, line, follower) in &mut followers {
        assert!(follower.ended().await.success(), "{line}: {}", follower.output());
        let output = follower.output();
        assert_eq!(output.matches("longhaul: ").count(), 1, "{line}: {output}");
    }
}

#[tokio::test]
async fn a_client_waits_while_the_store_is_away() {
    let redis = Redis::forgetful();
    let server = Longhaul::serve(&redis.url()).await;
    let address = server.address().to_string();
    server.client().start("one", "q").await.expect("a start");
    let freezer = redis.freezer();
    freezer.freeze();
    let typist = Typist::at(&address);
    let mut waiting = typist.beside(&["wait", "operations/one", "--timeout", "10m"]);
    waiting.says(&format!("longhaul: reconnecting to {address}: ")).await;
    freezer.thaw();
    let client = server.client();
    retried("a cancel", || client.cancel("one")).await;
    assert_eq!(waiting.ended().await.code(), Some(4), "{}", waiting.output());
}

#[tokio::test]
async fn a_client_that_stops_waiting_names_the_server_and_says_that_the_operation_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let mut server = serve_at(address, folder.path());
    server.says(" serving ").await;
    server.client().start("one", "q").await.expect("a start");
    let typist = Typist::at(&address.to_string());
    let ended = typist.types("wait operations/one --timeout 50ms").await;
    assert_eq!(ended.code, 6, "{ended:?}");
    let said = "longhaul: operations/one is not done after 50 ms; the operation itself continues\n";
    assert_eq!(ended.stderr, said);

    let mut waiting = typist.beside(&["watch", "operations/one", "--timeout", "5s"]);
    waiting.says("PENDING").await;
    server.kill();
    assert_eq!(waiting.ended().await.code(), Some(6), "{}", waiting.output());
    let output = waiting.output().clone();
    for part in [&address.to_string(), "operations/one", "the operation itself continues"] {
        assert!(output.contains(part), "no {part:?} in {output}");
    }
    // The server was away all the time.
    let ended = typist.types("wait operations/one --timeout 1s").await;
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(
        ended.stderr.contains(&format!("no server answered at {address} within 1 s")),
        "{ended:?}"
    );
}

#[tokio::test]
async fn an_address_without_a_server_is_named_with_what_to_do() {
    let http = Nginx::that("", "return 200 hello;").await;
    let http2 = Nginx::that("http2", "return 404;").await;
    for server in [http.address, http2.address] {
        for line in ["list", "watch operations/x"] {
            let ended = Typist::at(&server.to_string()).types(line).await;
            assert_eq!(ended.code, 6, "{line}: {ended:?}");
            for part in [&server.to_string(), "is not a gRPC server", "--server HOST:PORT"] {
                assert!(ended.stderr.contains(part), "{line}: no {part:?} in {ended:?}");
            }
        }
    }
    let away = Nginx::that("http2", "grpc_pass grpc://127.0.0.1:1;").await;
    let ended = Typist::at(&away.address.to_string()).types("list").await;
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.stderr.contains("HTTP status 502, not gRPC; try again later"), "{ended:?}");
    let ended = Typist::at("127.0.0.1:1").types("get operations/x").await;
    assert!(ended.stderr.contains("no server answers at 127.0.0.1:1: "), "{ended:?}");
}

#[tokio::test]
async fn the_server_is_named_in_each_form_that_an_address_has() {
    let typist = Typist::with_a_server().await;
    let address = typist.address().to_owned();
    for server in [format!("http://{address}"), format!("http://{address}/"), address.clone()] {
        let ended = typist.types(&format!("list --server {server}")).await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    for (server, part) in [
        (format!("https://{address}"), "no TLS yet"),
        ("50051".to_owned(), "HOST:PORT"),
        ("http://h:1/longhaul".to_owned(), "HOST:PORT"),
    ] {
        for command in ["list", "start", "wait operations/x", "work -- cat", "bench"] {
            let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
            let ended = typist.types(&format!("{name} --server {server} {rest}")).await;
            assert_eq!(ended.code, 2, "{command}: {ended:?}");
            assert!(ended.stderr.contains(part), "{command}: {ended:?}");
        }
        let ended = Typist::at(&server).types("list").await;
        assert!(ended.code == 2 && ended.stderr.contains(part), "{ended:?}");
    }
}
