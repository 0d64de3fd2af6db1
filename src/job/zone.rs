//! IANA time zones, from the tables in this program: every server of a version fires at the same instants.

use std::fmt;

use jiff::tz::{TimeZone, db};

/// A time zone with its IANA name.
#[derive(Clone)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// There is no such zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no IANA time zone{hint}")]
pub struct ZoneError {
    name: String,
    hint: String,
}

impl Zone {
    /// Reads a name such as `Europe/Berlin`; empty is UTC.
    ///
    /// # Errors
    /// [`ZoneError`] with a similar name, if there is one.
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        // `Etc/Unknown` is a zone of jiff's own.
        let found = db().get(text).ok().filter(|zone| !zone.is_unknown());
        let Some(zone) = found else { return Err(unknown(text)) };
        let name = zone.iana_name().unwrap_or(text).to_owned();
        Ok(Self { name, zone })
    }

    /// The IANA name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    pub(super) const fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, formatter)
    }
}

fn unknown(text: &str) -> ZoneError {
    const READABLE: usize = 80;
    let name: String = text.chars().take(READABLE).collect();
    let near = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    let best = db()
        .available()
        .map(|known| (near(known.as_str()), known.as_str().to_owned()))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = match best.filter(|(likeness, _)| *likeness > 0.85) {
        Some((_, known)) => format!("; is {known:?} meant?"),
        None => "; it looks like Europe/Berlin or UTC".to_owned(),
    };
    ZoneError { name, hint }
}
