//! The order of a list (AIP-132).

use super::error::{FilterError, meant};

/// In which order operations are listed; those of one instant by their names' keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest first: `create_time desc`, and where nothing is asked for.
    #[default]
    NewestFirst,
    /// The oldest first: `create_time`.
    OldestFirst,
}

impl Order {
    /// Reads an `order_by`; blanks do not matter.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let (first, more) =
            text.split_once(',').map_or((text, None), |(first, more)| (first, Some(more)));
        let start = first.len() - first.trim_start().len();
        let mut words = first.split_whitespace();
        let Some(field) = words.next() else {
            return Err(FilterError::at(0, "a field is missing before the comma"));
        };
        if field != FIELD {
            let hint = meant(field, [FIELD]).unwrap_or_else(|| format!("there is {FIELD}"));
            return Err(FilterError::at(start, format!("lists have no order by {field}; {hint}")));
        }
        if more.is_some() {
            let why = format!("{FIELD} is the only field that lists can be ordered by");
            return Err(FilterError::at(first.len(), why));
        }
        match (words.next(), words.next()) {
            (None, _) => Ok(Self::OldestFirst),
            (Some("desc"), None) => Ok(Self::NewestFirst),
            (Some("desc"), Some(word)) | (Some(word), _) => {
                let position = text.rfind(word).unwrap_or_default();
                let why = format!(
                    "{word:?} is not expected here; write {FIELD} for the oldest first, {FIELD} desc for the newest first"
                );
                Err(FilterError::at(position, why))
            }
        }
    }

    /// The same for all texts of the same order.
    pub const fn canonical(self) -> &'static str {
        match self {
            Self::NewestFirst => "create_time desc",
            Self::OldestFirst => "create_time",
        }
    }
}

const FIELD: &str = "create_time";
