//! From a template to a URI, with the values of a call.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::error::ExpressionError;
use super::pointer::Pointer;
use super::syntax::{Expression, MessagePart, UriPart, UriTemplate};
use crate::operation::callbacks::NAME_MARK;

/// The values of a call that starts an operation.
pub trait CallValues {
    /// The whole URL, or the path of the method.
    fn url(&self) -> String;
    /// The method of HTTP.
    fn method(&self) -> &str;
    /// The status of the response.
    fn status_code(&self) -> u16;
    /// A header of the request, by its name in lower case.
    ///
    /// # Errors
    /// If it must not be read, or has several values.
    fn header(&self, name: &str) -> Result<Option<String>, String>;
    /// A parameter of the query.
    ///
    /// # Errors
    /// If it must not be read, or is given several times.
    fn query(&self, name: &str) -> Result<Option<String>, String>;
    /// A parameter of the path.
    fn path(&self, name: &str) -> Option<String>;
    /// The body of the request.
    fn body(&self) -> Cow<'_, Value>;
}

/// A URI with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expanded {
    /// This. In place of the name of the operation, which is not known yet, it has [`NAME_MARK`].
    Uri(String),
    /// The call does not say where to call: the whole URI is one value, which it does not have.
    Nowhere,
}

impl UriTemplate {
    /// Puts the values of a call in place of the expressions.
    ///
    /// # Errors
    /// Says which value cannot be had, and where.
    pub fn expand(&self, call: &dyn CallValues) -> Result<Expanded, ExpressionError> {
        let mut uri = String::new();
        for (place, part) in self.parts.iter().enumerate() {
            let (at, expression) = match part {
                UriPart::Text(text) => {
                    uri.push_str(text);
                    continue;
                }
                UriPart::Value(at, expression) => (*at, expression),
            };
            let fault = |why: String| ExpressionError::at(at, why);
            match value(expression, call).map_err(fault)? {
                None if self.parts.len() == 1 => return Ok(Expanded::Nowhere),
                None => return Err(fault("the request has no such value".to_owned())),
                // It is the URI, or begins it.
                Some(ExpressionValue::Text(text)) if place == 0 => {
                    if text.contains(['{', '}']) {
                        return Err(fault("the value has a brace, which no URI has".to_owned()));
                    }
                    uri.push_str(&text);
                }
                Some(ExpressionValue::Text(text)) => {
                    uri.extend(utf8_percent_encode(&text, ESCAPED));
                }
                // Names need no escapes.
                Some(ExpressionValue::Name) => uri.push_str(NAME_MARK),
            }
        }
        Ok(Expanded::Uri(uri))
    }
}

/// The value of an expression.
enum ExpressionValue {
    Text(String),
    /// The name of the operation.
    Name,
}

fn value(
    expression: &Expression,
    call: &dyn CallValues,
) -> Result<Option<ExpressionValue>, String> {
    let text = match expression {
        Expression::Url => Some(call.url()),
        Expression::Method => Some(call.method().to_owned()),
        Expression::StatusCode => Some(call.status_code().to_string()),
        Expression::Request(MessagePart::Header(name)) => call.header(name)?,
        Expression::Request(MessagePart::Query(name)) => call.query(name)?,
        Expression::Request(MessagePart::Path(name)) => call.path(name),
        Expression::Request(MessagePart::Body(pointer)) => of_body(pointer, &call.body())?,
        Expression::Response(MessagePart::Body(pointer)) => return of_response(pointer).map(Some),
        Expression::Response(_) => return Err(ONLY_NAME.to_owned()),
    };
    Ok(text.filter(|text| !text.is_empty()).map(ExpressionValue::Text))
}

fn of_body(pointer: &Pointer, body: &Value) -> Result<Option<String>, String> {
    match pointer.find(body) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Bool(value)) => Ok(Some(value.to_string())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Array(_)) => Err("the value is an array; a URI takes one text".to_owned()),
        Some(Value::Object(_)) => Err("the value is an object; a URI takes one text".to_owned()),
    }
}

/// The response to a start is an operation that has begun: only its name says something.
fn of_response(pointer: &Pointer) -> Result<ExpressionValue, String> {
    match pointer.0.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["name"] => Ok(ExpressionValue::Name),
        ["done"] => Ok(ExpressionValue::Text("false".to_owned())),
        _ => Err(ONLY_NAME.to_owned()),
    }
}

const ONLY_NAME: &str =
    "of the response to a start, only $response.body#/name and $response.body#/done are known";
/// Everything but unreserved characters, and the slashes of names.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
