//! The length of the handlers of a face.

use super::sources::sources;

/// Parse, call, convert: a handler that needs more does something that every face would have to repeat.
#[test]
fn a_handler_of_a_face_is_short() {
    const MOST: usize = 15;
    let mut handlers = 0;
    for (path, text) in sources() {
        let services = [
            "admin",
            "callers",
            "jobs",
            "operations",
            "producers",
            "queues",
            "tokens",
            "type_sets",
            "webhooks",
            "workers",
        ];
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
