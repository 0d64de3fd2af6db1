//! Calls about type sets.

use prost::bytes::Bytes;
use tonic::Status;
use tonic::transport::Channel;

use super::connection::{Client, MAX_REPLY, timed};
use super::retry::retried;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::type_sets_client::TypeSetsClient;

impl Client {
    /// Creates a type set. Generates a `request_id` if there is none, so that a retry returns the set that an earlier try
    /// created.
    ///
    /// # Errors
    /// The server's error.
    pub async fn create_type_set(
        &self,
        mut request: pb::CreateTypeSetRequest,
    ) -> Result<pb::TypeSet, Status> {
        if request.request_id.is_empty() {
            request.request_id = uuid::Uuid::new_v4().to_string();
        }
        retried(|| {
            let (mut stub, request) = (self.type_sets(), timed(request.clone()));
            async move { stub.create_type_set(request).await }
        })
        .await
    }

    /// A type set with its descriptors.
    ///
    /// # Errors
    /// The server's error.
    pub async fn get_type_set(&self, name: &str) -> Result<pb::TypeSet, Status> {
        retried(|| {
            let view = pb::TypeSetView::Full.into();
            let request = timed(pb::GetTypeSetRequest { name: name.to_owned(), view });
            let mut stub = self.type_sets();
            async move { stub.get_type_set(request).await }
        })
        .await
    }

    /// A page of type sets.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list_type_sets(
        &self,
        request: pb::ListTypeSetsRequest,
    ) -> Result<pb::ListTypeSetsResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.type_sets(), timed(request.clone()));
            async move { stub.list_type_sets(request).await }
        })
        .await
    }

    /// Deletes a type set.
    ///
    /// # Errors
    /// The server's error.
    pub async fn delete_type_set(&self, request: pb::DeleteTypeSetRequest) -> Result<(), Status> {
        retried(|| {
            let (mut stub, request) = (self.type_sets(), timed(request.clone()));
            async move { stub.delete_type_set(request).await }
        })
        .await
    }

    /// The descriptors of all type sets of a parent, as long as they have no more than so many bytes together.
    ///
    /// # Errors
    /// The server's error.
    pub async fn descriptors_of(&self, parent: &str, most: usize) -> Result<Vec<Bytes>, Status> {
        let mut request = pb::ListTypeSetsRequest {
            parent: parent.to_owned(),
            view: pb::TypeSetView::Full.into(),
            ..pb::ListTypeSetsRequest::default()
        };
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            let page = self.list_type_sets(request.clone()).await?;
            for set in page.type_sets {
                bytes += set.file_descriptor_set.len();
                if bytes > most {
                    return Ok(found);
                }
                found.push(set.file_descriptor_set);
            }
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    fn type_sets(&self) -> TypeSetsClient<Channel> {
        TypeSetsClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }
}
