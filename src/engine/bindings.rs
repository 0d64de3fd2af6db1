//! What identities may do that others vouch for: the claims of JWTs and the subjects of certificates, bound to roles.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::record::tokens::RoleGrant;

/// Roles of everyone who is such a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityBinding {
    /// Who has them.
    pub member: Member,
    /// What they permit.
    pub grants: Vec<RoleGrant>,
}

/// Who a binding is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// Whoever has a certificate with that subject.
    Certificate(String),
    /// Whoever has a token of that issuer with that claim, or with a list that contains it.
    Claim {
        /// The name of the issuer.
        issuer: String,
        /// The name of the claim.
        claim: String,
        /// Its value; one that ends in `*` stands for all that begin so.
        value: String,
    },
}

impl Member {
    pub(super) fn has_subject(&self, subject: &str) -> bool {
        matches!(self, Self::Certificate(pattern) if fits(pattern, subject))
    }

    pub(super) fn has_claims(&self, of: &str, claims: &Map<String, Value>) -> bool {
        let Self::Claim { issuer, claim, value } = self else { return false };
        let is_it = |found: &Value| found.as_str().is_some_and(|found| fits(value, found));
        issuer == of
            && match claims.get(claim) {
                Some(Value::Array(several)) => several.iter().any(is_it),
                Some(one) => is_it(one),
                None => false,
            }
    }
}

/// The grants of all bindings that `is_member` holds for.
pub(super) fn grants_of(
    bindings: &[IdentityBinding],
    is_member: impl Fn(&Member) -> bool,
) -> Vec<RoleGrant> {
    let fitting = bindings.iter().filter(|binding| is_member(&binding.member));
    fitting.flat_map(|binding| binding.grants.iter().cloned()).collect()
}

fn fits(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == text, |begin| text.starts_with(begin))
}

/// `certificate:SUBJECT`, or `jwt:ISSUER:CLAIM=VALUE`.
impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let claim =
            |rest: &str| {
                let (issuer, rest) = rest.split_once(':')?;
                let (claim, value) = rest.split_once('=')?;
                let [issuer, claim, value] = [issuer, claim, value].map(str::to_owned);
                (!issuer.is_empty() && !claim.is_empty() && !value.is_empty())
                    .then_some(Self::Claim { issuer, claim, value })
            };
        let found = match text.split_once(':') {
            Some(("certificate", subject)) if !subject.is_empty() => {
                Some(Self::Certificate(subject.to_owned()))
            }
            Some(("jwt", rest)) => claim(rest),
            _ => None,
        };
        found.ok_or_else(|| {
            format!("{text:?} is no member; write certificate:SUBJECT or jwt:ISSUER:CLAIM=VALUE")
        })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(subject) => write!(formatter, "certificate:{subject}"),
            Self::Claim { issuer, claim, value } => {
                write!(formatter, "jwt:{issuer}:{claim}={value}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_member_that_reads_back_or_refused(
            text in r"((jwt|certificate|user)?:)?[ -~\u{e9}]{0,20}(:|=|\*)?[ -~]{0,20}",
        ) {
            if let Ok(member) = text.parse::<Member>() {
                prop_assert_eq!(member.to_string(), text);
            }
        }
    }

    #[test]
    fn a_member_is_told_by_its_certificate_or_by_a_claim_of_its_issuer() {
        let member = |text: &str| text.parse::<Member>().expect(text);
        for text in ["certificate:CN=w-1,O=Example", "jwt:corp:groups=ops", "jwt:corp:sub=svc:a=b*"]
        {
            assert_eq!(member(text).to_string(), text);
        }
        for text in ["", "certificate:", "jwt:corp", "jwt:corp:groups", "jwt::a=b", "user:x"] {
            text.parse::<Member>().expect_err(text);
        }
        assert!(member("certificate:CN=w-*").has_subject("CN=w-17"));
        assert!(!member("certificate:CN=w-1").has_subject("CN=w-17"));
        let Value::Object(claims) = json!({ "sub": "alice", "groups": ["dev", "ops"], "n": 1 })
        else {
            panic!("an object");
        };
        let has = |text: &str| member(text).has_claims("corp", &claims);
        assert!(has("jwt:corp:groups=ops") && has("jwt:corp:sub=al*") && has("jwt:corp:sub=alice"));
        assert!(!has("jwt:other:sub=alice") && !has("jwt:corp:sub=bob") && !has("jwt:corp:n=1"));
        assert!(!has("jwt:corp:missing=*") && !member("jwt:corp:sub=alice").has_subject("alice"));
    }
}
