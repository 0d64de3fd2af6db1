//! Random steps.

use std::time::Duration;

use proptest::prelude::*;

use crate::limits::MAX_INLINE_BYTES;
use crate::proto::google::protobuf::Any;

/// One command for one operation.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: usize,
    pub(super) passes: Duration,
    pub(super) verb: Verb,
    pub(super) flags: u16,
    pub(super) amount: u8,
    pub(super) first: Option<Any>,
    pub(super) second: Option<Any>,
}

impl Step {
    pub(super) const fn flag(&self, number: u32) -> bool {
        self.flags & (1 << number) != 0
    }

    pub(super) fn seconds(&self) -> Duration {
        Duration::from_secs(u64::from(self.amount) + 1)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Lease,
    Renew,
    Adopt,
    Disown,
    Report,
    Complete,
    Fail,
    Release,
    Suspend,
    Cancel,
    Delete,
    Pause,
    Resume,
    Due,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let verb = prop_oneof![
        8 => Just(Verb::Lease),
        1 => Just(Verb::Renew),
        1 => Just(Verb::Adopt),
        1 => Just(Verb::Disown),
        4 => Just(Verb::Report),
        2 => Just(Verb::Complete),
        3 => Just(Verb::Fail),
        2 => Just(Verb::Release),
        2 => Just(Verb::Suspend),
        1 => Just(Verb::Cancel),
        1 => Just(Verb::Delete),
        1 => Just(Verb::Pause),
        2 => Just(Verb::Resume),
        5 => Just(Verb::Due),
    ];
    let passes = prop_oneof![
        3 => 0..1_000_000_u64,
        1 => 0..100_000_000_u64,
    ];
    let asked = (0..NAMES.len(), passes.prop_map(Duration::from_micros), verb);
    (asked, any::<u16>(), any::<u8>(), payload(), payload()).prop_map(
        |((name, passes, verb), flags, amount, first, second)| Step {
            name,
            passes,
            verb,
            flags,
            amount,
            first,
            second,
        },
    )
}

/// Of a few contents, so that they repeat; around the size that decides where it is stored.
fn payload() -> impl Strategy<Value = Option<Any>> {
    let size =
        prop_oneof![Just(0), 1..40_usize, MAX_INLINE_BYTES - 1..MAX_INLINE_BYTES + 2, Just(3_000),];
    prop::option::weighted(0.7, (size, 0..3_u8)).prop_map(|content| {
        content.map(|(size, byte)| Any {
            type_url: format!("type.googleapis.com/{METADATA}"),
            value: vec![byte; size].into(),
        })
    })
}

pub(super) const NAMES: [&str; 4] =
    ["operations/a", "operations/b", "projects/p/operations/a", "projects/p/operations/b"];
pub(super) const PARENTS: [&str; 2] = ["", "projects/p"];
pub(super) const QUEUES: [&str; 2] = ["default", "other"];
pub(super) const METADATA: &str = "t.Metadata";
