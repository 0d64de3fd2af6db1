//! Finds the response in a program's output: the last JSON value on lines of its own.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use super::lines::Line;
use crate::limits::MAX_PROGRAM_RESPONSE_BYTES;
use crate::types::json;

/// Reads the lines of a program, and holds a few megabytes at most.
#[derive(Default)]
pub(super) struct Response {
    /// Lines that were not parsed yet, or in which an unfinished value begins.
    text: Vec<u8>,
    /// The last value before `text`.
    found: Option<Vec<u8>>,
    /// The last value was too large.
    too_large: bool,
    /// A value of several lines was too large. Its end cannot be found, so nothing after it counts.
    lost: bool,
}

/// The values in a text.
#[derive(Default)]
struct Found {
    last: Option<Range<usize>>,
    /// Start of a value that has not ended.
    unfinished: Option<usize>,
}

/// What the start of a text is.
enum Extent {
    Value(usize),
    Unfinished,
    Other,
}

impl Response {
    pub(super) fn take_in(&mut self, line: &Line<'_>) {
        let bytes = line.bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line.bytes);
        if line.cut {
            self.parse();
            // The rest is an unfinished value that this line belongs to.
            self.lost |= !self.text.is_empty();
            self.text.clear();
            if bytes.trim_ascii_start().first().is_some_and(|first| b"{[\"".contains(first)) {
                self.too_large = true;
            }
            return;
        }
        self.text.extend_from_slice(bytes);
        self.text.push(b'\n');
        if self.text.len() > 2 * MAX_PROGRAM_RESPONSE_BYTES {
            self.parse();
        }
    }

    /// The response, if there is one.
    ///
    /// # Errors
    /// Why the last value cannot be the response.
    pub(super) fn end(mut self) -> Result<Option<Value>, String> {
        self.parse();
        if self.too_large || self.lost {
            return Err(format!(
                "the JSON that ends the program's output is larger than {MAX_PROGRAM_RESPONSE_BYTES} bytes; \
                 store large results elsewhere and print where they are"
            ));
        }
        let Some(found) = self.found else { return Ok(None) };
        let value = json::parse(&String::from_utf8_lossy(&found));
        value.map(Some).map_err(|error| {
            format!("the JSON that ends the program's output cannot be read: {error}")
        })
    }

    /// Parses the text; keeps its last value and the unfinished value at its end.
    fn parse(&mut self) {
        let Found { last, unfinished } = find(&self.text);
        if let Some(last) = last {
            self.too_large = last.len() > MAX_PROGRAM_RESPONSE_BYTES;
            self.found = (!self.too_large).then(|| self.text[last].to_vec());
        }
        let kept = unfinished.unwrap_or(self.text.len());
        self.lost |= self.text.len() - kept > MAX_PROGRAM_RESPONSE_BYTES;
        if self.lost {
            self.text.clear();
        } else {
            self.text.drain(..kept);
        }
        self.text.shrink_to(MAX_PROGRAM_RESPONSE_BYTES);
    }
}

fn find(text: &[u8]) -> Found {
    let mut found = Found::default();
    let (mut at, mut unfinished) = (0, 0);
    // Lines that are indented below an unfinished value belong to it.
    let mut within = None;
    while at < text.len() {
        let end = end_of_line(text, at);
        let indent = end - at - text[at..end].trim_ascii_start().len();
        if at + indent == end {
            at = end;
            continue;
        }
        let candidate = within.is_none_or(|outer| indent <= outer);
        // Each unfinished value is parsed to the end of the text, so their number is bounded.
        let until = if unfinished < MAX_UNFINISHED { text.len() } else { end };
        match extent(&text[at..until]) {
            Extent::Value(length) if candidate => {
                let end = end_of_line(text, at + length);
                if text[at + length..end].trim_ascii().is_empty() {
                    found = Found { last: Some(at + indent..at + length), unfinished: None };
                    (at, within) = (end, None);
                    continue;
                }
            }
            Extent::Unfinished if candidate => {
                found.unfinished.get_or_insert(at);
                within = Some(indent);
                unfinished += 1;
            }
            _ => {}
        }
        at = end;
    }
    found
}

fn extent(text: &[u8]) -> Extent {
    let mut values = Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Extent::Value(values.byte_offset()),
        Some(Err(error)) if error.is_eof() => Extent::Unfinished,
        _ => Extent::Other,
    }
}

