//! Firing jobs: what a job has decided is done, and what has ended is told to its job.
//!
//! Runs, jobs and executions lie in different partitions, so a firing is three commits, each of which may be done again: the
//! job takes the tick and remembers the run; the operation starts under the id of that tick, with the beginning of the
//! execution beside it; the job notes that. Until then it stays due, so after a crash any server goes on.
//! An end is the same backwards: the operation's last commit writes the end of the execution, which is due until the job has
//! forgotten the run.

mod executions;
pub(in crate::engine) mod fire;
mod steps;
pub(in crate::engine) mod transactions;
