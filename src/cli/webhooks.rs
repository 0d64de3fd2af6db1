//! `longhaul webhook`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use prost::Message;
use prost_types::FieldMask;

use super::call_args::{EventArg, FormatArg, header};
use super::connection::{Output, ServerArg};
use super::exit::Failure;
use super::receiving::ReceivingCommand;
use super::{deliveries, output, table};
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::callback::Format;
use crate::proto::longhaul::v1::webhook_endpoint::{Algorithm, State};
use crate::types::Registry;

/// What `webhook` takes.
#[derive(Debug, Args)]
pub(super) struct WebhookArgs {
    #[command(subcommand)]
    command: WebhookCommand,
    #[command(flatten)]
    server: ServerArg,
    /// Text is for people, proto3 JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// What is done with webhook endpoints.
#[derive(Debug, Subcommand)]
enum WebhookCommand {
    /// Create an endpoint, and print its name and its secret, which is not shown again
    Create {
        /// The address to call
        uri: String,
        /// The parent whose operations it is called about, such as projects/P; by default all
        #[arg(long, default_value = "", hide_default_value = true, value_name = "PARENT")]
        parent: String,
        /// The id of the endpoint; by default a UUID
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        id: String,
        #[command(flatten)]
        settings: SettingsArgs,
        /// How deliveries are signed [default: hmac-sha256]
        #[arg(long, value_enum, value_name = "ALGORITHM")]
        algorithm: Option<AlgorithmArg>,
        /// Only check whether the endpoint could be created
        #[arg(long)]
        validate_only: bool,
    },
    /// List endpoints
    List {
        /// List only those of this parent, such as projects/P, projects/- or webhookEndpoints (the root). By default
        /// endpoints of all parents are listed
        #[arg(long, default_value = "-", hide_default_value = true, value_name = "PARENT")]
        parent: String,
    },
    /// Show an endpoint
    Get {
        /// Full name of the endpoint, such as webhookEndpoints/ID
        name: String,
    },
    /// Change an endpoint; what is not given stays as it is
    Update {
        /// Full name of the endpoint
        name: String,
        /// The address to call
        #[arg(long, value_name = "URI")]
        uri: Option<String>,
        #[command(flatten)]
        settings: SettingsArgs,
        /// Fields to reset to their defaults
        #[arg(long, value_enum, value_delimiter = ',', value_name = "FIELDS")]
        reset: Vec<SettingArg>,
        /// Change only an endpoint that has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Delete endpoints; what was not delivered to them is dropped
    Delete {
        /// Full names of the endpoints
        #[arg(required = true)]
        names: Vec<String>,
        /// Delete only an endpoint that has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Give an endpoint a new secret, and print it; it is not shown again
    Rotate {
        /// Full name of the endpoint
        name: String,
        /// How long deliveries are signed with the former secret too
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        overlap: Option<Duration>,
        /// How the new secret signs; by default as the newest one
        #[arg(long, value_enum, value_name = "ALGORITHM")]
        algorithm: Option<AlgorithmArg>,
    },
    /// Resume endpoints that are suspended or disabled
    Resume {
        /// Full names of the endpoints
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Send a test event to an endpoint now, and print what happened; one that is accepted resumes a suspended endpoint
    Test {
        /// Full name of the endpoint
        name: String,
    },
    #[command(flatten)]
    Receiving(ReceivingCommand),
}

/// How deliveries are signed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlgorithmArg {
    /// With a secret that the receiver knows too (v1)
    HmacSha256,
    /// With a private key of the server; the receiver needs the public key (v1a)
    Ed25519,
}

impl AlgorithmArg {
    fn number(algorithm: Option<Self>) -> i32 {
        let algorithm = match algorithm {
            None => Algorithm::Unspecified,
            Some(Self::HmacSha256) => Algorithm::HmacSha256,
            Some(Self::Ed25519) => Algorithm::Ed25519,
        };
        algorithm.into()
    }
}

/// The settings of an endpoint, named as its fields.
#[derive(Debug, Args)]
struct SettingsArgs {
    /// The events that cause a call [default: done]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "EVENTS")]
    events: Vec<EventArg>,
    /// Call about operations that match this filter
    #[arg(long, default_value = "", hide_default_value = true, value_name = "FILTER")]
    filter: String,
    /// Format of the calls [default: standard-webhook]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// Send the result and not only the state
    #[arg(long)]
    include_result: bool,
    /// A further header of the calls; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Ask the receiver for its consent first, as the CloudEvents specification for webhooks has it
    #[arg(long)]
    handshake: bool,
}

/// A field that has a default.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SettingArg {
    Events,
    Filter,
    Format,
    IncludeResult,
    Headers,
    Handshake,
}

impl SettingArg {
    const fn path(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Filter => "filter",
            Self::Format => "format",
            Self::IncludeResult => "include_result",
            Self::Headers => "headers",
            Self::Handshake => "handshake",
        }
    }
}

impl SettingsArgs {
    fn endpoint(&self, uri: &str) -> pb::WebhookEndpoint {
        pb::WebhookEndpoint {
            uri: uri.to_owned(),
            events: self.events.iter().map(|event| event.event().into()).collect(),
            filter: self.filter.clone(),
            format: self.format.map_or(Format::Unspecified, FormatArg::format).into(),
            include_result: self.include_result,
            headers: self.headers.iter().cloned().collect(),
            handshake: self.handshake,
            ..pb::WebhookEndpoint::default()
        }
    }

