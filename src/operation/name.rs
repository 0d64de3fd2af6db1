//! Names of operations, their parents, queues, type sets and webhook endpoints: parsed once, canonical from then on.

use std::fmt;
use std::sync::Arc;

use crate::limits::{MAX_ID_LENGTH, MAX_LABEL_NAME_BYTES, MAX_NAME_BYTES};

/// Why a text is not a valid name. Each variant names the invalid part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}: {fault}")]
pub struct NameError {
    /// The text, cut to a readable length.
    pub text: String,
    /// The expected kind of name.
    pub wanted: &'static str,
    /// The reason.
    pub fault: String,
}

/// The full name of an operation: `operations/{id}` or `{parent}/operations/{id}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    text: Arc<str>,
    parent_length: usize,
}

impl Name {
    /// The name of that operation below `parent`.
    pub fn new(parent: &Parent, id: &Id) -> Result<Self, NameError> {
        let text = below(parent, COLLECTION, id);
        check_length(&text, NAME)?;
        Ok(Self { text: text.into(), parent_length: parent.0.len() })
    }

    /// Reads a full name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (parent, _) = split(text, COLLECTION, NAME)?;
        Ok(Self { text: text.into(), parent_length: parent.len() })
    }

    /// The parent in a text that is a full name. Nothing is allocated for it, since the policy asks with every call.
    pub fn parent_in(text: &str) -> Option<&str> {
        split(text, COLLECTION, NAME).ok().map(|(parent, _)| parent)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id: the part after the last slash.
    pub fn id(&self) -> &str {
        self.as_str().rsplit('/').next().unwrap_or_default()
    }

    /// The parent's text; empty for the root.
    pub fn parent(&self) -> &str {
        &self.text[..self.parent_length]
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, formatter)
    }
}

/// The full name of a type set: `typeSets/{id}` or `{parent}/typeSets/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeSetName {
    /// The parent.
    pub parent: Parent,
    /// The id within the parent.
    pub id: Id,
}

impl TypeSetName {
    /// Reads a full name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (parent, id) = split(text, TYPE_SETS, TYPE_SET_NAME)?;
        Ok(Self { parent: Parent(parent.to_owned()), id: Id(id.to_owned()) })
    }

    /// The parent in the text of a list, which may name the collection instead.
    pub fn parent_of_list(text: &str) -> &str {
        without_collection(text, TYPE_SETS).unwrap_or(text)
    }
}

impl fmt::Display for TypeSetName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&below(&self.parent, TYPE_SETS, &self.id))
    }
}

/// The full name of a webhook endpoint: `webhookEndpoints/{id}` or `{parent}/webhookEndpoints/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    /// The parent.
    pub parent: Parent,
    /// The id within the parent.
    pub id: Id,
}

impl EndpointName {
    /// Reads a full name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (parent, id) = split(text, ENDPOINTS, ENDPOINT_NAME)?;
        Ok(Self { parent: Parent(parent.to_owned()), id: Id(id.to_owned()) })
    }

    /// The parent in the text of a list, which may name the collection instead.
    pub fn parent_of_list(text: &str) -> &str {
        without_collection(text, ENDPOINTS).unwrap_or(text)
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&below(&self.parent, ENDPOINTS, &self.id))
    }
}

/// The parent of operations: empty, or a chain of collection/id pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parent(String);

impl Parent {
    /// Reads a parent; `-` is no id here.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_parent(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The text; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many pairs of collection and id it has.
    pub fn pairs(&self) -> usize {
        self.0.split('/').count() / 2
    }
}

/// The parent that `place` is or lies in, then those above it up to the root. `place` is a name, a parent or a pattern; of a
/// pattern, only the parents above its first `-`, since everything that it matches has those.
pub fn ancestry(place: &str) -> Vec<&str> {
    let mut ends = vec![0];
    let mut at = 0;
    let mut segments = place.split('/');
    while let (Some(collection), Some(id)) = (segments.next(), segments.next()) {
        if collection.is_empty() || ["", "-"].contains(&id) || RESERVED.contains(&collection) {
            break;
        }
        at += usize::from(at > 0) + collection.len() + 1 + id.len();
        ends.push(at);
    }
    ends.into_iter().rev().map(|end| &place[..end]).collect()
}

