//! `longhaul token` and `longhaul link`.

use std::time::Duration;

use clap::{Args, Subcommand};
use prost::Message;

use super::connection::{Connection, Output, ServerArg};
use super::exit::Failure;
use super::place::StoreArg;
use super::{output, table};
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::engine::{Caller, Engine, Settings};
use crate::proto::longhaul::v1 as pb;
use crate::record::tokens::Role;
use crate::types::Registry;
use crate::wire::tokens;

/// What `token` takes.
#[derive(Debug, Args)]
pub(super) struct TokensArgs {
    #[command(subcommand)]
    command: TokensCommand,
    #[command(flatten)]
    server: ServerArg,
    #[command(flatten)]
    place: StoreArg,
    /// Text is for people, proto3 JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// What is done with tokens.
#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// Create a token and print its secret, which is shown only now
    Create {
        /// The id of the token, which its identity is named after; by default a UUID
        #[arg(default_value = "", hide_default_value = true, value_name = "ID")]
        id: String,
        /// What it permits: viewer, caller, worker, job-editor or admin; may be given several times
        #[arg(long = "role", required = true, value_name = "ROLE")]
        roles: Vec<Role>,
        /// Only below this parent, such as projects/P
        #[arg(long, default_value = "", hide_default_value = true, value_name = "PARENT")]
        parent: String,
        /// Only in this queue, or in those that begin with NAME* ; may be given several times
        #[arg(long = "queue", value_name = "NAME")]
        queues: Vec<String>,
        /// How long it is accepted, such as 90d; by default without an end
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
    },
    /// List tokens, without their secrets
    List,
    /// Give a token a new secret and print it
    Rotate {
        /// The id of the token
        id: String,
        /// How long the former secret is still accepted, such as 1h
        #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = humantime::parse_duration)]
        grace: Duration,
    },
    /// Revoke tokens
    Revoke {
        /// The ids of the tokens
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Arguments of `link`.
#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    #[command(flatten)]
    connection: Connection,
    /// Full name of the operation, such as operations/ID
    name: String,
    /// What the link permits: get, watch, cancel
    #[arg(long, value_delimiter = ',', default_value = "get,watch", value_name = "VERBS")]
    verbs: Vec<String>,
    /// How long the link lasts
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

impl TokensArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }

    fn show(&self, token: &pb::Token) {
        if self.output == Output::Json {
            return json("longhaul.v1.Token", token);
        }
        output::note(&format!("the secret of {}, which is shown only now:", token.name));
        output::line(&token.secret);
    }

    fn show_all(&self, tokens: Vec<pb::Token>) {
        if self.output == Output::Json {
            let list = pb::ListTokensResponse { tokens, next_page_token: String::new() };
            return json("longhaul.v1.ListTokensResponse", &list);
        }
        if tokens.is_empty() {
            return output::note("no tokens");
        }
        let now = SystemClock::new().now();
        let since = |time: Option<&prost_types::Timestamp>| {
            table::span(now.since(time.map(Timestamp::from).unwrap_or_default()))
        };
        let width = tokens.iter().map(|token| token.name.len()).max().unwrap_or_default().max(4);
        output::line(&format!("{:<width$}  AGE       ROTATED   EXPIRES   GRANTS", "NAME"));
        for token in tokens {
            let (age, rotated) =
                (since(token.create_time.as_ref()), since(token.rotate_time.as_ref()));
            let expires = token.expire_time.as_ref().map(Timestamp::from);
            let expires = match expires {
                None => "never".to_owned(),
                Some(time) if time <= now => "expired".to_owned(),
                Some(time) => table::span(time.since(now)),
            };
            let grants: Vec<String> = token.grants.iter().map(grant_text).collect();
            let (name, grants) = (&token.name, grants.join("; "));
            output::line(&format!(
                "{name:<width$}  {age:<8}  {rotated:<8}  {expires:<8}  {grants}"
            ));
        }
    }
}

/// Where tokens are: on a server, or in a store that no server needs to serve.
enum TokenPlace {
    Server(Box<Client>),
    Store(Engine),
}

pub(super) async fn run(args: TokensArgs) -> Result<(), Failure> {
    let store = match &args.command {
        // The first token of a store is made before any server has opened it.
        TokensCommand::Create { .. } => args.place.open_or_make().await?,
        _ => args.place.open().await?,
    };
    let place = match store {
        Some(store) => {
            TokenPlace::Store(Engine::with(store, SystemClock::new(), Settings::default()))
        }
        None => TokenPlace::Server(Box::new(args.server.connect().await?)),
    };
    let done = act(&args, &place).await;
    if let TokenPlace::Store(engine) = &place {
        engine.stop().await;
    }
    done
}

