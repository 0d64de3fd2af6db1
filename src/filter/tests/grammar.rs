//! Every rule of the grammar, and the examples that AIP-160 and its grammar give.

use crate::filter::parse::parse;

fn canonical(text: &str) -> String {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).expect(text).to_string()
}

fn all_are(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(canonical(text), *expected, "{text}");
        assert_eq!(canonical(expected), *expected, "its own canonical form");
    }
}

#[test]
fn a_filter_may_be_empty() {
    for text in ["", "  ", "\t\n"] {
        assert_eq!(parse(text), Ok(None));
    }
}

#[test]
fn or_binds_tighter_than_and_and_blanks_mean_and() {
    all_are(&[
        ("a AND b OR c", "a AND (b OR c)"),
        ("a OR b AND c", "(a OR b) AND c"),
        ("a OR b OR c", "a OR b OR c"),
        ("a b AND c AND d", "a AND b AND c AND d"),
        ("(a b) AND c AND d", "a AND b AND c AND d"),
        ("New York Giants OR Yankees", "New AND York AND (Giants OR Yankees)"),
        ("New York (Giants OR Yankees)", "New AND York AND (Giants OR Yankees)"),
        ("a OR (b AND c)", "a OR (b AND c)"),
        ("a OR (b OR c)", "a OR b OR c"),
        ("  a   AND\n\tb  ", "a AND b"),
        ("((a))", "a"),
        ("( a )", "a"),
        ("a(b)", "a(\"b\")"),
        ("a (b)", "a AND b"),
        // Keywords are in capitals, and words of their own.
        ("a and b", "a AND and AND b"),
        ("ANDY ORSON NOTE", "ANDY AND ORSON AND NOTE"),
        ("a.AND.OR.NOT", "a.\"AND\".\"OR\".\"NOT\""),
    ]);
}

#[test]
fn not_and_minus_negate_the_same() {
    all_are(&[
        ("NOT a", "NOT a"),
        ("-a", "NOT a"),
        ("NOT (a OR b)", "NOT (a OR b)"),
        ("-(a b)", "NOT (a AND b)"),
        ("-file:\".java\"", "NOT file:.java"),
        ("NOT a b", "NOT a AND b"),
        ("NOT a OR b", "NOT a OR b"),
        ("-(-a)", "a"),
        ("a -b", "a AND NOT b"),
        ("a-b", "\"a-b\""),
        ("a = -b", "a = -b"),
        ("a = -30", "a = -30"),
        ("-a = -30", "NOT a = -30"),
    ]);
}

#[test]
fn every_comparator_is_read_with_blanks_or_without() {
    all_are(&[
        ("package=com.google", "package = com.google"),
        ("msg != 'hello'", "msg != hello"),
        ("1 > 0", "1 > 0"),
        ("2.5 >= 2.4", "2.5 >= 2.4"),
        ("yesterday < request.time", "yesterday < request.time"),
        ("a<=b", "a <= b"),
        ("a<b", "a < b"),
        ("map:key", "map:key"),
        ("map : key", "map:key"),
        ("m.foo:*", "m.foo:*"),
        ("prod", "prod"),
        ("expr.type_map.1.type", "expr.type_map.1.type"),
        ("a = 2.997e9", "a = 2.997e9"),
        ("a = 1.2s", "a = 1.2s"),
    ]);
}

#[test]
fn times_and_types_need_no_quotes() {
    all_are(&[
        ("t > 2012-04-21T11:30:00-04:00", "t > 2012-04-21T11:30:00-04:00"),
        ("t<2012-04-21T11:30:00.5Z b", "t < 2012-04-21T11:30:00.5Z AND b"),
        ("m.@type = type.googleapis.com/a.B", "m.@type = type.googleapis.com/a.B"),
        ("m.@type:a.B", "m.@type:a.B"),
    ]);
}

#[test]
fn strings_are_quoted_in_either_way() {
    all_are(&[
        (r#"a = "b c""#, r#"a = "b c""#),
        ("a = 'b c'", r#"a = "b c""#),
        ("a = 'b \"c\"'", r#"a = "b \"c\"""#),
        (r#"a = "it's""#, r#"a = "it's""#),
        (r#"a = "b\"c""#, r#"a = "b\"c""#),
        (r#"a = "b\\c\*""#, r#"a = "b\\c\*""#),
        (r#"a = "plain""#, "a = plain"),
        (r#"a = "AND""#, r#"a = "AND""#),
        (r#"a = """#, r#"a = """#),
        (r#"a."b c".'d'"#, r#"a."b c".d"#),
        (r#""bare words""#, r#""bare words""#),
        ("a = *.foo", "a = *.foo"),
        ("a = \u{fc}ber", "a = \u{fc}ber"),
    ]);
}

#[test]
fn functions_take_arguments_on_the_left() {
    all_are(&[
        ("state() = RUNNING", "state() = RUNNING"),
        ("state( )=RUNNING", "state() = RUNNING"),
        ("label('k') = v", "label(\"k\") = v"),
        ("label(k):*", "label(\"k\"):*"),
        ("regex(m.key, '^.*prod.*$')", "regex(\"m.key\", \"^.*prod.*$\")"),
        ("math.mem('30mb')", "math.mem(\"30mb\")"),
        ("(msg.endsWith('world') AND retries < 10)", "msg.endsWith(\"world\") AND retries < 10"),
        ("a < 10 OR a >= 100", "a < 10 OR a >= 100"),
    ]);
}

#[test]
fn a_group_on_the_right_compares_with_each_of_its_values() {
    all_are(&[
        ("a = (b OR c)", "a = b OR a = c"),
        ("a:(b AND c)", "a:b AND a:c"),
        ("a:(b c)", "a:b AND a:c"),
        ("a = (NOT b)", "NOT a = b"),
        ("a:(\"x y\" OR -b OR -3)", "a:\"x y\" OR NOT a:b OR a:-3"),
        ("d a = (b OR (c AND e))", "d AND (a = b OR (a = c AND a = e))"),
        ("t > (2030-01-31T12:00:00Z)", "t > 2030-01-31T12:00:00Z"),
    ]);
}
