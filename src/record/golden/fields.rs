//! Every kind and every field of the stored messages is in a golden record.

use std::collections::BTreeSet;
use std::fs;

use prost_reflect::{DescriptorPool, DynamicMessage, Value};

use super::files::{ROOT, folder, golden};
use crate::proto::STORED_DESCRIPTORS;

const PACKAGE: &str = "longhaul.store.v1";

/// Fields that no record of format 1 has, with the reason.
const WITHOUT: [(&str, &str); 2] = [
    ("Record.format", "unset means format 1"),
    ("Root.importing", "unset once the import is complete"),
];

#[test]
fn every_stored_field_is_in_a_golden_record() {
    let pool = pool();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder()).expect("the golden files") {
        let file = entry.expect("a file").file_name().into_string().expect("a plain name");
        let file = file.trim_end_matches(".bin");
        let bytes = golden(file);
        let root = bytes.strip_prefix(b"longhaul\0").filter(|_| file == ROOT);
        let message = match root {
            Some(root) => decode(&pool, "Root", root),
            None => decode(&pool, "Record", &bytes),
        };
        note(&pool, &message, &mut found);
    }
    let without: BTreeSet<String> = WITHOUT.map(|(field, _)| format!("{PACKAGE}.{field}")).into();
    let missing: Vec<String> =
        all(&pool).difference(&found).filter(|field| !without.contains(*field)).cloned().collect();
    assert!(missing.is_empty(), "add a golden record that has these fields: {missing:?}");
    assert!(without.is_disjoint(&found), "these are in a record: {without:?}");
}

/// The full names of all stored fields.
fn all(pool: &DescriptorPool) -> BTreeSet<String> {
    pool.all_messages()
        .filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
        .flat_map(|message| {
            message.fields().map(|field| field.full_name().to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

/// Collects the names of the fields that are set in a message and in the messages inside it.
fn note(pool: &DescriptorPool, message: &DynamicMessage, found: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        found.insert(field.full_name().to_owned());
        match value {
            Value::Message(inner) => note(pool, inner, found),
            Value::List(values) => {
                values.iter().filter_map(Value::as_message).for_each(|it| note(pool, it, found));
            }
            Value::Bytes(spec) if field.name() == "spec" => {
                note(pool, &decode(pool, "Spec", spec), found);
            }
            _ => {}
        }
    }
}

fn decode(pool: &DescriptorPool, name: &str, bytes: &[u8]) -> DynamicMessage {
    let descriptor = pool.get_message_by_name(&format!("{PACKAGE}.{name}")).expect("a message");
    DynamicMessage::decode(descriptor, bytes).expect("a golden file")
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(STORED_DESCRIPTORS).expect("build.rs has compiled the stored form")
}
