//! What a client accepts.

use http::HeaderMap;
use http::header::ACCEPT;

/// The media ranges of `Accept`, with their weights in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accept(Vec<(String, u16)>);

impl Accept {
    /// Reads the header; what cannot be read of it is left out.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let ranges = lines.flat_map(|line| line.split(',')).filter_map(range);
        Self(ranges.collect())
    }

    /// Whether that type is named, not only covered by a wildcard.
    pub(super) fn names(&self, media_type: &str) -> bool {
        self.0.iter().any(|(range, weight)| range == media_type && *weight > 0)
    }

    /// The best of `offers`; the first of those that are equally good. Without the header everything is good.
    pub(super) fn choose<'a>(&self, offers: &[&'a str]) -> Option<&'a str> {
        if self.0.is_empty() {
            return offers.first().copied();
        }
        let weighed = offers.iter().map(|offer| (*offer, self.weight(offer)));
        let mut best: Option<(&str, u16)> = None;
        for (offer, weight) in weighed.filter(|(_, weight)| *weight > 0) {
            if best.is_none_or(|(_, most)| weight > most) {
                best = Some((offer, weight));
            }
        }
        best.map(|(offer, _)| offer)
    }

    /// The weight of the range that fits most closely.
    fn weight(&self, offer: &str) -> u16 {
        let family = offer.split_once('/').map_or(offer, |(family, _)| family);
        let fit = |range: &str| match range {
            _ if range == offer => 3,
            "*/*" => 1,
            _ => 2 * u8::from(range.strip_suffix("/*") == Some(family)),
        };
        let fitting = self.0.iter().map(|(range, weight)| (fit(range), *weight));
        fitting
            .filter(|(fit, _)| *fit > 0)
            .max_by_key(|(fit, _)| *fit)
            .map_or(0, |(_, weight)| weight)
    }
}

fn range(text: &str) -> Option<(String, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| range.contains('/'))?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f64>().ok())?;
    Some((range, (weight.clamp(0.0, 1.0) * 1_000.0) as u16))
}

pub(super) const JSON: &str = "application/json";
pub(super) const PROBLEM: &str = "application/problem+json";
pub(super) const EVENTS: &str = "text/event-stream";

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().expect("a header"));
        Accept::of(&headers)
    }

    #[test]
    fn the_best_offer_is_chosen() {
        let offers = [JSON, EVENTS];
        for (text, chosen) in [
            ("*/*", Some(JSON)),
            ("application/json", Some(JSON)),
            ("text/event-stream", Some(EVENTS)),
            ("text/*", Some(EVENTS)),
            ("text/event-stream, */*;q=0.5", Some(EVENTS)),
            ("application/json;q=0.1, text/event-stream;q=0.2", Some(EVENTS)),
            ("*/*, application/json;q=0", Some(EVENTS)),
            // Java's.
            ("text/html, image/gif, image/jpeg, */*; q=0.2", Some(JSON)),
            ("APPLICATION/JSON; charset=utf-8", Some(JSON)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("nonsense", Some(JSON)),
            ("application/json;q=x", Some(JSON)),
        ] {
            assert_eq!(accept(text).choose(&offers), chosen, "{text}");
        }
        assert_eq!(Accept::default().choose(&offers), Some(JSON));
        assert!(accept("application/problem+json").names(PROBLEM));
        assert!(!accept("*/*").names(PROBLEM));
    }
}
