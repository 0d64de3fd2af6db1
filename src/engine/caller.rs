//! Who asks, and whether they may.

use super::error::Result;

/// Who asks. Every verb takes one, so that rules have something to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Their identity; empty while there is no authentication.
    pub id: String,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// See operations of a parent.
    Read,
    /// Start, cancel, delete, pause or resume operations of a parent.
    Write,
    /// Work on operations of a queue.
    Work,
}

/// The rules.
#[derive(Clone, Copy, Debug, Default)]
pub enum Policy {
    /// Whoever reaches the server may do everything: it listens on loopback unless its operator says otherwise.
    #[default]
    AllowAll,
}

impl Policy {
    /// Whether `caller` may, asked before anything is validated or looked up (AIP-211).
    pub fn authorise(self, caller: &Caller, permission: Permission, on: &str) -> Result<()> {
        match self {
            Self::AllowAll => {
                tracing::trace!(caller = caller.id, ?permission, on, "allowed");
                Ok(())
            }
        }
    }
}
