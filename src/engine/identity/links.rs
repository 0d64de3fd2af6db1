//! Links: tokens for some verbs on one operation, sealed with the secret of the keyspace. Nothing about them is stored.

use crate::clock::Timestamp;
use crate::engine::access::{Permission, Verb};
use crate::engine::error::Result;
use crate::engine::sealing::{self, Binding};
use crate::operation::name::Name;
use crate::store::Keyspace;

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkContent {
    pub(super) name: Name,
    /// Of the operation, so that the link ends with it.
    pub(super) uid: [u8; 16],
    pub(super) verbs: Vec<Verb>,
    pub(super) expire_time: Timestamp,
}

impl LinkContent {
    pub(super) fn seal(&self, keyspace: &Keyspace, now: Timestamp) -> Result<String> {
        let verbs = LINKABLE
            .iter()
            .enumerate()
            .filter(|(_, verb)| self.verbs.contains(verb))
            .fold(0_u8, |mask, (bit, _)| mask | 1 << bit);
        let content = [
            &self.expire_time.as_micros().to_be_bytes()[..],
            &self.uid,
            &[verbs],
            self.name.as_str().as_bytes(),
        ]
        .concat();
        sealing::seal(keyspace, &binding(), &content, now)
    }

    /// What was sealed; `None` if it was not sealed here.
    pub(super) fn open(keyspace: &Keyspace, text: &str) -> Option<Self> {
        let (_, content) = sealing::unseal(keyspace, &binding(), text)?;
        let (time, rest) = content.split_first_chunk()?;
        let (uid, rest) = rest.split_first_chunk()?;
        let (mask, name) = rest.split_first()?;
        let verbs = LINKABLE.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
        Some(Self {
            name: Name::parse(std::str::from_utf8(name).ok()?).ok()?,
            uid: *uid,
            verbs: verbs.map(|(_, verb)| *verb).collect(),
            expire_time: Timestamp::from_micros(u64::from_be_bytes(*time)),
        })
    }

    pub(super) fn permission(&self) -> Permission {
        Permission::Link { name: self.name.clone(), verbs: self.verbs.clone() }
    }
}

fn binding() -> Binding {
    Binding::of(&["link"])
}

/// The verbs that links can have; a place is a bit of sealed links, so it stays.
pub const LINKABLE: [Verb; 3] = [Verb::Get, Verb::Watch, Verb::Cancel];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_says_what_was_sealed_and_only_in_its_keyspace() {
        let (keyspace, other) = (Keyspace::generate(1), Keyspace::generate(1));
        for verbs in [vec![Verb::Get], vec![Verb::Watch, Verb::Cancel], LINKABLE.to_vec()] {
            let link = LinkContent {
                name: Name::parse("projects/p/operations/o").expect("a name"),
                uid: [7; 16],
                verbs,
                expire_time: Timestamp::from_micros(5),
            };
            let text = link.seal(&keyspace, Timestamp::EPOCH).expect("sealed");
            assert_eq!(LinkContent::open(&keyspace, &text), Some(link));
            assert_eq!(LinkContent::open(&other, &text), None);
            // A page token is sealed with the same secret, and is no link.
            let page = sealing::seal(&keyspace, &Binding::of(&["", "x"]), b"x", Timestamp::EPOCH);
            assert_eq!(LinkContent::open(&keyspace, &page.expect("sealed")), None);
        }
    }

    proptest! {
        #[test]
        fn a_changed_link_is_refused(at in 0_usize..150, byte in any::<u8>(), garbage in "[!-~]{0,200}") {
            let keyspace = Keyspace::new(uuid::Uuid::nil(), 1, [9; 32]);
            let link = LinkContent {
                name: Name::parse("operations/o").expect("a name"),
                uid: [7; 16],
                verbs: vec![Verb::Get],
                expire_time: Timestamp::from_micros(5),
            };
            let text = link.seal(&keyspace, Timestamp::EPOCH).expect("sealed");
            let mut changed = text.clone().into_bytes();
            let at = at % changed.len();
            changed[at] = b"ABab01-_"[usize::from(byte) % 8];
            let changed = String::from_utf8(changed).expect("a text");
            prop_assert_eq!(LinkContent::open(&keyspace, &changed).is_some(), changed == text);
            prop_assert_eq!(LinkContent::open(&keyspace, &garbage), None);
        }
    }
}
