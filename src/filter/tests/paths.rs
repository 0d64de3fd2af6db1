//! Paths into payloads: what `.` and `:` do with each kind of field.

use super::*;

fn job(cases: &[(&str, bool)]) {
    for (text, expected) in cases {
        let text = format!("metadata.{text}");
        assert_eq!(matches(&text, &Sample::running()), *expected, "{text}");
    }
}

#[test]
fn scalars_are_compared_as_what_they_are() {
    job(&[
        ("title = big.foo", true),
        ("title = *.foo", true),
        ("title = big.*", true),
        ("title != *.foo", false),
        ("title > big", true),
        ("title:big.foo", true),
        ("title:*", true),
        ("count = 42", true),
        ("count = 42.0", true),
        ("count < 42.5", true),
        ("count != 42", false),
        ("count >= 43", false),
        ("count = many", false),
        ("count != many", false),
        ("ratio = 2.5", true),
        ("ratio = 25e-1", true),
        ("ratio > 2", true),
        ("active = true", true),
        ("active != false", true),
        ("active:*", true),
        ("color = RED", true),
        ("color != GREEN", true),
        ("color = 1", false),
        ("color:*", true),
        ("data:*", true),
        ("data = AQI", false),
    ]);
}

#[test]
fn well_known_types_are_compared_as_what_they_stand_for() {
    job(&[
        ("due = 2030-01-31T12:00:00Z", true),
        ("due < 2030-01-31T13:00:00+00:30", true),
        ("due > 2030-01-31T12:00:00.5Z", false),
        ("due.seconds > 0", true),
        ("due:*", true),
        ("took = 1.5s", true),
        ("took > 1s", true),
        ("took < \"1.500000001s\"", true),
        ("took = 1.5", false),
        ("note = hi", true),
        ("note:*", true),
        ("note != hi", false),
    ]);
}

#[test]
fn messages_are_gone_through_and_what_is_unset_passes_nothing() {
    job(&[
        ("owner.name = Ann", true),
        ("owner:*", true),
        ("owner:name", true),
        ("owner:address", false),
        ("owner.address:*", false),
        ("owner.address.city = x", false),
        ("owner.address.city != x", false),
        ("owner.name.x = 1", false),
        ("maybe = 0", false),
        ("maybe != 5", false),
        ("maybe:*", false),
        ("unheard.of = 1", false),
        ("unheard:*", false),
    ]);
    // Without a presence of its own a field has its default.
    let empty = payload(r#"{"@type": "type.googleapis.com/shop.Job"}"#);
    let sample = Sample { payloads: [Some(empty), None, None], ..Sample::running() };
    for (text, expected) in [
        ("metadata.count = 0", true),
        ("metadata.count != 5", true),
        ("metadata.count:*", false),
        ("metadata.title = \"\"", true),
        ("metadata.active = false", true),
        ("metadata.active:*", false),
        ("metadata.color = COLOR_UNSPECIFIED", true),
        ("metadata.color:*", false),
        ("metadata.tags:*", false),
        ("metadata.labels:*", false),
        ("metadata.due < 2030-01-31T12:00:00Z", false),
        ("metadata:*", true),
        ("metadata.@type = shop.Job", true),
    ] {
        assert_eq!(matches(text, &sample), expected, "{text}");
    }
}

#[test]
fn repeated_fields_are_asked_for_what_they_hold() {
    job(&[
        ("tags:new", true),
        ("tags:n*", true),
        ("tags:old", false),
        ("tags:*", true),
        ("tags:(new AND hot)", true),
        ("tags:(old OR hot)", true),
        ("tags:(-old)", true),
        ("tags = new", false),
        ("tags != new", false),
        ("tags.0:new", false),
        ("items.sku:a", true),
        ("items.quantity:1", true),
        ("items.quantity:0", true),
        ("items.quantity:7", false),
        ("items.sku = a", false),
        ("items:quantity", true),
        ("items:*", true),
    ]);
}

#[test]
fn maps_are_asked_for_keys_and_for_their_values() {
    job(&[
        ("labels:zone", true),
        ("labels:z*", true),
        ("labels:nothing", false),
        ("labels:*", true),
        ("labels.zone:*", true),
        ("labels.none:*", true),
        ("labels.nothing:*", false),
        ("labels.zone = eu", true),
        ("labels.\"zone\":eu", true),
        ("labels.zone != us", true),
        ("labels.nothing != us", false),
        ("labels = zone", false),
        ("counts:5", true),
        ("counts.5 = 50", true),
        ("counts.5 > 49", true),
        ("counts.6 = 0", false),
    ]);
}

#[test]
fn structs_are_gone_through_by_what_they_hold() {
    job(&[
        ("extra.n = 7", true),
        ("extra.n = \"7\"", true),
        ("extra.n > 6.5", true),
        ("extra.n:*", true),
        ("extra.t = 7", true),
        ("extra.t > 6", true),
        ("extra:n", true),
        ("extra:nothing", false),
        ("extra:*", true),
        ("extra.deep:nil", true),
        ("extra.deep.nil:*", true),
        ("extra.deep.nil = null", true),
        ("extra.deep.nil != 5", true),
        ("extra.deep.list:1", true),
        ("extra.deep.list:x", true),
        ("extra.deep.list:y", false),
        ("extra.deep.list.k:true", true),
        ("extra.deep.list = x", false),
        ("extra.deep = x", false),
        ("extra.nothing != 5", false),
    ]);
    for (text, expected) in [
        ("request.size = 7", true),
        ("request.to.s3:a", true),
        ("request:size", true),
        ("request.@type = google.protobuf.Struct", true),
    ] {
        assert_eq!(matches(text, &Sample::running()), expected, "{text}");
    }
}

#[test]
fn what_an_any_holds_is_gone_through_by_its_type() {
    job(&[
        ("detail.code = 3", true),
        ("detail.@type = google.rpc.Status", true),
        ("detail.@type = type.googleapis.com/google.rpc.Status", true),
        ("detail.@type = other.example/google.rpc.Status", false),
        ("detail:*", true),
        ("detail:code", true),
        ("detail.nothing = 3", false),
    ]);
    // A type that is not known has a name, and nothing else.
    let foreign = Any { type_url: "type.googleapis.com/a.B".to_owned(), value: vec![8, 1].into() };
    let sample = Sample { payloads: [Some(foreign), None, None], ..Sample::running() };
    for (text, expected) in [
        ("metadata.@type = a.B", true),
        ("metadata.@type:a.*", true),
        ("metadata:*", true),
        ("metadata.x = 1", false),
        ("metadata.x != 1", false),
        ("NOT metadata.x = 1", true),
    ] {
        assert_eq!(matches(text, &sample), expected, "{text}");
    }
}
