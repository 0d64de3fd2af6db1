//! Opens a directory: checks its owner, whether another process has it, and whether all acknowledged data is there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::ground::Ground;
use super::high_water::{HighWater, NotedRevision};
use super::mirror::Mirror;
use super::options::Options;
use super::tables::{HighestWritten, Tables};
use super::{damage, torn};
use crate::store::error::OpenError;
use crate::store::keyspace::Keyspace;

/// A directory that is locked while this lives.
#[derive(Debug)]
pub(super) struct Directory {
    _lock: File,
}

/// The parts that reads use.
pub(super) struct OpenTables {
    pub(super) tables: Tables,
    pub(super) mirror: Mirror,
}

/// The results of opening.
pub(super) struct Opened {
    pub(super) keyspace: Keyspace,
    pub(super) note: HighWater,
    pub(super) ground: Ground,
    pub(super) progress: HighestWritten,
}

/// Opens the directory, or makes a store in it where it is empty.
pub(super) fn open(options: &Options) -> Result<(Directory, Opened, OpenTables), OpenError> {
    let path = &options.path;
    let place = OpenErrors { path };
    let database = path.join(DATABASE);
    if !options.create && !database.exists() {
        return Err(OpenError::Address(format!(
            "there is no store in {}; name the directory of one with --store",
            path.display()
        )));
    }
    fs::create_dir_all(path).map_err(|error| place.unusable(&error))?;
    if !database.exists() {
        place.refuse_foreign()?;
    }
    let directory = place.lock()?;
    let noted = HighWater::read(path).map_err(|error| place.unusable(&error))?;
    if !database.exists() {
        if let NotedRevision::Revision(1..) | NotedRevision::Unreadable = noted {
            place.damage(options, "its database is gone, although records were stored")?;
        }
        place.refuse_named(options)?;
        place.make(options)?;
    } else if noted == NotedRevision::Absent || noted == NotedRevision::Unreadable {
        place.damage(options, "the file high-water is missing or unreadable, so it is unknown whether the rest is complete")?;
    }
    let (opened, open) = place.open(options, noted)?;
    Ok((directory, opened, open))
}

/// Opens a directory again after its database failed and was closed.
pub(super) fn again(options: &Options, _: &Directory) -> Result<(Opened, OpenTables), OpenError> {
    let place = OpenErrors { path: &options.path };
    let noted = HighWater::read(&options.path).map_err(|error| place.unusable(&error))?;
    place.open(options, noted)
}

/// Rewrites the journals of a failed database as they are read, while it is still open for readers.
///
/// Data of a failed fsync may be readable until the system drops it, and a further fsync
/// of the same file would succeed. The failed database contains no acknowledged data beyond that.
pub(super) fn rewrite_journals(directory: &Path) -> io::Result<()> {
    probe(&directory.join(PROBE))?;
    let database = directory.join(DATABASE);
    for file in fs::read_dir(&database)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let aside = path.with_extension("copy");
            if let Err(error) = rewrite(&path, &aside) {
                // It would take room that is needed, and does no harm if it stays.
                let _ = fs::remove_file(aside);
                return Err(error);
            }
        }
    }
    sync_directory(&database)
}

/// Writes a file and deletes it: opening without a write does not show that the disk accepts writes again.
fn probe(path: &Path) -> io::Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(&[1; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(path);
    written.and(removed)
}

fn rewrite(path: &Path, aside: &Path) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut copy = File::create(aside)?;
    copy.write_all(&bytes[..end])?;
    // It is made longer than its content, which takes no room.
    copy.set_len(bytes.len() as u64)?;
    copy.sync_all()?;
    fs::rename(aside, path)
}

/// Searches for damage, and makes the next start search too if there is some: a normal start may not read the damaged part.
pub(super) fn damaged(path: &Path) -> Option<String> {
    let found = damage::look(&path.join(DATABASE))?;
    if let Err(error) = fs::write(path.join(SUSPECT), &found) {
        warn!(%error, "cannot leave a note of the damage");
    }
    Some(format!("{found}; {RESTORE}"))
}

/// Turns an error into one for the caller who opens the directory.
pub(super) fn failed(path: &Path, error: &io::Error) -> OpenError {
    OpenErrors { path }.unusable(error)
}

struct OpenErrors<'a> {
    path: &'a Path,
}

