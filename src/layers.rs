//! Tests that dependencies point one way, and that some names occur in one place only.

mod handlers;
mod names;
mod paths;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use self::sources::sources;

/// From the top down: a module may use modules below it and none above it.
const LAYERS: [&[&str]; 15] = [
    &["main", "cli"],
    &["bench", "worker"],
    &["client", "server"],
    &["config"],
    &["grpc", "http"],
    &["archive"],
    &["wire"],
    &["engine"],
    &["filter", "post", "record"],
    &["types"],
    &["operation", "store"],
    &["throttle"],
    &["machine"],
    &["address", "clock", "code", "limits"],
    &["proto"],
];

/// The same inside folders. `mod` is the folder's own file: what stands below it must name the file that an item is in.
const ROOMS: &[(&str, &[&[&str]])] = &[
    (
        "archive",
        &[
            &["mod"],
            &["synthetic"],
            &["import"],
            &["export", "reader"],
            &["walk"],
            &["content", "line"],
        ],
    ),
    (
        "bench",
        &[
            &["mod"],
            &["latency"],
            &["http", "lists", "load", "sets", "streams"],
            &["run"],
            &["echo", "report"],
            &["client", "cpu", "options"],
        ],
    ),
    (
        "cli",
        &[
            &["mod"],
            &["dev", "steer", "work"],
            &[
                "calls",
                "export",
                "import",
                "queues",
                "serve",
                "start",
                "stats",
                "tokens",
                "top",
                "type_sets",
                "upgrade",
                "workers",
            ],
            &["bench", "follow", "live"],
            &["place", "types"],
            &["connection", "fullscreen", "gauge", "logs", "proto", "record", "screen", "served"],
            &["labels", "output", "table"],
            &["exit", "plain"],
        ],
    ),
    ("cli/top", &[&["mod"], &["draw"], &["board"]]),
    (
        "client",
        &[
            &["mod"],
            &["handle", "queues", "tokens", "type_sets"],
            &["connection"],
            &["watch"],
            &["patience"],
            &["retry"],
            &["outage"],
        ],
    ),
    (
        "config",
        &[&["mod"], &["environment", "identity", "webhooks"], &["error", "listen", "lists"]],
    ),
    (
        "engine",
        &[
            &["mod"],
            &["rooms"],
            &["workers", "token_lists", "type_set_lists"],
            &["operators", "type_sets"],
            &["operations"],
            &["dispatch"],
            &["due"],
            &["courier"],
            &["commands"],
            &["notify"],
            &["identity", "leases", "membership", "parent_types", "watching"],
            &["queues"],
            &["transact"],
            &["roster"],
            &["reading"],
            &["context"],
            &["metered"],
            &["metrics", "standstill"],
            &["settings"],
            &["roles"],
            &["access", "sealing"],
            &["bindings", "error", "jwt", "lately", "random", "tasks"],
        ],
    ),
    (
        "engine/courier",
        &[
            &["mod"],
            &["agent"],
            &["letters", "resolver", "settling"],
            &["lanes", "schedule", "writes"],
        ],
    ),
    ("engine/commands", &[&["mod"], &["progress"], &["apply"], &["coalescer"]]),
    (
        "engine/dispatch",
        &[
            &["mod"],
            &["registration"],
            &["batch", "dispatcher"],
            &["poller"],
            &["grants", "turns", "waiters"],
        ],
    ),
    ("engine/due", &[&["mod"], &["agents", "operations"], &["entries", "kinds"]]),
    ("engine/identity", &[&["mod"], &["tokens"], &["authority"], &["credential", "links"]]),
    ("engine/leases", &[&["mod"], &["holders", "leased"], &["waiter"], &["grant", "news"]]),
    ("engine/membership", &[&["mod"], &["ranks"]]),
    ("engine/metrics", &[&["mod"], &["queues"]]),
    ("engine/notify", &[&["mod"], &["notifier"]]),
    (
        "engine/operations",
        &[
            &["mod"],
            &["set_watch", "starts"],
            &["calls", "eager", "pages", "replays", "stats"],
            &["attempt", "sources"],
            &["parents"],
            &["reach"],
            &["identity", "page_token", "query", "set_event"],
        ],
    ),
    ("engine/queues", &[&["mod"], &["known"], &["bucket", "wakes"]]),
    ("engine/roster", &[&["mod"], &["registry"], &["activity", "unary"]]),
    ("engine/operators", &[&["mod"], &["workers"], &["measure"], &["queues"], &["changes"]]),
    ("engine/reading", &[&["mod"], &["matching"], &["reader"], &["recent", "view"]]),
    ("engine/watching", &[&["mod"], &["wait", "watch"], &["hub", "sets"]]),
    (
        "engine/watching/sets",
        &[
            &["mod"],
            &["follower"],
            &["intake"],
            &["evaluator", "ring"],
            &["set"],
            &["log"],
            &["positions"],
        ],
    ),
    ("engine/workers", &[&["mod"], &["stream", "unary"]]),
    (
        "engine/workers/stream",
        &[
            &["mod"],
            &["session"],
            &["calls", "holdings", "outgoing"],
            &["patience"],
            &["messages", "rooms"],
        ],
    ),
    (
        "filter",
        &[
            &["mod"],
            &["plan"],
            &["checked"],
            &["check", "evaluate", "order", "parse"],
            &["condition", "typed"],
            &["error", "literal", "seen"],
            &["syntax"],
        ],
    ),
    (
        "grpc",
        &[
            &["mod"],
            &["operations", "workers"],
            &["gate", "queues", "reflection", "tokens", "type_sets"],
            &["admin", "callers", "deadline", "explain", "health", "producers"],
            &["call", "half_close", "status"],
        ],
    ),
    (
        "http",
        &[
            &["mod"],
            &["pages", "status"],
            &["openapi", "stream"],
            &["shared"],
            &["body", "hosts", "idempotency", "methods", "query", "strict"],
            &["error", "origins", "routes"],
            &["documents", "template"],
            &["accept", "etag", "prefer", "reference", "retry_after"],
        ],
    ),
    (
        "http/openapi",
        &[
            &["mod"],
            &["operations"],
            &["answers", "documents"],
            &["addresses", "parameters", "schemas"],
            &["comments"],
        ],
    ),
    ("layers", &[&["mod"], &["handlers", "names"], &["paths", "sources"]]),
    (
        "operation",
        &[
            &["mod"],
            &["transition"],
            &["start", "stream", "work"],
            &["due"],
            &["control"],
            &["change"],
            &["command", "counters", "entries", "events", "published", "retry"],
            &["record"],
            &["spec"],
            &["lease", "options", "payload", "rejection"],
            &["due_class", "name", "worker"],
        ],
    ),
    (
        "post",
        &[
            &["mod"],
            &["carrier"],
            &["connector", "letter", "reply"],
            &["guard", "sign"],
            &["address"],
        ],
    ),
    ("proto", &[&["mod"], &["codec", "encoded"]]),
    (
        "record",
        &[
            &["mod"],
            &["any", "golden", "histories"],
            &["reading"],
            &["kinds"],
            &["delivery"],
            &["event"],
            &["operation"],
            &["queue"],
            &["plan", "sample", "server", "tokens", "type_sets"],
            &["kind"],
            &["due", "note", "value"],
        ],
    ),
    ("record/golden", &[&["mod"], &["fields"], &["files"], &["outbox", "records"], &["values"]]),
    ("record/histories", &[&["mod"], &["commands", "found"], &["history"], &["steps"]]),
    (
        "record/operation",
        &[
            &["mod"],
            &["decode"],
            &["bodies", "encode", "glance"],
            &["parts", "spec"],
            &["payload", "times"],
        ],
    ),
    (
        "server",
        &[
            &["mod"],
            &["opening", "waiting"],
            &["cores", "probes"],
            &["connections", "lane"],
            &["faces", "identity", "keys"],
            &["recheck"],
            &["sent"],
        ],
    ),
    ("server/connections", &[&["mod"], &["answer", "request"], &["account", "refusal"]]),
    (
        "store",
        &[
            &["mod"],
            &["differential"],
            &["conformance", "embedded", "faulty", "memory", "redis"],
            &["backend"],
            &["write_set"],
            &["feed", "index", "keyspace"],
            &["clocks", "error", "key", "layout"],
        ],
    ),
    (
        "store/conformance",
        &[
            &["mod"],
            &["lifetime"],
            &[
                "checks",
                "concurrency",
                "counters",
                "feed",
                "indexes",
                "records",
                "revisions",
                "sets",
                "volume",
            ],
            &["harness"],
        ],
    ),
    (
        "store/embedded",
        &[
            &["mod"],
            &["writer"],
            &["open"],
            &["ground", "group", "mirror", "time"],
            &["damage", "floor", "high_water", "options", "tables", "torn"],
        ],
    ),
    (
        "store/redis",
        &[
            &["mod"],
            &["listener", "reading", "writing"],
            &["call", "opening", "shared"],
            &["hints", "options", "script", "trial"],
            &["fitness", "keys", "link", "packed", "queue", "time"],
        ],
    ),
    ("types", &[&["mod"], &["direct"], &["files", "json", "sets"], &["sorted"], &["registry"]]),
    (
        "wire",
        &[
            &["mod"],
            &["access"],
            &["queues", "tokens", "type_sets"],
            &["sets", "starts", "stream"],
            &["work"],
            &["operations"],
            &["options", "views"],
            &["fields", "status", "transcode"],
        ],
    ),
    ("wire/transcode", &[&["mod"], &["read", "write"]]),
    (
        "worker",
        &[
            &["mod"],
            &["command", "demo"],
            &["builder"],
            &["handlers", "serve"],
            &["connection", "context"],
            &["shared"],
            &["session"],
            &["stop"],
            &["job", "payload"],
        ],
    ),
    (
        "worker/command",
        &[
            &["mod"],
            &["runner"],
            &["ending"],
            &["output"],
            &["program", "response"],
            &["guard", "lines", "lookup", "options"],
        ],
    ),
];

