//! What the names of a filter mean, and whether its values fit them.

use super::condition::{Condition, Of, STATES, TYPE, Test};
use super::error::{FilterError, meant};
use super::literal::{Kind, Literal, equality_only};
use super::seen::Payload;
use super::syntax::{Comparator, Expr, Left, Test as Parsed, Word};
use super::typed;
use crate::operation::payload::type_name;
use crate::types::Registry;

/// Checks a whole filter.
pub(super) fn check(parsed: &Expr, types: &Registry) -> Result<Condition, FilterError> {
    let checker = Checker { types, pinned: pinned(parsed) };
    checker.condition(parsed)
}

struct Checker<'a> {
    types: &'a Registry,
    /// Types that the filter as a whole demands, and that its paths can be checked by.
    pinned: Vec<(Payload, String)>,
}

impl Checker<'_> {
    fn condition(&self, parsed: &Expr) -> Result<Condition, FilterError> {
        let each = |parts: &[Expr]| -> Result<Vec<_>, _> {
            parts.iter().map(|part| self.condition(part)).collect()
        };
        Ok(match parsed {
            Expr::All(parts) => Condition::All(each(parts)?),
            Expr::Any(parts) => Condition::Any(each(parts)?),
            Expr::Not(part) => Condition::Not(Box::new(self.condition(part)?)),
            Expr::Test(test) => Condition::Test(self.test(test)?),
        })
    }

    fn test(&self, test: &Parsed) -> Result<Test, FilterError> {
        let start = test.at.0;
        let Some((comparator, word, value_at)) = &test.right else {
            return Err(FilterError::at(start, alone(&test.left)));
        };
        let of = match &test.left {
            Left::Path(words) => field(words),
            Left::Call(name, arguments) => function(name, arguments),
        };
        let of = of.map_err(|why| FilterError::at(start, why))?;
        let word = if of == Of::Queue { word.without_prefix("queues/") } else { word.clone() };
        let (comparator, literal) = (*comparator, Literal::of(&word));
        if let Of::Error(path) | Of::Payload(_, path) = &of {
            self.check_path(&of, path, comparator, &literal)
                .map_err(|why| FilterError::at(start, why))?;
        } else if !(comparator == Comparator::Has && literal.star) {
            check_value(&of, comparator, &literal)
                .map_err(|why| FilterError::at(value_at.0, why))?;
        }
        Ok(Test { of, comparator, literal })
    }

    /// Checks a path into a message, as far as the message's type is known.
    fn check_path(
        &self,
        of: &Of,
        path: &[String],
        comparator: Comparator,
        literal: &Literal,
    ) -> Result<(), String> {
        let payload = match of {
            Of::Payload(payload, _) => *payload,
            _ => return self.check_typed("google.rpc.Status", path, comparator, literal),
        };
        match path {
            [] if comparator != Comparator::Has => Err(format!(
                "{0} is a message; compare a field of it, such as {0}.size, or ask for {0}:*",
                payload.as_str()
            )),
            [first, more @ ..] if first == TYPE => {
                if more.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{TYPE} has no fields"))
                }
            }
            _ => {
                let pinned = self.pinned.iter().find(|(pinned, _)| *pinned == payload);
                pinned.map_or(Ok(()), |(_, name)| self.check_typed(name, path, comparator, literal))
            }
        }
    }

    fn check_typed(
        &self,
        name: &str,
        path: &[String],
        comparator: Comparator,
        literal: &Literal,
    ) -> Result<(), String> {
        let message = self.types.message(name).ok_or_else(|| {
            format!("the type {name} is not known here, so that nothing in it can be compared; the server learns it by a type set of the parent, or by --descriptor-set")
        })?;
        typed::check(&message, path, comparator, literal)
    }
}

/// Why a value alone is no condition.
fn alone(left: &Left) -> String {
    let shown = left.to_string();
    let Left::Path(words) = left else {
        return format!("{shown} is not compared with anything; write {shown} = VALUE");
    };
    match field(words) {
        Ok(Of::Done) => "write done = true".to_owned(),
        Ok(_) => {
            format!("{shown} is not compared with anything; write {shown} = VALUE or {shown}:*")
        }
        Err(why) if matches!(&words[..], [name] if FUNCTIONS.contains(&&*name.plain())) => why,
        Err(_) => keyword(words).map_or_else(
            || format!("{shown} alone is not searched for; write FIELD = {shown}"),
            |keyword| format!("{shown} joins no conditions; write {keyword}"),
        ),
    }
}

