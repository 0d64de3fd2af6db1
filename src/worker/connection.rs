//! How a worker reaches its server.

use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::shared::Outgoing;
use crate::client::{AuthorizedChannel, BearerToken, Client, root_cause};
use crate::limits::MAX_MESSAGE_BYTES;
use crate::proto::longhaul::v1::ServeQueueResponse;
use crate::proto::longhaul::v1::workers_client::WorkersClient;

/// How to connect to the server. Made from an endpoint, or from a [`Client`] that has one, it opens a new connection for
/// each stream, so that a dead one is not used again.
#[derive(Clone, Debug)]
pub struct Connection(Transport);

#[derive(Clone, Debug)]
enum Transport {
    Endpoint(Box<Endpoint>, Option<BearerToken>),
    Channel(AuthorizedChannel),
    Inside(Routes),
}

impl Connection {
    /// Opens a stream.
    pub(super) async fn open(
        &self,
        outgoing: Outgoing,
    ) -> Result<Streaming<ServeQueueResponse>, Status> {
        let answer = match &self.0 {
            Transport::Endpoint(endpoint, token) => {
                let channel = endpoint.connect().await;
                let channel = channel.map_err(|error| {
                    Status::new(Code::Unavailable, format!("no connection: {}", root_cause(&error)))
                })?;
                client(AuthorizedChannel::new(channel, token.clone())).serve_queue(outgoing).await?
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
            Transport::Endpoint(endpoint, _) => endpoint.uri().authority(),
            Transport::Channel(_) | Transport::Inside(_) => None,
        };
        authority.map_or_else(|| "the server".to_owned(), ToString::to_string)
    }
}

fn client(channel: AuthorizedChannel) -> WorkersClient<AuthorizedChannel> {
    WorkersClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

impl From<&Client> for Connection {
    fn from(client: &Client) -> Self {
        let channel = client.channel();
        Self(match client.endpoint().cloned() {
            Some(endpoint) => Transport::Endpoint(Box::new(endpoint), channel.token().cloned()),
            None => Transport::Channel(channel),
        })
    }
}

impl From<Client> for Connection {
    fn from(client: Client) -> Self {
        Self::from(&client)
    }
}

impl From<Endpoint> for Connection {
    fn from(endpoint: Endpoint) -> Self {
        Self(Transport::Endpoint(Box::new(endpoint), None))
    }
}

impl From<Channel> for Connection {
    fn from(channel: Channel) -> Self {
        Self(Transport::Channel(AuthorizedChannel::new(channel, None)))
    }
}

/// A server in this process.
impl From<Routes> for Connection {
    fn from(routes: Routes) -> Self {
        Self(Transport::Inside(routes))
    }
}
