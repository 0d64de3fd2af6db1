//! The keys of issuers of JWTs, read again now and then, and when a token names a key that is not known.
//!
//! However many tokens do so, the keys are read again at most once in [`KEYS_PAUSE`].

use std::sync::Arc;

use serde_json::Value;

use crate::clock::Clock;
use crate::engine::{Issuer, KeySource};
use crate::limits::{KEYS_KEPT, KEYS_PAUSE, KEYS_REREAD, KEYS_TIME, MAX_KEY_SET_BYTES};
use crate::throttle::Throttle;

/// Reads the keys of an issuer again and again, without an end.
pub(super) async fn follow(issuer: Issuer, clock: Arc<dyn Clock>) {
    let throttle = Throttle::new(Arc::clone(&clock));
    let name = issuer.name.as_str();
    // Those in files were read with the settings.
    let (mut is_due, mut read_at) = (issuer.keys.is_empty(), clock.elapsed());
    loop {
        issuer.keys.listen();
        if !std::mem::take(&mut is_due) {
            tokio::select! {
                () = clock.sleep(KEYS_REREAD.saturating_sub(KEYS_PAUSE)) => {}
                () = issuer.keys.asked() => {}
            }
        }
        match reread(&issuer, &*clock).await {
            Ok(()) => read_at = clock.elapsed(),
            Err(error) => {
                if clock.elapsed().saturating_sub(read_at) >= KEYS_KEPT {
                    issuer.keys.forget();
                }
                let kept = !issuer.keys.is_empty();
                if let Some(left_out) = throttle.admit("keys") {
                    tracing::warn!(
                        issuer = name,
                        error,
                        kept,
                        left_out,
                        "the keys of an issuer were not read"
                    );
                }
            }
        }
        issuer.keys.was_read();
        clock.sleep(KEYS_PAUSE).await;
    }
}

async fn reread(issuer: &Issuer, clock: &dyn Clock) -> Result<(), String> {
    let set = tokio::select! {
        set = read(issuer) => set?,
        () = clock.sleep(KEYS_TIME) => return Err(format!("no answer within {KEYS_TIME:?}")),
    };
    let were_known = !issuer.keys.is_empty();
    let keys = issuer.keys.replace(&set)?;
    if !were_known {
        tracing::info!(issuer = issuer.name.as_str(), keys, "the keys of an issuer are known");
    }
    Ok(())
}

async fn read(issuer: &Issuer) -> Result<Vec<u8>, String> {
    match &issuer.source {
        KeySource::File(path) => {
            let read = std::fs::read(path);
            let set = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if set.len() > MAX_KEY_SET_BYTES {
                return Err(format!("{} has more than {MAX_KEY_SET_BYTES} bytes", path.display()));
            }
            Ok(set)
        }
        KeySource::Url(url, fetcher) => fetcher.get(url, MAX_KEY_SET_BYTES).await,
        KeySource::Discovery(fetcher) => {
            let at = format!("{}{CONFIGURATION}", issuer.issuer.trim_end_matches('/'));
            let found = fetcher.get(&at, MAX_KEY_SET_BYTES).await?;
            let url = keys_url(&found, &issuer.issuer).map_err(|why| format!("{at}: {why}"))?;
            fetcher.get(&url, MAX_KEY_SET_BYTES).await
        }
    }
}

/// Where the keys are, by the configuration of an issuer.
fn keys_url(configuration: &[u8], issuer: &str) -> Result<String, String> {
    let found: Value = serde_json::from_slice(configuration).map_err(|error| error.to_string())?;
    let text = |field: &str| {
        let text = found.get(field).and_then(Value::as_str);
        text.ok_or_else(|| format!("it has no text {field:?}"))
    };
    let of = text("issuer")?;
    if of != issuer {
        return Err(format!("it is of the issuer {of:?} and not of {issuer:?}"));
    }
    Ok(text("jwks_uri")?.to_owned())
}

/// Where the configuration of an issuer is (OpenID Connect Discovery).
const CONFIGURATION: &str = "/.well-known/openid-configuration";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_configuration_of_an_issuer_says_where_its_keys_are_if_it_is_its_own() {
        let url = |text: &str| keys_url(text.as_bytes(), "https://id");
        let own = r#"{"issuer": "https://id", "jwks_uri": "https://keys/1"}"#;
        assert_eq!(url(own).as_deref(), Ok("https://keys/1"));
        for (other, part) in [
            (r#"{"issuer": "https://id/", "jwks_uri": "https://keys/1"}"#, "and not of"),
            (r#"{"jwks_uri": "https://keys/1"}"#, "no text \"issuer\""),
            (r#"{"issuer": "https://id", "jwks_uri": 7}"#, "no text \"jwks_uri\""),
            ("[]", "no text"),
            ("", "EOF"),
        ] {
            let refusal = url(other).expect_err(other);
            assert!(refusal.contains(part), "{other}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn any_configuration_is_read_or_refused(bytes in any::<Vec<u8>>(), json in "\\{[ -~]{0,60}\\}") {
            drop(keys_url(&bytes, "https://id"));
            drop(keys_url(json.as_bytes(), "https://id"));
        }
    }
}