/// Folders without an order. In those of sessions, each file adds methods to the one type of its folder.
const PARTS: [&str; 2] = ["engine/workers/stream/session", "worker/session"];

/// Modules of the client's side, and the modules of the server's side that each must not use although they stand below it.
const CLIENTS: [(&str, &[&str]); 2] = [
    ("client", &["config", "grpc", "wire", "engine", "record", "operation", "store", "throttle"]),
    ("worker", &["server", "config", "grpc", "engine", "record", "store", "throttle"]),
];

/// Texts that may occur in one place only, with the place.
const PLACES: [(&str, &[&str]); 8] = [
    // It copies its payload with every clone; ours is in proto.rs.
    ("prost_types::Any", &[]),
    ("redis::", &["store/redis/", "store/mod.rs", "store/differential.rs", "server/opening.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("tokio::time::sleep", &["clock.rs"]),
    ("tokio::spawn(", &[]),
    ("println!", &["cli/output.rs", "layers.rs"]),
    ("thread_local!", &["server/lane.rs"]),
    (
        "tonic::",
        &["grpc/", "server/", "proto.rs", "proto/codec.rs", "client/", "worker/", "bench/", "cli/"],
    ),
];

/// What must not be said in a place where its like may be.
const NOT_IN: [(&str, &str); 1] = [("server/probes.rs", "tonic::")];

#[test]
fn every_path_in_the_architecture_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut paths = 0;
    for path in page.split('`').skip(1).step_by(2) {
        let is_path = path.contains('/')
            || Path::new(path).extension().is_some_and(|it| it == "rs" || it == "md");
        if !is_path || path.starts_with('/') || path.contains([' ', '*', ':', '\n']) {
            continue;
        }
        let exists = root.join(path).exists() || root.join("src").join(path).exists();
        assert!(exists, "ARCHITECTURE.md names {path}, which does not exist");
        paths += 1;
    }
    assert!(paths > 80, "{paths}");
}

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

#[test]
fn what_belongs_in_one_place_is_in_that_place() {
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for (said, places) in PLACES {
                let allowed = path.starts_with("layers")
                    || path.contains("test")
                    || places.iter().any(|place| path.starts_with(place));
                assert!(
                    allowed || !line.contains(said),
                    "{path}: {said} belongs into {places:?}: {line}"
                );
            }
            for (place, said) in NOT_IN {
                assert!(path != place || !line.contains(said), "{path}: without {said}: {line}");
            }
        }
    }
}
