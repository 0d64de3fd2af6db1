//! OpenAPI runtime expressions in the URIs of callbacks: `https://example.com/{$request.body#/id}`.
//!
//! Pure. A text is parsed to a [`UriTemplate`] (`parse`), which is expanded with the values of a call (`expand`). The grammar is
//! that of OpenAPI 3.1; `docs/callbacks.md` says what the values are.

mod error;
mod expand;
mod parse;
mod pointer;
mod syntax;
#[cfg(test)]
mod tests;

pub use self::error::ExpressionError;
pub use self::expand::{CallValues, Expanded};
pub use self::syntax::UriTemplate;
