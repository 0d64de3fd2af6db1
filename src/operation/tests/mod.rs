//! Every state with every command, and invariants over random histories.

mod properties;
mod samples;
mod table;