impl OpenErrors<'_> {
    /// Refuses a directory of somebody else's before the first file is written to it.
    fn refuse_foreign(&self) -> Result<(), OpenError> {
        for entry in fs::read_dir(self.path).map_err(|error| self.unusable(&error))? {
            let name = entry.map_err(|error| self.unusable(&error))?.file_name();
            if !OURS.iter().any(|ours| name == *ours) {
                return Err(OpenError::Address(format!(
                    "{self} holds other files, such as {}, and no longhaul database; name an empty or a new directory",
                    name.display()
                )));
            }
        }
        Ok(())
    }

    /// A caller that names a keyspace expects one: an empty directory is then the wrong one.
    fn refuse_named(&self, options: &Options) -> Result<(), OpenError> {
        options.keyspace.map_or(Ok(()), |wanted| {
            let (place, found) = (self.to_string(), "none".to_owned());
            Err(OpenError::WrongKeyspace { place, found, wanted: wanted.to_string() })
        })
    }

    /// The lock goes when the file is closed, or with the process, however that ends.
    fn lock(&self) -> Result<Directory, OpenError> {
        let file =
            File::options().create(true).truncate(false).write(true).open(self.path.join(LOCK));
        let file = file.map_err(|error| self.unusable(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Directory { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(format!(
                "another longhaul has {self} open; stop it, or name another directory"
            ))),
            Err(TryLockError::Error(error)) => Err(self.unusable(&error)),
        }
    }

    /// Makes an empty database aside and moves it in place, so that none is ever found half made.
    fn make(&self, options: &Options) -> Result<(), OpenError> {
        let unusable = |error: io::Error| self.unusable(&error);
        let aside = self.path.join(UNFINISHED);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(unusable)?;
        }
        let tables = Tables::open(&aside).map_err(|error| self.broken(error))?;
        let new = || Keyspace::generate(1);
        let import = options.import.as_ref();
        let root = import.map_or_else(new, |origin| Keyspace::imported(1, origin)).encode();
        tables.put_root(&root).map_err(|error| self.broken(error))?;
        drop(tables);
        // The note first: a database without one is taken for damaged.
        if !self.path.join("high-water").exists() {
            HighWater::create(self.path, 0).map_err(unusable)?;
        }
        fs::rename(&aside, self.path.join(DATABASE)).map_err(unusable)?;
        sync_directory(self.path).map_err(unusable)?;
        let parent = self.path.canonicalize().map_err(unusable)?.parent().map(PathBuf::from);
        parent.map_or(Ok(()), |parent| sync_directory(&parent)).map_err(unusable)
    }

    /// Opens the database that is in the directory.
    fn open(
        &self,
        options: &Options,
        noted: NotedRevision,
    ) -> Result<(Opened, OpenTables), OpenError> {
        let path = self.path;
        let database = path.join(DATABASE);
        self.refuse_damaged(&database)?;
        let read = || {
            let tables = self.tables(&database)?;
            let keyspace = self.keyspace(options, &tables)?;
            keyspace.expect(&self.to_string(), options.keyspace)?;
            let progress = self.whole(options, &tables, noted)?;
            let mirror =
                Mirror::load(&options.layout, &tables).map_err(|error| self.broken(error))?;
            Ok((keyspace, progress, OpenTables { tables, mirror }))
        };
        let read = catch_unwind(AssertUnwindSafe(read));
        let read = read.unwrap_or_else(|panic| Err(self.ruined(&damage::said(&*panic))));
        let (keyspace, progress, open) = read?;
        let unusable = |error: io::Error| self.unusable(&error);
        let note = HighWater::create(path, progress.revision).map_err(unusable)?;
        let files = [LOCK, "high-water", DATABASE];
        let ground = Ground::of(path, &files, options.reserve_bytes).map_err(unusable)?;
        Ok((Opened { keyspace, note, ground, progress }, open))
    }

    /// Refuses a database that would not survive being opened, or that was found damaged when it was open the last time.
    fn refuse_damaged(&self, database: &Path) -> Result<(), OpenError> {
        let unusable = |error: io::Error| self.unusable(&error);
        let mut found = damage::before_opening(database).map_err(unusable)?;
        let suspect = self.path.join(SUSPECT);
        if found.is_none() && suspect.exists() {
            found = damage::look(database);
            if found.is_none() {
                fs::remove_file(suspect).map_err(unusable)?;
            }
        }
        found.map_or(Ok(()), |found| Err(OpenError::Damaged(format!("{found}; {RESTORE}"))))
    }

    /// The error of an unreadable database, with the damaged file if one is found.
    fn ruined(&self, cause: &dyn std::fmt::Display) -> OpenError {
        let found = damage::look(&self.path.join(DATABASE));
        let found = found.map_or_else(String::new, |found| format!("{found}; "));
        OpenError::Damaged(format!(
            "{self} is damaged and cannot be opened ({cause}): {found}{RESTORE}"
        ))
    }

    /// Opens the database, if need be without a batch that was torn when power failed.
    fn tables(&self, database: &Path) -> Result<Tables, OpenError> {
        let refusal = match Tables::open(database) {
            Err(error @ fjall::Error::JournalRecovery(_)) => error,
            opened => return opened.map_err(|error| self.broken(error)),
        };
        let spare = self.path.join(SPARE);
        let cut = torn::cut_last_batch(database, &spare).map_err(|error| self.unusable(&error))?;
        let Some(journal) = cut else { return Err(self.broken(refusal)) };
        match Tables::open(database) {
            Ok(tables) => {
                warn!(
                    place = %self, kept = %spare.display(),
                    "the last batch of the journal was torn ({refusal}) and is cut off; a copy of the journal is kept"
                );
                Ok(tables)
            }
            Err(error) => {
                // The damage is elsewhere: every byte may help with a repair.
                fs::rename(&spare, journal).map_err(|error| self.unusable(&error))?;
                Err(self.broken(error))
            }
        }
    }

    fn keyspace(&self, options: &Options, tables: &Tables) -> Result<Keyspace, OpenError> {
        let root = tables.root().map_err(|error| self.broken(error))?.ok_or_else(|| {
            OpenError::Damaged(format!("{self} has lost its root record; {RESTORE}"))
        })?;
        match &options.import {
            Some(origin) => Keyspace::decode_imported(&self.to_string(), &root, origin),
            None => Keyspace::decode(&self.to_string(), &root),
        }
    }

    /// Whether all acknowledged data is there, and the revision and sequence to continue with.
    fn whole(
        &self,
        options: &Options,
        tables: &Tables,
        noted: NotedRevision,
    ) -> Result<HighestWritten, OpenError> {
        let all = tables.progress().map_err(|error| self.broken(error))?;
        let lowest = all.into_iter().min().unwrap_or_default();
        let highest = all.into_iter().max().unwrap_or_default();
        let noted = if let NotedRevision::Revision(revision) = noted { revision } else { 0 };
        let reached = noted.max(highest.revision);
        if lowest == highest && lowest.revision >= noted {
            return Ok(lowest);
        }
        let missing = format!(
            "it ends at revision {}, but had acknowledged revision {reached}: the changes between them are missing, most likely because its journal is damaged",
            lowest.revision
        );
        self.damage(options, &missing)?;
        // Lost commits were visible to clients: their revisions and hint sequences must not be used again.
        let progress =
            HighestWritten { revision: reached, sequence: highest.sequence + LOST_HINTS };
        tables.write(std::iter::empty(), progress).map_err(|error| self.broken(error))?;
        Ok(progress)
    }

    /// Refuses a damaged store, unless the operator takes it as it is.
    fn damage(&self, options: &Options, what: &str) -> Result<(), OpenError> {
        if options.accept_loss {
            warn!(place = %self, "opened despite damage, because of --accept-loss: {what}");
            return Ok(());
        }
        Err(OpenError::Damaged(format!(
            "{self} is damaged: {what}; {RESTORE}, or start with --accept-loss to continue with the remaining data"
        )))
    }

    fn unusable(&self, error: &io::Error) -> OpenError {
        OpenError::Address(format!("cannot use {self}: {error}"))
    }

    fn broken(&self, error: fjall::Error) -> OpenError {
        match error {
            fjall::Error::Io(error) => self.unusable(&error),
            fjall::Error::Locked => OpenError::Locked(format!("another process has {self} open")),
            fjall::Error::InvalidVersion(_) => OpenError::Format(format!(
                "{self} was made by a version that this one does not read"
            )),
            error => self.ruined(&error),
        }
    }
}

impl std::fmt::Display for OpenErrors<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the store in {}", self.path.display())
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

const DATABASE: &str = "database";
const UNFINISHED: &str = "database.new";
const LOCK: &str = "longhaul.lock";
const SPARE: &str = "damaged-journal";
/// Exists after damage was found, until a search finds none.
const SUSPECT: &str = "suspect";
const PROBE: &str = "probe";
const PROBE_BYTES: usize = 64 << 10;
const RESTORE: &str = "restore it: run longhaul import with the last export and a new directory, or put a copy of the whole directory in its place that was made while no server had it open";
/// Files that may be in a directory without a database: the remains of an interrupted attempt.
const OURS: [&str; 5] = [UNFINISHED, LOCK, "high-water", "high-water.new", "lost+found"];
/// More hints than can have been lost.
const LOST_HINTS: u64 = 1 << 32;
