//! Reads an export line by line, and refuses a line that is not as it was written.

use std::io::{self, BufRead};

use super::line::{
    EXPORT_VERSION, ExportEnd, ExportHeader, ExportLine, ExportedRecord, Totals, unseal,
};
use crate::store::FORMAT;

/// Why an export cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableLine {
    /// A line.
    #[error("line {number} of the export {what}")]
    Line {
        /// Its number, from 1.
        number: u64,
        /// What is wrong, and what to do.
        what: String,
    },
    /// It ends too early.
    #[error("the export is cut off: it has no end after line {0}; use a complete one")]
    CutOff(u64),
    /// The file.
    #[error("the export cannot be read")]
    File(#[from] io::Error),
}

/// The lines of an export.
pub struct ExportLines<R> {
    input: R,
    number: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

/// A line after the header.
pub(super) enum ExportPiece {
    Record(u64, ExportedRecord),
    /// A record that the export could not copy.
    Unreadable,
    End(Totals),
}

impl<R: BufRead> ExportLines<R> {
    /// The lines of that text.
    pub const fn new(input: R) -> Self {
        Self { input, number: 0, bytes: 0, buffer: Vec::new() }
    }

    /// How many bytes have been read.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the first line.
    ///
    /// # Errors
    /// Says why it is no export that this version can import.
    pub fn header(&mut self) -> Result<ExportHeader, UnreadableLine> {
        if !self.read()? {
            return Err(self.wrong("is missing: this is no export of longhaul"));
        }
        let said: Option<serde_json::Value> = serde_json::from_slice(&self.buffer).ok();
        let version = said.as_ref().and_then(|said| said["header"]["longhaul_export"].as_u64());
        match version {
            None => {
                return Err(
                    self.wrong("is no header: this is no export of longhaul, or it is damaged")
                );
            }
            Some(EXPORT_VERSION) => {}
            Some(version) => {
                return Err(self.wrong(&format!(
                    "says that it is of version {version}; this longhaul reads version {EXPORT_VERSION}: run another one"
                )));
            }
        }
        let ExportLine::Header(header) = self.parse()? else { return Err(self.wrong(MISPLACED)) };
        if header.format > FORMAT {
            return Err(self.wrong(&format!(
                "says that the records are of format {}; this longhaul reads format {FORMAT}: run a newer one",
                header.format
            )));
        }
        if header.origin().is_none() {
            return Err(self.wrong("has an identity that is none: export again"));
        }
        Ok(header)
    }

    /// Reads the next record, or the end; nothing may follow the end.
    pub(super) fn next(&mut self) -> Result<ExportPiece, UnreadableLine> {
        loop {
            if !self.read()? {
                return Err(UnreadableLine::CutOff(self.number));
            }
            return match self.parse()? {
                ExportLine::Record(record) => Ok(ExportPiece::Record(self.number, record)),
                ExportLine::Unreadable(_) => Ok(ExportPiece::Unreadable),
                ExportLine::End(end) => self.end(&end).map(ExportPiece::End),
                ExportLine::Partition(_) => continue,
                ExportLine::Header(_) => Err(self.wrong(MISPLACED)),
            };
        }
    }

    fn end(&mut self, end: &ExportEnd) -> Result<Totals, UnreadableLine> {
        let totals = end.totals().ok_or_else(|| self.wrong("has a digest that is none"))?;
        if self.read()? {
            return Err(self.wrong("comes after the end: import one export at a time"));
        }
        Ok(totals)
    }

    fn parse(&self) -> Result<ExportLine, UnreadableLine> {
        let text = unseal(&self.buffer).ok_or_else(|| {
            self.wrong("is damaged or was changed; use another copy of the export")
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| self.wrong(&format!("cannot be understood: {error}")))
    }

    /// Reads a line; false at the end of the text.
    fn read(&mut self) -> Result<bool, UnreadableLine> {
        self.buffer.clear();
        let mut limited = io::Read::take(&mut self.input, MAX_LINE_BYTES);
        let read = limited.read_until(b'\n', &mut self.buffer)? as u64;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        self.bytes += read;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if read == MAX_LINE_BYTES {
            return Err(self.wrong("is longer than any record: this is no export of longhaul"));
        }
        Ok(true)
    }

    fn wrong(&self, what: &str) -> UnreadableLine {
        UnreadableLine::Line { number: self.number.max(1), what: what.to_owned() }
    }
}

/// More than a record with the largest payloads, as bytes in base64 and as words.
const MAX_LINE_BYTES: u64 = 64 << 20;
const MISPLACED: &str = "is not where it belongs: the export was put together from parts";

#[cfg(test)]
mod tests {
    use super::super::line::seal;
    use super::*;

    #[test]
    fn other_files_are_refused_at_their_first_line() {
        for (text, what) in [
            ("", "line 1 of the export is missing: this is no export of longhaul"),
            ("hello\n", "line 1 of the export is no header"),
            ("{\"header\":{\"longhaul_export\":2}}\n", "version 2; this longhaul reads version 1"),
            (
                "{\"header\":{\"longhaul_export\":1}}\n",
                "line 1 of the export is damaged or was changed",
            ),
        ] {
            let error =
                ExportLines::new(text.as_bytes()).header().expect_err("no export").to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn records_of_a_newer_format_are_refused() {
        let header = ExportHeader {
            longhaul_export: EXPORT_VERSION,
            export: "00000000-0000-0000-0000-000000000001".to_owned(),
            longhaul: "9.0.0".to_owned(),
            format: FORMAT + 1,
            keyspace: "00000000-0000-0000-0000-000000000002".to_owned(),
            secret: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
            partitions: 1,
            time: "2026-01-01T00:00:00Z".to_owned(),
        };
        let text =
            |header: &ExportHeader| seal(&ExportLine::Header(header.clone())).expect("a line");
        let error = ExportLines::new(&text(&header)[..]).header().expect_err("newer").to_string();
        assert!(error.contains("are of format 2; this longhaul reads format 1"), "{error}");
        let header = ExportHeader { format: FORMAT, ..header };
        assert!(ExportLines::new(&text(&header)[..]).header().is_ok());
        let header = ExportHeader { secret: "AA==".to_owned(), ..header };
        assert!(ExportLines::new(&text(&header)[..]).header().is_err());
    }
}
