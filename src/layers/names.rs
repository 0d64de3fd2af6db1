//! Reads the names of types out of sources.

use std::collections::{BTreeMap, BTreeSet};

use super::paths;

/// The files that define each type of the program; types of tests do not count.
pub(super) fn types(sources: &[(String, String)]) -> BTreeMap<String, BTreeSet<&str>> {
    let tests = test_modules(sources);
    let mut types: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (path, text) in sources {
        let module = paths::module(path);
        let is_test = path.contains("test")
            || tests.iter().any(|it| module == *it || module.starts_with(&format!("{it}/")));
        if is_test {
            continue;
        }
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for name in text.lines().filter_map(defined) {
            types.entry(name.to_owned()).or_default().insert(path);
        }
    }
    types
}

/// The type that a line defines.
fn defined(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let keyword = words.iter().position(|word| matches!(*word, "struct" | "enum" | "trait"))?;
    let is_definition = words[..keyword].iter().all(|word| word.starts_with("pub"))
        || (words[0] == "pub(in" && keyword == 2);
    let name = words.get(keyword + 1)?;
    let end = name.find(|it: char| !it.is_alphanumeric()).unwrap_or(name.len());
    (is_definition && end > 0).then_some(&name[..end])
}

/// Modules that exist in tests only.
fn test_modules(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (path, text) in sources {
        let folder = paths::module(path);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let declared = pair[1].strip_suffix(';').and_then(|line| line.split_once("mod "));
            if let Some((_, name)) = declared {
                let below = if folder == "lib" { String::new() } else { format!("{folder}/") };
                modules.insert(format!("{below}{name}"));
            }
        }
    }
    modules
}