/// The keyword that was meant, if conditions are joined as in other languages.
fn keyword(words: &[Word]) -> Option<&'static str> {
    let [word] = words else { return None };
    match &*word.plain().to_lowercase() {
        "and" | "&&" | "&" => Some("AND"),
        "or" | "||" | "|" => Some("OR"),
        "not" => Some("NOT"),
        _ => None,
    }
}

/// The field that a path begins with.
fn field(words: &[Word]) -> Result<Of, String> {
    let mut path: Vec<String> = words.iter().map(Word::plain).collect();
    let first = path.remove(0);
    let leaf = |of: Of| match path.first() {
        None => Ok(of),
        Some(more) => Err(format!("{first} has no field {more}")),
    };
    match &*first {
        "name" => leaf(Of::Name),
        "done" => leaf(Of::Done),
        "error" => Ok(Of::Error(path)),
        "metadata" => Ok(Of::Payload(Payload::Metadata, path)),
        "response" => Ok(Of::Payload(Payload::Response, path)),
        "request" => Ok(Of::Payload(Payload::Request, path)),
        name if FUNCTIONS.contains(&name) => Err(format!(
            "{name} is no field of an operation; write {name}({})",
            if name == "label" { "\"KEY\"" } else { "" }
        )),
        name => Err(unknown("field", name)),
    }
}

fn function(name: &str, arguments: &[Word]) -> Result<Of, String> {
    let of = match (name, arguments) {
        ("label", [key]) => Of::Label(key.plain()),
        ("label", _) => return Err("label takes one argument, as in label(\"team\")".to_owned()),
        ("state", []) => Of::State,
        ("create_time", []) => Of::CreateTime,
        ("method", []) => Of::Method,
        ("queue", []) => Of::Queue,
        ("progress", []) => Of::Progress,
        (name, _) if FUNCTIONS.contains(&name) => return Err(format!("{name} takes no arguments")),
        (name, _) if FIELDS.contains(&name) => {
            return Err(format!("{name} is a field; write it without parentheses"));
        }
        (name, _) => return Err(unknown("function", name)),
    };
    Ok(of)
}

/// Checks the value that something other than a payload is compared with.
fn check_value(of: &Of, comparator: Comparator, literal: &Literal) -> Result<(), String> {
    let kind = match of {
        Of::State => return check_state(comparator, literal),
        Of::Done => Kind::Flag,
        Of::CreateTime => Kind::Time,
        Of::Progress => Kind::Real,
        Of::Name | Of::Method | Of::Queue | Of::Label(_) | Of::Error(_) | Of::Payload(..) => {
            Kind::Text
        }
    };
    literal.check(kind, comparator)
}

fn check_state(comparator: Comparator, literal: &Literal) -> Result<(), String> {
    equality_only(comparator, "states")?;
    let names = STATES.map(|state| state.as_str_name());
    if names.contains(&&*literal.plain) && !literal.is_pattern() {
        return Ok(());
    }
    Err(format!(
        "{:?} is no state; {}",
        literal.plain,
        meant(&literal.plain, names).unwrap_or_else(|| format!("there are {}", names.join(", ")))
    ))
}

fn unknown(what: &str, name: &str) -> String {
    let functions = FUNCTIONS.map(|name| format!("{name}()"));
    let all = FIELDS.iter().copied().chain(functions.iter().map(String::as_str));
    let hint = meant(name, all.clone())
        .unwrap_or_else(|| format!("there are {}", all.collect::<Vec<_>>().join(", ")));
    format!("there is no {what} {name}; {hint}")
}

/// The types that every match must have: those that the filter as a whole demands.
fn pinned(parsed: &Expr) -> Vec<(Payload, String)> {
    match parsed {
        Expr::All(parts) => parts.iter().flat_map(pinned).collect(),
        Expr::Any(_) | Expr::Not(_) => Vec::new(),
        Expr::Test(test) => {
            let Left::Path(words) = &test.left else { return Vec::new() };
            let Ok(Of::Payload(payload, path)) = field(words) else { return Vec::new() };
            match &test.right {
                Some((Comparator::Equals | Comparator::Has, word, _))
                    if path == [TYPE] && word.pieces().len() == 1 =>
                {
                    vec![(payload, type_name(&word.plain()).to_owned())]
                }
                _ => Vec::new(),
            }
        }
    }
}

const FIELDS: [&str; 6] = ["name", "done", "error", "metadata", "response", "request"];
const FUNCTIONS: [&str; 6] = ["state", "label", "create_time", "method", "queue", "progress"];
