//! Conversions between messages and the engine's types. Requests are checked here, once for every face.

pub mod access;
pub mod callbacks;
pub mod deliveries;
pub mod fields;
pub mod jobs;
pub mod operations;
pub mod options;
pub mod queues;
pub mod schedules;
pub mod sets;
pub mod start_callbacks;
pub mod starts;
pub mod status;
pub mod stream;
pub mod tokens;
pub mod transcode;
pub mod type_sets;
pub mod views;
pub mod webhooks;
pub mod work;
