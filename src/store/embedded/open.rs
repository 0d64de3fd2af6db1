//! Opening a directory: whose it is, whether somebody else has it, and whether all is there that was acknowledged.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::ground::Ground;
use super::high_water::{HighWater, Noted};
use super::mirror::Mirror;
use super::options::Options;
use super::tables::{Progress, Tables};
use super::{damage, torn};
use crate::store::error::OpenError;
use crate::store::keyspace::Keyspace;

/// A directory that nothing else opens while this lives.
#[derive(Debug)]
pub(super) struct Directory {
    _lock: File,
}

/// What reads need.
pub(super) struct Open {
    pub(super) tables: Tables,
    pub(super) mirror: Mirror,
}

/// What opening found out.
pub(super) struct Opened {
    pub(super) keyspace: Keyspace,
    pub(super) note: HighWater,
    pub(super) ground: Ground,
    pub(super) progress: Progress,
}

/// Opens the directory, or makes a store in it where it is empty.
pub(super) fn open(options: &Options) -> Result<(Directory, Opened, Open), OpenError> {
    let path = &options.path;
    let place = Place { path };
    let database = path.join(DATABASE);
    if !options.create && !database.exists() {
        return Err(OpenError::Address(format!("there is no store in {}", path.display())));
    }
    fs::create_dir_all(path).map_err(|error| place.unusable(&error))?;
    if !database.exists() {
        place.refuse_foreign()?;
    }
    let directory = place.lock()?;
    let noted = HighWater::read(path).map_err(|error| place.unusable(&error))?;
    if !database.exists() {
        if let Noted::Revision(1..) | Noted::Unreadable = noted {
            place.damage(options, "its database is gone, though something was stored")?;
        }
        place.refuse_named(options)?;
        place.make()?;
    } else if noted == Noted::Absent || noted == Noted::Unreadable {
        place.damage(options, "the file high-water is missing or unreadable, so nobody can tell whether the rest is whole")?;
    }
    let (opened, open) = place.open(options, noted)?;
    Ok((directory, opened, open))
}

/// Opens a directory again whose database failed and is closed.
pub(super) fn again(options: &Options, _: &Directory) -> Result<(Opened, Open), OpenError> {
    let place = Place { path: &options.path };
    let noted = HighWater::read(&options.path).map_err(|error| place.unusable(&error))?;
    place.open(options, noted)
}

/// Writes the journals of a database that failed anew, as they are read, while it is still open for readers.
///
/// What a failed fsync was to bring to disk may be read as if it were there, until the system forgets it; a further fsync
/// of the same file would say that all is well. The failed database adds nothing any more that was acknowledged.
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

/// Writes a file and deletes it: what opens without a write must not be taken for a disk that takes writes again.
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

/// Looks for damage, and makes the next start look too where there is some: what is damaged may lie where no start looks.
pub(super) fn damaged(path: &Path) -> Option<String> {
    let found = damage::look(&path.join(DATABASE))?;
    if let Err(error) = fs::write(path.join(SUSPECT), &found) {
        warn!(%error, "cannot leave a note of the damage");
    }
    Some(format!("{found}; {RESTORE}"))
}

/// Says what an error means for whoever wanted to open the directory.
pub(super) fn failed(path: &Path, error: &io::Error) -> OpenError {
    Place { path }.unusable(error)
}

struct Place<'a> {
    path: &'a Path,
}

impl Place<'_> {
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

    /// Who names a keyspace expects one: an empty directory is then the wrong one.
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
    fn make(&self) -> Result<(), OpenError> {
        let unusable = |error: io::Error| self.unusable(&error);
        let aside = self.path.join(UNFINISHED);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(unusable)?;
        }
        let tables = Tables::open(&aside).map_err(|error| self.broken(error))?;
        let root = Keyspace::generate(1).encode();
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
    fn open(&self, options: &Options, noted: Noted) -> Result<(Opened, Open), OpenError> {
        let path = self.path;
        let database = path.join(DATABASE);
        self.refuse_damaged(&database)?;
        let read = || {
            let tables = self.tables(&database)?;
            let keyspace = self.keyspace(&tables)?;
            keyspace.expect(&self.to_string(), options.keyspace)?;
            let progress = self.whole(options, &tables, noted)?;
            let mirror = Mirror::load(&tables).map_err(|error| self.broken(error))?;
            Ok((keyspace, progress, Open { tables, mirror }))
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

    /// What a database says that cannot be read, with the file that is to blame if one is found.
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
                    "the last batch of the journal was torn ({refusal}) and is cut off; the journal as it was is kept"
                );
                Ok(tables)
            }
            Err(error) => {
                // The damage lies elsewhere: every byte may help whoever repairs it.
                fs::rename(&spare, journal).map_err(|error| self.unusable(&error))?;
                Err(self.broken(error))
            }
        }
    }

    fn keyspace(&self, tables: &Tables) -> Result<Keyspace, OpenError> {
        let root = tables.root().map_err(|error| self.broken(error))?.ok_or_else(|| {
            OpenError::Damaged(format!("{self} has lost its root record; {RESTORE}"))
        })?;
        Keyspace::decode(&self.to_string(), &root)
    }

    /// Whether everything is there that was ever acknowledged, and where to go on.
    fn whole(
        &self,
        options: &Options,
        tables: &Tables,
        noted: Noted,
    ) -> Result<Progress, OpenError> {
        let all = tables.progress().map_err(|error| self.broken(error))?;
        let lowest = all.into_iter().min().unwrap_or_default();
        let highest = all.into_iter().max().unwrap_or_default();
        let noted = if let Noted::Revision(revision) = noted { revision } else { 0 };
        let reached = noted.max(highest.revision);
        if lowest == highest && lowest.revision >= noted {
            return Ok(lowest);
        }
        let missing = format!(
            "it ends at revision {}, but had acknowledged revision {reached}: what was stored between them is missing, most likely because its journal is damaged",
            lowest.revision
        );
        self.damage(options, &missing)?;
        // What was lost was seen by somebody: its revisions and hint sequences must not come again with another meaning.
        let progress = Progress { revision: reached, sequence: highest.sequence + LOST_HINTS };
        tables.write(std::iter::empty(), progress).map_err(|error| self.broken(error))?;
        Ok(progress)
    }

    /// Refuses a damaged store, unless the operator takes it as it is.
    fn damage(&self, options: &Options, what: &str) -> Result<(), OpenError> {
        if options.accept_loss {
            warn!(place = %self, "opened in spite of damage, because of --accept-loss: {what}");
            return Ok(());
        }
        Err(OpenError::Damaged(format!(
            "{self} is damaged: {what}; {RESTORE}, or start with --accept-loss to go on with what is left"
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

impl std::fmt::Display for Place<'_> {
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
/// There after damage was found, until a look finds none.
const SUSPECT: &str = "suspect";
const PROBE: &str = "probe";
const PROBE_BYTES: usize = 64 << 10;
const RESTORE: &str =
    "put a copy of the whole directory in its place that was made while no server had it open";
/// What may lie in a directory that has no database yet: the traces of an attempt that was cut short.
const OURS: [&str; 5] = [UNFINISHED, LOCK, "high-water", "high-water.new", "lost+found"];
/// More hints than can have been lost.
const LOST_HINTS: u64 = 1 << 32;