/// A parent in which `-` stands for every id (AIP-159); `-` alone is every parent, the root included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentPattern {
    text: String,
    wildcard: bool,
}

impl ParentPattern {
    /// Reads a parent or a pattern of parents.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wildcard = check_pattern(text)?;
        Ok(Self { text: text.to_owned(), wildcard })
    }

    /// The text as it was.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches more than one parent.
    pub const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether it matches every parent.
    pub fn is_every(&self) -> bool {
        self.text == EVERY
    }

    /// The longest text that every matching parent begins with.
    pub fn prefix(&self) -> &str {
        let end = self
            .text
            .split('/')
            .take_while(|segment| *segment != "-")
            .map(|segment| segment.len() + 1)
            .sum();
        self.text.get(..end).unwrap_or(&self.text)
    }

    /// Whether a parent matches.
    pub fn matches(&self, parent: &str) -> bool {
        if self.is_every() {
            return true;
        }
        let mut segments = parent.split('/');
        let all = self
            .text
            .split('/')
            .all(|wanted| segments.next().is_some_and(|found| wanted == "-" || wanted == found));
        all && segments.next().is_none()
    }
}

/// The last segment of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// Reads an id: lower-case letters, digits and inner hyphens, at most 63.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_id(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that the server gives: a UUID.
    pub fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid.to_string())
    }
}

/// The name of a queue, without its collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue(String);

impl Default for Queue {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl Queue {
    /// Reads `q` or `queues/q`; empty is the queue `default`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::id_in(text).map(|id| Self(id.to_owned()))
    }

    /// The bare id in a text that [`Self::parse`] reads.
    pub fn id_in(text: &str) -> Result<&str, NameError> {
        let id = text.strip_prefix("queues/").unwrap_or(text);
        let id = if text.is_empty() { "default" } else { id };
        if id.is_empty()
            || id == "-"
            || id.len() > MAX_LABEL_NAME_BYTES
            || !id.bytes().all(is_segment_byte)
        {
            return Err(fault(
                text,
                "a queue",
                format!(
                    "1 to {MAX_LABEL_NAME_BYTES} letters, digits, '-', '_', '.' and '~' are allowed, 'queues/' may stand before them"
                ),
            ));
        }
        Ok(id)
    }

    /// The queue of operations that the servers themselves work on. No request can name it.
    pub fn of_servers() -> Self {
        Self(SERVERS.to_owned())
    }

    /// Reads the bare id of a queue from a record; `None` if it is damaged.
    pub fn stored(id: &str) -> Option<Self> {
        if id == SERVERS { Some(Self::of_servers()) } else { Self::parse(id).ok() }
    }

    /// The bare id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `queues/{id}`.
    pub fn full(&self) -> String {
        format!("queues/{}", self.0)
    }
}

/// Not what [`Queue::parse`] reads.
const SERVERS: &str = "*servers";

/// The text of the name of something below `parent`.
fn below(parent: &Parent, collection: &str, id: &Id) -> String {
    let separator = if parent.0.is_empty() { "" } else { "/" };
    format!("{}{separator}{collection}/{}", parent.0, id.0)
}

/// Parent and id in a full name, both checked.
fn split<'a>(
    text: &'a str,
    collection: &'static str,
    wanted: &'static str,
) -> Result<(&'a str, &'a str), NameError> {
    check_length(text, wanted)?;
    let (path, id) = text.rsplit_once('/').ok_or_else(|| {
        let looks = format!("{collection}/ID or projects/P/{collection}/ID");
        fault(text, wanted, format!("it has no '/'; a full name looks like {looks}"))
    })?;
    let parent = without_collection(path, collection).ok_or_else(|| {
        fault(text, wanted, format!("the part before {id:?} must end in '{collection}'"))
    })?;
    check_parent(parent)?;
    check_id(id)?;
    Ok((parent, id))
}

/// The parent in the path of a collection.
fn without_collection<'a>(path: &'a str, collection: &str) -> Option<&'a str> {
    match path.strip_suffix(collection) {
        Some("") => Some(""),
        Some(parent) if parent.len() > 1 => parent.strip_suffix('/'),
        _ => None,
    }
}

