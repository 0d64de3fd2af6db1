//! What tenants store.

use std::collections::HashMap;

use super::refusal::{RETRY, refused, tenant_of};
use crate::engine::context::Context;
use crate::engine::error::Result;
use crate::engine::settings::TenantLimits;
use crate::limits::MAX_COUNTED_PARENTS;
use crate::operation::Spec;
use crate::operation::counters::{OF_PARENTS, StoredAmount, stored_in};
use crate::operation::size::starting_bytes;
use crate::proto::google::protobuf::Any;
use crate::record::endpoint::{ENDPOINTS, PARTITION};
use crate::store::{Index, Scan, Store};

/// What a tenant stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TenantStock {
    pub(super) operations: u64,
    pub(super) bytes: u64,
}

/// What one start takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartShare {
    pub(super) callbacks: usize,
    pub(super) bytes: u64,
}

impl StartShare {
    pub(super) fn of(spec: &Spec, initial_metadata: Option<&Any>) -> Self {
        let bytes = starting_bytes(spec, initial_metadata);
        Self { callbacks: spec.options.callbacks.len(), bytes }
    }
}

impl TenantStock {
    pub(super) const fn add(&mut self, operations: u64, share: StartShare) {
        self.operations = self.operations.saturating_add(operations);
        self.bytes = self.bytes.saturating_add(operations.saturating_mul(share.bytes));
    }

    /// Whether nothing more may be stored.
    pub(super) const fn is_full(&self, limits: &TenantLimits) -> bool {
        (limits.operations > 0 && self.operations >= limits.operations)
            || (limits.stored_bytes > 0 && self.bytes >= limits.stored_bytes)
    }

    /// Why there is no room for a start, if there is none.
    pub(super) fn fullness(&self, limits: &TenantLimits, share: StartShare) -> Option<String> {
        let TenantLimits { operations: most, stored_bytes, .. } = *limits;
        if most > 0 && self.operations >= most {
            return Some(format!(
                "stores {most} operations, as many as it may; delete some, or wait until they expire"
            ));
        }
        let (bytes, more) = (self.bytes, share.bytes);
        (stored_bytes > 0 && bytes.saturating_add(more) > stored_bytes).then(|| {
            format!(
                "stores {bytes} bytes of at most {stored_bytes}, and this operation takes {more}; delete some, or wait until they expire"
            )
        })
    }
}

/// What each tenant stores.
pub(super) async fn stocks(store: &dyn Store) -> Result<HashMap<String, TenantStock>> {
    let names = store.counter_names(OF_PARENTS, MAX_COUNTED_PARENTS).await?;
    let mut found: HashMap<String, StoredAmount> = HashMap::new();
    for names in names.chunks(COUNTERS_AT_ONCE) {
        let counters = store.counters(OF_PARENTS, names).await?;
        for (name, counter) in names.iter().zip(counters) {
            let Some((parent, amount)) = stored_in(name, counter) else { continue };
            found.entry(tenant_of(parent).to_owned()).or_default().add(amount);
        }
    }
    let stock = |(name, amount): (String, StoredAmount)| {
        let (operations, bytes) = (amount.operations, amount.bytes());
        (name, TenantStock { operations, bytes })
    };
    Ok(found.into_iter().map(stock).collect())
}

/// A webhook endpoint is to be created below that parent. Two at once may both see room.
pub(in crate::engine) async fn room_for_endpoint(context: &Context, parent: &str) -> Result<()> {
    let most = context.settings.tenant_limits.endpoints as usize;
    if most == 0 {
        return Ok(());
    }
    let name = tenant_of(parent);
    // Those of the tenant itself, and those of the parents below it.
    let ends = if name.is_empty() { &["\0"][..] } else { &["\0", "/"] };
    let mut stored = 0;
    for end in ends {
        let prefix = [name, end].concat();
        let scan = Scan::first(Index::new(ENDPOINTS), most).within(PARTITION);
        stored += context.store.scan(scan.with_prefix(prefix.as_bytes())).await?.len();
    }
    if stored < most {
        return Ok(());
    }
    let why = format!("has {most} webhook endpoints, as many as it may; delete one");
    Err(refused(name, &why, RETRY))
}

const COUNTERS_AT_ONCE: usize = 1_000;
