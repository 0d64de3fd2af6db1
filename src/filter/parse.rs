//! From text to tree, by the grammar of AIP-160.
//!
//! OR binds tighter than AND, and blanks between conditions mean AND. On the right of a comparator a word may hold colons and
//! dots, so that times and numbers need no quotes, and a group in parentheses stands for a comparison with each of its values.

use winnow::Parser;
use winnow::combinator::{alt, cut_err, not, opt, peek, preceded, separated, terminated};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location, Stateful};
use winnow::token::{any, one_of, take_while};

use super::error::FilterError;
use super::syntax::{At, Comparator, Expr, KEYWORDS, Left, Test, Word};
use crate::limits::{MAX_FILTER_BYTES, MAX_FILTER_DEPTH, MAX_FILTER_PATH, MAX_FILTER_TERMS};

type Input<'a> = Stateful<LocatingSlice<&'a str>, Spent>;
type Parsed<T> = Result<T, ErrMode<FilterError>>;
/// What a condition is made of: a comparison, or within a group on the right one of its values.
type Leaf<'l> = &'l dyn Fn(&mut Input<'_>) -> Parsed<Expr>;

/// What a filter has used up of its bounds.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    terms: usize,
    depth: usize,
}

/// Parses a filter; nothing for an empty one.
pub(super) fn parse(text: &str) -> Result<Option<Expr>, FilterError> {
    if text.len() > MAX_FILTER_BYTES {
        let why = format!("it has {} bytes; the most are {MAX_FILTER_BYTES}", text.len());
        return Err(FilterError::at(0, why));
    }
    let mut input = Input { input: LocatingSlice::new(text), state: Spent::default() };
    let parsed = whole(&mut input);
    parsed.map_err(|error| match error {
        ErrMode::Backtrack(error) | ErrMode::Cut(error) => error,
        ErrMode::Incomplete(_) => FilterError::at(text.len(), "it ends too early"),
    })
}

fn whole(input: &mut Input<'_>) -> Parsed<Option<Expr>> {
    blanks(input)?;
    if input.is_empty() {
        return Ok(None);
    }
    let parsed = expression(input, &restriction)?;
    blanks(input)?;
    if input.is_empty() { Ok(Some(parsed)) } else { unexpected(input) }
}

fn expression(input: &mut Input<'_>, leaf: Leaf<'_>) -> Parsed<Expr> {
    let sequence = |input: &mut Input<'_>| sequence(input, leaf);
    separated(1.., sequence, keyword("AND")).map(Expr::all).parse_next(input)
}

fn sequence(input: &mut Input<'_>, leaf: Leaf<'_>) -> Parsed<Expr> {
    let factor = |input: &mut Input<'_>| factor(input, leaf);
    separated(1.., factor, some_blanks).map(Expr::all).parse_next(input)
}

fn factor(input: &mut Input<'_>, leaf: Leaf<'_>) -> Parsed<Expr> {
    let term = |input: &mut Input<'_>| term(input, leaf);
    separated(1.., term, keyword("OR")).map(Expr::any).parse_next(input)
}

fn term(input: &mut Input<'_>, leaf: Leaf<'_>) -> Parsed<Expr> {
    let start = input.current_token_start();
    if input.starts_with("NOT(") {
        return fail(start, NOT_ALONE);
    }
    let negation = alt((
        terminated("NOT", some_blanks).void(),
        // A number may begin with a minus; nothing else that stands alone does.
        ("-", peek(not(one_of('0'..='9')))).void(),
    ));
    let negated = opt(negation).parse_next(input)?.is_some();
    if negated && input.starts_with(char::is_whitespace) {
        return fail(start, MINUS_ALONE);
    }
    let composite = |input: &mut Input<'_>| composite(input, leaf);
    let simple = alt((composite, leaf)).parse_next(input)?;
    Ok(if negated { Expr::not(simple) } else { simple })
}

