//! Numbers, also as texts as in the environment.

use std::fmt;

use serde::Deserialize;

/// A number as it was given.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum NumberOrText {
    Number(u64),
    Text(String),
}

impl NumberOrText {
    /// The number, if it is one.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl fmt::Display for NumberOrText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

/// A number from zero on.
pub(super) fn number<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: serde::Deserializer<'de>,
    N: TryFrom<u64>,
{
    let given = NumberOrText::deserialize(deserializer)?;
    given.number().and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
        serde::de::Error::custom(format!("{:?} is not a number from 0 on", given.to_string()))
    })
}
