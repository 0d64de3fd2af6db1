//! The callbacks of an operation: frozen at its start, but for its name, which may be part of a URI.

use std::collections::BTreeMap;

use crate::proto::longhaul::v1 as pb;

/// Stands for the name of the operation in the URI of a callback until the name is known. No URI holds a brace.
pub const NAME_MARK: &str = "{name}";

/// The URI with the name of its operation.
pub fn named(uri: &str, name: &str) -> String {
    uri.replace(NAME_MARK, name)
}

/// Puts the name of their operation into callbacks.
pub(super) fn name_all(callbacks: &mut [pb::Callback], name: &str) {
    for callback in callbacks.iter_mut().filter(|callback| callback.uri.contains(NAME_MARK)) {
        callback.uri = named(&callback.uri, name);
    }
}

/// The callbacks as callers and workers see them: values of headers may be secrets and are left out.
pub(super) fn published(callbacks: &[pb::Callback]) -> Vec<pb::Callback> {
    let shown = |callback: &pb::Callback| {
        let names = callback.headers.keys().map(|name| (name.clone(), String::new()));
        pb::Callback { headers: names.collect::<BTreeMap<_, _>>(), ..callback.clone() }
    };
    callbacks.iter().map(shown).collect()
}
