//! How long a call may last by its own deadline.

use std::time::Duration;

use http::HeaderMap;
use tonic::Request;

use super::header;
use crate::limits::DEADLINE_MARGIN;

/// How long a waiting call may wait, so that its answer arrives before the RPC's deadline; `None` without a deadline.
pub(super) fn longest_wait<T>(request: &Request<T>) -> Option<Duration> {
    let timeout = parse(header(request, "grpc-timeout")?)?;
    Some(timeout.saturating_sub(DEADLINE_MARGIN.min(timeout / 4)))
}

/// How long a call may last at all by its own deadline.
pub(crate) fn of(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// Reads a `grpc-timeout`: at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_call_answers_before_its_deadline() {
        let wait = |timeout: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("ascii"));
            longest_wait(&request)
        };
        assert_eq!(wait("2S"), Some(Duration::from_millis(1_900)));
        assert_eq!(wait("100m"), Some(Duration::from_millis(75)));
        assert_eq!(
            wait("99999999H"),
            Some(Duration::from_hours(99_999_999).saturating_sub(DEADLINE_MARGIN))
        );
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S"] {
            assert_eq!(wait(bad), None, "{bad}");
        }
        assert_eq!(longest_wait(&Request::new(())), None);
    }
}
