//! What a client would rather have (RFC 7240): preferences that are unknown or of no use are ignored, never an error.

use std::time::Duration;

use http::HeaderMap;

use crate::limits::MAX_HTTP_WAIT;

/// The preferences of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefer {
    /// How long the answer may take.
    pub(super) wait: Option<Duration>,
    /// Not to wait for the end.
    pub(super) respond_async: bool,
    /// Where `Location` points after a start.
    pub(super) location: Option<Location>,
    /// To be sent on where there is something else to see.
    pub(super) redirect: bool,
    /// The seconds that were asked for.
    seconds: u64,
}

/// What `Location` may point to after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Monitor,
    Result,
}

impl Prefer {
    /// Reads the header; several lines are one list, and the first of several like ones counts.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "wait" if prefer.wait.is_none() => prefer.read_wait(value),
                "respond-async" => prefer.respond_async = true,
                "redirect" => prefer.redirect = true,
                "location" if prefer.location.is_none() => {
                    prefer.location = match value {
                        "monitor" => Some(Location::Monitor),
                        "result" => Some(Location::Result),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        prefer
    }

    fn read_wait(&mut self, value: &str) {
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        // Too many digits are a long time.
        let seconds = is_number.then(|| value.parse::<u64>().unwrap_or(u64::MAX));
        self.wait = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_HTTP_WAIT));
        self.seconds = seconds.unwrap_or_default().min(MAX_HTTP_WAIT.as_secs());
    }

    /// `wait` as it was honoured, for `Preference-Applied`.
    pub(super) fn applied_wait(&self) -> Option<String> {
        self.wait.map(|_| format!("wait={}", self.seconds))
    }
}

impl Location {
    /// As in `Preference-Applied`.
    pub(super) const fn applied(self) -> &'static str {
        match self {
            Self::Monitor => "location=monitor",
            Self::Result => "location=result",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefer(lines: &[&str]) -> Prefer {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("prefer", line.parse().expect("a header"));
        }
        Prefer::of(&headers)
    }

    #[test]
    fn preferences_are_read_and_nonsense_is_ignored() {
        let wait = |text: &str| prefer(&[text]).wait.map(|wait| wait.as_secs());
        for (text, seconds) in [
            ("wait=5", Some(5)),
            ("Wait = 5", Some(5)),
            ("wait=\"5\"", Some(5)),
            ("wait=5; x=y, respond-async", Some(5)),
            ("wait=5, wait=6", Some(5)),
            ("handling=lenient,wait=0", Some(0)),
            ("wait=99999999999999999999999", Some(MAX_HTTP_WAIT.as_secs())),
            ("wait=-1", None),
            ("wait=1.5", None),
            ("wait=", None),
            ("wait", None),
            ("waiting=5", None),
            ("", None),
        ] {
            assert_eq!(wait(text), seconds, "{text}");
        }
        let several = prefer(&["respond-async", "location=monitor, wait=61", "redirect"]);
        assert!(several.respond_async && several.redirect);
        assert_eq!(several.location, Some(Location::Monitor));
        assert_eq!(several.applied_wait().as_deref(), Some("wait=60"));
        assert_eq!(prefer(&["location=elsewhere"]), Prefer::default());
    }
}