/// Start of the next line.
fn end_of_line(text: &[u8], from: usize) -> usize {
    text[from..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| from + at + 1)
}

/// Some programs begin their output with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const MAX_UNFINISHED: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(text: &[u8]) -> Result<Option<Value>, String> {
        let mut response = Response::default();
        for line in text.split(|&byte| byte == b'\n') {
            let kept = line.len().min(MAX_PROGRAM_RESPONSE_BYTES);
            response.take_in(&Line { bytes: &line[..kept], cut: kept < line.len() });
        }
        response.end()
    }

    #[test]
    fn the_last_json_value_on_lines_of_its_own_is_the_response() {
        for (text, expected) in [
            ("", None),
            ("no JSON\n{nor this}\n[INFO] nor this\n{\"a\": 1} nor this", None),
            ("{\"a\": 1}\n{\"b\": 2}\nand then words\n\n", Some(json!({ "b": 2 }))),
            ("words\n{\n  \"a\": [\n    1,\n    2\n  ]\n}\n", Some(json!({ "a": [1, 2] }))),
            ("{\r\n  \"a\": 1\r\n}\r\n", Some(json!({ "a": 1 }))),
            ("\u{feff}{\"a\": 1}\n", Some(json!({ "a": 1 }))),
            ("[1]\n[\n1,\n2\n]\n", Some(json!([1, 2]))),
            ("  {\"a\": 1}  ", Some(json!({ "a": 1 }))),
            ("null", Some(Value::Null)),
            ("42\n\"text\"", Some(json!("text"))),
            ("[2026-01-01] opening {\n{\"a\": 1}", Some(json!({ "a": 1 }))),
            ("[\n{\"a\": 1}", Some(json!({ "a": 1 }))),
            ("{\n  \"items\": [\n    {\"a\": 1}\n", None),
            ("{\"a\": \"progress\"}\n{\"b\":", Some(json!({ "a": "progress" }))),
        ] {
            assert_eq!(of(text.as_bytes()), Ok(expected), "{text}");
        }
        assert_eq!(of(b"\xff\xfe\0\n{\"a\": \"\xff\"}"), Ok(Some(json!({ "a": "\u{fffd}" }))));
    }

    #[test]
    fn a_value_that_cannot_be_a_response_is_an_error_and_not_skipped() {
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        for (text, part) in [
            (deep.as_str(), "recursion limit"),
            ("{\"a\": 1e400}", "out of range"),
            ("{\"a\": 123456789012345678901234567890}", "beyond 2^53"),
            ("{\"a\": \"\\ud800\"}", "hex escape"),
        ] {
            let error = of(text.as_bytes()).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_response_beyond_the_limit_is_an_error_however_it_is_printed() {
        let large = "x".repeat(MAX_PROGRAM_RESPONSE_BYTES + 1);
        let line = format!("{{\"a\": \"{large}\"}}");
        let error = of(line.as_bytes()).expect_err("too large");
        assert!(error.contains("2097152 bytes"), "{error}");
        // A later value counts.
        assert_eq!(of(format!("{line}\n7").as_bytes()), Ok(Some(json!(7))));
        // Other output may have any length.
        assert_eq!(of(format!("7\n{large}").as_bytes()), Ok(Some(json!(7))));
        let rows = "  {\"a\": 1},\n".repeat(MAX_PROGRAM_RESPONSE_BYTES / 4);
        let many = format!("[\n{rows}  {{\"a\": 1}}\n]\n");
        assert!(of(many.as_bytes()).is_err(), "it has no end within the limit");
    }

    #[test]
    fn memory_and_time_stay_bounded_for_long_output() {
        let mut response = Response::default();
        response.take_in(&Line { bytes: b"{\"a\": 1}", cut: false });
        for _ in 0..3 * MAX_PROGRAM_RESPONSE_BYTES / 16 {
            response.take_in(&Line { bytes: b"fifteen letters", cut: false });
            assert!(response.text.len() <= 2 * MAX_PROGRAM_RESPONSE_BYTES + 16);
        }
        assert_eq!(response.end(), Ok(Some(json!({ "a": 1 }))));
        // Each line might begin a value that goes on to the end.
        let _ = of("[\n".repeat(MAX_PROGRAM_RESPONSE_BYTES / 16).as_bytes());
    }
}
