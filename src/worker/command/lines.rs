//! Reads the lines of a program's output as bytes, within a bound.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads lines of any bytes, and keeps at most `most` bytes of each. Cancel-safe: a part of a line survives a dropped call.
pub(super) struct LineReader<R> {
    reader: Option<BufReader<R>>,
    most: usize,
    line: Vec<u8>,
    /// A line has begun, or an empty one has ended.
    begun: bool,
    cut: bool,
    /// The line was returned already.
    done: bool,
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// The line was longer than `most`.
    pub(super) cut: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(stream: Option<R>, most: usize) -> Self {
        let reader = stream.map(|stream| BufReader::with_capacity(CHUNK, stream));
        Self { reader, most, line: Vec::new(), begun: false, cut: false, done: false }
    }

    /// The next line; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Line<'_>> {
        self.clear();
        while let Some(reader) = &mut self.reader {
            // An error ends the stream too.
            let chunk = reader.fill_buf().await.unwrap_or_default();
            if chunk.is_empty() {
                self.reader = None;
                break;
            }
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let text = &chunk[..end.unwrap_or(chunk.len())];
            let room = self.most - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.cut |= text.len() > room;
            self.begun = true;
            let read = text.len() + usize::from(end.is_some());
            reader.consume(read);
            if end.is_some() {
                return self.take();
            }
        }
        self.take()
    }

    /// The part of a line that was read without its end.
    pub(super) fn rest(&mut self) -> Option<Line<'_>> {
        self.clear();
        self.reader = None;
        self.take()
    }

    fn take(&mut self) -> Option<Line<'_>> {
        self.done = self.begun;
        self.begun.then_some(Line { bytes: &self.line, cut: self.cut })
    }

    fn clear(&mut self) {
        if self.done {
            // Frees the memory of a long line.
            self.line = Vec::new();
            (self.begun, self.cut, self.done) = (false, false, false);
        }
    }
}

/// Bytes of one read.
const CHUNK: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = LineReader::new(Some(text), 4);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await {
            read.push((line.bytes.to_vec(), line.cut));
        }
        assert_eq!(lines.next().await, None);
        read
    }

    #[tokio::test]
    async fn lines_are_kept_within_their_bound_whatever_their_bytes() {
        let whole = |bytes: &[u8]| (bytes.to_vec(), false);
        assert_eq!(read(b"").await, []);
        assert_eq!(read(b"\n").await, [whole(b"")]);
        assert_eq!(read(b"ab\n\xff\0\r\nc").await, [whole(b"ab"), whole(b"\xff\0\r"), whole(b"c")]);
        let mut long = vec![b'x'; 3 * CHUNK];
        long.extend_from_slice(b"\n1234\n");
        assert_eq!(read(&long).await, [(b"xxxx".to_vec(), true), whole(b"1234")]);
    }

    #[tokio::test]
    async fn what_was_read_of_a_line_outlives_a_call_that_is_dropped() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut lines = LineReader::new(Some(reader), 64);
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"a\n{}").await.expect("written");
        assert_eq!(lines.next().await, Some(Line { bytes: b"a", cut: false }));
        tokio::select! {
            biased;
            line = lines.next() => panic!("{line:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(lines.rest(), Some(Line { bytes: b"{}", cut: false }));
        assert_eq!(lines.rest(), None);
    }
}
