//! Copies of a store: written as lines of JSON, read back into any other store.
//!
//! An export is text, so that a person can look into it. Each record has its stored bytes beside a readable form, so that a copy is
//! equal byte for byte, whatever kind the record is of. `docs/operations.md` describes the lines.

mod content;
mod export;
mod import;
mod line;
mod reader;
mod synthetic;
mod walk;

pub use self::export::parts;
pub use self::import::{Import, ImportError, ImportState, Imported};
pub use self::line::{ExportHeader, Totals};
pub use self::reader::{ExportLines, UnreadableLine};
pub use self::synthetic::{Synthetic, load};