    /// The fields that were given.
    fn given(&self) -> Vec<&'static str> {
        let given = [
            (SettingArg::Events, !self.events.is_empty()),
            (SettingArg::Filter, !self.filter.is_empty()),
            (SettingArg::Format, self.format.is_some()),
            (SettingArg::IncludeResult, self.include_result),
            (SettingArg::Headers, !self.headers.is_empty()),
            (SettingArg::Handshake, self.handshake),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(field, _)| field.path()).collect()
    }
}

pub(super) async fn run(args: WebhookArgs) -> Result<(), Failure> {
    if let WebhookCommand::Receiving(command) = &args.command {
        return command.run(args.output).await;
    }
    let client = args.server.connect().await?;
    call(&args, &client).await
}

async fn call(args: &WebhookArgs, client: &Client) -> Result<(), Failure> {
    match &args.command {
        WebhookCommand::Receiving(_) => {}
        WebhookCommand::Create { uri, parent, id, settings, algorithm, validate_only } => {
            let request = pb::CreateWebhookEndpointRequest {
                parent: parent.clone(),
                webhook_endpoint_id: id.clone(),
                webhook_endpoint: Some(settings.endpoint(uri)),
                validate_only: *validate_only,
                algorithm: AlgorithmArg::number(*algorithm),
                ..pb::CreateWebhookEndpointRequest::default()
            };
            args.show_secret(&client.create_webhook_endpoint(request).await?);
        }
        WebhookCommand::List { parent } => args.show_all(all(client, parent).await?),
        WebhookCommand::Get { name } => args.show(&client.get_webhook_endpoint(name).await?),
        WebhookCommand::Update { name, uri, settings, reset, etag } => {
            let request = update(name, uri.as_deref(), settings, reset, etag);
            args.show(&client.update_webhook_endpoint(request).await?);
        }
        WebhookCommand::Delete { names, etag } => {
            for name in names {
                let request = pb::DeleteWebhookEndpointRequest {
                    name: name.clone(),
                    etag: etag.clone(),
                    ..pb::DeleteWebhookEndpointRequest::default()
                };
                client.delete_webhook_endpoint(request).await?;
                output::note(&format!("{name} is deleted"));
            }
        }
        WebhookCommand::Rotate { name, overlap, algorithm } => {
            let request = pb::RotateWebhookEndpointRequest {
                name: name.clone(),
                overlap: overlap.and_then(|overlap| overlap.try_into().ok()),
                algorithm: AlgorithmArg::number(*algorithm),
                ..pb::RotateWebhookEndpointRequest::default()
            };
            args.show_secret(&client.rotate_webhook_endpoint(request).await?);
        }
        WebhookCommand::Resume { names } => {
            for name in names {
                let (name, etag) = (name.clone(), String::new());
                let request = pb::ResumeWebhookEndpointRequest { name, etag };
                args.show(&client.resume_webhook_endpoint(request).await?);
            }
        }
        WebhookCommand::Test { name } => {
            return args.show_test(&client.test_webhook_endpoint(name).await?);
        }
    }
    Ok(())
}

/// The change of an endpoint: of the fields that were given, and of those to reset.
fn update(
    name: &str,
    uri: Option<&str>,
    settings: &SettingsArgs,
    reset: &[SettingArg],
    etag: &str,
) -> pb::UpdateWebhookEndpointRequest {
    let mut paths = settings.given();
    paths.extend(uri.map(|_| "uri"));
    paths.extend(reset.iter().map(|field| field.path()));
    let endpoint = settings.endpoint(uri.unwrap_or_default());
    pb::UpdateWebhookEndpointRequest {
        webhook_endpoint: Some(pb::WebhookEndpoint {
            name: name.to_owned(),
            etag: etag.to_owned(),
            ..endpoint
        }),
        update_mask: Some(FieldMask { paths: paths.into_iter().map(Into::into).collect() }),
        validate_only: false,
    }
}

