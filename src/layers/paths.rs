//! Reads the paths of other modules out of a source.

use std::collections::BTreeSet;

/// The module of a file, such as `engine/due` of `engine/due/mod.rs`.
pub(super) fn module(path: &str) -> String {
    let path = path.trim_end_matches(".rs");
    path.strip_suffix("/mod").unwrap_or(path).to_owned()
}

/// The file or folder inside `folder` that a path leads to; `mod` where it is the folder's own.
pub(super) fn room(folder: &str, path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let inside = path.strip_prefix(folder)?;
    if inside.is_empty() {
        return Some("mod".to_owned());
    }
    let room = inside.strip_prefix('/')?.split('/').next().unwrap_or_default();
    let is_module = modules.contains(&format!("{folder}/{room}"));
    Some(if is_module { room } else { "mod" }.to_owned())
}

/// The paths that a module uses, as if they were files.
pub(super) fn used(module: &str, text: &str) -> Vec<String> {
    // Tests at the end of a file may use anything.
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"];
    let end = tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len());
    let text = &text[..end];
    let code: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("pub(in ", "pub(");
    let mut paths = Vec::new();
    for (start, _) in code.match_indices("::") {
        let before = &code[..start];
        let word = before.rfind(|it: char| !is_word(it)).map_or(0, |end| end + 1);
        let is_visibility = code[..word].ends_with("pub(");
        if matches!(&before[word..], "crate" | "super" | "self")
            && !code[..word].ends_with("::")
            && !is_visibility
        {
            expand(&code[word..], &[], &mut paths);
        }
    }
    paths.iter().map(|path| resolve(module, path)).collect()
}

/// Reads one path, or all of a tree of paths in braces; returns what follows.
fn expand<'a>(mut rest: &'a str, prefix: &[&'a str], paths: &mut Vec<Vec<&'a str>>) -> &'a str {
    let mut path = prefix.to_vec();
    loop {
        if let Some(list) = rest.strip_prefix('{') {
            rest = list.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                rest = expand(rest, &path, paths);
                // What an item is renamed to does not matter.
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                rest = rest[end..].trim_start_matches(',').trim_start();
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|it| !is_word(it)).unwrap_or(rest.len());
        path.push(&rest[..end]);
        rest = &rest[end..];
        let Some(after) = rest.strip_prefix("::") else {
            paths.push(path);
            return rest;
        };
        rest = after;
    }
}

fn resolve(module: &str, path: &[&str]) -> String {
    let mut full: Vec<&str> = module.split('/').collect();
    for part in path {
        match *part {
            "crate" => full.clear(),
            "self" => {}
            "super" => drop(full.pop()),
            part => full.push(part),
        }
    }
    full.join("/")
}

fn is_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_out_of_a_source() {
        let text = "use super::b::{C, d::{self, E}};\npub(in crate::x) fn f() { crate::y::g() }\n";
        let found = used("x/a", text);
        assert_eq!(found, ["x/b/C", "x/b/d", "x/b/d/E", "y/g"]);
    }
}
