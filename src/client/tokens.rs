//! Calls about tokens and links.

use tonic::Status;

use super::channel::AuthorizedChannel;
use super::connection::{Client, MAX_REPLY, timed};
use super::retry::retried;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::tokens_client::TokensClient;

impl Client {
    /// Creates a token. Its secret is in the answer, and can be had nowhere else. Not retried: a try that reached the server has
    /// created it.
    ///
    /// # Errors
    /// The server's error.
    pub async fn create_token(&self, request: pb::CreateTokenRequest) -> Result<pb::Token, Status> {
        Ok(self.tokens().create_token(timed(request)).await?.into_inner())
    }

    /// A token without its secret.
    ///
    /// # Errors
    /// The server's error.
    pub async fn get_token(&self, name: &str) -> Result<pb::Token, Status> {
        retried(|| {
            let request = timed(pb::GetTokenRequest { name: name.to_owned() });
            let mut stub = self.tokens();
            async move { stub.get_token(request).await }
        })
        .await
    }

    /// A page of tokens.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list_tokens(
        &self,
        request: pb::ListTokensRequest,
    ) -> Result<pb::ListTokensResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.tokens(), timed(request.clone()));
            async move { stub.list_tokens(request).await }
        })
        .await
    }

    /// Gives a token a new secret, which is in the answer and can be had nowhere else. Not retried, as a create.
    ///
    /// # Errors
    /// The server's error.
    pub async fn rotate_token(&self, request: pb::RotateTokenRequest) -> Result<pb::Token, Status> {
        Ok(self.tokens().rotate_token(timed(request)).await?.into_inner())
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// The server's error.
    pub async fn delete_token(&self, name: &str) -> Result<(), Status> {
        retried(|| {
            let request = timed(pb::DeleteTokenRequest { name: name.to_owned() });
            let mut stub = self.tokens();
            async move { stub.delete_token(request).await }
        })
        .await
    }

    /// Makes a link: a token that permits some verbs on one operation.
    ///
    /// # Errors
    /// The server's error.
    pub async fn create_link(&self, request: pb::CreateLinkRequest) -> Result<pb::Link, Status> {
        retried(|| {
            let (mut stub, request) = (self.callers(), timed(request.clone()));
            async move { stub.create_link(request).await }
        })
        .await
    }

    fn tokens(&self) -> TokensClient<AuthorizedChannel> {
        TokensClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }
}
