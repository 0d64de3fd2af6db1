//! Commits the progress that was held back.

use std::sync::Arc;

use crate::engine::commands::apply::{CommandOutcome, Commands, KeyedCommand};
use crate::engine::commands::coalescer::Coalescer;
use crate::engine::error::Reason;
use crate::engine::membership::ranks::Membership;
use crate::operation::Operation;
use crate::operation::command::{Command, Report};
use crate::store::Key;

/// Reports that wait for the next commit of their operation.
pub(in crate::engine) struct HeldReports {
    commands: Arc<Commands>,
    coalescer: Arc<Coalescer>,
    membership: Arc<Membership>,
}

impl HeldReports {
    pub(in crate::engine) const fn new(
        commands: Arc<Commands>,
        coalescer: Arc<Coalescer>,
        membership: Arc<Membership>,
    ) -> Self {
        Self { commands, coalescer, membership }
    }

    /// Holds back a report if another was committed recently; otherwise returns it for a commit.
    pub(in crate::engine) fn hold_back(
        &self,
        key: Key,
        report: Box<Report>,
    ) -> Option<Box<Report>> {
        self.coalescer.hold(key, report)
    }

    /// The same for a worker without a stream.
    pub(in crate::engine) fn hold_back_unary(
        &self,
        key: Key,
        report: Box<Report>,
    ) -> Option<Box<Report>> {
        // Another server may see the end before this one has written its held-back report.
        if self.membership.is_alone() { self.hold_back(key, report) } else { Some(report) }
    }

    /// A stream received that lease: its reports may be held back from now on.
    pub(in crate::engine) fn expect_progress(&self, key: Key, operation: &Operation) {
        self.coalescer.mark(key, operation);
    }

    /// Commits reports whose interval has ended, until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        loop {
            self.coalescer.ripening().await;
            for (key, report) in self.flush(self.coalescer.take_ripe()).await {
                self.coalescer.put_back(key, report);
            }
        }
    }

    /// Commits all held-back reports before this server stops.
    pub(in crate::engine) async fn flush_all(&self) {
        let lost = self.flush(self.coalescer.take_all()).await.len();
        if lost > 0 {
            tracing::warn!(lost, "progress that was held back is lost, as the store is away");
        }
    }

    /// Returns the reports that the store did not accept.
    async fn flush(&self, reports: Vec<(Key, Box<Report>)>) -> Vec<(Key, Box<Report>)> {
        if reports.is_empty() {
            return reports;
        }
        let command = |(key, report): &(Key, Box<Report>)| KeyedCommand {
            key: *key,
            command: Command::Report(report.clone()),
        };
        let outcomes = self.commands.apply_all(reports.iter().map(command).collect()).await;
        // If the lease has ended, no one waits for the result.
        let away = |outcome: &CommandOutcome| {
            outcome.as_ref().is_err_and(|error| error.reason == Reason::StoreUnavailable)
        };
        let results = reports.into_iter().zip(outcomes);
        results.filter(|(_, outcome)| away(outcome)).map(|(report, _)| report).collect()
    }
}
