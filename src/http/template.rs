//! Path templates as `google.api.http` writes them, and the paths that they match.
//!
//! The annotations list parents of one to three pairs, since a template has a fixed number of segments. Here a variable that
//! begins with `*/*` stands for any number of pairs, as names do.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;

/// A template, such as `/v1/{name=*/*/operations/*}:cancel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Segment>,
    variables: Vec<Variable>,
    verb: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
    /// One pair or more; or `-`, which stands for every parent, however deep.
    Pairs,
    /// `**`: one segment or more. (None would be allowed too, but no name is empty.)
    Rest,
}

/// The part of a path that becomes a field of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    /// The field, with dots where it is one of a message within the request.
    field: String,
    segments: Range<usize>,
}

/// A path, taken apart. The verb is what follows the last colon of its last segment.
#[derive(Clone, Debug)]
pub(super) struct Path<'a> {
    segments: Vec<&'a str>,
    verb: &'a str,
}

/// A template that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a path template that is served: {1}")]
pub(crate) struct BadTemplate(String, &'static str);

/// A path with escapes that are not text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path is not UTF-8 once its escapes are read")]
pub(super) struct NoText;

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, BadTemplate> {
        let bad = |why| BadTemplate(text.to_owned(), why);
        let rest = text.strip_prefix('/').ok_or_else(|| bad("it must begin with /"))?;
        let (rest, verb) = match rest.rsplit_once(':') {
            Some((rest, verb)) if !verb.contains(['/', '}']) => (rest, verb),
            _ => (rest, ""),
        };
        let mut template =
            Self { segments: Vec::new(), variables: Vec::new(), verb: verb.to_owned() };
        for part in parts(rest) {
            let inside = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let Some(inside) = inside else {
                template.segments.push(Segment::read(part));
                continue;
            };
            let (field, pattern) = inside.split_once('=').unwrap_or((inside, "*"));
            let start = template.segments.len();
            template.segments.extend(Segment::of_variable(pattern));
            let segments = start..template.segments.len();
            template.variables.push(Variable { field: field.to_owned(), segments });
        }
        if template.segments.iter().any(|segment| *segment == Segment::Literal(String::new())) {
            return Err(bad("a segment is empty"));
        }
        let long = template.segments.iter().filter(|segment| segment.is_long()).count();
        if long > 1 {
            return Err(bad("two of its segments have no fixed length"));
        }
        Ok(template)
    }

    /// The custom verb, or nothing.
    pub(super) fn verb(&self) -> &str {
        &self.verb
    }

    /// An address of this form, with a name in braces for each open segment; `parent` stands for pairs.
    pub(super) fn address(&self, parent: &str) -> String {
        let mut text = String::new();
        for (place, segment) in self.segments.iter().enumerate() {
            text.push('/');
            match segment {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::Pairs => text.push_str(parent),
                Segment::One | Segment::Rest => {
                    text.extend(["{", self.name_of(place), "}"]);
                }
            }
        }
        if !self.verb.is_empty() {
            text.extend([":", &self.verb]);
        }
        text
    }

    /// What an open segment is called: after the collection in front of it, otherwise after its field.
    fn name_of(&self, place: usize) -> &str {
        let variable = self.variables.iter().find(|variable| variable.segments.contains(&place));
        let Some(variable) = variable else { return "segment" };
        match self.segments[variable.segments.start..place].last() {
            Some(Segment::Literal(collection)) if collection == "deliveries" => "delivery",
            Some(Segment::Literal(collection)) => {
                collection.strip_suffix('s').unwrap_or(collection)
            }
            _ => &variable.field,
        }
    }

    /// Whether it has a segment that stands for all others up to the end.
    pub(super) fn has_rest(&self) -> bool {
        self.segments.contains(&Segment::Rest)
    }

    /// Whether a field is a parent as a whole, for which `-` may stand too.
    pub(super) fn is_for_parents(&self) -> bool {
        let of = |variable: &Variable| &self.segments[variable.segments.clone()];
        self.variables.iter().any(|variable| *of(variable) == [Segment::Pairs])
    }

    /// The fields that the path gives.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.field.as_str())
    }

    /// The fields that a path of this form gives; the verb is not looked at.
    pub(super) fn match_path<'a>(
        &'a self,
        path: &Path<'_>,
    ) -> Option<Result<Vec<(&'a str, String)>, NoText>> {
        let spare = self.align(&path.segments)?;
        let long = self.segments.iter().position(Segment::is_long);
        // Where the path goes on after that many segments of the template.
        let place = |count: usize| match long {
            Some(long) if count > long => count - 1 + spare,
            _ => count,
        };
        let values = self.variables.iter().map(|variable| {
            let Range { start, end } = variable.segments;
            let single = self.segments[variable.segments.clone()] == [Segment::One];
            let decoded =
                path.segments[place(start)..place(end)].iter().map(|text| decode(text, single));
            let decoded = decoded.collect::<Result<Vec<_>, _>>()?;
            Ok((variable.field.as_str(), decoded.join("/")))
        });
        Some(values.collect())
    }

    /// How many segments of the path the one without a fixed length stands for, if the path has this form.
    fn align(&self, path: &[&str]) -> Option<usize> {
        let fixed = self.segments.iter().filter(|segment| !segment.is_long()).count();
        let spare = path.len().checked_sub(fixed)?;
        let mut at = 0;
        for segment in &self.segments {
            at += match segment {
                Segment::Literal(text) if path[at] == text => 1,
                Segment::One => 1,
                Segment::Pairs if spare > 0 && spare.is_multiple_of(2) => spare,
                Segment::Pairs if spare == 1 && path[at] == "-" => 1,
                Segment::Rest if spare > 0 => spare,
                Segment::Literal(_) | Segment::Pairs | Segment::Rest => return None,
            };
        }
        (at == path.len()).then_some(spare)
    }
}

