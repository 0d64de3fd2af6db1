//! Lists of tokens, by id.

use super::access::Caller;
use super::error::Result;
use super::identity::tokens::TokenCalls;
use super::operations::page_token::{self, Binding};
use crate::record::tokens::{ApiToken, PARTITION};

/// A page of tokens.
#[derive(Clone, Debug)]
pub struct TokenPage {
    /// The tokens.
    pub tokens: Vec<ApiToken>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

impl TokenCalls {
    /// A page of tokens, by id.
    pub(super) async fn list(
        &self,
        caller: &Caller,
        page_size: usize,
        page_token: &str,
    ) -> Result<TokenPage> {
        let (keyspace, now) = (self.context.store.keyspace(), self.context.store.now(PARTITION));
        let binding = Binding::of(&[caller.id(), "tokens"]);
        let after = match page_token {
            "" => Vec::new(),
            token => page_token::open(keyspace, &binding, token, now)?,
        };
        let (tokens, last) = self.after(&String::from_utf8_lossy(&after), page_size).await?;
        let next_page_token = match last {
            None => String::new(),
            Some(id) => page_token::seal(keyspace, &binding, id.as_bytes(), now)?,
        };
        Ok(TokenPage { tokens, next_page_token })
    }
}
