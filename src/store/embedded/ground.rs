//! Checks of the directory, which may be deleted or become read-only, and of the free space on its disk.
//!
//! A deleted file can be written and synced as before, so no other error shows that acknowledged data is lost.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, iter};

use rustix::fs::{Access, access, statvfs};
use tracing::{info, warn};

use super::tables;

/// The directory as it was when it was opened.
#[derive(Debug)]
pub(super) struct Ground {
    directory: PathBuf,
    /// Files that must stay the same.
    files: Vec<(PathBuf, Identity)>,
    room: FreeSpace,
}

/// Device and number of a file, which no other file has while it is open.
type Identity = (u64, u64);

/// The free space of the disk, compared with the reserve.
#[derive(Debug)]
pub(super) struct FreeSpace {
    reserve: u64,
    short: AtomicBool,
}

impl Ground {
    /// The ground of a store that was just opened.
    pub(super) fn of(directory: &Path, files: &[&str], reserve: u64) -> io::Result<Self> {
        let inner = files.iter().map(|file| directory.join(file));
        let all = iter::once(directory.to_owned()).chain(inner);
        let files = all.map(|path| identity(&path).map(|identity| (path, identity)));
        Ok(Self {
            directory: directory.to_owned(),
            files: files.collect::<io::Result<_>>()?,
            room: FreeSpace::new(reserve),
        })
    }

    /// Whether everything is still in its place.
    pub(super) fn stands(&self) -> Result<(), String> {
        let gone = |path: &Path, what: &dyn fmt::Display| {
            format!(
                "{} {what} while the server had it open; put it back, or stop the server",
                path.display()
            )
        };
        for (path, expected) in &self.files {
            match identity(path) {
                Ok(found) if found == *expected => {}
                Ok(_) => return Err(gone(path, &"was replaced")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(gone(path, &"was deleted or moved"));
                }
                Err(error) => return Err(gone(path, &format_args!("became unreadable ({error})"))),
            }
        }
        Ok(())
    }

    /// Whether so many bytes can be written.
    pub(super) fn takes(&self, bytes: u64) -> Result<(), String> {
        for (path, _) in &self.files {
            access(path, Access::WRITE_OK).map_err(|error| {
                format!("cannot write to {} ({error}); make it writable again", path.display())
            })?;
        }
        let free = self.free()?;
        self.room.look(&self.directory, free);
        if free < bytes.saturating_add(LAST) {
            return Err(format!(
                "the disk of {} is full: {} MiB are left; free some room",
                self.directory.display(),
                free >> 20
            ));
        }
        Ok(())
    }

    /// Whether there was space for new records at the last check.
    pub(super) fn takes_more(&self) -> Result<(), String> {
        if !self.room.short.load(Ordering::Acquire) {
            return Ok(());
        }
        Err("the disk of the server is nearly full; nothing new is taken until there is room"
            .to_owned())
    }

    fn free(&self) -> Result<u64, String> {
        let disk = statvfs(&self.directory).map_err(|error| {
            format!("cannot ask for the room on the disk of {} ({error})", self.directory.display())
        })?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl FreeSpace {
    /// The reserve comes on top of the database's own need: below that nothing is committed.
    const fn new(reserve: u64) -> Self {
        let reserve = if reserve == 0 { 0 } else { reserve.saturating_add(LAST) };
        Self { reserve, short: AtomicBool::new(false) }
    }

    /// Logs when the reserve is reached, and when there is space again.
    fn look(&self, directory: &Path, free: u64) {
        let before = self.short.load(Ordering::Acquire);
        // A bit more than the reserve must be free again, so that the state does not flap.
        let enough =
            if before { self.reserve.saturating_add(self.reserve / 8) } else { self.reserve };
        let short = free < enough;
        if short == before {
            return;
        }
        self.short.store(short, Ordering::Release);
        let (free, reserve) = (free >> 20, self.reserve >> 20);
        if short {
            warn!(
                directory = %directory.display(), free_mib = free, needed_mib = reserve,
                "the disk is nearly full: starts are refused, so that what was started can be completed; free some room, or lower embedded.reserve_mib"
            );
        } else {
            info!(directory = %directory.display(), free_mib = free, "there is room on the disk: starts are taken again");
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The space left to the database when commits stop: the largest sorted file that it may be about to write, and
/// half of it for merges. An unfinished file stays, and takes the last space of the disk.
const LAST: u64 = tables::LARGEST_MEMTABLE + tables::LARGEST_MEMTABLE / 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_refused_before_the_database_has_no_room_to_write_a_sorted_file() {
        let (room, nowhere) = (FreeSpace::new(8 << 20), Path::new("nowhere"));
        let short = |free: u64| {
            room.look(nowhere, free);
            room.short.load(Ordering::Acquire)
        };
        assert!(!short(64 << 20));
        assert!(
            short(50 << 20),
            "commits go on to 48 MiB, and a memtable of 32 MiB can be written"
        );
        assert!(short(60 << 20), "not to and fro");
        assert!(!short(70 << 20));
        let none = FreeSpace::new(0);
        none.look(nowhere, 0);
        assert!(!none.short.load(Ordering::Acquire));
    }
}
