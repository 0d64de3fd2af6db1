//! Settings of who may do what.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::authorities::client_tls;
use super::error::ConfigError;
use crate::engine::{
    Algorithm, IdentityBinding, IdentitySettings, Issuer, IssuerKeys, KeySource, Member,
};
use crate::operation::name::Parent;
use crate::post::HttpsFetcher;
use crate::record::tokens::{Role, RoleGrant};

/// How callers prove who they are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// By tokens of the API.
    pub tokens: bool,
    /// By the certificates of their connections.
    pub certificates: bool,
    /// By JWTs of these issuers.
    pub issuers: Vec<IssuerConfig>,
    /// What callers with certificates and JWTs may do.
    pub bindings: Vec<BindingConfig>,
    /// The file of the audit log; by default it is part of the log.
    #[serde(deserialize_with = "empty_is_none")]
    pub audit_log: Option<PathBuf>,
}

/// An issuer of JWTs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The name by which bindings refer to it.
    pub name: String,
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// What their claim `aud` must contain.
    pub audience: String,
    /// The algorithms of their signatures.
    pub algorithms: Vec<String>,
    /// The file or the URL of its keys; if it is empty, the configuration of the issuer says where they are.
    #[serde(default)]
    pub keys: String,
    /// The file with the authorities that vouch for the server of that URL; by default those of this machine.
    #[serde(default)]
    pub keys_ca: PathBuf,
}

/// Roles of members.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingConfig {
    /// Who has them.
    pub member: String,
    /// The roles.
    pub roles: Vec<String>,
    /// Below which parent they hold.
    #[serde(default)]
    pub parent: String,
    /// In which queues they hold.
    #[serde(default)]
    pub queues: Vec<String>,
}

impl IdentityConfig {
    /// Whether callers are asked for credentials.
    pub fn is_any(&self) -> bool {
        self.tokens || self.certificates || !self.issuers.is_empty()
    }

    /// The settings of the engine. Keys in files are read; those of URLs are not, so that a server starts without its issuers.
    ///
    /// # Errors
    /// Names what cannot be, and what it must be.
    pub(super) fn settings(&self) -> Result<IdentitySettings, ConfigError> {
        let issuers: Result<Vec<_>, _> = self.issuers.iter().map(IssuerConfig::read).collect();
        let issuers = issuers.map_err(|why| ConfigError(format!("identity.issuers: {why}")))?;
        let bindings: Result<Vec<_>, _> = self.bindings.iter().map(BindingConfig::read).collect();
        let bindings = bindings.map_err(|why| ConfigError(format!("identity.bindings: {why}")))?;
        for binding in &bindings {
            if let Member::Claim { issuer, .. } = &binding.member
                && !issuers.iter().any(|known| known.name == *issuer)
            {
                let why = format!("{} names no issuer of identity.issuers", binding.member);
                return Err(ConfigError(format!("identity.bindings: {why}")));
            }
        }
        let (tokens, certificates) = (self.tokens, self.certificates);
        Ok(IdentitySettings { tokens, certificates, issuers, bindings })
    }
}

impl IssuerConfig {
    fn read(&self) -> Result<Issuer, String> {
        let Self { name, issuer, audience, algorithms, .. } = self;
        if name.is_empty() || name.contains([':', '=']) || issuer.is_empty() || audience.is_empty()
        {
            return Err(format!(
                "the issuer {name:?} needs a name without ':' and '=', an issuer and an audience"
            ));
        }
        if algorithms.is_empty() {
            return Err(format!("the issuer {name:?} needs its algorithms, such as [\"ES256\"]"));
        }
        let read: Result<Vec<Algorithm>, _> = algorithms.iter().map(|it| it.parse()).collect();
        let issuer = Issuer {
            name: name.clone(),
            issuer: issuer.clone(),
            audience: audience.clone(),
            algorithms: read?,
            keys: IssuerKeys::default(),
            source: self.source()?,
        };
        if let KeySource::File(path) = &issuer.source {
            let set = std::fs::read(path);
            let set = set.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let replaced = issuer.keys.replace(&set);
            replaced.map_err(|why| format!("the keys in {}: {why}", path.display()))?;
        }
        Ok(issuer)
    }