impl Segment {
    fn read(text: &str) -> Self {
        match text {
            "*" => Self::One,
            "**" => Self::Rest,
            literal => Self::Literal(literal.to_owned()),
        }
    }

    fn is_long(&self) -> bool {
        matches!(self, Self::Pairs | Self::Rest)
    }

    /// The segments of a variable: those that it begins with are pairs if there is an even number of them.
    fn of_variable(pattern: &str) -> Vec<Self> {
        let mut segments: Vec<Self> = pattern.split('/').map(Self::read).collect();
        let leading = segments.iter().take_while(|segment| **segment == Self::One).count();
        if leading > 0 && leading.is_multiple_of(2) {
            segments.splice(..leading, [Self::Pairs]);
        }
        segments
    }
}

/// The segments of a template; slashes within braces do not part any.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |symbol| {
        depth += i32::from(symbol == '{') - i32::from(symbol == '}');
        symbol == '/' && depth == 0
    })
}

impl<'a> Path<'a> {
    /// Takes a path apart. `None` where a segment is empty, as in `//`: no template matches that.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let mut segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let last = segments.pop()?;
        // Some clients escape the colon.
        let colon = last.rfind(':').map(|at| (at, 1));
        let escaped = last.rfind("%3A").or_else(|| last.rfind("%3a")).map(|at| (at, 3));
        let (last, verb) = match colon.or(escaped) {
            Some((at, length)) => (&last[..at], &last[at + length..]),
            None => (last, ""),
        };
        segments.push(last);
        segments.iter().all(|segment| !segment.is_empty()).then_some(Self { segments, verb })
    }

    /// What follows the colon of the last segment.
    pub(super) fn verb(&self) -> &'a str {
        self.verb
    }
}

