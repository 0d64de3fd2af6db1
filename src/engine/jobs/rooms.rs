//! The rooms of jobs.

use std::sync::Arc;

use super::calls::Jobs;
use super::executions::Executions;
use crate::engine::commands::apply::Commands;
use crate::engine::context::Context;
use crate::engine::firing::fire::Firing;
use crate::engine::reading::reader::Reader;
use crate::engine::tenants::Tenants;

/// What the verbs of jobs are forwarded to.
pub(in crate::engine) struct JobRooms {
    pub(in crate::engine) calls: Jobs,
    pub(in crate::engine) executions: Executions,
}

/// The rooms that the verbs of jobs use.
pub(in crate::engine) struct JobParts {
    pub(in crate::engine) context: Arc<Context>,
    pub(in crate::engine) reader: Arc<Reader>,
    pub(in crate::engine) commands: Arc<Commands>,
    pub(in crate::engine) firing: Arc<Firing>,
    pub(in crate::engine) tenants: Arc<Tenants>,
}

impl JobRooms {
    pub(in crate::engine) fn new(parts: JobParts) -> Self {
        let JobParts { context, reader, commands, firing, tenants } = parts;
        let executions = Executions {
            context: context.clone(),
            reader: reader.clone(),
            firing: firing.clone(),
            tenants: tenants.clone(),
        };
        Self { calls: Jobs { context, reader, commands, firing, tenants }, executions }
    }
}
