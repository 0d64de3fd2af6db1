//! Callers with credentials.

use longhaul::engine::IdentitySettings;
use longhaul::record::tokens::Role;
use tonic::Request;

use super::{Fixture, pb};

/// Callers need tokens of the API.
pub(crate) fn by_tokens() -> IdentitySettings {
    IdentitySettings { tokens: true, ..IdentitySettings::default() }
}

/// A role below a parent and in queues.
pub(crate) fn grant(role: Role, parent: &str, queues: &[&str]) -> pb::Grant {
    let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
    pb::Grant { role: role as i32, parent: parent.to_owned(), queues }
}

/// A request with that bearer token.
pub(crate) fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let header = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", header);
    }
    request
}

impl Fixture {
    /// A new token with these grants, made by a server that asks for none.
    pub(crate) async fn token(&self, id: &str, grants: Vec<pb::Grant>) -> String {
        let token = pb::Token { grants, ..pb::Token::default() };
        let request = pb::CreateTokenRequest { token_id: id.to_owned(), token: Some(token) };
        let created = self.tokens().create_token(request).await.expect("a token");
        created.into_inner().secret
    }
}