async fn act(args: &TokensArgs, place: &TokenPlace) -> Result<(), Failure> {
    match &args.command {
        TokensCommand::Create { id, roles, parent, queues, ttl } => {
            let grant = |role: &Role| pb::Grant {
                role: *role as i32,
                parent: parent.clone(),
                queues: queues.clone(),
            };
            let expire_time = ttl.map(|ttl| (SystemClock::new().now() + ttl).into());
            let grants = roles.iter().map(grant).collect();
            let token = pb::Token { grants, expire_time, ..pb::Token::default() };
            let request = pb::CreateTokenRequest { token_id: id.clone(), token: Some(token) };
            args.show(&place.create(request).await?);
        }
        TokensCommand::List => args.show_all(place.list().await?),
        TokensCommand::Rotate { id, grace } => {
            let grace_duration = prost_types::Duration::try_from(*grace).ok();
            let request = pb::RotateTokenRequest { name: name(id), grace_duration };
            args.show(&place.rotate(request).await?);
        }
        TokensCommand::Revoke { ids } => {
            for id in ids {
                place.revoke(&name(id)).await?;
                output::note(&format!("{} is revoked", name(id)));
            }
        }
    }
    Ok(())
}

pub(super) async fn link(args: LinkArgs) -> Result<(), Failure> {
    let client = args.connection.connect().await?;
    let request = pb::CreateLinkRequest {
        name: args.name.clone(),
        verbs: args.verbs.clone(),
        ttl: prost_types::Duration::try_from(args.ttl).ok(),
    };
    let link = client.create_link(request).await?;
    if args.connection.wants_json() {
        json("longhaul.v1.Link", &link);
    } else {
        output::line(&link.path);
    }
    Ok(())
}

impl LinkArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }
}

impl TokenPlace {
    async fn create(&self, request: pb::CreateTokenRequest) -> Result<pb::Token, Failure> {
        match self {
            Self::Server(client) => Ok(client.create_token(request).await?),
            Self::Store(engine) => {
                let new = tokens::create(request).map_err(refused)?;
                let created = engine.create_token(&Caller::default(), new).await;
                Ok(tokens::shown(created.map_err(refused)?))
            }
        }
    }

    async fn list(&self) -> Result<Vec<pb::Token>, Failure> {
        let (mut request, mut all) = (pb::ListTokensRequest::default(), Vec::new());
        loop {
            let page = match self {
                Self::Server(client) => client.list_tokens(request.clone()).await?,
                Self::Store(engine) => {
                    let (size, from) = tokens::list(request.clone()).map_err(refused)?;
                    let page = engine.list_tokens(&Caller::default(), size, &from).await;
                    tokens::list_reply(page.map_err(refused)?)
                }
            };
            all.extend(page.tokens);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn rotate(&self, request: pb::RotateTokenRequest) -> Result<pb::Token, Failure> {
        match self {
            Self::Server(client) => Ok(client.rotate_token(request).await?),
            Self::Store(engine) => {
                let (id, grace) = tokens::rotate(&request).map_err(refused)?;
                let rotated = engine.rotate_token(&Caller::default(), &id, grace).await;
                Ok(tokens::shown(rotated.map_err(refused)?))
            }
        }
    }

    async fn revoke(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Server(client) => Ok(client.delete_token(name).await?),
            Self::Store(engine) => {
                let id = tokens::id(name).map_err(refused)?;
                engine.delete_token(&Caller::default(), &id).await.map_err(refused)
            }
        }
    }
}

/// The name of a token by its id; a name is left as it is.
fn name(id: &str) -> String {
    format!("tokens/{}", id.strip_prefix("tokens/").unwrap_or(id))
}

fn grant_text(grant: &pb::Grant) -> String {
    let role = u32::try_from(grant.role).ok().and_then(Role::from_number);
    let mut text = role.map_or("?", Role::as_str).to_owned();
    if !grant.parent.is_empty() {
        text.extend([" below ", &grant.parent]);
    }
    let queues = grant.queues.join(",");
    if !matches!(&*queues, "" | "*") {
        text.extend([" in ", &queues]);
    }
    text
}

#[expect(clippy::boxed_local, reason = "the engine returns its errors in boxes")]
fn refused(error: Box<crate::engine::Error>) -> Failure {
    anyhow::Error::from(*error).into()
}

fn json(name: &str, message: &impl Message) {
    if let Some(value) = Registry::builtin().json_of(name, &message.encode_to_vec()) {
        output::json(&value);
    }
}
