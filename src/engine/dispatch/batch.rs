//! The leases of one reply to a unary worker.

use std::sync::Arc;

use crate::engine::dispatch::grants::Grants;
use crate::engine::error::Result;
use crate::engine::leases::grant::Grant;
use crate::engine::leases::leased::{Leased, weight};

/// Leases that no worker has heard of yet: dropped, they go back to the queue, and count as no attempt.
pub struct LeaseBatch {
    grants: Arc<Grants>,
    unheard: Vec<Grant>,
}

impl LeaseBatch {
    pub(in crate::engine) const fn new(grants: Arc<Grants>, unheard: Vec<Grant>) -> Self {
        Self { grants, unheard }
    }

    /// The leases.
    pub(in crate::engine) fn grants(&self) -> &[Grant] {
        &self.unheard
    }

    /// The operations with their payloads, as many as fit into a reply; the rest goes back.
    pub async fn load(&mut self, max_bytes: usize) -> Result<Vec<Leased>> {
        let store = &self.grants.context.store;
        let mut leased = Vec::with_capacity(self.unheard.len());
        let mut bytes = 0;
        for (position, grant) in self.unheard.iter().enumerate() {
            let Some(next) = Leased::load(&**store, grant).await? else { continue };
            bytes += weight(&next.operation);
            if position > 0 && bytes > max_bytes {
                let rest = self.unheard.split_off(position);
                self.grants.release_unseen(rest);
                break;
            }
            leased.push(next);
        }
        Ok(leased)
    }

    /// The worker has its reply.
    pub fn told(mut self) {
        self.unheard.clear();
    }
}

impl Drop for LeaseBatch {
    fn drop(&mut self) {
        self.grants.release_unseen(std::mem::take(&mut self.unheard));
    }
}
