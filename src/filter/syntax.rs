//! The tree of a filter, before it is known what its names mean, and its canonical text.

use std::fmt;

/// A filter, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// All of these; two or more.
    All(Vec<Self>),
    /// One of these; two or more.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A comparison, or a value alone.
    Test(Test),
}

/// `left`, or `left comparator right`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) left: Left,
    pub(super) at: At,
    pub(super) right: Option<(Comparator, Word, At)>,
}

/// What stands on the left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// `a.b.c`
    Path(Vec<Word>),
    /// `name(arguments)`
    Call(String, Vec<Word>),
}

/// A position in the text, in bytes. All are equal: where something stood does not tell two filters apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub(super) usize);

impl PartialEq for At {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for At {}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparator {
    AtMost,
    Less,
    AtLeast,
    More,
    Differs,
    Equals,
    Has,
}

impl Comparator {
    /// All of them, those first that begin like another one.
    pub(super) const ALL: [Self; 7] = [
        Self::AtMost,
        Self::Less,
        Self::AtLeast,
        Self::More,
        Self::Differs,
        Self::Equals,
        Self::Has,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AtMost => "<=",
            Self::Less => "<",
            Self::AtLeast => ">=",
            Self::More => ">",
            Self::Differs => "!=",
            Self::Equals => "=",
            Self::Has => ":",
        }
    }
}

/// A word or a quoted string. A backslash stands before a `*` that is no wildcard, and before itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word(String);

impl Word {
    /// A word that was not quoted: it has no backslash.
    pub(super) fn bare(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// A word in which backslashes stand before `*` and themselves only.
    pub(super) const fn escaped(text: String) -> Self {
        Self(text)
    }

    /// The text that is meant where no wildcards are.
    pub(super) fn plain(&self) -> String {
        self.pieces().join("*")
    }

    /// What stands between the wildcards.
    pub(super) fn pieces(&self) -> Vec<String> {
        let (mut pieces, mut piece) = (Vec::new(), String::new());
        let mut letters = self.0.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => piece.extend(letters.next()),
                '*' => pieces.push(std::mem::take(&mut piece)),
                other => piece.push(other),
            }
        }
        pieces.push(piece);
        pieces
    }

    /// Whether it is a wildcard alone: "anything".
    pub(super) fn is_star(&self) -> bool {
        self.0 == "*"
    }

    /// The word without what it begins with.
    pub(super) fn without_prefix(&self, prefix: &str) -> Self {
        Self(self.0.strip_prefix(prefix).unwrap_or(&self.0).to_owned())
    }

    fn is_safe(&self, more: &[char]) -> bool {
        let safe = |letter: char| letter.is_alphanumeric() || "_*@/".contains(letter);
        !self.0.is_empty()
            && !KEYWORDS.contains(&&*self.0)
            && self.0.chars().all(|letter| safe(letter) || more.contains(&letter))
    }

    fn write(&self, out: &mut fmt::Formatter<'_>, more: &[char]) -> fmt::Result {
        if self.is_safe(more) {
            return out.write_str(&self.0);
        }
        write!(out, "\"{}\"", self.0.replace('"', "\\\""))
    }
}

impl Expr {
    /// All of these.
    pub(super) fn all(parts: Vec<Self>) -> Self {
        Self::joined(parts, Self::All, |part| match part {
            Self::All(parts) => Ok(parts),
            other => Err(other),
        })
    }

    /// One of these.
    pub(super) fn any(parts: Vec<Self>) -> Self {
        Self::joined(parts, Self::Any, |part| match part {
            Self::Any(parts) => Ok(parts),
            other => Err(other),
        })
    }

    /// The opposite.
    pub(super) fn not(part: Self) -> Self {
        match part {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    fn joined(
        parts: Vec<Self>,
        join: fn(Vec<Self>) -> Self,
        split: fn(Self) -> Result<Vec<Self>, Self>,
    ) -> Self {
        let flat = parts.into_iter().map(split);
        let mut flat: Vec<Self> =
            flat.flat_map(|part| part.unwrap_or_else(|single| vec![single])).collect();
        match flat.len() {
            1 => flat.remove(0),
            _ => join(flat),
        }
    }

    fn write_part(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(_) | Self::Any(_) => write!(out, "({self})"),
            Self::Not(_) | Self::Test(_) => write!(out, "{self}"),
        }
    }
}

/// The canonical text: parsed again, it gives the same tree.
impl fmt::Display for Expr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, between) = match self {
            Self::All(parts) => (parts, " AND "),
            Self::Any(parts) => (parts, " OR "),
            Self::Not(part) => {
                out.write_str("NOT ")?;
                return part.write_part(out);
            }
            Self::Test(test) => return write!(out, "{test}"),
        };
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                out.write_str(between)?;
            }
            part.write_part(out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.left)?;
        let Some((comparator, word, _)) = &self.right else { return Ok(()) };
        let between = if *comparator == Comparator::Has { "" } else { " " };
        write!(out, "{between}{}{between}", comparator.as_str())?;
        word.write(out, &['.', ':', '-', '+'])
    }
}

impl fmt::Display for Left {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, between) = match self {
            Self::Path(words) => (words, "."),
            Self::Call(name, arguments) => {
                write!(out, "{name}(")?;
                (arguments, ", ")
            }
        };
        for (position, word) in words.iter().enumerate() {
            if position > 0 {
                out.write_str(between)?;
            }
            match self {
                Self::Path(_) => word.write(out, &[])?,
                Self::Call(..) => write!(out, "\"{}\"", word.0.replace('"', "\\\""))?,
            }
        }
        if matches!(self, Self::Call(..)) { out.write_str(")") } else { Ok(()) }
    }
}

/// Words that join conditions.
pub(super) const KEYWORDS: [&str; 3] = ["AND", "OR", "NOT"];
