//! Workers: their calls, their streams, what they hold, and the progress that they report.

pub(in crate::engine) mod held;
pub(in crate::engine) mod pace;
pub(in crate::engine) mod recent;
pub mod stream;
pub(in crate::engine) mod work;
