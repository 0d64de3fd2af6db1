//! Jobs: a configuration that is run many times, by hand or on a schedule. Pure, without I/O or clock.

mod cron;
mod pattern;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod zone;

pub use self::cron::CronError;
