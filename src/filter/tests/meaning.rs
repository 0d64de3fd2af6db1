//! What the fields and functions of an operation mean.

use super::*;
use crate::operation::name::{Name, Queue};
use crate::operation::options::Options;
use crate::operation::payload::Payload as Stored;
use crate::operation::{self, Birth, Spec, Start};

fn holds(sample: &Sample, cases: &[(&str, bool)]) {
    for (text, expected) in cases {
        assert_eq!(matches(text, sample), *expected, "{text}");
    }
}

#[test]
fn fields_and_functions_are_those_of_the_operation() {
    holds(
        &Sample::running(),
        &[
            ("", true),
            ("name = projects/p/operations/one", true),
            ("name = projects/p/operations/*", true),
            ("name = *one", true),
            ("name = projects/*/operations/one*", true),
            ("name = one", false),
            ("name != *two", true),
            ("name > projects/o", true),
            ("name:*", true),
            ("done = false", true),
            ("done != true", true),
            ("done:true", false),
            ("done:*", false),
            ("state() = RUNNING", true),
            ("state() != RUNNING", false),
            ("state():RUNNING", true),
            ("state() = (PENDING OR RUNNING)", true),
            ("method() = resize", true),
            ("method() = r*z*", true),
            ("queue() = images", true),
            ("queue() = queues/images", true),
            ("queue() = queues/im*", true),
            ("queue() != images", false),
            ("progress() = 0.5", true),
            ("progress() >= 5e-1", true),
            ("progress() > 0.5", false),
            ("progress():*", true),
            ("response:*", false),
            ("error:*", false),
        ],
    );
    let done = Sample { state: State::Succeeded, ..Sample::running() };
    holds(&done, &[("done = true", true), ("done:*", true), ("state() = SUCCEEDED", true)]);
}

