//! The answer to Hello: which of the leases that the worker names it does hold.

use super::Session;
use crate::engine::Done;
use crate::engine::caller::Permission;
use crate::engine::error::Result;
use crate::engine::operations::commands::Job;
use crate::engine::workers::held::{News, Standing};
use crate::engine::workers::stream::messages::Welcome;
use crate::operation::command::{Adopt, Command};
use crate::operation::name::Name;

impl Session<'_> {
    /// Takes over what the worker holds from before, and welcomes it. A claim that is refused leaves no trace.
    pub(super) async fn greet(&mut self) -> Result<()> {
        let mut lost = Vec::new();
        let (mut said, mut jobs) = (Vec::new(), Vec::new());
        for (text, held) in std::mem::take(&mut self.hello.held) {
            let Some((name, token)) = held.ok().filter(|(name, _)| self.may_work_on(name)) else {
                lost.push(text);
                continue;
            };
            let (holder, duration) = (self.holdings.holder(), self.hello.duration);
            let key = self.engine.key(&name);
            self.holdings.claim(key, token);
            jobs.push(Job { key, command: Command::Adopt(Adopt { token, holder, duration }) });
            said.push(text);
        }
        let outcomes = self.engine.apply_patiently(jobs.clone(), self.hello.duration).await?;
        for ((text, job), outcome) in said.into_iter().zip(jobs).zip(outcomes) {
            let done = outcome.ok().flatten();
            if let Some(operation) = done.as_ref().and_then(Done::operation) {
                self.holdings.add_adopted(job.key, operation);
                let standing = Standing::of(Some(operation), operation.stamps.revision);
                self.news.push(News::Stands(job.key, standing));
            } else {
                self.holdings.reject(job.key);
                lost.push(text);
            }
        }
        self.greeted = true;
        self.heard = self.engine.inner.clock.elapsed();
        self.open_slots();
        self.ready.welcome = Some(Welcome { heartbeat_interval: self.heartbeat(), lost });
        Ok(())
    }
    fn may_work_on(&self, name: &Name) -> bool {
        let policy = &self.engine.inner.policy;
        policy.authorise(&self.caller, Permission::Work, name.parent()).is_ok()
    }
}
