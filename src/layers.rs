//! Tests that dependencies point one way.

mod handlers;
mod names;
mod paths;
mod places;
mod rooms;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use self::rooms::ROOMS;
use self::sources::sources;

/// From the top down: a module may use modules below it and none above it.
const LAYERS: [&[&str]; 17] = [
    &["main", "cli"],
    &["bench", "worker"],
    &["client", "server"],
    &["config"],
    &["grpc", "http"],
    &["archive"],
    &["wire"],
    &["engine"],
    &["filter", "post", "record"],
    &["job", "types"],
    &["expression"],
    &["webhook"],
    &["operation", "store"],
    &["throttle"],
    &["machine"],
    &["address", "clock", "code", "limits", "peer", "turn"],
    &["proto"],
];

/// Folders without an order. In those of sessions, each file adds methods to the one type of its folder.
const PARTS: [&str; 2] = ["engine/workers/stream/session", "worker/session"];

/// Modules of the client's side, and the modules of the server's side that each must not use although they stand below it.
const CLIENTS: [(&str, &[&str]); 2] = [
    ("client", &["config", "grpc", "wire", "engine", "record", "operation", "store", "throttle"]),
    ("worker", &["server", "config", "grpc", "engine", "record", "store", "throttle"]),
];

#[test]
fn dependencies_point_one_way() {
    for (path, text) in sources() {
        let module = path.split(['/', '.']).next().unwrap_or_default();
        let Some(layer) = LAYERS.iter().position(|layer| layer.contains(&module)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let used = line.split("crate::").skip(1).map(|rest| {
                rest.split(|byte: char| !byte.is_alphanumeric() && byte != '_')
                    .next()
                    .unwrap_or_default()
            });
            for used in used {
                let below = LAYERS
                    .iter()
                    .position(|layer| layer.contains(&used))
                    .is_none_or(|other| used == module || other > layer);
                let apart =
                    CLIENTS.iter().any(|(client, not)| *client == module && not.contains(&used));
                assert!(below && !apart, "{path}:{}: {module} must not use {used}", number + 1);
            }
        }
    }
}

#[test]
fn dependencies_inside_a_folder_point_one_way() {
    let sources = sources();
    let modules: BTreeSet<String> = sources.iter().map(|(path, _)| paths::module(path)).collect();
    for (folder, rooms) in ROOMS {
        let position = |room: &str| rooms.iter().position(|row| row.contains(&room));
        for (path, text) in sources.iter().filter(|(path, _)| !path.contains("test")) {
            let module = paths::module(path);
            let Some(room) = paths::room(folder, &module, &modules) else { continue };
            let above = position(&room);
            assert!(above.is_some(), "{path}: {room} must have its place in ROOMS of {folder}");
            for used in paths::used(&module, text) {
                let Some(other) = paths::room(folder, &used, &modules) else { continue };
                let below = position(&other) > above;
                assert!(room == other || below, "{path}: {room} must not use {other} ({used})");
            }
        }
    }
}

#[test]
fn every_folder_has_its_order() {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    for (path, _) in sources().iter().filter(|(path, _)| !path.contains("test")) {
        let Some((folder, _)) = path.rsplit_once('/') else { continue };
        *folders.entry(folder.to_owned()).or_default() += 1;
    }
    for (folder, files) in folders {
        let placed = ROOMS.iter().any(|(room, _)| *room == folder) || PARTS.contains(&&*folder);
        assert!(placed || files == 1, "{folder} must have its place in ROOMS");
    }
}
