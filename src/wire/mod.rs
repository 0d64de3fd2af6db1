//! Between messages and the engine's own terms: what comes in is checked here, once for every face.

pub mod fields;
pub mod operations;
pub mod starts;
pub mod status;
pub mod stream;
pub mod views;
pub mod work;
