//! Webhook endpoints and what is sent to them: pure, without I/O.

pub mod endpoint;
pub mod name;
pub mod origin;
pub mod uri;
