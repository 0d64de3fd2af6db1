//! Whole processes: the `longhaul` binary and real Redis servers, in real time, and what happens to them: killed, cut
//! off, filled up, emptied, put back to an older state.
//!
//! Everything that a test waits for it waits for with a bound, and a panic says what did not come.

mod acknowledged;
mod attacks;
mod binary;
mod bounds;
mod calls;
mod clients;
mod crashing;
mod definitions;
mod dev;
mod disk;
mod history;
mod outages;
mod programs;
mod proxy;
mod reconnecting;
mod redis;
mod redis_away;
mod redis_back;
mod redis_lost;
mod refusals;
mod standing_still;
mod stopping;
mod two_servers;
mod typed;
mod types;
mod waiting_for_the_store;
mod working;
