//! Every state against every command, and what must hold whatever happens.

mod properties;
mod samples;
mod table;
