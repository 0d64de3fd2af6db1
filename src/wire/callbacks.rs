//! The parts of a call by HTTP that callbacks and webhook endpoints have in common.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::engine::{Error, Reason, Result};
use crate::limits::{MAX_CALLBACK_HEADER_BYTES, MAX_CALLBACK_HEADERS};
use crate::post::{Carrier, is_reserved};
use crate::proto::longhaul::v1::callback::{Event, Format};
use crate::webhook::uri::check;

/// Checks a URI.
pub(super) fn uri(field: &str, text: &str) -> Result<()> {
    check(text).map_err(|fault| rejected(field, text, &fault))
}

/// Checks whether this server calls a URI, as far as that is known without a look-up of its host.
pub(super) fn receiver(carrier: Option<&dyn Carrier>, field: &str, text: &str) -> Result<()> {
    let checked = carrier.map_or(Ok(()), |carrier| carrier.check(text));
    checked.map_err(|refused| rejected(field, text, &refused))
}

fn rejected(field: &str, text: &str, why: &dyn std::fmt::Display) -> Box<Error> {
    let message = format!("{field} {:?} cannot be called: {why}", shown(text));
    Error::new(Reason::CallbackUriRejected, message).with("field", field)
}

/// The beginning of a URI, without what may be a password in it.
fn shown(text: &str) -> String {
    let begin = text.find("//").map_or(0, |at| at + 2);
    let end = text[begin..].find(['?', '#']).map_or(text.len(), |at| begin + at);
    let user = text[begin..end].rfind('@').unwrap_or_default();
    let mask = if user > 0 { "***" } else { "" };
    let shown = [&text[..begin], mask, &text[begin + user..]].concat();
    shown.chars().take(80).collect()
}

/// The events that cause a call, each once; DONE if there are none.
pub(super) fn events(field: &str, numbers: &[i32]) -> Result<Vec<Event>> {
    let mut events = Vec::with_capacity(numbers.len().max(1));
    for number in numbers {
        let event = Event::try_from(*number).ok().filter(|event| *event != Event::Unspecified);
        let event = event.ok_or_else(|| {
            Error::field(field, format!("{field} has {number}, which is no event"))
        })?;
        if !events.contains(&event) {
            events.push(event);
        }
    }
    if events.is_empty() {
        events.push(Event::Done);
    }
    Ok(events)
}

/// The format of a call; STANDARD_WEBHOOK if it is unset.
pub(super) fn format(field: &str, number: i32) -> Result<Format> {
    match Format::try_from(number) {
        Ok(Format::Unspecified) => Ok(Format::StandardWebhook),
        Ok(format) => Ok(format),
        Err(_) => Err(Error::field(field, format!("{field} is {number}, which is no format"))),
    }
}

/// Checks the further headers of a call.
pub(super) fn headers(field: &str, headers: &BTreeMap<String, String>) -> Result<()> {
    if headers.len() > MAX_CALLBACK_HEADERS {
        let message =
            format!("{field} has {} headers; the most are {MAX_CALLBACK_HEADERS}", headers.len());
        return Err(Error::field(field, message).with("limit", MAX_CALLBACK_HEADERS));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_CALLBACK_HEADER_BYTES {
        let message =
            format!("{field} has {bytes} bytes; the most are {MAX_CALLBACK_HEADER_BYTES}");
        return Err(Error::field(field, message).with("limit", MAX_CALLBACK_HEADER_BYTES));
    }
    let mut names = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let shown: String = name.chars().take(80).collect();
        let Ok(parsed) = name.parse::<HeaderName>() else {
            return Err(Error::field(field, format!("{field} has {shown:?}, which is no header")));
        };
        if is_reserved(&parsed) || names.contains(&parsed) {
            let message = format!(
                "{field} has {shown:?}, which the server sets itself or which is given twice; leave it out"
            );
            return Err(Error::field(field, message));
        }
        names.push(parsed);
        if value.is_empty() || HeaderValue::from_str(value).is_err() {
            let message =
                format!("the value of {shown:?} in {field} is empty or cannot be sent in a header");
            return Err(Error::field(field, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_known_and_each_counts_once() {
        let read = |numbers: &[i32]| events("events", numbers);
        assert_eq!(read(&[]).expect("events"), [Event::Done]);
        assert_eq!(read(&[7, 3, 7]).expect("events"), [Event::Cancelled, Event::Progress]);
        for bad in [0, 9, -1] {
            let error = read(&[1, bad]).expect_err("refused");
            assert_eq!(error.metadata["field"], "events", "{bad}");
        }
        assert_eq!(format("format", 0).expect("a format"), Format::StandardWebhook);
        assert_eq!(format("format", 3).expect("a format"), Format::ResponseBody);
        assert!(format("format", 4).is_err());
    }

    #[test]
    fn headers_are_bounded_well_formed_and_none_of_the_servers_own() {
        let check = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            headers("headers", &pairs.collect())
        };
        check(&[("Authorization", "Bearer x"), ("x-a", "1")]).expect("headers");
        for bad in [
            [("a b", "x")],
            [("", "x")],
            [("x-a", "")],
            [("x-a", "\r\nx: y")],
            [("Host", "x")],
            [("Content-Type", "x")],
            [("webhook-id", "x")],
            [("CE-Id", "x")],
            [("x-a", &"x".repeat(MAX_CALLBACK_HEADER_BYTES))],
        ] {
            let error = check(&bad).expect_err("refused");
            assert_eq!(error.metadata["field"], "headers", "{bad:?}");
        }
        assert!(check(&[("x-a", "1"), ("X-A", "2")]).is_err(), "twice");
        let many = (0..=MAX_CALLBACK_HEADERS).map(|number| (format!("x-{number}"), "x".into()));
        assert!(headers("headers", &many.collect()).is_err());
    }
}
