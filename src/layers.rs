//! Tests that dependencies point one way, and that some names occur in one place only.

mod names;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the top down: a module may use modules below it and none above it.
const LAYERS: [&[&str]; 13] = [
    &["main", "cli"],
    &["bench", "worker"],
    &["client", "server"],
    &["config"],
    &["grpc", "http"],
    &["wire"],
    &["engine"],
    &["filter", "record"],
    &["job", "types"],
    &["operation", "store"],
    &["throttle"],
    &["address", "clock", "code", "limits"],
    &["proto"],
];

/// The same inside folders, for their files and folders. `mod` is the folder's own file: what stands below it must name the
/// file that an item is in, not the folder.
const ROOMS: &[(&str, &[&[&str]])] = &[
    (
        "bench",
        &[
            &["mod"],
            &["latency"],
            &["load", "streams"],
            &["run"],
            &["echo", "report"],
            &["client", "cpu", "options"],
        ],
    ),
    (
        "cli",
        &[
            &["mod"],
            &["dev", "job", "rerun", "steer", "work"],
            &["calls", "job_output", "serve", "start", "upgrade"],
            &["bench", "follow", "place"],
            &["connection", "logs", "proto", "record", "screen"],
            &["labels", "output", "table"],
            &["exit", "plain"],
        ],
    ),
    (
        "client",
        &[
            &["mod"],
            &["handle", "jobs"],
            &["connection"],
            &["watch"],
            &["patience"],
            &["retry"],
            &["outage"],
        ],
    ),
    ("config", &[&["mod"], &["environment"], &["error", "listen"]]),
    (
        "engine",
        &[
            &["mod"],
            &["rooms"],
            &["workers"],
            &["jobs"],
            &["operations"],
            &["dispatch"],
            &["due"],
            &["firing"],
            &["commands"],
            &["notify"],
            &["leases", "membership", "watching"],
            &["transact"],
            &["reading"],
            &["context"],
            &["metered"],
            &["metrics", "standstill"],
            &["settings"],
            &["access"],
            &["error", "lately", "random", "tasks"],
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
            &["grants", "waiters"],
        ],
    ),
    ("engine/due", &[&["mod"], &["agents", "jobs", "operations"], &["entries", "kinds"]]),
    ("engine/firing", &[&["mod"], &["fire"], &["executions", "steps"], &["transactions"]]),
    ("engine/jobs", &[&["mod"], &["rooms"], &["calls", "executions"], &["pages", "view"]]),
    ("engine/leases", &[&["mod"], &["holders", "leased"], &["waiter"], &["grant", "news"]]),
    ("engine/membership", &[&["mod"], &["ranks"]]),
    ("engine/notify", &[&["mod"], &["notifier"], &["wakes"]]),
    (
        "engine/operations",
        &[
            &["mod"],
            &["reruns"],
            &["starts"],
            &["attempt", "calls", "pages"],
            &["matching", "sources"],
            &["identity", "page_token", "query"],
        ],
    ),
    ("engine/reading", &[&["mod"], &["reader"], &["recent", "view"]]),
    ("engine/watching", &[&["mod"], &["wait", "watch"], &["hub"]]),
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
        "grpc",
        &[
            &["mod"],
            &["operations", "workers"],
            &["callers", "jobs"],
            &["deadline", "explain", "gate", "health", "producers"],
            &["call", "half_close", "status"],
        ],
    ),
    (
        "http",
        &[
            &["mod"],
            &["status"],
            &["shared", "stream"],
            &["body", "hosts", "methods", "query", "strict"],
            &["error", "routes"],
            &["documents", "template"],
            &["accept", "etag", "prefer", "retry_after"],
        ],
    ),
    (
        "job",
        &[
            &["mod"],
            &["decide", "execution"],
            &["record"],
            &["name", "schedule"],
            &["cron", "zone"],
            &["pattern"],
        ],
    ),
    ("layers", &[&["mod"], &["names"], &["paths"]]),
    (
        "operation",
        &[
            &["mod"],
            &["transition"],
            &["start", "stream", "work"],
            &["due"],
            &["control"],
            &["change"],
            &["command", "entries", "published", "retry"],
            &["record"],
            &["spec"],
            &["lease", "options", "payload", "rejection"],
            &["due_class", "name"],
        ],
    ),
    (
        "record",
        &[
            &["mod"],
            &["any", "golden", "histories"],
            &["reading"],
            &["kinds"],
            &["execution"],
            &["job"],
            &["operation"],
            &["plan", "sample", "server"],
            &["kind"],
            &["due", "note", "value"],
        ],
    ),
    ("record/golden", &[&["mod"], &["fields"], &["files"], &["jobs", "records"], &["values"]]),
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
            &["faces"],
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
    ("types", &[&["mod"], &["files", "json"], &["registry"]]),
    (
        "wire",
        &[
            &["mod"],
            &["access"],
            &["jobs"],
            &["starts", "stream"],
            &["work"],
            &["operations"],
            &["options", "schedules", "views"],
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
const PARTS: [&str; 4] = ["engine/workers/stream/session", "filter", "layers", "worker/session"];

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
    ("tonic::", &["grpc/", "server/", "proto.rs", "client/", "worker/", "bench/", "cli/"]),
];

/// What must not be said in a place where its like may be.
const NOT_IN: [(&str, &str); 1] = [("server/probes.rs", "tonic::")];

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
    let types = names::types(&sources);
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

/// Parse, call, convert: a handler that needs more does something that every face would have to repeat.
#[test]
fn a_handler_of_a_face_is_short() {
    const MOST: usize = 15;
    let mut handlers = 0;
    for (path, text) in sources() {
        let services = ["callers", "jobs", "operations", "producers", "workers"];
        if !services.iter().any(|service| path == format!("grpc/{service}.rs")) {
            continue;
        }
        let mut lines = text.lines();
        while let Some(line) = lines.find(|line| line.starts_with("    async fn ")) {
            if !line.ends_with('{') {
                lines.find(|line| line.starts_with("    ) -> "));
            }
            let body = lines.by_ref().take_while(|line| *line != "    }").count();
            assert!(body <= MOST, "{path}: {body} lines in {line}");
            handlers += 1;
        }
    }
    assert!(handlers >= 20, "{handlers}");
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let relative = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("source");
        (path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned(), text)
    };
    files.into_iter().map(relative).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