fn composite(input: &mut Input<'_>, leaf: Leaf<'_>) -> Parsed<Expr> {
    let start = input.current_token_start();
    "(".parse_next(input)?;
    input.state.depth += 1;
    if input.state.depth > MAX_FILTER_DEPTH {
        let why = format!("parentheses are nested more than {MAX_FILTER_DEPTH} deep");
        return fail(start, why);
    }
    blanks(input)?;
    if input.starts_with(')') {
        return fail(start, "nothing stands between these parentheses");
    }
    let inner = cut_err(|input: &mut Input<'_>| expression(input, leaf)).parse_next(input)?;
    blanks(input)?;
    if input.is_empty() {
        return fail(start, "this parenthesis is not closed");
    }
    if opt(")").parse_next(input)?.is_none() {
        return unexpected(input);
    }
    input.state.depth -= 1;
    Ok(inner)
}

fn restriction(input: &mut Input<'_>) -> Parsed<Expr> {
    let at = At(input.current_token_start());
    let left = comparable(input)?;
    let Some(comparator) = opt(preceded(blanks, comparator)).parse_next(input)? else {
        count(input, at)?;
        return Ok(Expr::Test(Test { left, at, right: None }));
    };
    blanks(input)?;
    let value = |input: &mut Input<'_>| {
        let start = At(input.current_token_start());
        let word = argument(input)?;
        count(input, start)?;
        let right = Some((comparator, word, start));
        Ok(Expr::Test(Test { left: left.clone(), at, right }))
    };
    if input.starts_with('(') { composite(input, &value) } else { cut_err(value).parse_next(input) }
}

fn comparable(input: &mut Input<'_>) -> Parsed<Left> {
    let start = input.current_token_start();
    let mut bare = !input.starts_with(QUOTES);
    let mut words = vec![value(input)?];
    while opt(".").parse_next(input)?.is_some() {
        bare &= !input.starts_with(QUOTES);
        // After a dot a keyword is a name like any other.
        let Some(word) = opt(alt((quoted, text.map(Word::bare)))).parse_next(input)? else {
            return fail(input.current_token_start(), "a name is missing after the dot");
        };
        words.push(word);
        if words.len() > MAX_FILTER_PATH {
            return fail(start, format!("a path has at most {MAX_FILTER_PATH} names"));
        }
    }
    if !bare || opt("(").parse_next(input)?.is_none() {
        return Ok(Left::Path(words));
    }
    let names: Vec<String> = words.iter().map(Word::plain).collect();
    Ok(Left::Call(names.join("."), arguments(input, start)?))
}

fn arguments(input: &mut Input<'_>, start: usize) -> Parsed<Vec<Word>> {
    let argument = preceded(blanks, opt(argument));
    let listed: Vec<Option<Word>> = separated(1.., argument, (blanks, ",")).parse_next(input)?;
    blanks(input)?;
    if opt(")").parse_next(input)?.is_none() {
        return fail(start, "the parenthesis of this function is not closed");
    }
    match &listed[..] {
        [None] => Ok(Vec::new()),
        _ => listed
            .into_iter()
            .collect::<Option<_>>()
            .map_or_else(|| fail(start, "an argument of this function is missing"), Ok),
    }
}

/// A value on the right, or within the parentheses of a function.
fn argument(input: &mut Input<'_>) -> Parsed<Word> {
    let start = input.current_token_start();
    if input.starts_with(QUOTES) {
        return quoted(input);
    }
    let word = |letter: char| is_text(letter) || letter == '.' || letter == ':';
    let text: &str = match take_while(1.., word).parse_next(input) {
        Ok(text) => text,
        Err(ErrMode::<FilterError>::Backtrack(_)) => {
            return backtrack(start, "a value is missing");
        }
        Err(error) => return Err(error),
    };
    if KEYWORDS.contains(&text) {
        return backtrack(
            start,
            format!("a value is missing before {text}; quote it if it is one"),
        );
    }
    if input.starts_with('(') {
        return fail(start, "a function may stand only on the left of a comparison");
    }
    if input.starts_with(QUOTES) || input.starts_with('\\') {
        return fail(start, "quote the whole value");
    }
    Ok(Word::bare(text))
}