#[test]
fn labels_are_there_whatever_their_value() {
    holds(
        &Sample::running(),
        &[
            (r#"label("team") = red"#, true),
            (r#"label("team") = "r*""#, true),
            (r#"label("team"):*"#, true),
            (r#"label("empty"):*"#, true),
            (r#"label("empty") = """#, true),
            (r#"label("a.b") = dotted"#, true),
            ("label(a.b) = dotted", true),
            (r#"label("none"):*"#, false),
            (r#"label("none") = """#, false),
            (r#"label("none") != red"#, false),
            (r#"NOT label("none") = red"#, true),
            (r#"-label("none"):*"#, true),
        ],
    );
}

#[test]
fn times_are_compared_as_time_whatever_their_offset() {
    // 2027-01-15T08:00:00Z
    holds(
        &Sample::running(),
        &[
            ("create_time() = 2027-01-15T08:00:00Z", true),
            ("create_time() = 2027-01-15T10:00:00+02:00", true),
            ("create_time() = \"2027-01-15T03:00:00-05:00\"", true),
            ("create_time() >= 2027-01-15T08:00:00Z", true),
            ("create_time() > 2027-01-15T08:00:00Z", false),
            ("create_time() > 2027-01-15T07:59:59.999999Z", true),
            ("create_time() < 2027-01-15T08:00:00.000000001Z", true),
            ("create_time() < 2027-01-15T08:30:00+01:00", false),
            ("create_time() != 2027-01-15T08:00:00Z", false),
            ("create_time():*", true),
        ],
    );
}

#[test]
fn an_error_is_looked_into_down_to_its_details() {
    let failed = Sample::failed();
    holds(
        &failed,
        &[
            ("error:*", true),
            ("error.code = 8", true),
            ("error.code > 7 error.code < 9", true),
            ("error.message = \"*full\"", true),
            ("error:message", true),
            ("error.details:*", true),
            ("error.details.reason:NO_ROOM", true),
            ("error.details.reason:OTHER", false),
            ("error.details.@type:google.rpc.ErrorInfo", true),
            ("error.details.@type:type.googleapis.com/google.rpc.*", true),
        ],
    );
    // What is not there passes no comparison.
    holds(
        &Sample::running(),
        &[
            ("error.code = 8", false),
            ("error.code != 8", false),
            ("NOT error.code = 8", true),
            ("-error:*", true),
            ("progress() = 0.5 OR error.code = 8", true),
        ],
    );
    holds(
        &failed,
        &[("progress() = 0", false), ("progress() != 0", false), ("progress():*", false)],
    );
}

#[test]
fn wildcards_stand_for_anything_and_can_be_meant_literally() {
    let named = |method: &str| Sample { method: method.to_owned(), ..Sample::running() };
    for (pattern, text, expected) in [
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "acd", false),
        ("a*a", "a", false),
        ("*b*", "abc", true),
        ("*", "", true),
        ("**", "x", true),
        ("*ab*ab", "abab", true),
        ("*ab*ab", "ab", false),
        (r"a\*c", "abc", false),
        (r"a\*c", "a*c", true),
        (r"a\\c", r"a\c", true),
    ] {
        let text_of = format!("method() = \"{pattern}\"");
        assert_eq!(matches(&text_of, &named(text)), expected, "{pattern} {text}");
    }
    // An order has no wildcards.
    holds(&named("a*"), &[("method() >= \"a*\"", true), ("method() > a", true)]);
    holds(&named("a"), &[("method() >= \"a*\"", false), ("method():*", true)]);
    holds(&named(""), &[("method():*", false), ("method() = \"\"", true)]);
}

#[test]
fn a_payload_that_is_not_at_hand_is_asked_for_only_where_it_decides() {
    let sample = Sample { detached: true, ..Sample::running() };
    for (text, expected) in [
        ("metadata.count = 42", Verdict::Unknown),
        ("NOT metadata.count = 42", Verdict::Unknown),
        ("done = true AND metadata.count = 42", Verdict::NoMatch),
        ("metadata.count = 42 AND done = true", Verdict::NoMatch),
        ("done = false OR metadata.count = 42", Verdict::Match),
        ("done = true OR metadata.count = 42", Verdict::Unknown),
        ("metadata:*", Verdict::Match),
        ("metadata.@type = shop.Job", Verdict::Match),
        ("metadata.@type != shop.Job", Verdict::NoMatch),
        ("response.count = 42", Verdict::NoMatch),
    ] {
        assert_eq!(filter(text).test(&sample), expected, "{text}");
    }
}
#[test]
fn a_stored_operation_is_seen_as_callers_see_it() {
    let spec = Spec {
        queue: Queue::parse("q").expect("queue"),
        method: "m".to_owned(),
        request: Some(Stored::Inline(payload(r#"{"size": 7}"#))),
        options: Options {
            labels: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
            ..Options::default()
        },
        server_metadata: true,
        ..Spec::default()
    };
    let name = Name::parse("projects/p/operations/x").expect("name");
    let birth =
        Birth { name, uid: uuid::Uuid::nil(), lease: None, admission: None, not_after: None };
    let start = Start { spec, ..Start::default() };
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let record = operation::start(start, birth, now).expect("started").record.expect("a record");
    let operation = record.operation().expect("an operation");
    for (text, expected) in [
        ("name = projects/p/operations/x state() = PENDING done = false", Verdict::Match),
        ("method() = m queue() = q label(team) = red", Verdict::Match),
        ("create_time() = 2027-01-15T08:00:00Z", Verdict::Match),
        ("metadata.@type = longhaul.v1.OperationMetadata metadata.verb = m", Verdict::Match),
        ("request.size = 7", Verdict::Match),
        ("response:* OR error:* OR progress():*", Verdict::NoMatch),
    ] {
        assert_eq!(filter(text).test(operation), expected, "{text}");
    }
}

#[test]
fn every_example_of_the_reference_is_a_filter() {
    let reference = include_str!("../../../docs/filters.md");
    let examples: Vec<_> = reference.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(examples.len() > 3);
    for example in examples {
        filter(example);
    }
}
