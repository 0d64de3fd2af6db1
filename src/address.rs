//! Parses server addresses.

use std::net::Ipv6Addr;

use http::uri::Authority;

/// Reads `HOST`, `HOST:PORT` or `http://HOST:PORT` as `HOST:PORT`, and `https://HOST` as `https://HOST:PORT`, which means TLS.
/// A host is a name or an address; the default port is 50051.
///
/// # Errors
/// Says what an address looks like.
pub fn read_server(text: &str) -> Result<String, String> {
    let rest = match text.split_once("://") {
        None => text,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.strip_suffix('/').unwrap_or(rest)
        }
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            return with_port(rest.strip_suffix('/').unwrap_or(rest))
                .map(|address| format!("https://{address}"));
        }
        Some((scheme, _)) => return Err(format!("{scheme}:// is not known here; {FORM}")),
    };
    with_port(rest)
}

/// Reads `HOST` or `HOST:PORT` as `HOST:PORT`.
pub(crate) fn with_port(text: &str) -> Result<String, String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]:{PORT}"));
    }
    if text.parse::<u16>().is_ok() {
        return Err(format!("no host before the port {text}; {FORM}"));
    }
    let authority: Authority = text.parse().map_err(|_| format!("not an address; {FORM}"))?;
    let host = authority.host();
    if host.is_empty() || text.contains('@') {
        return Err(format!("not an address; {FORM}"));
    }
    match text.strip_prefix(host) {
        Some("") => Ok(format!("{host}:{PORT}")),
        Some(port) => match port.trim_start_matches(':').parse::<u16>() {
            Ok(port) => Ok(format!("{host}:{port}")),
            Err(_) => Err(format!("a port is a number up to 65535; {FORM}")),
        },
        None => Err(format!("not an address; {FORM}")),
    }
}

/// The default port.
const PORT: u16 = 50051;
const FORM: &str = "write HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_each_form_that_people_write() {
        for (text, address) in [
            ("localhost", "localhost:50051"),
            ("longhaul.internal:8443", "longhaul.internal:8443"),
            ("10.0.0.1", "10.0.0.1:50051"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("::1", "[::1]:50051"),
            ("[::1]", "[::1]:50051"),
            ("[::1]:7", "[::1]:7"),
            ("http://h:1", "h:1"),
            ("HTTP://h:1/", "h:1"),
            ("http://h", "h:50051"),
            ("http://[::1]:7", "[::1]:7"),
            ("https://h:1", "https://h:1"),
            ("HTTPS://h/", "https://h:50051"),
        ] {
            assert_eq!(read_server(text).as_deref(), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write_instead() {
        for (text, part) in [
            ("https://h:1/path", "HOST:PORT"),
            ("dns:///h:1", "dns:// is not known"),
            ("unix:///run/longhaul", "unix:// is not known"),
            ("50051", "no host before the port 50051"),
            (":50051", "HOST:PORT"),
            ("", "HOST:PORT"),
            ("h:port", "HOST:PORT"),
            ("h:70000", "HOST:PORT"),
            ("h:", "up to 65535"),
            ("http://h:1/path", "HOST:PORT"),
            ("user:secret@h:1", "HOST:PORT"),
            ("two words", "HOST:PORT"),
            ("::1:50051:x", "HOST:PORT"),
        ] {
            let refusal = read_server(text).expect_err(text);
            assert!(refusal.contains(part), "{text}: {refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }
}
