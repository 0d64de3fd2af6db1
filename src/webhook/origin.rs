//! The server that a URL leads to.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use url::{Position, Url};

/// Scheme, host and port of a URL as a parser writes them; nothing if it is no URL.
///
/// Most are written so already. To parse them for each index entry was a tenth of what callbacks cost.
pub fn origin(url: &str) -> Cow<'_, str> {
    plain(url).map_or_else(|| Cow::Owned(parsed(url)), Cow::Borrowed)
}

fn parsed(url: &str) -> String {
    let url = Url::parse(url).ok();
    url.map(|url| url[..Position::BeforePath].to_owned()).unwrap_or_default()
}

/// The same, if no parser would write it otherwise.
fn plain(url: &str) -> Option<&str> {
    let schemes = [("https://", "443"), ("http://", "80")];
    let (scheme, default_port) = schemes.into_iter().find(|(it, _)| url.starts_with(it))?;
    let server = url[scheme.len()..].split(['/', '?', '#']).next()?;
    let (host, port) = server.split_once(':').map_or((server, None), |(host, it)| (host, Some(it)));
    let plain_port = port.is_none_or(|port| is_plain_port(port) && port != default_port);
    (plain_port && is_plain_host(host)).then(|| &url[..scheme.len() + server.len()])
}

fn is_plain_port(port: &str) -> bool {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    is_number && port.parse::<u16>().is_ok()
}

/// Whether it is an IPv4 address with four numbers, or a name in lower case that needs no encoding.
fn is_plain_host(host: &str) -> bool {
    let is_plain =
        |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'-' | b'.');
    let last = host.rsplit('.').next().unwrap_or_default();
    // One that ends in a number is an address to a parser.
    let is_name = last.starts_with(|first: char| first.is_ascii_lowercase());
    let is_name = is_name && host.bytes().all(is_plain);
    (is_name && !host.contains("xn--")) || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_urls_need_no_parser() {
        for (url, expected) in [
            ("https://a.example.com/hook?x=1", "https://a.example.com"),
            ("http://127.0.0.1:8080/hook", "http://127.0.0.1:8080"),
            ("https://api-1.example.com:8443", "https://api-1.example.com:8443"),
        ] {
            assert_eq!(plain(url), Some(expected));
        }
    }

    #[test]
    fn all_ways_to_write_a_server_have_one_origin() {
        for url in [
            "HTTPS://Example.COM/a",
            "https://example.com:443/b",
            "https://example.com:0443",
            " https://example.com\\c",
        ] {
            assert_eq!(origin(url), "https://example.com", "{url}");
        }
        assert_eq!(origin("http://0x7f.1/"), "http://127.0.0.1");
        assert_eq!(origin("nonsense"), "");
    }

    proptest! {
        #[test]
        fn an_origin_is_what_a_parser_says(
            url in r"https?://([a-z0-9x.-]{0,6}|xn--a|0x1|1\.2\.3\.[0-9]{1,3})\.?[a-z0-9.A-Z%@-]{0,6}(:[0-9]{0,6})?[/?#\\ ]?[a-z]{0,2}"
        ) {
            prop_assert_eq!(origin(&url).into_owned(), parsed(&url));
        }
    }
}
