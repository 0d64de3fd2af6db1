//! Why a URI with expressions is refused.

use std::fmt;

/// Why a URI with expressions is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// Where in the text, in bytes.
    pub position: usize,
    /// Why.
    pub message: String,
}

impl ExpressionError {
    pub(super) fn at(position: usize, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at byte {}: {}", self.position, self.message)
    }
}

impl std::error::Error for ExpressionError {}
