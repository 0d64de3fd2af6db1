//! Finds the damaged file of a database, so that an error can name it.
//!
//! The database does not check two kinds of data: its manifests, although it has checksums of them, and the tables of
//! contents of its sorted files. A flipped bit there ends in a panic, in a request for terabytes of memory,
//! or in the deletion of sound files. So both are checked before it is opened.

use std::any::Any;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

/// The problem of a file, or that it could not be read.
type Finding<T> = Result<T, Wrong>;

enum Wrong {
    Damaged(PathBuf, &'static str),
    Unread(io::Error),
}

/// A sorted file, and the checksum that it must have.
struct Sorted {
    path: PathBuf,
    checksum: u128,
}

/// Checks the files that must be sound before a database may be opened; names the first that is not.
pub(super) fn before_opening(database: &Path) -> io::Result<Option<String>> {
    told(each_sorted(database, |sorted| contents(&sorted.path)))
}

/// Reads all files that have a checksum; names a damaged one. A missing or unreadable file is not named.
pub(super) fn look(database: &Path) -> Option<String> {
    let found = each_sorted(database, |sorted| {
        contents(&sorted.path)?;
        if checksum(&sorted.path)? == sorted.checksum {
            return Ok(());
        }
        Err(Wrong::Damaged(sorted.path.clone(), "it does not match its checksum"))
    });
    told(found).ok().flatten()
}

/// The message of a panic.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the database panicked: {}", text.unwrap_or("without a word"))
}

fn told(found: Finding<()>) -> io::Result<Option<String>> {
    match found {
        Ok(()) => Ok(None),
        Err(Wrong::Damaged(path, what)) => {
            Ok(Some(format!("the file {} is damaged: {what}", path.display())))
        }
        Err(Wrong::Unread(error)) => Err(error),
    }
}

fn each_sorted(database: &Path, look: impl Fn(&Sorted) -> Finding<()>) -> Finding<()> {
    for folder in fs::read_dir(database.join("keyspaces"))? {
        let folder = folder?.path();
        if folder.is_dir() {
            manifest(&folder)?.iter().try_for_each(&look)?;
        }
    }
    Ok(())
}

/// Checks the manifest of a keyspace; returns the sorted files that it names.
fn manifest(folder: &Path) -> Finding<Vec<Sorted>> {
    let current = folder.join("current");
    let pointer = match fs::read(&current) {
        // A keyspace that was not finished when the process ended.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let wrong = |what| Wrong::Damaged(current.clone(), what);
    let (version, checksum, kind) =
        pointer_parts(&pointer).ok_or_else(|| wrong("it has a wrong length"))?;
    if kind != 0 {
        return Err(wrong("it names an unknown kind of checksum"));
    }
    let path = folder.join(format!("v{version}"));
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(wrong("the manifest that it names does not exist"));
        }
        read => read?,
    };
    if xxhash_rust::xxh3::xxh3_128(&bytes) != checksum {
        return Err(Wrong::Damaged(
            path,
            "it does not match the checksum in the file current beside it",
        ));
    }
    let named = section(&bytes, b"tables").and_then(sorted_files);
    let named = named.ok_or(Wrong::Damaged(path, "it names no files"))?;
    let sorted = |(number, checksum): (u64, u128)| Sorted {
        path: folder.join("tables").join(number.to_string()),
        checksum,
    };
    Ok(named.into_iter().map(sorted).collect())
}

fn pointer_parts(pointer: &[u8]) -> Option<(u64, u128, u8)> {
    let mut reader = FileReader(pointer);
    let parts = (
        u64::from_le_bytes(reader.take()?),
        u128::from_le_bytes(reader.take()?),
        reader.take::<1>()?[0],
    );
    reader.0.is_empty().then_some(parts)
}

/// Checks the table of contents of a sorted file.
fn contents(path: &Path) -> Finding<()> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Wrong::Damaged(path.to_owned(), "it does not exist"));
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let wrong = || Wrong::Damaged(path.to_owned(), "its table of contents is wrong");
    let at = length.checked_sub(TRAILER as u64).ok_or_else(wrong)?;
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, at)?;
    let (checksum, range) = trailer_parts(&trailer).ok_or_else(wrong)?;
    let end = range.0.checked_add(range.1).ok_or_else(wrong)?;
    if end != at || range.1 > MAX_CONTENTS {
        return Err(wrong());
    }
    let mut bytes = vec![0; range.1 as usize];
    file.seek(SeekFrom::Start(range.0))?;
    file.read_exact(&mut bytes)?;
    if xxhash_rust::xxh3::xxh3_128(&bytes) == checksum { Ok(()) } else { Err(wrong()) }
}

/// The checksum of a table of contents, and its place and length.
fn trailer_parts(trailer: &[u8]) -> Option<(u128, (u64, u64))> {
    let mut reader = FileReader(trailer);
    if reader.take::<6>()? != *b"SFA!\x01\x00" {
        return None;
    }
    let checksum = u128::from_le_bytes(reader.take()?);
    Some((checksum, (u64::from_le_bytes(reader.take()?), u64::from_le_bytes(reader.take()?))))
}

/// A part of an archive with a correct checksum.
fn section<'a>(archive: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let (_, (at, length)) = trailer_parts(archive.get(archive.len().checked_sub(TRAILER)?..)?)?;
    let mut reader = FileReader(archive.get(at as usize..(at + length) as usize)?);
    reader.take::<4>()?;
    for _ in 0..u32::from_le_bytes(reader.take()?) {
        let (at, length) = (u64::from_le_bytes(reader.take()?), u64::from_le_bytes(reader.take()?));
        let name = u16::from_le_bytes(reader.take()?);
        if reader.skip(usize::from(name))? == wanted {
            return archive.get(at as usize..(at + length) as usize);
        }
    }
    None
}

/// Number and checksum of the files that a manifest names: levels of runs of files.
fn sorted_files(section: &[u8]) -> Option<Vec<(u64, u128)>> {
    let (mut reader, mut files) = (FileReader(section), Vec::new());
    for _ in 0..reader.take::<1>()?[0] {
        for _ in 0..reader.take::<1>()?[0] {
            for _ in 0..u32::from_le_bytes(reader.take()?) {
                let number = u64::from_le_bytes(reader.take()?);
                reader.take::<1>()?;
                files.push((number, u128::from_le_bytes(reader.take()?)));
                reader.take::<8>()?;
            }
        }
    }
    Some(files)
}

fn checksum(path: &Path) -> io::Result<u128> {
    let (mut file, mut hash) = (File::open(path)?, Xxh3Default::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest128()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Takes bytes off the front.
struct FileReader<'a>(&'a [u8]);

impl<'a> FileReader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn skip(&mut self, count: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(skipped)
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

/// Magic, version, kind of checksum, checksum, place, length.
const TRAILER: usize = 38;
/// A table of contents names a handful of parts.
const MAX_CONTENTS: u64 = 64 << 10;
