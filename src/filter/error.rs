//! Why a filter or an order is refused, and which name was meant.

use std::fmt;

use strsim::damerau_levenshtein;

/// Why a filter or an order is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Where in the text, in bytes.
    pub position: usize,
    /// Why, and what is meant perhaps.
    pub message: String,
}

impl FilterError {
    pub(super) fn at(position: usize, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at byte {}: {}", self.position, self.message)
    }
}

impl std::error::Error for FilterError {}

/// Which of these was meant, if one is close.
pub(super) fn meant<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let plain = |name: &str| name.to_lowercase().replace(['_', '(', ')'], "");
    let wanted = plain(wanted);
    let close = known.into_iter().map(|name| (damerau_levenshtein(&wanted, &plain(name)), name));
    let (_, name) = close
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)?;
    Some(format!("did you mean {name}?"))
}
