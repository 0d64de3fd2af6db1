//! The keys of issuers of JWTs, read again now and then from their files, so that an issuer can change them.

use std::sync::Arc;

use crate::engine::{Engine, Issuer};
use crate::limits::{KEYS_REREAD, MAX_KEY_SET_BYTES};
use crate::throttle::Throttle;

/// Reads the keys of all issuers again, without an end.
pub(super) async fn reread(engine: Engine) {
    let throttle = Throttle::new(Arc::clone(engine.clock()));
    loop {
        engine.clock().sleep(KEYS_REREAD).await;
        for issuer in engine.issuers() {
            if let Err(error) = reread_one(issuer)
                && let Some(left_out) = throttle.admit("keys")
            {
                let issuer = &issuer.name;
                tracing::warn!(issuer, error, left_out, "the former keys of the issuer stay");
            }
        }
    }
}

fn reread_one(issuer: &Issuer) -> Result<(), String> {
    let path = &issuer.source;
    let read = std::fs::read(path);
    let set = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if set.len() > MAX_KEY_SET_BYTES {
        return Err(format!("{} has more than {MAX_KEY_SET_BYTES} bytes", path.display()));
    }
    issuer.keys.replace(&set).map(drop)
}
