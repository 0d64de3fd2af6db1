//! Tests that dependencies point one way.

mod handlers;
mod names;
mod paths;
mod places;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

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
    &["address", "clock", "code", "limits", "peer"],
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
            &["callbacks", "http", "jobs", "lists", "load", "newcomer", "sets", "streams"],
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
            &[
                "calls",
                "export",
                "import",
                "job_output",
                "queues",
                "serve",
                "start",
                "stats",
                "tokens",
                "top",
                "type_sets",
                "upgrade",
                "webhooks",
                "workers",
            ],
            &["bench", "follow", "live"],
            &["place", "types"],
            &["connection", "fullscreen", "gauge", "logs", "proto", "record", "screen", "served"],
            &["labels", "output", "table"],
            &["call_args", "exit", "plain"],
        ],
    ),
    ("cli/top", &[&["mod"], &["draw"], &["board"]]),
    (
        "client",
        &[
            &["mod"],
            &["handle", "jobs", "queues", "tokens", "type_sets", "webhooks"],
            &["connection"],
            &["target", "watch"],
            &["channel"],
            &["patience"],
            &["retry"],
            &["outage"],
        ],
    ),
    (
        "config",
        &[
            &["mod"],
            &["encryption", "environment", "identity", "tenants", "tls", "webhooks"],
            &["error", "listen", "lists", "number", "store"],
        ],
    ),
    (
        "engine",
        &[
            &["mod"],
            &["rooms"],
            &["bulk_reruns"],
            &["workers", "token_lists", "type_set_lists", "endpoint_lists"],
            &["operators", "type_sets"],
            &["jobs"],
            &["operations"],
            &["dispatch"],
            &["due"],
            &["courier", "firing", "gates"],
            &["commands"],
            &["notify"],
            &["endpoints", "identity", "leases", "membership", "parent_types", "watching"],
            &["queues"],
            &["transact"],
            &["roster"],
            &["reading"],
            &["tenants"],
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
            &["handshakes", "lanes", "receivers", "schedule", "writes"],
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
    ("engine/due", &[&["mod"], &["agents", "jobs", "operations"], &["entries", "kinds"]]),
    ("engine/endpoints", &[&["mod"], &["listening"], &["found"], &["calls"], &["alter"]]),
    ("engine/firing", &[&["mod"], &["fire"], &["executions", "steps"], &["transactions"]]),
    ("engine/gates", &[&["mod"], &["desk"], &["turn"]]),
    ("engine/identity", &[&["mod"], &["tokens"], &["authority"], &["credential", "links"]]),
    (
        "engine/jobs",
        &[&["mod"], &["rooms"], &["lists"], &["calls", "executions"], &["pages", "view"]],
    ),
    ("engine/leases", &[&["mod"], &["holders", "leased"], &["waiter"], &["grant", "news"]]),
    ("engine/membership", &[&["mod"], &["ranks"]]),
    ("engine/metrics", &[&["mod"], &["queues"]]),
    ("engine/notify", &[&["mod"], &["notifier"], &["gate_news"]]),
    (
        "engine/operations",
        &[
            &["mod"],
            &["reruns", "set_watch"],
            &["starts"],
            &["calls", "eager", "gated", "pages", "replays", "stats"],
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
    ("expression", &[&["mod"], &["expand", "parse"], &["syntax"], &["error", "pointer"]]),
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
            &["callers", "gate", "jobs", "queues", "reflection", "tokens", "type_sets", "webhooks"],
            &["admin", "deadline", "explain", "health", "producers"],
            &["call", "half_close", "status"],
        ],
    ),
    (
        "http",
        &[
            &["mod"],
            &["pages", "random", "status"],
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
            &["callbacks"],
            &["addresses", "parameters", "schemas"],
            &["comments"],
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
    ("layers", &[&["mod"], &["handlers", "names", "places"], &["paths", "sources"]]),
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
            &["gate", "lease", "options", "payload", "rejection"],
            &["callbacks", "due_class", "name", "worker"],
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
            &["histories", "random"],
            &["any", "golden"],
            &["reading"],
            &["kinds"],
            &["delivery", "execution"],
            &["event", "job"],
            &["operation"],
            &["queue"],
            &["endpoint", "gate", "plan", "sample", "server", "tokens", "type_sets"],
            &["kind"],
            &["due", "note", "value"],
        ],
    ),
    (
        "record/golden",
        &[&["mod"], &["fields"], &["files"], &["jobs", "outbox", "records"], &["values"]],
    ),
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
            &["faces", "identity", "keys", "tls"],
            &["recheck"],
            &["sent"],
        ],
    ),
    (
        "server/connections",
        &[
            &["mod"],
            &["answer", "lifetime", "request", "socket"],
            &["account"],
            &["load"],
            &["refusal"],
        ],
    ),
    (
        "store",
        &[
            &["mod"],
            &["differential"],
            &["conformance", "embedded", "faulty", "memory", "redis", "sealed"],
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
            &["hints", "script", "trial"],
            &["fitness", "keys", "link", "packed", "queue"],
            &["options"],
            &["time"],
        ],
    ),
    ("types", &[&["mod"], &["direct"], &["files", "json", "sets"], &["sorted"], &["registry"]]),
    (
        "wire",
        &[
            &["mod"],
            &["access"],
            &["jobs", "queues", "tokens", "type_sets", "webhooks"],
            &["sets", "starts", "stream"],
            &["work"],
            &["operations"],
            &["options", "schedules", "start_callbacks", "views"],
            &["callbacks", "fields", "status", "transcode"],
        ],
    ),
    ("webhook", &[&["mod"], &["endpoint", "uri"]]),
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
