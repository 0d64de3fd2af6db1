//! The rooms of jobs.

use std::sync::Arc;

use super::calls::Jobs;
use super::executions::Executions;
use crate::engine::commands::apply::Commands;
use crate::engine::context::Context;
use crate::engine::reading::reader::Reader;

/// What the verbs of jobs are forwarded to.
pub(in crate::engine) struct JobRooms {
    pub(in crate::engine) calls: Jobs,
    pub(in crate::engine) executions: Executions,
}

impl JobRooms {
    pub(in crate::engine) fn new(
        context: &Arc<Context>,
        reader: &Arc<Reader>,
        commands: &Arc<Commands>,
    ) -> Self {
        Self {
            calls: Jobs::new(context.clone(), reader.clone(), commands.clone()),
            executions: Executions::new(context.clone(), reader.clone(), commands.clone()),
        }
    }
}
