//! Reflection on our definitions, those of `--descriptor-set`, and the type sets of the root, as they are now.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::NamedService;
use tonic_reflection::server::{Builder, Error};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::engine::Engine;
use crate::proto::DESCRIPTORS;
use crate::types::Registry;

type Request = http::Request<Body>;
type Built = BoxCloneSyncService<Request, http::Response<Body>, Infallible>;

/// A version of the reflection service.
pub(super) trait Version: Clone + Send + Sync + 'static {
    /// The full name of the service.
    const NAME: &'static str;

    /// The service that a builder makes.
    fn build(builder: Builder<'_>) -> Result<Built, Error>;
}

/// `grpc.reflection.v1`.
#[derive(Clone)]
pub(super) struct V1;

/// `grpc.reflection.v1alpha`.
#[derive(Clone)]
pub(super) struct V1Alpha;

impl Version for V1 {
    const NAME: &'static str = "grpc.reflection.v1.ServerReflection";

    fn build(builder: Builder<'_>) -> Result<Built, Error> {
        Ok(BoxCloneSyncService::new(builder.build_v1()?))
    }
}

impl Version for V1Alpha {
    const NAME: &'static str = "grpc.reflection.v1alpha.ServerReflection";

    fn build(builder: Builder<'_>) -> Result<Built, Error> {
        Ok(BoxCloneSyncService::new(builder.build_v1alpha()?))
    }
}

/// A reflection service, which is built again once the types of the root are others.
#[derive(Clone)]
pub(super) struct Reflection<V> {
    engine: Engine,
    built: Arc<Mutex<(Registry, Built)>>,
    version: std::marker::PhantomData<V>,
}

impl<V: Version> Reflection<V> {
    pub(super) fn new(engine: &Engine) -> Result<Self, Error> {
        let types = engine.types().clone();
        let service = build::<V>(&types)?;
        let built = Arc::new(Mutex::new((types, service)));
        Ok(Self { engine: engine.clone(), built, version: std::marker::PhantomData })
    }

    /// The service for the types of now. What cannot be built leaves the one before.
    fn now(&self) -> Built {
        let types = self.engine.types_of_root();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if !built.0.is(&types) {
            match build::<V>(&types) {
                Ok(service) => built.1 = service,
                Err(error) => tracing::warn!(%error, "reflection cannot serve the type sets"),
            }
            built.0 = types;
        }
        built.1.clone()
    }
}

impl<V> NamedService for Reflection<V>
where
    V: Version,
{
    const NAME: &'static str = V::NAME;
}

impl<V: Version> Service<Request> for Reflection<V> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = tower::util::Oneshot<Built, Request>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.now().oneshot(request)
    }
}

/// Each definition as it came. Services of added definitions are described, but not listed: they are served elsewhere.
fn build<V: Version>(types: &Registry) -> Result<Built, Error> {
    let added = types.added_set();
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(&added)
        .with_service_name(V::NAME);
    V::build(Registry::builtin_services().into_iter().fold(builder, Builder::with_service_name))
}
