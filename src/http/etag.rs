//! Entity tags: what a client has seen, and what it insists on.
//!
//! The tag of an operation is its record's etag. Each representation has a tag of its own, made from it, so that a cache
//! cannot take one for another.

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};

/// The tag of a representation of what has that etag. The plain Operation, without a suffix, has the etag itself.
pub(super) fn tag(etag: &str, suffix: &str) -> String {
    if suffix.is_empty() {
        return etag.to_owned();
    }
    format!("{}.{suffix}\"", etag.trim_end_matches('"'))
}

/// Whether the client has seen that tag already, as `If-None-Match` says; weak tags count as well.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    tags(headers, &IF_NONE_MATCH)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Whether the client says what it has seen.
pub(super) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH)
}

/// The etags of which one must hold, as `If-Match` says; whichever representation they were seen in. None where anything
/// fits. Weak tags match nothing here.
pub(super) fn required(headers: &HeaderMap) -> Vec<String> {
    let mut required = Vec::new();
    for tag in tags(headers, &IF_MATCH) {
        if tag == "*" {
            return Vec::new();
        }
        required.push(match tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) {
            Some(inner) => {
                let etag = inner.split_once('.').map_or(inner, |(etag, _)| etag);
                format!("\"{etag}\"")
            }
            None => tag.to_owned(),
        });
    }
    required
}

fn tags<'a>(
    headers: &'a HeaderMap,
    name: &http::HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_as_their_headers_ask() {
        let headers = |name: http::HeaderName, value: &str| {
            HeaderMap::from_iter([(name, value.parse().expect("a header"))])
        };
        assert_eq!((&*tag("\"1f\"", ""), &*tag("\"1f\"", "s")), ("\"1f\"", "\"1f.s\""));
        for (value, known) in [
            ("\"1f\"", true),
            ("W/\"1f\"", true),
            ("\"0\", \"1f\"", true),
            ("*", true),
            ("\"1f.s\"", false),
            ("1f", false),
            ("\"1\"", false),
            ("", false),
        ] {
            assert_eq!(is_known(&headers(IF_NONE_MATCH, value), "\"1f\""), known, "{value}");
        }
        for (value, etags) in [
            ("\"1f\"", &["\"1f\""][..]),
            ("\"1f.s\"", &["\"1f\""]),
            ("W/\"1f\"", &["W/\"1f\""]),
            ("1f", &["1f"]),
            ("\"0\", \"1f.a\"", &["\"0\"", "\"1f\""]),
            ("\"0\", *", &[]),
            ("*", &[]),
            ("", &[]),
        ] {
            assert_eq!(required(&headers(IF_MATCH, value)), etags, "{value}");
        }
    }
}
