//! Tests of the whole.

mod processes;
