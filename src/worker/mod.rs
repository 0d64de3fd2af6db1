//! Workers: they see only the protocol, like everybody else's.

pub mod command;
pub mod demo;
