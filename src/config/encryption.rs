//! Settings of encryption at rest.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::error::ConfigError;
use crate::store::SealingKeys;

/// Settings of encryption at rest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// File with the keys, one a line; empty for none.
    pub key_file: PathBuf,
    /// The keys themselves, separated by commas; empty for none.
    pub keys: SecretText,
}

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl Encryption {
    /// The keys; `None` if nothing is to be encrypted.
    ///
    /// # Errors
    /// Names the setting that cannot be used, and not its value.
    pub fn sealing_keys(&self) -> Result<Option<SealingKeys>, ConfigError> {
        let has_file = !self.key_file.as_os_str().is_empty();
        let (setting, text) = match (has_file, self.keys.0.is_empty()) {
            (false, true) => return Ok(None),
            (false, false) => ("encryption.keys".to_owned(), self.keys.0.clone()),
            (true, true) => {
                let path = self.key_file.display();
                let text = std::fs::read_to_string(&self.key_file);
                let text = text.map_err(|error| {
                    ConfigError(format!("encryption.key_file: cannot read {path}: {error}"))
                })?;
                (format!("encryption.key_file {path}"), text)
            }
            (true, false) => {
                let why = "encryption.key_file and encryption.keys are both set; set one of them";
                return Err(ConfigError(why.to_owned()));
            }
        };
        let keys = SealingKeys::parse(&text);
        keys.map(Some).map_err(|why| ConfigError(format!("{setting}: {why}")))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}
