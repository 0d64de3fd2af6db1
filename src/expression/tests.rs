//! The grammar, the values, and random texts.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CallValues, Expanded, UriTemplate};
use crate::operation::callbacks::named;

/// A call of the example in the OpenAPI specification, and more.
struct Example {
    body: Value,
}

impl CallValues for Example {
    fn url(&self) -> String {
        "https://example.org/subscribe/myevent?queryUrl=https://client.example".to_owned()
    }

    fn method(&self) -> &'static str {
        "POST"
    }

    fn status_code(&self) -> u16 {
        202
    }

    fn header(&self, name: &str) -> Result<Option<String>, String> {
        match name {
            "content-type" => Ok(Some("application/json".to_owned())),
            "progressurl" => Ok(Some("https://client.example/progress".to_owned())),
            "authorization" => Err("this header must not be read".to_owned()),
            "braces" => Ok(Some("https://e.com/{name}".to_owned())),
            _ => Ok(None),
        }
    }

    fn query(&self, name: &str) -> Result<Option<String>, String> {
        Ok((name == "queryUrl").then(|| "https://client.example".to_owned()))
    }

    fn path(&self, name: &str) -> Option<String> {
        (name == "eventType").then(|| "myevent".to_owned())
    }

    fn body(&self) -> Cow<'_, Value> {
        Cow::Borrowed(&self.body)
    }
}

fn example() -> Example {
    let body = json!({
        "failedUrl": "https://client.example/failed",
        "successUrls": ["https://client.example/fast", "https://client.example/medium"],
        "jobId": 17,
        "email": "a+b@example.com",
        "a/b": { "m~n": true },
        "object": {},
        "nothing": null,
        "": "empty",
    });
    Example { body }
}

fn expanded(text: &str) -> Result<Expanded, (usize, String)> {
    let parsed = UriTemplate::parse(text);
    let expanded = parsed.and_then(|template| template.expand(&example()));
    expanded.map_err(|error| (error.position, error.message))
}

#[test]
fn each_expression_of_the_specification_has_its_value() {
    for (text, expected) in [
        ("$url", "https://example.org/subscribe/myevent?queryUrl=https://client.example"),
        ("{$url}", "https://example.org/subscribe/myevent?queryUrl=https://client.example"),
        ("https://x/{$method}", "https://x/POST"),
        ("https://x/?s={$statusCode}", "https://x/?s=202"),
        ("https://x/{$request.path.eventType}", "https://x/myevent"),
        ("$request.query.queryUrl", "https://client.example"),
        ("{$request.query.queryUrl}/data", "https://client.example/data"),
        ("https://x/?t={$request.header.content-Type}", "https://x/?t=application/json"),
        ("{$request.header.progressUrl}", "https://client.example/progress"),
        ("$request.body#/failedUrl", "https://client.example/failed"),
        ("{$request.body#/successUrls/1}", "https://client.example/medium"),
        ("https://x/{$request.body#/jobId}", "https://x/17"),
        ("https://x/{$request.body#/a~1b/m~0n}", "https://x/true"),
        ("https://x/{$request.body#/}", "https://x/empty"),
        ("https://x/?e={$request.body#/email}&x=1", "https://x/?e=a%2Bb%40example.com&x=1"),
        ("https://x/?u={$request.body#/failedUrl}", "https://x/?u=https%3A//client.example/failed"),
        (
            "https://x/{$request.body#/jobId}?s={$response.body#/name}",
            "https://x/17?s=projects/p/operations/o",
        ),
        ("https://x/?d={$response.body#/done}", "https://x/?d=false"),
        ("https://x/plain", "https://x/plain"),
        ("https://x/$url", "https://x/$url"),
        ("", ""),
    ] {
        match expanded(text).unwrap_or_else(|error| panic!("{text}: {error:?}")) {
            Expanded::Uri(uri) => {
                assert_eq!(named(&uri, "projects/p/operations/o"), expected, "{text}");
            }
            Expanded::Nowhere => panic!("{text}: nowhere"),
        }
    }
}

