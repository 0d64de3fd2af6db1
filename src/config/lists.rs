//! Lists of settings.

use serde::Deserialize;

/// A list, or a text with commas as in the environment.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + From<String>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ListOrText<T> {
        List(Vec<T>),
        Text(String),
    }
    Ok(match ListOrText::deserialize(deserializer)? {
        ListOrText::List(items) => items,
        ListOrText::Text(text) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(|item| T::from(item.to_owned())).collect()
        }
    })
}

/// Names of headers, which have no case.
pub(super) fn header_names<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let names: Vec<String> = list(deserializer)?;
    let read = |name: &String| match name.parse::<http::HeaderName>() {
        Ok(parsed) => Ok(parsed.as_str().to_owned()),
        Err(_) => Err(serde::de::Error::custom(format!(
            "callback_headers has {name:?}, which is no name of a header such as progressUrl"
        ))),
    };
    names.iter().map(read).collect()
}
