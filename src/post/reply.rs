//! How a receiver answered, and what follows from it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::limits::MAX_RETRY_AFTER;

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// How long it took.
    pub latency: Duration,
    /// The reply, or why there was none.
    pub reply: Result<ReceiverReply, Unanswered>,
}

/// What a receiver replied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverReply {
    /// The HTTP status.
    pub status: u16,
    /// How long it asked to wait.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// Why there was no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The URL or its address is not allowed.
    #[error("{0}")]
    Refused(String),
    /// No connection, or one that broke.
    #[error("{0}")]
    Broken(String),
    /// It took too long.
    #[error("no reply within {0:?}")]
    Late(Duration),
    /// The receiver did not agree to deliveries.
    #[error(
        "the receiver did not answer the OPTIONS request with a WebHook-Allowed-Origin of {0:?} or *"
    )]
    NotAgreed(String),
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyVerdict {
    /// It was delivered.
    Delivered,
    /// The receiver wants no more of them.
    Gone,
    /// Try again, not before that long.
    Again(Duration),
}

impl Receipt {
    /// What follows.
    pub fn verdict(&self) -> ReplyVerdict {
        match &self.reply {
            Ok(reply) => match reply.status {
                200..=299 => ReplyVerdict::Delivered,
                410 => ReplyVerdict::Gone,
                _ => ReplyVerdict::Again(reply.retry_after.unwrap_or_default()),
            },
            Err(_) => ReplyVerdict::Again(Duration::ZERO),
        }
    }
}

/// The header `retry-after`: seconds, or a date.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
            (Timestamp::EPOCH + since_epoch).since(now)
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, retry_after: Option<u64>) -> ReplyVerdict {
        let retry_after = retry_after.map(Duration::from_secs);
        let reply = Ok(ReceiverReply { status, retry_after, body: Vec::new() });
        Receipt { latency: Duration::ZERO, reply }.verdict()
    }

    #[test]
    fn a_status_decides_what_follows() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(verdict(status, Some(9)), ReplyVerdict::Delivered, "{status}");
        }
        assert_eq!(verdict(410, None), ReplyVerdict::Gone);
        for status in [100, 199, 300, 301, 302, 307, 308, 400, 404, 500, 502, 504] {
            assert_eq!(verdict(status, None), ReplyVerdict::Again(Duration::ZERO), "{status}");
        }
        for status in [429, 503] {
            let expected = ReplyVerdict::Again(Duration::from_secs(9));
            assert_eq!(verdict(status, Some(9)), expected, "{status}");
        }
    }

    #[test]
    fn a_retry_after_is_seconds_or_a_date_and_bounded() {
        let now = Timestamp::from_micros(784_111_777_000_000);
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("999999999999", Some(MAX_RETRY_AFTER.as_secs())),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text:?}");
        }
    }
}