#[test]
fn a_uri_that_is_one_missing_value_leads_nowhere_and_other_missing_values_are_refused() {
    for text in [
        "{$request.header.none}",
        "$request.header.none",
        "{$request.query.none}",
        "{$request.body#/none}",
        "{$request.body#/nothing}",
    ] {
        assert_eq!(expanded(text), Ok(Expanded::Nowhere), "{text}");
    }
    for (text, position) in [
        ("{$request.header.none}/done", 1),
        ("https://x/{$request.header.none}", 11),
        ("https://x/?a={$method}&b={$request.body#/successUrls/2}", 26),
    ] {
        let (at, why) = expanded(text).expect_err(text);
        assert_eq!((at, &*why), (position, "the request has no such value"), "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_its_position() {
    for (text, position, part) in [
        ("https://x/{", 10, "not closed"),
        ("https://x/{$url", 10, "not closed"),
        ("https://x/}", 10, "no brace is open"),
        ("https://x/{{$url}}", 10, "not closed"),
        ("https://x/{}", 11, "no expression"),
        ("https://x/{id}", 11, "no expression"),
        ("https://x/{$nothing}", 11, "no expression"),
        ("https://x/{$urls}", 15, "should end"),
        ("https://x/{$url }", 15, "should end"),
        ("https://x/{$request}", 11, "no expression"),
        ("https://x/{$request.}", 20, "there are header.NAME"),
        ("https://x/{$request.cookie.a}", 20, "there are header.NAME"),
        ("https://x/{$request.header.}", 27, "name of the header is missing"),
        ("https://x/{$request.header.a b}", 28, "should end"),
        ("https://x/{$request.query.}", 26, "name of the parameter is missing"),
        ("https://x/{$request.path.}", 25, "name of the parameter is missing"),
        ("https://x/{$request.body#a}", 25, "begins with /"),
        ("https://x/{$request.body/a}", 24, "should end"),
        ("https://x/{$request.body#/a~2}", 27, "after ~"),
        ("https://x/{$request.body#/~}", 26, "after ~"),
        ("$request.bodys", 13, "should end"),
        ("https://x/{$request.body#/object}", 11, "an object"),
        ("https://x/{$request.body#/successUrls}", 11, "an array"),
        ("https://x/{$request.body}", 11, "an object"),
        ("https://x/{$request.header.Authorization}", 11, "must not be read"),
        ("https://x/{$response.body#/metadata}", 11, "only $response.body#/name"),
        ("https://x/{$response.header.location}", 11, "only $response.body#/name"),
        ("{$request.header.braces}", 1, "a brace"),
    ] {
        let (at, why) = expanded(text).expect_err(text);
        assert_eq!(at, position, "{text}: {why}");
        assert!(why.contains(part), "{text}: {why}");
    }
    let long = "x".repeat(100_000);
    assert!(UriTemplate::parse(&long).is_err());
}

#[test]
fn only_templates_that_read_the_body_say_so() {
    for (text, expected) in [
        ("https://x/{$request.body#/a}", true),
        ("$request.body#/a", true),
        ("https://x/{$response.body#/name}", false),
        ("https://x/{$url}", false),
    ] {
        let template = UriTemplate::parse(text).expect(text);
        assert_eq!(template.reads_body(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_and_a_position_lies_in_the_text(
        text in r"(https://x/|\{|\}|\$url|\$request\.|header\.|body#|/|~[01]?|[a-z\u{e9}]){0,12}",
    ) {
        match UriTemplate::parse(&text) {
            Ok(template) => match template.expand(&example()) {
                Ok(_) => {}
                Err(error) => prop_assert!(text.is_char_boundary(error.position)),
            },
            Err(error) => prop_assert!(text.is_char_boundary(error.position), "{error}"),
        }
    }

    #[test]
    fn every_value_of_a_body_comes_through_whole(key in "[^{}]{0,8}", value in ".{1,20}") {
        let escaped = key.replace('~', "~0").replace('/', "~1");
        let text = format!("https://x/?v={{$request.body#/{escaped}}}");
        let call = Example { body: json!({ key: value }) };
        let template = UriTemplate::parse(&text).expect("a template");
        let expanded = template.expand(&call).expect("a value");
        let Expanded::Uri(uri) = expanded else { panic!("a URI") };
        prop_assert_eq!(crate::webhook::uri::check(&uri), Ok(()));
        let query = uri.split_once('?').expect("a query").1;
        let found = percent_encoding::percent_decode_str(&query[2..]).decode_utf8();
        prop_assert_eq!(found.expect("text"), value);
    }
}
