//! `longhaul.v1.TypeSets`.

use tonic::{Request, Response};

use super::call::{Reply, caller};
use crate::engine::Engine;
use crate::proto::longhaul::v1::type_sets_server::TypeSets;
use crate::proto::longhaul::v1::{
    CreateTypeSetRequest, DeleteTypeSetRequest, GetTypeSetRequest, ListTypeSetsRequest,
    ListTypeSetsResponse, TypeSet,
};
use crate::wire::type_sets;

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl TypeSets for Service {
    async fn create_type_set(&self, request: Request<CreateTypeSetRequest>) -> Reply<TypeSet> {
        let caller = caller(&request);
        let new = type_sets::create(request.into_inner())?;
        let created = self.engine.create_type_set(&caller, new).await?;
        Ok(Response::new(type_sets::shown(created)))
    }

    async fn get_type_set(&self, request: Request<GetTypeSetRequest>) -> Reply<TypeSet> {
        let caller = caller(&request);
        let (name, full) = type_sets::get(request.get_ref())?;
        let found = self.engine.get_type_set(&caller, &name, full).await?;
        Ok(Response::new(type_sets::shown(found)))
    }

    async fn list_type_sets(
        &self,
        request: Request<ListTypeSetsRequest>,
    ) -> Reply<ListTypeSetsResponse> {
        let caller = caller(&request);
        let query = type_sets::list(request.into_inner())?;
        let page = self.engine.list_type_sets(&caller, query).await?;
        Ok(Response::new(type_sets::list_reply(page)))
    }

    async fn delete_type_set(&self, request: Request<DeleteTypeSetRequest>) -> Reply<()> {
        let caller = caller(&request);
        let wanted = type_sets::delete(request.into_inner())?;
        self.engine.delete_type_set(&caller, wanted).await?;
        Ok(Response::new(()))
    }
}
