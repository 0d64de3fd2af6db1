//! The address to listen on.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

use serde::Deserialize;

use crate::address::with_port;

/// One or more addresses of this machine. The server listens on the first that it can bind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen {
    text: String,
    addresses: Vec<SocketAddr>,
}

impl Listen {
    /// The addresses, at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether all are loopback addresses.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(port) = text.strip_prefix(':').filter(|port| !port.contains(':')) {
            return Err(format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface"));
        }
        let whole = with_port(&text)?;
        let found = whole
            .to_socket_addrs()
            .map_err(|error| format!("{error}; write ADDRESS:PORT, such as 127.0.0.1:50051"))?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        // A name such as localhost has IPv4 and IPv6 addresses, and clients try IPv4 first.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        if addresses.is_empty() {
            return Err("it has no address; write ADDRESS:PORT, such as 127.0.0.1:50051".to_owned());
        }
        Ok(Self { text: whole, addresses })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_places_to_listen_at() {
        for (text, shown, first) in [
            ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1", "127.0.0.1:50051", "127.0.0.1:50051"),
            ("[::1]:0", "[::1]:0", "[::1]:0"),
            ("::1", "[::1]:50051", "[::1]:50051"),
            ("localhost:7", "localhost:7", "127.0.0.1:7"),
        ] {
            let listen = Listen::try_from(text.to_owned()).expect(text);
            assert_eq!(listen.to_string(), shown);
            assert_eq!(listen.addresses()[0].to_string(), first);
            assert!(listen.is_loopback(), "{text}");
        }
        assert!(!Listen::try_from("0.0.0.0:0".to_owned()).expect("an address").is_loopback());
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_to_write_instead() {
        for (text, part) in [
            (":50051", "0.0.0.0:50051"),
            ("50051", "no host before the port"),
            ("127.0.0.1:port", "a number up to 65535"),
            ("nowhere.invalid:1", "such as 127.0.0.1:50051"),
            ("http://127.0.0.1:1", "HOST:PORT"),
            ("", "HOST:PORT"),
        ] {
            let refusal = Listen::try_from(text.to_owned()).expect_err(text);
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }
}