    fn source(&self) -> Result<KeySource, String> {
        let Self { name, issuer, keys, keys_ca, .. } = self;
        let is_url = keys.contains("://");
        if !keys.is_empty() && !is_url {
            return Ok(KeySource::File(keys.into()));
        }
        let (what, url) = if is_url { ("keys", keys) } else { ("issuer", issuer) };
        if !is_plain_https(url) {
            return Err(format!(
                "the issuer {name:?} has {what} = {url:?}; its keys are read from there, so it must be a URL that begins with \
                 https:// and has no user, query or fragment; or name a file in keys"
            ));
        }
        let ca = (!keys_ca.as_os_str().is_empty()).then_some(keys_ca.as_path());
        let tls = client_tls(ca).map_err(|error| format!("keys_ca of {name:?}: {error}"))?;
        let fetcher = Arc::new(HttpsFetcher::new(tls));
        Ok(if is_url {
            KeySource::Url(keys.clone(), fetcher)
        } else {
            KeySource::Discovery(fetcher)
        })
    }
}

fn is_plain_https(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let is_bare = url.username().is_empty() && url.password().is_none();
        url.scheme() == "https" && is_bare && url.query().is_none() && url.fragment().is_none()
    })
}

impl BindingConfig {
    fn read(&self) -> Result<IdentityBinding, String> {
        let member: Member = self.member.parse()?;
        let parent = Parent::parse(&self.parent).map_err(|error| error.to_string())?;
        let grant = |role: &String| {
            RoleGrant::new(role.parse::<Role>()?, parent.clone(), self.queues.clone())
        };
        let grants: Result<Vec<_>, String> = self.roles.iter().map(grant).collect();
        Ok(IdentityBinding { member, grants: grants? })
    }
}

fn empty_is_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<IdentitySettings, String> {
        let whole = format!("tokens = false\ncertificates = true\naudit_log = \"\"\n{text}");
        let config: IdentityConfig = figment::Figment::new()
            .merge(<figment::providers::Toml as figment::providers::Format>::string(&whole))
            .extract()
            .map_err(|error| error.to_string())?;
        config.settings().map_err(|error| error.to_string())
    }

    fn issuer(keys: &str, algorithms: &str) -> String {
        format!(
            "[[issuers]]\nname = \"corp\"\nissuer = \"https://id\"\naudience = \"a\"\nalgorithms = {algorithms}\nkeys = \"{keys}\"\n"
        )
    }

    #[test]
    fn bindings_give_members_their_roles() {
        let text = "issuers = []\n[[bindings]]\nmember = \"certificate:CN=w\"\nroles = [\"worker\", \"viewer\"]\nqueues = [\"q\"]\n";
        let settings = config(text).expect("settings");
        assert!(settings.is_any() && settings.bindings[0].grants.len() == 2);
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let key = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}"#;
        std::io::Write::write_all(&mut file, key.as_bytes()).expect("written");
        let keys = issuer(file.path().to_str().expect("a path"), "[\"ES256\", \"EdDSA\"]");
        let text = format!("bindings = []\n{keys}");
        assert_eq!(config(&text).expect("settings").issuers[0].algorithms.len(), 2);
        let of = |keys: &str| config(&format!("bindings = []\n{}", issuer(keys, "[\"ES256\"]")));
        let url = of("https://id/jwks").expect("settings");
        assert!(
            matches!(&url.issuers[0].source, KeySource::Url(url, _) if url == "https://id/jwks")
        );
        let discovery = of("").expect("settings");
        assert!(matches!(discovery.issuers[0].source, KeySource::Discovery(_)));
        assert!(discovery.issuers[0].keys.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_it_must_be() {
        let binding = |member: &str, rest: &str| {
            format!("issuers = []\n[[bindings]]\nmember = \"{member}\"\n{rest}")
        };
        for (text, part) in [
            (binding("alice", "roles = [\"viewer\"]"), "certificate:SUBJECT"),
            (binding("certificate:a", "roles = [\"root\"]"), "the roles are viewer"),
            (
                binding("certificate:a", "roles = [\"caller\"]\nparent = \"p/a\""),
                "needs its queues",
            ),
            (binding("certificate:a", "roles = [\"caller\"]\nparent = \"p\""), "pairs"),
            (binding("jwt:corp:sub=a", "roles = [\"viewer\"]"), "names no issuer"),
            (format!("bindings = []\n{}", issuer("/none", "[\"ES256\"]")), "cannot read /none"),
            (format!("bindings = []\n{}", issuer("/none", "[]")), "needs its algorithms"),
            (format!("bindings = []\n{}", issuer("/none", "[\"HS256\"]")), "known are RS256"),
            (
                format!("bindings = []\n{}", issuer("http://id/jwks", "[\"ES256\"]")),
                "begins with https://",
            ),
            (format!("bindings = []\n{}", issuer("https://a:b@id/jwks", "[\"ES256\"]")), "no user"),
            (
                format!(
                    "bindings = []\n{}keys_ca = \"/none\"\n",
                    issuer("https://id/jwks", "[\"ES256\"]")
                ),
                "/none cannot be used",
            ),
        ] {
            let refusal = config(&text).expect_err(&text);
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }
}