async fn all(client: &Client, parent: &str) -> Result<Vec<pb::WebhookEndpoint>, Failure> {
    let mut request = pb::ListWebhookEndpointsRequest {
        parent: parent.to_owned(),
        ..pb::ListWebhookEndpointsRequest::default()
    };
    let mut all = Vec::new();
    loop {
        let page = client.list_webhook_endpoints(request.clone()).await?;
        all.extend(page.webhook_endpoints);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

impl WebhookArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }

    /// A test that failed is a failure of the command.
    fn show_test(&self, test: &pb::TestWebhookEndpointResponse) -> Result<(), Failure> {
        let outcome = test.attempt.as_ref().map(deliveries::outcome).unwrap_or_default();
        if self.output == Output::Json {
            output::message("longhaul.v1.TestWebhookEndpointResponse", test);
            return if test.delivered { Ok(()) } else { Err(Failure::Told(1)) };
        }
        if !test.reply.is_empty() {
            output::line(&test.reply);
        }
        if test.delivered {
            output::note(&format!("the receiver accepted the test event: {outcome}"));
            return Ok(());
        }
        let failed = format!("the receiver did not accept the test event: {outcome}");
        Err(anyhow::Error::msg(failed).into())
    }

    /// The name alone, and the secret that was made, or the public key of the pair.
    fn show_secret(&self, endpoint: &pb::WebhookEndpoint) {
        if self.output == Output::Json {
            return json("longhaul.v1.WebhookEndpoint", endpoint);
        }
        output::line(&endpoint.name);
        let secret = endpoint.secrets.iter().find(|secret| !secret.secret.is_empty());
        let pair = endpoint.secrets.first().map(|newest| &newest.public_key);
        let shown = secret.map(|secret| &secret.secret).or(pair);
        shown.filter(|shown| !shown.is_empty()).into_iter().for_each(|shown| output::line(shown));
    }

    fn show(&self, endpoint: &pb::WebhookEndpoint) {
        if self.output == Output::Json {
            return json("longhaul.v1.WebhookEndpoint", endpoint);
        }
        output::line(&endpoint.name);
        let line = |label: &str, value: &str| {
            if !value.is_empty() {
                output::line(&format!("  {label:<10}{value}"));
            }
        };
        line("uri", &endpoint.uri);
        line("state", &state(endpoint));
        line("events", &events(endpoint));
        line("filter", &endpoint.filter);
        line("format", endpoint.format().as_str_name());
        line("headers", &endpoint.headers.keys().cloned().collect::<Vec<_>>().join(", "));
        for key in endpoint.secrets.iter().map(|secret| &secret.public_key) {
            line("key", key);
        }
        line("etag", &endpoint.etag);
    }

    fn show_all(&self, webhook_endpoints: Vec<pb::WebhookEndpoint>) {
        if self.output == Output::Json {
            let next_page_token = String::new();
            let list = pb::ListWebhookEndpointsResponse { webhook_endpoints, next_page_token };
            return json("longhaul.v1.ListWebhookEndpointsResponse", &list);
        }
        if webhook_endpoints.is_empty() {
            return output::note("no webhook endpoints");
        }
        let names = webhook_endpoints.iter().map(|endpoint| endpoint.name.len());
        let width = names.max().unwrap_or_default().max(4);
        output::line(&format!("{:<width$}  STATE      AGE     EVENTS  URI", "NAME"));
        let now = SystemClock::new().now();
        for endpoint in &webhook_endpoints {
            let created = endpoint.create_time.as_ref().map(Timestamp::from).unwrap_or_default();
            let (name, uri, events) = (&endpoint.name, &endpoint.uri, events(endpoint));
            let (state, age) = (endpoint.state().as_str_name(), table::span(now.since(created)));
            output::line(&format!("{name:<width$}  {state:<9}  {age:<6}  {events}  {uri}"));
        }
    }
}

fn events(endpoint: &pb::WebhookEndpoint) -> String {
    endpoint.events().map(|event| event.as_str_name()).collect::<Vec<_>>().join(",")
}

fn state(endpoint: &pb::WebhookEndpoint) -> String {
    let state = endpoint.state();
    let (name, detail) = (state.as_str_name(), &endpoint.state_detail);
    match (state, detail.is_empty()) {
        (_, true) => name.to_owned(),
        (State::Active, false) => format!("{name}, the last delivery failed: {detail}"),
        (_, false) => format!("{name}: {detail}"),
    }
}

fn json(name: &str, message: &impl Message) {
    if let Some(value) = Registry::builtin().json_of(name, &message.encode_to_vec()) {
        output::json(&value);
    }
}
