//! Descriptor sets that were uploaded: their bounds, and the types of several together.

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, MessageOptions};

use super::registry::{BadSet, Registry};
use crate::limits::{MAX_TYPE_SET_BYTES, MAX_TYPE_SET_DEPTH, MAX_TYPE_SET_FILES};

/// What a descriptor set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetSummary {
    /// Files.
    pub files: usize,
    /// Messages that they define, nested ones included, without the entries of maps.
    pub messages: usize,
}

impl SetSummary {
    /// Looks through a serialized `FileDescriptorSet`.
    ///
    /// # Errors
    /// Says which bound it exceeds.
    pub fn of(set: &[u8]) -> Result<Self, BadSet> {
        if set.len() > MAX_TYPE_SET_BYTES {
            return Err(BadSet::TooLarge { bytes: set.len(), most: MAX_TYPE_SET_BYTES });
        }
        let set =
            FileDescriptorSet::decode(set).map_err(|error| BadSet::NoSet(error.to_string()))?;
        match set.file.len() {
            0 => return Err(BadSet::Empty),
            files if files > MAX_TYPE_SET_FILES => return Err(BadSet::TooManyFiles(files)),
            _ => {}
        }
        let mut messages = 0;
        for file in &set.file {
            messages += count(&file.message_type, MAX_TYPE_SET_DEPTH)
                .ok_or_else(|| BadSet::TooDeep(file.name().to_owned()))?;
        }
        Ok(Self { files: set.file.len(), messages })
    }
}

impl Registry {
    /// A registry that knows the types of these sets besides its own. A set that does not fit with those before it is left
    /// out as a whole.
    #[must_use]
    pub fn with_each<S: AsRef<[u8]>>(&self, sets: impl IntoIterator<Item = S>) -> Self {
        let add = |types: Self, set: S| types.with(set.as_ref()).unwrap_or(types);
        sets.into_iter().fold(self.clone(), add)
    }
}

/// How many messages there are; `None` if they are defined deeper within each other than `left`.
fn count(messages: &[DescriptorProto], left: usize) -> Option<usize> {
    if messages.is_empty() {
        return Some(0);
    }
    let left = left.checked_sub(1)?;
    messages.iter().try_fold(0, |sum, message| {
        let is_entry = message.options.as_ref().is_some_and(MessageOptions::map_entry);
        Some(sum + usize::from(!is_entry) + count(&message.nested_type, left)?)
    })
}
