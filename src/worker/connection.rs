//! How a worker reaches its server.

use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::shared::Outgoing;
use crate::client::Client;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::proto::longhaul::v1::ServeQueueResponse;
use crate::proto::longhaul::v1::workers_client::WorkersClient;

/// How to connect to the server. Made from an endpoint, or from a [`Client`] that has one, it opens a new connection for
/// each stream, so that a dead one is not used again.
#[derive(Clone, Debug)]
pub struct Connection(Transport);

#[derive(Clone, Debug)]
enum Transport {
    Endpoint(Box<Endpoint>),
    Channel(Channel),
    Inside(Routes),
}

impl Connection {
    /// Opens a stream.
    pub(super) async fn open(
        &self,
        outgoing: Outgoing,
    ) -> Result<Streaming<ServeQueueResponse>, Status> {
        let answer = match &self.0 {
            Transport::Endpoint(endpoint) => {
                let channel = endpoint.connect().await;
                let channel = channel.map_err(|error| {
                    Status::new(Code::Unavailable, format!("no connection: {}", root_cause(&error)))
                })?;
                client(channel).serve_queue(outgoing).await?
            }
            Transport::Channel(channel) => client(channel.clone()).serve_queue(outgoing).await?,
            Transport::Inside(routes) => {
                let workers = WorkersClient::new(routes.clone());
                workers.max_decoding_message_size(MAX_MESSAGE_BYTES).serve_queue(outgoing).await?
            }
        };
        Ok(answer.into_inner())
    }

    /// The server's address, for people.
    pub(super) fn server(&self) -> String {
        let authority = match &self.0 {
            Transport::Endpoint(endpoint) => endpoint.uri().authority(),
            Transport::Channel(_) | Transport::Inside(_) => None,
        };
        authority.map_or_else(|| "the server".to_owned(), ToString::to_string)
    }
}

fn client(channel: Channel) -> WorkersClient<Channel> {
    WorkersClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// The innermost cause; the outer ones only say that there is no connection.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl From<&Client> for Connection {
    fn from(client: &Client) -> Self {
        let endpoint =
            client.endpoint().cloned().map(|endpoint| Transport::Endpoint(Box::new(endpoint)));
        Self(endpoint.unwrap_or_else(|| Transport::Channel(client.channel())))
    }
}

impl From<Client> for Connection {
    fn from(client: Client) -> Self {
        Self::from(&client)
    }
}

impl From<Endpoint> for Connection {
    fn from(endpoint: Endpoint) -> Self {
        Self(Transport::Endpoint(Box::new(endpoint)))
    }
}

impl From<Channel> for Connection {
    fn from(channel: Channel) -> Self {
        Self(Transport::Channel(channel))
    }
}

/// A server in this process.
impl From<Routes> for Connection {
    fn from(routes: Routes) -> Self {
        Self(Transport::Inside(routes))
    }
}