fn value(input: &mut Input<'_>) -> Parsed<Word> {
    if input.starts_with(QUOTES) {
        return quoted(input);
    }
    let start = input.current_token_start();
    match peek(text).parse_next(input) {
        Ok(word) if !KEYWORDS.contains(&word) => text.map(Word::bare).parse_next(input),
        _ => backtrack(start, "a condition is missing"),
    }
}

fn text<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    take_while(1.., is_text).parse_next(input)
}

fn quoted(input: &mut Input<'_>) -> Parsed<Word> {
    let start = input.current_token_start();
    let quote = one_of(QUOTES).parse_next(input)?;
    let mut content = String::new();
    loop {
        let position = input.current_token_start();
        let Some(letter) = opt(any).parse_next(input)? else {
            return fail(start, "this quote is not closed");
        };
        if letter == quote {
            return Ok(Word::escaped(content));
        }
        if letter != '\\' {
            content.push(letter);
            continue;
        }
        match opt(any).parse_next(input)? {
            Some(letter @ ('"' | '\'')) => content.push(letter),
            Some(letter @ ('\\' | '*')) => content.extend(['\\', letter]),
            _ => return fail(position, r#"a backslash may stand before ", ', \ and * only"#),
        }
    }
}

fn comparator(input: &mut Input<'_>) -> Parsed<Comparator> {
    let start = input.current_token_start();
    let found = Comparator::ALL.into_iter().find(|found| input.starts_with(found.as_str()));
    let Some(found) = found else { return backtrack(start, "a comparison is missing") };
    found.as_str().parse_next(input)?;
    if input.starts_with(['=', '<', '>', '!']) {
        let known = Comparator::ALL.map(Comparator::as_str).join(" ");
        return fail(start, format!("this is no comparison; there are {known}"));
    }
    Ok(found)
}

/// A keyword with blanks on both sides.
fn keyword<'a>(word: &'static str) -> impl Parser<Input<'a>, (), ErrMode<FilterError>> {
    (some_blanks, word, some_blanks).void()
}

fn blanks(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn some_blanks(input: &mut Input<'_>) -> Parsed<()> {
    take_while(1.., char::is_whitespace).void().parse_next(input)
}

fn is_text(letter: char) -> bool {
    !letter.is_whitespace() && !r#".(),<>=!:"'\"#.contains(letter)
}

/// Counts a term of the filter.
fn count(input: &mut Input<'_>, at: At) -> Parsed<()> {
    input.state.terms += 1;
    if input.state.terms > MAX_FILTER_TERMS {
        return fail(at.0, format!("a filter has at most {MAX_FILTER_TERMS} conditions"));
    }
    Ok(())
}

/// Says why the parser stopped here.
fn unexpected<T>(input: &mut Input<'_>) -> Parsed<T> {
    let at = input.current_token_start();
    let rest: &str = input.input.as_ref();
    let word = rest.split(|letter| !is_text(letter)).next().unwrap_or_default();
    let first = rest.chars().next().unwrap_or_default();
    let why = match (word, first) {
        ("AND" | "OR", _) => format!("{word} needs a condition, and blanks, on both sides"),
        ("NOT", _) => NOT_ALONE.to_owned(),
        (_, '-') => MINUS_ALONE.to_owned(),
        (_, ')') => "no parenthesis is open here".to_owned(),
        (_, '<' | '>' | '=' | '!' | ':') => {
            "a comparison needs a field or a function before it".to_owned()
        }
        _ => format!("{first:?} is not expected here"),
    };
    fail(at, why)
}

fn fail<T>(at: usize, why: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(FilterError::at(at, why)))
}

fn backtrack<T>(at: usize, why: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Backtrack(FilterError::at(at, why)))
}

impl<'a> ParserError<Input<'a>> for FilterError {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self::at(input.current_token_start(), "a condition is missing")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

const NOT_ALONE: &str = "NOT needs a blank and a condition after it";
const MINUS_ALONE: &str = "a minus needs a condition right after it";
const QUOTES: [char; 2] = ['"', '\''];