fn check_length(text: &str, wanted: &'static str) -> Result<(), NameError> {
    if text.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let why = format!("it has {} bytes, at most {MAX_NAME_BYTES} are allowed", text.len());
    Err(fault(text, wanted, why))
}

fn check_parent(text: &str) -> Result<(), NameError> {
    if check_pattern(text)? {
        let why = "'-' stands for every id, which only lists understand".to_owned();
        return Err(fault(text, PARENT, why));
    }
    Ok(())
}

/// Checks a parent or a pattern of parents; whether it is one that matches more than one parent.
fn check_pattern(text: &str) -> Result<bool, NameError> {
    if text.is_empty() || text == EVERY {
        return Ok(text == EVERY);
    }
    check_length(text, PARENT)?;
    if text.bytes().filter(|byte| *byte == b'/').count().is_multiple_of(2) {
        let why = "it must be pairs of collection and id, such as projects/P".to_owned();
        return Err(fault(text, PARENT, why));
    }
    let mut wildcard = false;
    let mut segments = text.split('/');
    while let (Some(collection), Some(id)) = (segments.next(), segments.next()) {
        check_segment(text, collection)?;
        if collection == "-" || RESERVED.contains(&collection) {
            let why = format!("{collection:?} cannot be a collection of yours");
            return Err(fault(text, PARENT, why));
        }
        check_segment(text, id)?;
        wildcard |= id == "-";
    }
    Ok(wildcard)
}

/// Checks an id: lower-case letters, digits and inner hyphens, at most 63.
pub fn check_id(text: &str) -> Result<(), NameError> {
    let of_id = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let inner = text.bytes().all(of_id);
    let ends = !text.is_empty() && !text.starts_with('-') && !text.ends_with('-');
    if inner && ends && text.len() <= MAX_ID_LENGTH {
        return Ok(());
    }
    let why = format!(
        "1 to {MAX_ID_LENGTH} lower-case letters, digits and hyphens are allowed, the first and the last no hyphen"
    );
    Err(fault(text, "an id", why))
}

fn check_segment(text: &str, segment: &str) -> Result<(), NameError> {
    if segment.is_empty() || !segment.bytes().all(is_segment_byte) {
        return Err(fault(
            text,
            PARENT,
            format!(
                "the segment {segment:?} must be letters, digits, '-', '_', '.' and '~', and not empty"
            ),
        ));
    }
    Ok(())
}

/// Characters that need no escaping in a URL (RFC 3986 section 2.3).
const fn is_segment_byte(byte: u8) -> bool {
    SEGMENT_BYTES[byte as usize]
}

/// A table, since each call reads names.
const SEGMENT_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        let character = byte as u8;
        bytes[byte] =
            character.is_ascii_alphanumeric() || matches!(character, b'-' | b'_' | b'.' | b'~');
        byte += 1;
    }
    bytes
};

fn fault(text: &str, wanted: &'static str, fault: String) -> NameError {
    const READABLE: usize = 80;
    let text = match text.char_indices().nth(READABLE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    };
    NameError { text, wanted, fault }
}

