//! An operation in the caller's own types.

use std::marker::PhantomData;

use prost::{Message, Name};
use tonic::Status;

use super::{Client, Watch};
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

/// The operation ended in an error of its own.
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
    /// The server did not answer well.
    #[error(transparent)]
    Call(#[from] Box<Status>),
    /// The operation ended in an error.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The response is of another type.
    #[error("the response of {name} is a {found}, not a {wanted}")]
    Type {
        /// The operation.
        name: String,
        /// What was asked for.
        wanted: String,
        /// What came.
        found: String,
    },
}

impl Client {
    /// Starts an operation whose request, response and metadata types are known here.
    ///
    /// # Errors
    /// What the server answers.
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

    /// A handle on an operation that somebody started.
    pub fn handle<R, M>(&self, operation: Operation) -> Handle<R, M> {
        Handle { client: self.clone(), operation, types: PhantomData }
    }
}

impl<R: Message + Name + Default, M: Message + Name + Default> Handle<R, M> {
    /// The operation's name.
    pub fn name(&self) -> &str {
        &self.operation.name
    }

    /// Waits for the end, as long as it takes.
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

    /// The metadata now; `None` where it is of another type.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn metadata(&self) -> Result<Option<M>, Status> {
        Ok(self.client.get(self.name()).await?.metadata.as_ref().and_then(unpack))
    }

    /// Watches to the end; re-attaches by itself.
    pub fn watch(&self) -> Watch {
        self.client.watch(pb::WatchOperationRequest {
            name: self.name().to_owned(),
            ..pb::WatchOperationRequest::default()
        })
    }

    /// Asks for it to stop.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn cancel(&self) -> Result<(), Status> {
        self.client.cancel(self.name()).await
    }
}

/// The message in a payload, if it is of that type.
fn unpack<T: Message + Name + Default>(any: &crate::proto::google::protobuf::Any) -> Option<T> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    (name == T::full_name()).then(|| T::decode(&any.value[..]).ok()).flatten()
}
