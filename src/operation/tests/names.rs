//! Random texts as names: what is read is written back as it was, everything else is refused.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::operation::name::{Id, Name, Parent, ParentPattern, Queue, TypeSetName, ancestry};

const PARTS: [&str; 14] = [
    "operations",
    "projects",
    "p",
    "-",
    "/",
    "//",
    "queues",
    "typeSets",
    "default",
    "a",
    "0",
    "%2F",
    "..",
    ":cancel",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn any_text_is_a_name_that_reads_back_or_refused(
        parts in vec(select(PARTS.to_vec()), 0..12),
        noise in ".{0,40}",
        separator in select(vec!["", "/"]),
    ) {
        for text in [noise.clone(), parts.join(separator), format!("{}{noise}", parts.join("/"))] {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(Name::parent_in(&text), Some(name.parent()));
                prop_assert!(text.starts_with(name.parent()));
            } else {
                prop_assert_eq!(Name::parent_in(&text), None);
            }
            if let Ok(parent) = Parent::parse(&text) {
                prop_assert_eq!(parent.as_str(), &text);
            }
            if let Ok(pattern) = ParentPattern::parse(&text) {
                pattern.matches(&text);
            }
            if let Ok(id) = Id::parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
            }
            drop((Queue::parse(&text), TypeSetName::parse(&text)));
            ancestry(&text);
        }
    }
}
