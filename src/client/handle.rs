//! A typed handle on an operation.

use std::marker::PhantomData;

use prost::{Message, Name};
use tonic::Status;

use super::connection::Client;
use super::watch::Watch;
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;

/// An operation whose response is an `R` and whose metadata is an `M`.
#[derive(Clone, Debug)]
pub struct Handle<R, M> {
    client: Client,
    operation: Operation,
    types: PhantomData<fn() -> (R, M)>,
}

/// The operation ended with an error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} ended with {:?}: {}", tonic::Code::from_i32(status.code), status.message)]
pub struct OperationError {
    /// The operation.
    pub name: String,
    /// Its error.
    pub status: rpc::Status,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] Box<Status>),
    /// The operation ended with an error.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The response is of another type.
    #[error("the response of {name} is a {found}, not a {wanted}")]
    Type {
        /// The operation.
        name: String,
        /// The expected type.
        wanted: String,
        /// The type of the response.
        found: String,
    },
}

impl Client {
    /// Starts an operation with typed request, response and metadata.
    ///
    /// # Errors
    /// The server's error.
    pub async fn start<
        Q: Message + Name,
        R: Message + Name + Default,
        M: Message + Name + Default,
    >(
        &self,
        request: &Q,
        start: pb::StartOperationRequest,
    ) -> Result<Handle<R, M>, Status> {
        let any = crate::proto::google::protobuf::Any {
            type_url: format!("type.googleapis.com/{}", Q::full_name()),
            value: request.encode_to_vec().into(),
        };
        let start = pb::StartOperationRequest {
            request: Some(any),
            response_type: R::full_name(),
            metadata_type: M::full_name(),
            ..start
        };
        Ok(self.handle(self.start_operation(start).await?))
    }

    /// A handle on an existing operation.
    pub fn handle<R, M>(&self, operation: Operation) -> Handle<R, M> {
        Handle { client: self.clone(), operation, types: PhantomData }
    }
}

impl<R: Message + Name + Default, M: Message + Name + Default> Handle<R, M> {
    /// The operation's name.
    pub fn name(&self) -> &str {
        &self.operation.name
    }

    /// Waits for the end, without a limit.
    ///
    /// # Errors
    /// [`ResultError`] says whether the operation or the call failed.
    pub async fn result(&self) -> Result<R, ResultError> {
        let operation = self.client.wait(self.name()).await.map_err(Box::new)?;
        match operation.result {
            Some(operation::Result::Error(status)) => {
                Err(OperationError { name: operation.name, status }.into())
            }
            Some(operation::Result::Response(any)) => {
                unpack(&any).ok_or_else(|| ResultError::Type {
                    name: operation.name,
                    wanted: R::full_name(),
                    found: any.type_url,
                })
            }
            None => Ok(R::default()),
        }
    }

    /// The current metadata; `None` if it has another type.
    ///
    /// # Errors
    /// The server's error.
    pub async fn metadata(&self) -> Result<Option<M>, Status> {
        Ok(self.client.get(self.name()).await?.metadata.as_ref().and_then(unpack))
    }

    /// Watches to the end; reconnects when the watch breaks.
    pub fn watch(&self) -> Watch {
        self.client.watch(pb::WatchOperationRequest {
            name: self.name().to_owned(),
            ..pb::WatchOperationRequest::default()
        })
    }

    /// Cancels the operation.
    ///
    /// # Errors
    /// The server's error.
    pub async fn cancel(&self) -> Result<(), Status> {
        self.client.cancel(self.name()).await
    }
}

/// The message in a payload, if it has this type.
fn unpack<T: Message + Name + Default>(any: &crate::proto::google::protobuf::Any) -> Option<T> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    (name == T::full_name()).then(|| T::decode(&any.value[..]).ok()).flatten()
}
