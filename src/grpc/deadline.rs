//! The deadline of a call.

use std::time::Duration;

use http::HeaderMap;
use tonic::Request;

use super::call::header;

/// How long the client waits for the reply; `None` without a deadline.
pub(super) fn time_left<T>(request: &Request<T>) -> Option<Duration> {
    parse(header(request, "grpc-timeout")?)
}

/// The same, from headers.
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
    fn a_timeout_is_at_most_eight_digits_and_a_unit() {
        let left = |timeout: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("ascii"));
            time_left(&request)
        };
        assert_eq!(left("2S"), Some(Duration::from_secs(2)));
        assert_eq!(left("100m"), Some(Duration::from_millis(100)));
        assert_eq!(left("99999999H"), Some(Duration::from_hours(99_999_999)));
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S"] {
            assert_eq!(left(bad), None, "{bad}");
        }
        assert_eq!(time_left(&Request::new(())), None);
    }
}