/// Reads the escapes of a segment. Where several segments become one field, an escaped slash stays escaped: it would
/// look like a separator of segments.
fn decode(segment: &str, single: bool) -> Result<Cow<'_, str>, NoText> {
    let whole = |text| percent_decode_str(text).decode_utf8().map_err(|_| NoText);
    let slash = |text: &str| text.to_ascii_lowercase().contains("%2f");
    if single || !slash(segment) {
        return whole(segment);
    }
    let mut decoded = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.to_ascii_lowercase().find("%2f") {
        decoded.push_str(&whole(&rest[..at])?);
        decoded.push_str("%2F");
        rest = &rest[at + 3..];
    }
    decoded.push_str(&whole(rest)?);
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(template: &str, path: &str) -> Option<String> {
        let template = Template::parse(template).expect(template);
        let path = Path::parse(path)?;
        if path.verb() != template.verb() {
            return None;
        }
        let fields = template.match_path(&path)?.expect("text");
        Some(
            fields
                .iter()
                .map(|(field, value)| format!("{field}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
        )
    }

    #[test]
    fn a_template_matches_the_paths_that_it_describes() {
        for (template, path, fields) in [
            ("/v1/{name=operations}", "/v1/operations", "name=operations"),
            ("/v1/{name=operations/**}", "/v1/operations/x", "name=operations/x"),
            ("/v1/{name=operations/**}", "/v1/operations/x/y", "name=operations/x/y"),
            ("/v1/{name=operations/**}:cancel", "/v1/operations/x:cancel", "name=operations/x"),
            ("/v1/{name=operations/**}:cancel", "/v1/operations/x%3Acancel", "name=operations/x"),
            ("/v1/{name=operations/**}:cancel", "/v1/operations/x:a:cancel", "name=operations/x:a"),
            (
                "/v1/{name=*/*/operations/*}",
                "/v1/projects/p/operations/x",
                "name=projects/p/operations/x",
            ),
            (
                "/v1/{name=*/*/operations/*}:wait",
                "/v1/a/b/c/d/e/f/g/h/operations/x:wait",
                "name=a/b/c/d/e/f/g/h/operations/x",
            ),
            ("/v1/{parent=*/*}/operations:start", "/v1/p/q/operations:start", "parent=p/q"),
            (
                "/v1/{parent=*/*}/operations:start",
                "/v1/p/a.example:q/operations:start",
                "parent=p/a.example:q",
            ),
            ("/v1/{parent=*/*}/operations", "/v1/-/operations", "parent=-"),
            ("/v1/operations:start", "/v1/operations:start", ""),
            (
                "/v1/{queue=queues/*}/operations:lease",
                "/v1/queues/q/operations:lease",
                "queue=queues/q",
            ),
            ("/v1/{a}/{b.c=x/*}", "/v1/1/x/2", "a=1 b.c=x/2"),
            ("/v1/{a}", "/v1/b%2Fc%20d", "a=b/c d"),
            ("/v1/{a=x/*}", "/v1/x/b%2fc%20d", "a=x/b%2Fc d"),
        ] {
            assert_eq!(matched(template, path).as_deref(), Some(fields), "{template} {path}");
        }
    }

    #[test]
    fn a_template_has_an_address_with_a_name_for_each_open_segment() {
        for (template, address, for_parents) in [
            ("/v1/{name=operations/**}:cancel", "/v1/operations/{operation}:cancel", false),
            ("/v1/{name=*/*/operations/*}", "/v1/PARENT/operations/{operation}", false),
            ("/v1/{parent=*/*}/operations", "/v1/PARENT/operations", true),
            ("/v1/{queue=queues/*}/operations:lease", "/v1/queues/{queue}/operations:lease", false),
            ("/v1/{a}/x", "/v1/{a}/x", false),
        ] {
            let template = Template::parse(template).expect(template);
            assert_eq!(template.address("PARENT"), address);
            assert_eq!(template.is_for_parents(), for_parents, "{address}");
        }
    }

    #[test]
    fn a_template_matches_nothing_else() {
        for (template, path) in [
            ("/v1/{name=operations}", "/v1/operations/"),
            ("/v1/{name=operations}", "/v1/operations/x"),
            ("/v1/{name=operations}", "/v2/operations"),
            ("/v1/{name=operations}", "/v1//operations"),
            ("/v1/{name=operations}", "v1/operations"),
            ("/v1/{name=operations}", "/v1/operations:cancel"),
            ("/v1/{name=operations/**}", "/v1/operations"),
            ("/v1/{name=operations/**}:cancel", "/v1/operations/x"),
            ("/v1/{name=*/*/operations/*}", "/v1/operations/x"),
            ("/v1/{name=*/*/operations/*}", "/v1/p/operations/x"),
            ("/v1/{name=*/*/operations/*}", "/v1/p/q/r/operations/x"),
            ("/v1/{name=*/*/operations/*}", "/v1/p/q/operations"),
            ("/v1/{parent=*/*}/operations:start", "/v1/operations:start"),
            ("/v1/{name=operations}", ""),
            ("/v1/{name=operations}", "/"),
        ] {
            assert_eq!(matched(template, path), None, "{template} {path}");
        }
    }

    #[test]
    fn a_template_that_cannot_be_served_is_refused() {
        for text in ["v1/x", "/v1//x", "/{a=*/*}/{b=*/*}", "/{a=**}/{b=**}", ""] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escapes_that_are_no_text_are_refused() {
        let template = Template::parse("/v1/{a}").expect("a template");
        let path = Path::parse("/v1/%ff").expect("a path");
        assert_eq!(template.match_path(&path), Some(Err(NoText)));
    }
}
