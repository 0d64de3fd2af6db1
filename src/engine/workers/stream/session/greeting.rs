//! The answer to Hello: which of the leases that the worker names it does hold.

use super::StreamSession;
use crate::engine::commands::apply::{Done, KeyedCommand};
use crate::engine::error::Result;
use crate::engine::leases::news::{News, Standing};
use crate::engine::workers::stream::messages::Welcome;
use crate::operation::command::{Adopt, Command};

impl StreamSession<'_> {
    /// Settles the claims of a worker's Hello, and sends the welcome. A refused claim leaves no trace.
    pub(super) async fn greet(&mut self) -> Result<()> {
        let mut lost = Vec::new();
        let (mut said, mut commands) = (Vec::new(), Vec::new());
        for (text, held) in std::mem::take(&mut self.hello.held) {
            let Some((name, token)) = held.ok() else {
                lost.push(text);
                continue;
            };
            let (holder, duration) = (self.holdings.holder(), self.hello.duration);
            let key = self.rooms.context.key(&name);
            self.holdings.claim(key, token);
            commands.push(KeyedCommand {
                key,
                command: Command::Adopt(Adopt { token, holder, duration }),
            });
            said.push(text);
        }
        let outcomes = self.rooms.apply_patiently(commands.clone(), self.hello.duration).await?;
        for ((text, keyed), outcome) in said.into_iter().zip(commands).zip(outcomes) {
            let done = outcome.ok().flatten();
            if let Some(operation) = done.as_ref().and_then(Done::operation) {
                self.holdings.add_adopted(keyed.key, operation);
                let standing = Standing::of(Some(operation), operation.stamps.revision);
                self.news.push(News::Stands(keyed.key, standing));
            } else {
                self.holdings.reject(keyed.key);
                lost.push(text);
            }
        }
        self.greeted = true;
        self.heard = self.rooms.context.clock.elapsed();
        self.open_slots();
        self.ready.welcome = Some(Welcome { heartbeat_interval: self.heartbeat(), lost });
        Ok(())
    }
}
