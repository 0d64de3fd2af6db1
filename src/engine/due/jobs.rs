//! Due jobs, and executions that are over.

use crate::engine::commands::apply::Commands;
use crate::engine::due::kinds::ComesDue;
use crate::engine::firing::fire::Firing;
use crate::job::{ExecutionEnd, Job};
use crate::record::Before;
use crate::record::due::DueIndex;
use crate::store::Key;

impl ComesDue for Job {
    async fn come_due(
        commands: &Commands,
        _: &'static DueIndex,
        found: Vec<(Key, Before<Self>)>,
    ) -> usize {
        Firing::new(commands).fire(found).await
    }
}

impl ComesDue for ExecutionEnd {
    async fn come_due(
        commands: &Commands,
        _: &'static DueIndex,
        found: Vec<(Key, Before<Self>)>,
    ) -> usize {
        Firing::new(commands).settle(found).await
    }
}
