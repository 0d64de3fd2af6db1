//! Who works on which queue on this server: streams, unary workers as far as their calls tell, and how much is leased.

pub(in crate::engine) mod activity;
pub(in crate::engine) mod registry;
pub(in crate::engine) mod unary;
