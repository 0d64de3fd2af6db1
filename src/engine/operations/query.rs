//! What a list is asked for.

use prost::Message;

use crate::engine::reading::view::View;
use crate::filter::{Filter, Order};
use crate::limits::{MAX_REPLY_BYTES, MAX_SNAPSHOT_PAGE_BYTES};
use crate::operation::name::ParentPattern;

/// The query of a list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Of which parents.
    pub parent: ParentPattern,
    /// Which operations.
    pub filter: Filter,
    /// In which order within their parent.
    pub order: Order,
    /// How many at most.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
    /// Whether partitions that do not answer are left out.
    pub partial: bool,
    /// The form of each element in the reply.
    pub listed: Listed,
}

/// The index of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Operations.
    Operations,
    /// Records, with their operations.
    Records,
    /// Records of a watch, which keeps a page until it is sent.
    Watched,
}

impl Listed {
    /// Tells the calls apart.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Records => "records",
            Self::Watched => "watched",
        }
    }

    /// The most that a page may cost.
    pub(super) const fn most_bytes(self) -> usize {
        match self {
            Self::Operations | Self::Records => MAX_REPLY_BYTES,
            Self::Watched => MAX_SNAPSHOT_PAGE_BYTES,
        }
    }

    /// What an element costs in a reply.
    pub(super) fn bytes(self, view: &View) -> usize {
        let record = match self {
            Self::Operations => 0,
            Self::Records | Self::Watched => view.operation.record().encoded_len() + FRAME,
        };
        view.published.encoded_len() + record + FRAME
    }
}

/// Size of an element in a reply besides its content.
const FRAME: usize = 8;
