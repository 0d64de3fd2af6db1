//! What a URI with expressions is made of.

use super::pointer::Pointer;

/// A URI with expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriTemplate {
    pub(super) parts: Vec<UriPart>,
}

/// A part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UriPart {
    /// Text as it is.
    Text(String),
    /// The value of an expression, which begins at that byte.
    Value(usize, Expression),
}

/// A runtime expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// `$url`
    Url,
    /// `$method`
    Method,
    /// `$statusCode`
    StatusCode,
    /// `$request.` and a part of the request.
    Request(MessagePart),
    /// `$response.` and a part of the response.
    Response(MessagePart),
}

/// A part of a request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MessagePart {
    /// `header.` and a name, in lower case.
    Header(String),
    /// `query.` and a name.
    Query(String),
    /// `path.` and a name.
    Path(String),
    /// `body`, or `body#` and a pointer.
    Body(Pointer),
}

impl UriTemplate {
    /// Whether it looks into the body of the request.
    pub fn reads_body(&self) -> bool {
        let reads = |part: &UriPart| {
            matches!(part, UriPart::Value(_, Expression::Request(MessagePart::Body(_))))
        };
        self.parts.iter().any(reads)
    }
}
