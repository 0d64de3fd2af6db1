//! Workers: their unary calls and their streams.

pub mod stream;
pub(in crate::engine) mod unary;
