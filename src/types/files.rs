//! Descriptor sets from files.

use std::path::{Path, PathBuf};

use super::registry::{BadSet, Registry};

/// Why a file of descriptors is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableSet {
    /// The file itself.
    #[error("cannot read the descriptor set {}: {cause}", path.display())]
    Unreadable {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Its content.
    #[error("cannot use the descriptor set {}: {cause}", path.display())]
    Refused {
        /// The partition.
        path: PathBuf,
        /// Why.
        cause: BadSet,
    },
}

impl Registry {
    /// The built-in types and those of these files, each a serialized `FileDescriptorSet`.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn load<P: AsRef<Path>>(files: &[P]) -> Result<Self, UnreadableSet> {
        files.iter().try_fold(Self::builtin(), |types, file| {
            let path = || file.as_ref().to_owned();
            let set = std::fs::read(file.as_ref())
                .map_err(|cause| UnreadableSet::Unreadable { path: path(), cause })?;
            types.with(&set).map_err(|cause| UnreadableSet::Refused { path: path(), cause })
        })
    }
}
