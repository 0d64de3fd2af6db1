//! How a worker reaches its server.

use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::desk::Outgoing;
use crate::client::Client;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::proto::longhaul::v1::ServeQueueResponse;
use crate::proto::longhaul::v1::workers_client::WorkersClient;

/// Where the server is. From a [`Client`] that connected by itself or from an endpoint, each stream gets a connection of
/// its own, so that one that died in silence is not used again.
#[derive(Clone, Debug)]
pub struct Connection(Way);

#[derive(Clone, Debug)]
enum Way {
    Endpoint(Box<Endpoint>),
    Channel(Channel),
    Inside(Routes),
}

impl Connection {
    /// Begins a stream.
    pub(super) async fn open(
        &self,
        outgoing: Outgoing,
    ) -> Result<Streaming<ServeQueueResponse>, Status> {
        let answer = match &self.0 {
            Way::Endpoint(endpoint) => {
                let channel = endpoint.connect().await;
                let channel = channel.map_err(|error| {
                    Status::new(Code::Unavailable, format!("no connection: {}", root_cause(&error)))
                })?;
                client(channel).serve_queue(outgoing).await?
            }
            Way::Channel(channel) => client(channel.clone()).serve_queue(outgoing).await?,
            Way::Inside(routes) => {
                let workers = WorkersClient::new(routes.clone());
                workers.max_decoding_message_size(MAX_MESSAGE_BYTES).serve_queue(outgoing).await?
            }
        };
        Ok(answer.into_inner())
    }

    /// The server, for people.
    pub(super) fn server(&self) -> String {
        let authority = match &self.0 {
            Way::Endpoint(endpoint) => endpoint.uri().authority(),
            Way::Channel(_) | Way::Inside(_) => None,
        };
        authority.map_or_else(|| "the server".to_owned(), ToString::to_string)
    }
}

fn client(channel: Channel) -> WorkersClient<Channel> {
    WorkersClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// What is at the bottom of it: the rest says no more than that there is no connection.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl From<&Client> for Connection {
    fn from(client: &Client) -> Self {
        let endpoint = client.endpoint().cloned().map(|endpoint| Way::Endpoint(Box::new(endpoint)));
        Self(endpoint.unwrap_or_else(|| Way::Channel(client.channel())))
    }
}

impl From<Client> for Connection {
    fn from(client: Client) -> Self {
        Self::from(&client)
    }
}

impl From<Endpoint> for Connection {
    fn from(endpoint: Endpoint) -> Self {
        Self(Way::Endpoint(Box::new(endpoint)))
    }
}

impl From<Channel> for Connection {
    fn from(channel: Channel) -> Self {
        Self(Way::Channel(channel))
    }
}

/// A server in this process.
impl From<Routes> for Connection {
    fn from(routes: Routes) -> Self {
        Self(Way::Inside(routes))
    }
}
