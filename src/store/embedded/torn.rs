//! Takes a torn last batch off fjall's journal.
//!
//! When power fails during a write, pages of the last batch may be on disk without those before them. fjall cuts a batch
//! that breaks off, but refuses the whole database for one that is complete in form and wrong in content. Only the last
//! batch can be torn, because each is synced before the next is begun; whether it had been acknowledged is for the note of
//! the last revision to tell.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Cuts the last batch off the journal that was written last, and keeps the journal unchanged in `spare`. Returns the
/// journal; `None`, without any change, if there is no batch.
pub(super) fn cut_last_batch(database: &Path, spare: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for file in fs::read_dir(database)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl"));
        let number = name.and_then(|name| name.parse::<u64>().ok());
        newest = newest.max(number.map(|number| (number, path)));
    }
    let Some((_, journal)) = newest else { return Ok(None) };
    let Some(start) = last_batch(&fs::read(&journal)?) else { return Ok(None) };
    fs::copy(&journal, spare)?;
    File::open(spare)?.sync_all()?;
    let file = File::options().write(true).open(&journal)?;
    file.set_len(start as u64)?;
    file.sync_all()?;
    Ok(Some(journal))
}

/// Where the last batch starts, going by the form alone.
fn last_batch(journal: &[u8]) -> Option<usize> {
    let (mut at, mut start) = (0, None);
    while let Some(length) = entry_length(&journal[at..]) {
        if journal[at] == START {
            start = Some(at);
        }
        at += length;
    }
    start
}

/// The length of the entry that a part of a journal begins with; `None` where no whole one does.
fn entry_length(bytes: &[u8]) -> Option<usize> {
    let length = match *bytes.first()? {
        // A start holds a count and a sequence number, an end a checksum and a trailer.
        START | END => 13,
        ITEM => {
            // Tag, kind, compression, keyspace; then lengths of key, of value, and of value as it is stored.
            let lengths = bytes.get(11..21)?;
            let key = u16::from_le_bytes(lengths[..2].try_into().ok()?);
            let value = u32::from_le_bytes(lengths[6..].try_into().ok()?);
            21 + usize::from(key) + value as usize
        }
        CLEAR => 9,
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
