//! Gathers the comments of definitions by the full names of what they describe.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The comments as a Rust slice of names and texts, in the order of the names.
pub(crate) fn written(set: &FileDescriptorSet) -> String {
    let mut comments = Comments::default();
    for file in set.file.iter().filter(|file| !LEFT_OUT.contains(&file.package())) {
        comments.file(file);
    }
    let mut list = String::from("&[\n");
    for (name, text) in &comments.found {
        // Writing to a string cannot fail.
        let _ = writeln!(list, "({name:?}, {text:?}),");
    }
    list + "]"
}

#[derive(Default)]
struct Comments {
    found: BTreeMap<String, String>,
    /// Those of the present file, by the paths of `SourceCodeInfo`.
    here: HashMap<Vec<i32>, String>,
}

impl Comments {
    fn file(&mut self, file: &FileDescriptorProto) {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let texts = locations.filter(|location| location.leading_comments.is_some());
        self.here = texts
            .map(|location| (location.path.clone(), joined(location.leading_comments())))
            .collect();
        let package = file.package();
        for (place, message) in (0..).zip(&file.message_type) {
            self.message(package, &[4, place], message);
        }
        for (place, values) in (0..).zip(&file.enum_type) {
            self.values(package, &[5, place], values);
        }
        for (place, service) in (0..).zip(&file.service) {
            let name = format!("{package}.{}", service.name());
            self.take(&name, &[6, place]);
            for (inner, method) in (0..).zip(&service.method) {
                self.take(&format!("{name}.{}", method.name()), &[6, place, 2, inner]);
            }
        }
    }

    fn message(&mut self, scope: &str, path: &[i32], message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        self.take(&name, path);
        for (place, field) in (0..).zip(&message.field) {
            self.take(&format!("{name}.{}", field.name()), &[path, &[2, place]].concat());
        }
        for (place, inner) in (0..).zip(&message.nested_type) {
            self.message(&name, &[path, &[3, place]].concat(), inner);
        }
        for (place, values) in (0..).zip(&message.enum_type) {
            self.values(&name, &[path, &[4, place]].concat(), values);
        }
    }

    /// The full name of a value is a sibling of its enum's.
    fn values(&mut self, scope: &str, path: &[i32], values: &EnumDescriptorProto) {
        self.take(&format!("{scope}.{}", values.name()), path);
        for (place, value) in (0..).zip(&values.value) {
            self.take(&format!("{scope}.{}", value.name()), &[path, &[2, place]].concat());
        }
    }

    fn take(&mut self, name: &str, path: &[i32]) {
        if let Some(text) = self.here.remove(path) {
            self.found.insert(name.to_owned(), text);
        }
    }
}

/// Lines of one paragraph become one line; empty lines stay.
fn joined(comment: &str) -> String {
    let paragraphs = comment.trim().split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Packages whose comments nothing shows.
const LEFT_OUT: [&str; 4] =
    ["google.api", "google.protobuf", "grpc.health.v1", "longhaul.store.v1"];
