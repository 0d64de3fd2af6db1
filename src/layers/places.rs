//! Some texts occur in one place only, and the paths of ARCHITECTURE.md lead somewhere.

use std::fs;
use std::path::Path;

use super::sources::sources;

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
