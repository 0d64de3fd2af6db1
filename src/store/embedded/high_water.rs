//! The note of the last revision, beside the database, which shows when the database has lost its end.
//!
//! fjall cuts a damaged journal silently. The note is written after the fsync of its revision and is itself
//! not synced, so after a crash it is never ahead of the database: a database below its note is damaged,
//! not only crashed. It fits in one disk sector and is therefore old or new, never torn.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The open note.
#[derive(Debug)]
pub(super) struct HighWater {
    file: File,
}

/// The content of the note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotedRevision {
    /// There is no note.
    Absent,
    /// It is not one of ours, or somebody changed it.
    Unreadable,
    /// The last revision.
    Revision(u64),
}

impl HighWater {
    /// Reads the note in that directory.
    pub(super) fn read(directory: &Path) -> io::Result<NotedRevision> {
        let mut file = match File::open(place(directory)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(NotedRevision::Absent);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let revision = bytes.first_chunk().copied().map(u64::from_be_bytes);
        Ok(revision
            .filter(|revision| encode(*revision)[..] == bytes[..])
            .map_or(NotedRevision::Unreadable, NotedRevision::Revision))
    }

    /// Opens the note for writing, anew with that revision.
    pub(super) fn create(directory: &Path, revision: u64) -> io::Result<Self> {
        let place = place(directory);
        let aside = place.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&encode(revision))?;
        file.sync_all()?;
        fs::rename(&aside, &place)?;
        File::open(directory)?.sync_all()?;
        Ok(Self { file })
    }

    /// A note on a disk that is full.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn full() -> Self {
        Self { file: File::options().write(true).open("/dev/full").expect("a device of Linux") }
    }

    /// Notes a revision that is on disk.
    pub(super) fn write(&mut self, revision: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&encode(revision))
    }
}

fn place(directory: &Path) -> PathBuf {
    directory.join("high-water")
}

fn encode(revision: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&revision.to_be_bytes());
    let checksum = blake3::hash(&revision.to_be_bytes());
    bytes[8..].copy_from_slice(&checksum.as_bytes()[..8]);
    bytes
}
