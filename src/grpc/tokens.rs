//! `longhaul.v1.Tokens`.

use tonic::{Request, Response};

use super::call::{Reply, caller};
use crate::engine::Engine;
use crate::proto::longhaul::v1::tokens_server::Tokens;
use crate::proto::longhaul::v1::{
    CreateTokenRequest, DeleteTokenRequest, GetTokenRequest, ListTokensRequest, ListTokensResponse,
    RotateTokenRequest, Token,
};
use crate::wire::tokens;

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Tokens for Service {
    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Reply<Token> {
        let caller = caller(&request);
        let new = tokens::create(request.into_inner())?;
        let created = self.engine.create_token(&caller, new).await?;
        Ok(Response::new(tokens::shown(created)))
    }

    async fn get_token(&self, request: Request<GetTokenRequest>) -> Reply<Token> {
        let caller = caller(&request);
        let id = tokens::id(&request.get_ref().name)?;
        let token = self.engine.get_token(&caller, &id).await?;
        Ok(Response::new(tokens::bare(token)))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Reply<ListTokensResponse> {
        let caller = caller(&request);
        let (page_size, page_token) = tokens::list(request.into_inner())?;
        let page = self.engine.list_tokens(&caller, page_size, &page_token).await?;
        Ok(Response::new(tokens::list_reply(page)))
    }

    async fn rotate_token(&self, request: Request<RotateTokenRequest>) -> Reply<Token> {
        let caller = caller(&request);
        let (id, grace) = tokens::rotate(request.get_ref())?;
        let rotated = self.engine.rotate_token(&caller, &id, grace).await?;
        Ok(Response::new(tokens::shown(rotated)))
    }

    async fn delete_token(&self, request: Request<DeleteTokenRequest>) -> Reply<()> {
        let caller = caller(&request);
        let id = tokens::id(&request.get_ref().name)?;
        self.engine.delete_token(&caller, &id).await?;
        Ok(Response::new(()))
    }
}
