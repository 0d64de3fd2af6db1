//! Every state with every command, and invariants over random histories.

mod names;
mod properties;
mod samples;
mod table;
