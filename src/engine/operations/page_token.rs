//! Page tokens: opaque, bound to their query and its caller, good for three days, and nothing that a client could make.
//! Resume tokens of watches of sets are sealed in the same way.

use crate::clock::Timestamp;
use crate::engine::error::{Error, Reason, Result};
pub(in crate::engine) use crate::engine::sealing::{Binding, seal, unseal};
use crate::limits::PAGE_TOKEN_LIFETIME;
use crate::store::Keyspace;

/// The position that a token was sealed with.
pub(in crate::engine) fn open(
    keyspace: &Keyspace,
    query: &Binding,
    token: &str,
    now: Timestamp,
) -> Result<Vec<u8>> {
    let (sealed_at, position) = unseal(keyspace, query, token).ok_or_else(|| {
        Error::new(Reason::InvalidPageToken, "page_token is not one that this query returned; send every argument but page_size as before, or leave page_token empty to start from the first page")
            .with("field", "page_token")
    })?;
    if now.since(sealed_at) > PAGE_TOKEN_LIFETIME {
        return Err(Error::new(
            Reason::PageTokenExpired,
            "page_token is older than three days; leave it empty to start from the first page",
        )
        .with("field", "page_token"));
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::watching::watch::ResumeToken;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

        #[test]
        fn any_text_or_damage_of_a_token_is_refused(
            text in ".{0,80}",
            at in any::<prop::sample::Index>(),
            letter in "[A-Za-z0-9_-]",
        ) {
            let keyspace = Keyspace::generate(1);
            let (now, own) = (Timestamp::from_micros(1_000_000), Binding::of(&["a", "p"]));
            let token = seal(&keyspace, &own, b"here", now).expect("token");
            let mut damaged = token.clone();
            let at = at.index(damaged.len());
            damaged.replace_range(at..=at, &letter);
            prop_assert!(open(&keyspace, &own, &text, now).is_err());
            prop_assert!(damaged == token || open(&keyspace, &own, &damaged, now).is_err());
            drop((ResumeToken::parse(&text), ResumeToken::parse(&damaged)));
        }
    }

    #[test]
    fn a_token_opens_only_for_its_own_query_and_keyspace_and_not_after_three_days() {
        let (keyspace, other) = (Keyspace::generate(1), Keyspace::generate(1));
        let now = Timestamp::from_micros(1_000_000);
        let own = Binding::of(&["a", "projects/p"]);
        let token = seal(&keyspace, &own, b"here", now).expect("token");
        assert_eq!(open(&keyspace, &own, &token, now).expect("own token"), b"here");
        for (keyspace, query, token) in [
            (&keyspace, &["a", "projects/q"][..], token.as_str()),
            (&keyspace, &["b", "projects/p"], &token),
            (&keyspace, &["ap", "rojects/p"], &token),
            (&keyspace, &["a", "projects/p", ""], &token),
            (&other, &["a", "projects/p"], &token),
            (&keyspace, &["a", "projects/p"], "x"),
            (&keyspace, &["a", "projects/p"], &token[1..]),
        ] {
            let refusal =
                open(keyspace, &Binding::of(query), token, now).expect_err("foreign token");
            assert_eq!(refusal.reason, Reason::InvalidPageToken);
        }
        let late = now + PAGE_TOKEN_LIFETIME + std::time::Duration::from_secs(1);
        assert_eq!(
            open(&keyspace, &own, &token, late).expect_err("old token").reason,
            Reason::PageTokenExpired
        );
    }
}
