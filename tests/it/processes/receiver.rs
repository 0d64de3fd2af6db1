//! A receiver of callbacks on this machine.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) path: String,
    headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Arrived {
    /// A header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The whole request as text.
    pub(super) fn text(&self) -> String {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let body = std::str::from_utf8(&self.body).expect("a text");
        format!("POST {} HTTP/1.1\r\n{}\r\n{body}", self.path, headers.collect::<String>())
    }
}

/// Listens until the test process ends, and returns the URL without a path. `answer` returns the status of the reply, or
/// `None` to close the connection without one.
pub(super) fn listen(answer: impl Fn(Arrived) -> Option<u16> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || drop(serve(stream, &*answer)));
        }
    });
    url
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(Arrived) -> Option<u16>) -> std::io::Result<()> {
    let (mut buffer, mut held) = ([0; 4096], Vec::new());
    loop {
        while let Some((arrived, end)) = parse(&held) {
            held.drain(..end);
            let Some(status) = answer(arrived) else { return Ok(()) };
            write!(stream, "HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n")?;
        }
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        held.extend_from_slice(&buffer[..length]);
    }
}

/// The first request, and where it ends.
fn parse(held: &[u8]) -> Option<(Arrived, usize)> {
    let head = held.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let mut lines = std::str::from_utf8(&held[..head]).expect("a head").lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a path").to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<_, _> =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |text| text.parse().expect("a length"));
    let body = held.get(head..head + length)?.to_vec();
    Some((Arrived { path, headers, body }, head + length))
}

/// Settings of a server that calls receivers on this machine, over http.
pub(super) const LOOPBACK: [(&str, &str); 2] =
    [("LONGHAUL_WEBHOOKS__ALLOW_HTTP", "true"), ("LONGHAUL_WEBHOOKS__NETWORKS", "127.0.0.0/8")];

/// Settings of a server that tries soon again, and so often that no attempt is the last one.
pub(super) const IMPATIENT: [(&str, &str); 2] = [
    ("LONGHAUL_WEBHOOKS__TIMEOUT", "1s"),
    (
        "LONGHAUL_WEBHOOKS__PAUSES",
        "100ms,200ms,300ms,500ms,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s",
    ),
];
