//! Futures of frequent calls are moved several times per call, so they stay small.

use std::time::Duration;

use super::{Bench, caller, name, report, request, wish};
use crate::operation::command::Command;
use crate::operation::lease::Token;

#[tokio::test]
async fn futures_of_frequent_calls_are_small() {
    let bench = Bench::new();
    let (engine, caller, name) = (&bench.engine, caller(), name("a"));
    let command = Command::Report(Box::new(report(Token([1; 16]))));
    let sizes = [
        ("start", size_of_val(&engine.start_operation(&caller, request("a")))),
        ("poll", size_of_val(&engine.poll(&caller, &name))),
        ("get", size_of_val(&engine.get(&caller, &name))),
        ("wait", size_of_val(&engine.wait(&caller, &name, Duration::ZERO))),
        ("lease", size_of_val(&engine.lease(&caller, wish(1)))),
        ("work", size_of_val(&engine.work(&caller, &name, command))),
    ];
    for (call, size) in sizes {
        assert!(size <= MOST, "{call}: {size} bytes; put what is rare in it into a box");
    }
}

/// Bytes.
const MOST: usize = 4_096;