const COLLECTION: &str = "operations";
const TYPE_SETS: &str = "typeSets";
const ENDPOINTS: &str = "webhookEndpoints";
/// Every parent, however deep.
const EVERY: &str = "-";
const NAME: &str = "the name of an operation";
const TYPE_SET_NAME: &str = "the name of a type set";
const ENDPOINT_NAME: &str = "the name of a webhook endpoint";
const PARENT: &str = "a parent";
/// Collections of longhaul's own, which parents must not use.
const RESERVED: [&str; 5] = [COLLECTION, "queues", "jobs", ENDPOINTS, TYPE_SETS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_name_families_read_back_as_they_were() {
        for text in ["operations/a", "projects/p/operations/0-a", "a/b/c/d/e/f/g/h/operations/x"] {
            assert_eq!(Name::parse(text).expect(text).as_str(), text);
        }
        assert_eq!(Name::parse("projects/p/operations/x").expect("name").parent(), "projects/p");
        assert_eq!(Name::parse("operations/x").expect("name").parent(), "");
    }

    #[test]
    fn a_place_lies_below_each_of_its_ancestors_as_far_as_they_are_known() {
        for (place, expected) in [
            ("a/b/c/d/operations/x", &["a/b/c/d", "a/b", ""][..]),
            ("a/b", &["a/b", ""]),
            ("a/-/c/d", &[""]),
            ("a/b/c/-", &["a/b", ""]),
            ("typeSets/x", &[""]),
            ("a/b/typeSets/x", &["a/b", ""]),
            ("", &[""]),
            ("-", &[""]),
            ("///", &[""]),
            ("a/b/c", &["a/b", ""]),
        ] {
            assert_eq!(ancestry(place), expected, "{place}");
        }
    }

    #[test]
    fn the_name_of_a_type_set_reads_back_as_it_was() {
        for text in ["typeSets/a", "projects/p/typeSets/0-a"] {
            assert_eq!(TypeSetName::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "a", "operations/a", "typeSets/A", "projects/-/typeSets/a", "/typeSets/a"]
        {
            TypeSetName::parse(text).expect_err(text);
        }
        assert_eq!(TypeSetName::parent_of_list("projects/p/typeSets"), "projects/p");
        assert_eq!(TypeSetName::parent_of_list("typeSets"), "");
        assert_eq!(TypeSetName::parent_of_list("projects/p"), "projects/p");
    }

    #[test]
    fn the_name_of_a_webhook_endpoint_reads_back_as_it_was() {
        for text in ["webhookEndpoints/a", "projects/p/webhookEndpoints/0-a"] {
            assert_eq!(EndpointName::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "a", "typeSets/a", "webhookEndpoints/A", "a/-/webhookEndpoints/a"] {
            EndpointName::parse(text).expect_err(text);
        }
        assert_eq!(EndpointName::parent_of_list("projects/p/webhookEndpoints"), "projects/p");
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "no '/'"),
            ("x", "no '/'"),
            ("operation/x", "must end in 'operations'"),
            ("projectsoperations/x", "must end in 'operations'"),
            ("operations/", "lower-case"),
            ("/operations/x", "must end in 'operations'"),
            ("operations/X", "lower-case"),
            ("operations/-x", "lower-case"),
            ("projects/operations/x", "pairs"),
            ("projects/-/operations/x", "only lists"),
            ("operations/a/operations/x", "cannot be a collection"),
            ("a b/c/operations/x", "segment"),
            ("//operations/x", "segment"),
        ] {
            let error = Name::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let long = format!("operations/{}", "x".repeat(64));
        assert!(Name::parse(&long).is_err());
        assert!(Name::parse(&"x/".repeat(100_000)).expect_err("long").to_string().len() < 300);
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_segment() {
        let pattern = ParentPattern::parse("projects/-/locations/l").expect("pattern");
        assert_eq!(pattern.prefix(), "projects/");
        assert!(pattern.matches("projects/p/locations/l"));
        assert!(!pattern.matches("projects/p/locations/l/x/y"));
        assert!(!pattern.matches("projects/p"));
        assert_eq!(ParentPattern::parse("projects/p").expect("pattern").prefix(), "projects/p");
        for text in ["-/p", "-/-", "projects/-/-"] {
            assert!(ParentPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_alone_stands_for_every_parent() {
        let every = ParentPattern::parse("-").expect("pattern");
        assert!(every.is_wildcard());
        assert_eq!(every.prefix(), "");
        for parent in ["", "projects/p", "a/b/c/d/e/f"] {
            assert!(every.matches(parent), "{parent}");
        }
        assert!(Parent::parse("-").is_err());
        assert!(Name::parse("-/operations/x").is_err());
    }

    #[test]
    fn queues_are_accepted_bare_and_full() {
        assert_eq!(Queue::parse("").expect("default").full(), "queues/default");
        assert_eq!(Queue::parse("queues/Q.1").expect("full").as_str(), "Q.1");
        assert!(Queue::parse("queues/").is_err());
        let own = Queue::of_servers();
        assert!(Queue::parse(own.as_str()).is_err() && Queue::parse(&own.full()).is_err());
        assert_eq!(Queue::stored(own.as_str()), Some(own));
        assert!(Queue::parse("a/b").is_err());
    }
}
