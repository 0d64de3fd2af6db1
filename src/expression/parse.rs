//! From text to template, by the grammar of OpenAPI 3.1 (Runtime Expressions).
//!
//! An expression stands in braces; a text that begins with `$` is one without braces. Braces are not allowed in URIs, so every
//! other brace is a mistake.

use winnow::Parser;
use winnow::combinator::{alt, opt, preceded};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location};
use winnow::token::{rest, take_till, take_while};

use super::error::ExpressionError;
use super::pointer::Pointer;
use super::syntax::{Expression, MessagePart, UriPart, UriTemplate};
use crate::limits::MAX_CALLBACK_URI_BYTES;

type Input<'a> = LocatingSlice<&'a str>;
type Parsed<T> = Result<T, ErrMode<ExpressionError>>;

impl UriTemplate {
    /// Parses a URI with expressions.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_CALLBACK_URI_BYTES {
            let why = format!("it has {} bytes; the most are {MAX_CALLBACK_URI_BYTES}", text.len());
            return Err(ExpressionError::at(0, why));
        }
        let mut input = Input::new(text);
        let parsed = if text.starts_with('$') { bare(&mut input) } else { template(&mut input) };
        parsed.map(|parts| Self { parts }).map_err(|error| match error {
            ErrMode::Backtrack(error) | ErrMode::Cut(error) => error,
            ErrMode::Incomplete(_) => ExpressionError::at(text.len(), "it ends too early"),
        })
    }
}

/// A text that is one expression as a whole.
fn bare(input: &mut Input<'_>) -> Parsed<Vec<UriPart>> {
    let inside = rest.parse_next(input)?;
    Ok(vec![UriPart::Value(0, expression(inside, 0)?)])
}

fn template(input: &mut Input<'_>) -> Parsed<Vec<UriPart>> {
    let mut parts = Vec::new();
    while !input.is_empty() {
        parts.push(part(input)?);
    }
    Ok(parts)
}

fn part(input: &mut Input<'_>) -> Parsed<UriPart> {
    let start = input.current_token_start();
    let text: &str = take_till(0.., ['{', '}']).parse_next(input)?;
    if !text.is_empty() {
        return Ok(UriPart::Text(text.to_owned()));
    }
    if opt('}').parse_next(input)?.is_some() {
        return fail(start, "no brace is open here; write %7D for a brace of the URI");
    }
    let inside: &str = preceded('{', take_till(0.., ['{', '}'])).parse_next(input)?;
    if opt('}').parse_next(input)?.is_none() {
        return fail(start, "this brace is not closed; write %7B for a brace of the URI");
    }
    Ok(UriPart::Value(start + 1, expression(inside, start + 1)?))
}

/// Reads a whole expression, which begins at that byte of the text.
fn expression(text: &str, start: usize) -> Parsed<Expression> {
    let mut input = Input::new(text);
    let shifted = |error: ErrMode<ExpressionError>| {
        error.map(|error| ExpressionError::at(start + error.position, error.message))
    };
    let parsed = alt((
        "$url".value(Expression::Url),
        "$method".value(Expression::Method),
        "$statusCode".value(Expression::StatusCode),
        preceded("$request.", message_part).map(Expression::Request),
        preceded("$response.", message_part).map(Expression::Response),
        unknown,
    ))
    .parse_next(&mut input)
    .map_err(shifted)?;
    if input.is_empty() {
        return Ok(parsed);
    }
    let at = start + input.current_token_start();
    fail(at, "the expression should end here")
}

fn message_part(input: &mut Input<'_>) -> Parsed<MessagePart> {
    let start = input.current_token_start();
    let name = |kind: &'static str| {
        move |input: &mut Input<'_>| {
            let start = input.current_token_start();
            let name: &str = rest.parse_next(input)?;
            if name.is_empty() {
                return fail(start, format!("the name of the {kind} is missing"));
            }
            Ok(name.to_owned())
        }
    };
    if opt("header.").parse_next(input)?.is_some() {
        return header(input).map(MessagePart::Header);
    }
    if opt("query.").parse_next(input)?.is_some() {
        return name("parameter").parse_next(input).map(MessagePart::Query);
    }
    if opt("path.").parse_next(input)?.is_some() {
        return name("parameter").parse_next(input).map(MessagePart::Path);
    }
    if opt("body").parse_next(input)?.is_some() {
        let pointer = opt(preceded('#', pointer)).parse_next(input)?;
        return Ok(MessagePart::Body(pointer.unwrap_or_default()));
    }
    fail(start, "there are header.NAME, query.NAME, path.NAME and body#/POINTER")
}

/// The name of a header is a token of HTTP, and has no case.
fn header(input: &mut Input<'_>) -> Parsed<String> {
    let start = input.current_token_start();
    let name: &str = take_while(0.., is_of_token).parse_next(input)?;
    if name.is_empty() {
        return fail(start, "the name of the header is missing");
    }
    Ok(name.to_ascii_lowercase())
}

fn pointer(input: &mut Input<'_>) -> Parsed<Pointer> {
    let mut tokens = Vec::new();
    while opt('/').parse_next(input)?.is_some() {
        tokens.push(token(input)?);
    }
    let at = input.current_token_start();
    if !input.is_empty() {
        return fail(at, "a pointer is empty or begins with /");
    }
    Ok(Pointer(tokens))
}

fn token(input: &mut Input<'_>) -> Parsed<String> {
    let mut token = String::new();
    loop {
        let text: &str = take_till(0.., ['~', '/']).parse_next(input)?;
        token.push_str(text);
        let at = input.current_token_start();
        if opt('~').parse_next(input)?.is_none() {
            return Ok(token);
        }
        match opt(alt(('0', '1'))).parse_next(input)? {
            Some('0') => token.push('~'),
            Some(_) => token.push('/'),
            None => {
                return fail(at, "after ~ comes 0, which stands for ~, or 1, which stands for /");
            }
        }
    }
}

fn unknown(input: &mut Input<'_>) -> Parsed<Expression> {
    let at = input.current_token_start();
    fail(
        at,
        "this is no expression; there are $url, $method, $statusCode, $request.PART and $response.PART",
    )
}

fn is_of_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

fn fail<T>(at: usize, why: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(ExpressionError::at(at, why)))
}

impl<'a> ParserError<Input<'a>> for ExpressionError {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self::at(input.current_token_start(), "an expression is missing")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}
