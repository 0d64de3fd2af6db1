//! How the indexes of a store are used, as far as that decides where they are best scanned.

/// Tells a store how its indexes are used. It changes what a scan costs, and never what it finds.
///
/// An index that is not named here is scanned on disk, from its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Indexes whose entries come and go all the time and fit in memory, by name.
    pub in_memory: Vec<&'static str>,
    /// The same, by what their names begin with.
    pub families_in_memory: Vec<&'static str>,
    /// Indexes that may have an entry for each record, and whose entries are removed from the beginning.
    pub drained: Vec<&'static str>,
}

impl Layout {
    /// Whether an index is to be mirrored in memory.
    pub fn is_in_memory(&self, name: &str) -> bool {
        self.families_in_memory.iter().any(|family| name.starts_with(family))
            || self.in_memory.contains(&name)
    }

    /// Whether an index is emptied from its beginning.
    pub fn is_drained(&self, name: &str) -> bool {
        self.drained.contains(&name)
    }
}
