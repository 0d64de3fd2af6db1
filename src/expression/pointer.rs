//! JSON pointers (RFC 6901).

use serde_json::Value;

/// A JSON pointer, its escapes read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pointer(pub(super) Vec<String>);

impl Pointer {
    /// The value that it leads to.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(value, |value, token| match value {
            Value::Object(fields) => fields.get(token),
            Value::Array(items) => items.get(index(token)?),
            _ => None,
        })
    }
}

/// A place in an array: without leading zeros, and without a sign.
fn index(token: &str) -> Option<usize> {
    let is_number =
        token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
    token.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 6901, section 5.
    #[test]
    fn pointers_lead_where_the_rfc_says() {
        let document = json!({
            "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5,
            "k\"l": 6, " ": 7, "m~n": 8,
        });
        for (tokens, expected) in [
            (&[][..], Some(document.clone())),
            (&["foo"], Some(json!(["bar", "baz"]))),
            (&["foo", "0"], Some(json!("bar"))),
            (&[""], Some(json!(0))),
            (&["a/b"], Some(json!(1))),
            (&["m~n"], Some(json!(8))),
            (&["foo", "2"], None),
            (&["foo", "01"], None),
            (&["foo", "+1"], None),
            (&["foo", "-"], None),
            (&["foo", "0", "x"], None),
            (&["nothing"], None),
        ] {
            let pointer = Pointer(tokens.iter().map(|token| (*token).to_owned()).collect());
            assert_eq!(pointer.find(&document).cloned(), expected, "{tokens:?}");
        }
    }
}
