//! One name means one type.

use std::collections::{BTreeMap, BTreeSet};

use super::paths;
use super::sources::sources;

/// Names that several types may have, with the reason. All others mean one thing.
const SHARED_NAMES: &[(&str, &str)] = &[
    ("Change", "an operation's becomes a record's"),
    ("Client", "that of bench has all services, also those without a public client"),
    ("Command", "the command line's, and a command on an operation"),
    ("Connection", "the public one of the worker SDK, and that of the command line"),
    ("Context", "the public one of handlers, and that of the engine's rooms"),
    ("Job", "a configuration that is run many times, and what a worker does with one lease"),
    ("Kind", "of a record, and of a filter's value"),
    ("Options", "always with the name of its module"),
    ("Output", "of a client command, and of bench"),
    ("Payload", "stored, and as a filter sees it"),
    ("Record", "the stored bytes, and an operation's content"),
    ("Report", "of progress, and of bench"),
    ("Schedule", "when a job fires, and when a report of a worker is sent"),
    ("Service", "one for each file of grpc/"),
    ("Test", "of a filter's text, and of a checked filter"),
    ("Watch", "the engine's, and that of the client"),
    ("Worker", "the public one of the SDK, and that of bench"),
];

#[test]
fn every_type_has_a_name_of_its_own() {
    let sources = sources();
    let types = types(&sources);
    assert!(types.contains_key("Engine"), "{types:?}");
    for (name, files) in &types {
        let is_shared = SHARED_NAMES.iter().any(|(shared, _)| shared == name);
        assert!(files.len() == 1 || is_shared, "{name} is defined in each of {files:?}");
    }
    for (name, _) in SHARED_NAMES {
        let files = types.get(*name).map_or(0, BTreeSet::len);
        assert!(files > 1, "{name} is defined {files} times: take it off SHARED_NAMES");
    }
}

/// The files that define each type of the program; types of tests do not count.
fn types(sources: &[(String, String)]) -> BTreeMap<String, BTreeSet<&str>> {
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
