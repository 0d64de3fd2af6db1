//! What is refused, where, and what the refusal says.

use super::*;
use crate::limits::{MAX_FILTER_BYTES, MAX_FILTER_DEPTH, MAX_FILTER_PATH, MAX_FILTER_TERMS};

fn refused(cases: &[(&str, usize, &str)]) {
    for (text, position, part) in cases {
        let error = Filter::parse(text, &TYPES).expect_err(text);
        assert!(error.message.contains(part), "{text}: {error}");
        assert_eq!(error.position, *position, "{text}: {error}");
    }
}

#[test]
fn a_text_outside_the_grammar_is_refused_where_it_leaves_it() {
    refused(&[
        ("AND a", 0, "a condition is missing"),
        ("done = true AND", 12, "AND needs a condition"),
        ("done = true OR", 12, "OR needs a condition"),
        ("done = true AND OR done = true", 12, "AND needs a condition"),
        ("NOT", 0, "a condition is missing"),
        ("NOT(done = true)", 0, "NOT needs a blank"),
        ("done = true AND NOT(done = true)", 16, "NOT needs a blank"),
        ("- done = true", 0, "a minus needs a condition right after it"),
        ("done = true NOT", 12, "NOT needs"),
        ("done = true -", 12, "minus"),
        ("(done = true", 0, "not closed"),
        ("()", 0, "nothing stands between"),
        ("done = true)", 11, "no parenthesis is open"),
        ("(done = true , x)", 13, "','"),
        ("done =", 6, "a value is missing"),
        ("done = AND", 7, "a value is missing"),
        ("= true", 0, "a condition is missing"),
        ("done = true = false", 12, "before it"),
        ("done == true", 5, "no comparison"),
        ("done <> true", 5, "no comparison"),
        ("name = \"open", 7, "not closed"),
        (r#"name = "a\n""#, 9, "backslash"),
        ("metadata. = 1", 9, "a name is missing"),
        (".a = 1", 0, "a condition is missing"),
        ("label(\"k\" = v", 0, "not closed"),
        ("label(\"k\",) = v", 0, "argument"),
        ("name = cohort(request.user)", 7, "only on the left"),
        ("a[0] = 1", 0, "no field a[0]"),
        ("name = a\"b\"", 7, "quote the whole"),
    ]);
}

#[test]
fn an_unknown_name_is_refused_with_the_one_that_was_meant() {
    refused(&[
        ("nmae = x", 0, "did you mean name?"),
        ("metdata.x = 1", 0, "did you mean metadata?"),
        ("stat() = RUNNING", 0, "did you mean state()?"),
        ("createTime() > 2030-01-31T12:00:00Z", 0, "did you mean create_time()?"),
        ("state = RUNNING", 0, "write state()"),
        ("label = red", 0, "write label(\"KEY\")"),
        ("name() = x", 0, "without parentheses"),
        ("nothing = 1", 0, "there are name, done"),
        ("done = true name.x = 1", 12, "name has no field x"),
        ("label() = x", 0, "one argument"),
        ("state(1) = RUNNING", 0, "no arguments"),
        ("prod", 0, "write FIELD = prod"),
        ("label", 0, "write label(\"KEY\")"),
        ("done = true && done = true", 12, "write AND"),
        ("done = true and done = true", 12, "write AND"),
        ("done = true or done = true", 12, "write OR"),
        ("done = true || done = true", 12, "write OR"),
        ("not done = true", 0, "write NOT"),
        ("done", 0, "done = true"),
        ("state()", 0, "write state() = VALUE"),
    ]);
}

#[test]
fn a_value_of_another_type_is_refused() {
    refused(&[
        ("done = yes", 7, "not true or false"),
        ("done > true", 7, "no order"),
        ("state() = running", 10, "did you mean RUNNING?"),
        ("state() = DONE", 10, "there are PENDING"),
        ("state() = RUN*", 10, "no state"),
        ("state() > RUNNING", 10, "no order"),
        ("create_time() > yesterday", 16, "2030-01-31T12:00:00Z"),
        ("create_time() > 2030-01-31", 16, "not a time"),
        ("create_time() > 2030-01-31T12:00:00", 16, "not a time"),
        ("create_time() > 2030-13-31T12:00:00Z", 16, "not a time"),
        ("progress() > half", 13, "not a number"),
        ("progress() > nan", 13, "not a number"),
        ("progress() > inf", 13, "not a number"),
        ("error.code = NOT_FOUND", 0, "not a number"),
        ("error.cod = 5", 0, "did you mean code?"),
        ("error = 5", 0, "is a message"),
        ("error.code.x = 5", 0, "no field x"),
        ("error.details = 5", 0, "is repeated"),
        ("metadata = 5", 0, "is a message"),
        ("metadata.@type.x = 5", 0, "has no fields"),
    ]);
}

#[test]
fn paths_are_checked_by_the_type_that_the_filter_demands() {
    for (path, part) in [
        ("metadata.titel = x", "did you mean title?"),
        ("metadata.owner.nam = x", "did you mean name?"),
        ("metadata.color = red", "did you mean RED?"),
        ("metadata.color > RED", "no order"),
        ("metadata.count = many", "not a number"),
        ("metadata.active = 1", "not true or false"),
        ("metadata.due = 5", "not a time"),
        ("metadata.took = 5", "not a duration"),
        ("metadata.tags = new", "ask by tags:VALUE"),
        ("metadata.items.sku = a", "ask by items:VALUE"),
        ("metadata.labels = x", "is a map"),
        ("metadata.owner = x", "is a message"),
        ("metadata.owner:nam", "did you mean name?"),
        ("metadata.data = AQI", "holds bytes"),
        ("metadata.title.x = 1", "no field x"),
        ("metadata.dueTime = x", "no field dueTime"),
    ] {
        let text = format!("metadata.@type = shop.Job AND (done = true OR {path})");
        let error = Filter::parse(&text, &TYPES).expect_err(&text);
        assert!(error.message.contains(part), "{text}: {error}");
        // Without the type, nothing is known to be wrong.
        filter(path);
    }
    refused(&[("metadata.@type = a.B AND metadata.x = 1", 25, "--descriptor-set")]);
    filter("metadata.@type = a.B");
    filter("metadata.@type = a.* AND metadata.x = 1");
    filter("metadata.@type = type.googleapis.com/shop.Job metadata.extra.x.y = 1");
}

#[test]
fn a_filter_is_bounded_in_length_conditions_parentheses_and_names() {
    let long = format!("name = \"{}\"", "x".repeat(MAX_FILTER_BYTES));
    let terms = |count: usize| vec!["done = true"; count].join(" ");
    let group = format!("name = ({})", vec!["a"; MAX_FILTER_TERMS + 1].join(" OR "));
    let nested = |depth: usize| format!("{}done = true{}", "(".repeat(depth), ")".repeat(depth));
    let path = |names: usize| format!("metadata{} = 1", ".a".repeat(names - 1));
    for (text, part) in [
        (&long, "bytes"),
        (&terms(MAX_FILTER_TERMS + 1), "conditions"),
        (&group, "conditions"),
        (&nested(MAX_FILTER_DEPTH + 1), "deep"),
        (&nested(1_500), "deep"),
        (&path(MAX_FILTER_PATH + 1), "names"),
    ] {
        let error = Filter::parse(text, &TYPES).expect_err(part);
        assert!(error.message.contains(part), "{error}");
    }
    for text in [terms(MAX_FILTER_TERMS), nested(MAX_FILTER_DEPTH), path(MAX_FILTER_PATH)] {
        filter(&text);
    }
}

#[test]
fn an_order_names_the_time_of_creation_alone() {
    for text in ["", " ", "create_time desc", "  create_time   desc "] {
        assert_eq!(Order::parse(text), Ok(Order::NewestFirst), "{text}");
    }
    assert_eq!(Order::parse(" create_time "), Ok(Order::OldestFirst));
    for order in [Order::NewestFirst, Order::OldestFirst] {
        assert_eq!(Order::parse(order.canonical()), Ok(order));
    }
    for (text, position, part) in [
        ("name", 0, "no order by name"),
        (" createTime", 1, "did you mean create_time?"),
        ("create_time asc", 12, "desc"),
        ("create_time DESC", 12, "\"DESC\""),
        ("create_time desc desc", 17, "not expected"),
        ("create_time, name", 11, "only field"),
        ("create_time,", 11, "only field"),
        (", create_time", 0, "missing"),
    ] {
        let error = Order::parse(text).expect_err(text);
        assert!(error.message.contains(part), "{text}: {error}");
        assert_eq!(error.position, position, "{text}: {error}");
    }
}
