//! Whole processes: the `longhaul` binary and real Redis servers, in real time, with faults: killed, cut
//! off, filled up, emptied, put back to an older state.
//!
//! Every wait of a test has a bound, and the panic names what did not happen.

mod abuse;
mod acknowledged;
mod attacks;
mod auditing;
mod authorities;
mod benching;
mod binary;
mod bounds;
mod callbacks;
mod calls;
mod clients;
mod crashing;
mod dashboard;
mod definitions;
mod dev;
mod disk;
mod exporting;
mod firing;
mod following;
mod history;
mod job_commands;
mod operating;
mod outages;
mod programs;
mod proxy;
mod receiver;
mod receiving;
mod reconnecting;
mod redis;
mod redis_away;
mod redis_back;
mod redis_lost;
mod refusals;
mod sealing;
mod secrets;
mod standing_still;
mod stopping;
mod tictactoe;
mod tls;
mod tokens;
mod two_servers;
mod typed;
mod types;
mod upgrading;
mod waiting_for_the_store;
mod webhooks;
mod working;
