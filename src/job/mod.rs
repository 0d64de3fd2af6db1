//! Jobs: a configuration that is run many times, by hand or on a schedule. Pure, without I/O or clock.

mod cron;
mod decide;
mod execution;
pub mod name;
mod pattern;
mod record;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod zone;

pub use self::cron::CronError;
pub use self::decide::{JobRejection, Room};
pub use self::execution::{Ending, Execution, ExecutionEnd};
pub use self::record::{
    Backfill, Job, JobConfig, JobRun, JobStep, Overlap, RememberedCall, Trimmed,
};
