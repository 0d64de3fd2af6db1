//! A webhook endpoint: what is sent to it, how that is signed, and whether it is called at all.
//!
//! Pure: `now` is an argument, and random bytes are too.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::limits::{ENDPOINT_PATIENCE, MAX_ENDPOINT_SECRETS};
use crate::operation::lease::Fingerprint;
use crate::operation::name::EndpointName;
use crate::proto::longhaul::v1::callback::{Event, Format};

/// An address that is called on events of operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The full name.
    pub name: EndpointName,
    /// The unique id.
    pub uid: Uuid,
    /// What its owner has set.
    pub settings: EndpointSettings,
    /// Whether it is called.
    pub state: EndpointState,
    /// Why its last delivery failed, or why it is not called.
    pub state_detail: String,
    /// Since when every delivery has failed.
    pub failing_since: Option<Timestamp>,
    /// What deliveries are signed with, newest first.
    pub secrets: Vec<EndpointSecret>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// The id of the request that created it; empty without one.
    pub request_id: String,
    /// A hash of what was asked for.
    pub fingerprint: Fingerprint,
}

/// The fields of an endpoint that its owner sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSettings {
    /// Where to call.
    pub uri: String,
    /// The events that cause a call; never empty.
    pub events: Vec<Event>,
    /// Only operations that match; empty for all.
    pub filter: String,
    /// Format of the calls.
    pub format: Format,
    /// Whether the calls carry the result.
    pub include_result: bool,
    /// Further HTTP headers.
    pub headers: BTreeMap<String, String>,
    /// Whether the receiver is asked for its consent first.
    pub handshake: bool,
}

/// Whether an endpoint is called. The numbers are those of `longhaul.v1.WebhookEndpoint.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It is.
    Active = 1,
    /// Not since every delivery failed for too long.
    Suspended = 2,
    /// Not since it said that it is gone.
    Disabled = 3,
}

/// A secret that deliveries are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointSecret {
    /// Tells it from the other secrets of its endpoint.
    pub id: String,
    /// How it signs.
    pub algorithm: SecretAlgorithm,
    /// The key; of Ed25519 the seed of the pair.
    pub key: [u8; 32],
    /// When it was made.
    pub create_time: Timestamp,
    /// Until when it is used; `None` for the newest.
    pub expire_time: Option<Timestamp>,
    /// The id of the request that made it; empty without one.
    pub request_id: String,
}

/// How a secret signs. The numbers are those of `longhaul.v1.WebhookEndpoint.Algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretAlgorithm {
    /// With a secret that the receiver knows, too.
    #[default]
    HmacSha256 = 1,
    /// With a private key; the receiver knows the public one.
    Ed25519 = 2,
}

impl SecretAlgorithm {
    /// The algorithm of that number.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::HmacSha256),
            2 => Some(Self::Ed25519),
            _ => None,
        }
    }
}

/// How a delivery to an endpoint has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// The receiver accepted it.
    Accepted,
    /// It failed, for this reason.
    Failed(String),
    /// The receiver wants no more.
    Gone,
}

/// There are too many secrets for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySecrets;

impl Endpoint {
    /// Whether it is called on one of these events.
    pub fn wants(&self, occurred: &[Event]) -> bool {
        self.state == EndpointState::Active
            && self.settings.events.iter().any(|event| occurred.contains(event))
    }

    /// The secrets to sign with, newest first.
    pub fn signing_secrets(&self, now: Timestamp) -> impl Iterator<Item = &EndpointSecret> {
        self.secrets.iter().filter(move |secret| secret.is_valid(now))
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_settings(self, settings: EndpointSettings, now: Timestamp) -> Self {
        Self { settings, update_time: now, ..self }
    }

    /// The same with a new secret. Those before it are used until the overlap is over.
    ///
    /// # Errors
    /// If too many are still used.
    pub fn rotated(
        mut self,
        secret: EndpointSecret,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<Self, TooManySecrets> {
        let end = now + overlap;
        for former in &mut self.secrets {
            former.expire_time = Some(former.expire_time.map_or(end, |time| time.min(end)));
        }
        self.secrets.retain(|secret| secret.is_valid(now));
        if self.secrets.len() >= MAX_ENDPOINT_SECRETS {
            return Err(TooManySecrets);
        }
        self.secrets.insert(0, secret);
        Ok(Self { update_time: now, ..self })
    }

    /// The same, called again; `None` if it is called already and nothing failed.
    pub fn resumed(&self, now: Timestamp) -> Option<Self> {
        let is_well = self.state == EndpointState::Active && self.failing_since.is_none();
        (!is_well).then(|| self.well(now))
    }

    /// The same after a delivery; `None` if that changes nothing. A delivery that is accepted makes a suspended endpoint
    /// active, as only a test reaches one.
    pub fn after(&self, end: &DeliveryEnd, now: Timestamp) -> Option<Self> {
        if self.state == EndpointState::Disabled {
            return None;
        }
        match end {
            DeliveryEnd::Accepted => self.resumed(now),
            DeliveryEnd::Gone => Some(Self {
                state: EndpointState::Disabled,
                state_detail: "the receiver answered 410 Gone".to_owned(),
                update_time: now,
                ..self.clone()
            }),
            DeliveryEnd::Failed(_) if self.state != EndpointState::Active => None,
            DeliveryEnd::Failed(why) => self.failed(why, now),
        }
    }

    fn failed(&self, why: &str, now: Timestamp) -> Option<Self> {
        let since = self.failing_since.unwrap_or(now);
        let is_over = now.since(since) >= ENDPOINT_PATIENCE;
        if self.failing_since.is_some() && !is_over {
            return None;
        }
        let state = if is_over { EndpointState::Suspended } else { EndpointState::Active };
        let (state_detail, failing_since) = (why.to_owned(), Some(since));
        Some(Self { state, state_detail, failing_since, update_time: now, ..self.clone() })
    }

    fn well(&self, now: Timestamp) -> Self {
        Self {
            state: EndpointState::Active,
            state_detail: String::new(),
            failing_since: None,
            update_time: now,
            ..self.clone()
        }
    }
}

impl EndpointSecret {
    fn is_valid(&self, now: Timestamp) -> bool {
        self.expire_time.is_none_or(|time| now < time)
    }
}

/// Without the key, which is never logged.
impl fmt::Debug for EndpointSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("EndpointSecret");
        shown.field("id", &self.id).field("algorithm", &self.algorithm);
        shown.field("create_time", &self.create_time);
        shown.field("expire_time", &self.expire_time).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(hours: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000) + Duration::from_hours(hours)
    }

    fn secret(id: &str, hours: u64) -> EndpointSecret {
        EndpointSecret {
            id: id.to_owned(),
            algorithm: SecretAlgorithm::default(),
            key: [hours as u8; 32],
            create_time: at(hours),
            expire_time: None,
            request_id: String::new(),
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            name: EndpointName::parse("projects/p/webhookEndpoints/e").expect("a name"),
            uid: Uuid::nil(),
            settings: EndpointSettings {
                uri: "https://example.com/".to_owned(),
                events: vec![Event::Done],
                ..EndpointSettings::default()
            },
            state: EndpointState::Active,
            state_detail: String::new(),
            failing_since: None,
            secrets: vec![secret("first", 0)],
            create_time: at(0),
            update_time: at(0),
            request_id: String::new(),
            fingerprint: Fingerprint::default(),
        }
    }

    fn failed(why: &str) -> DeliveryEnd {
        DeliveryEnd::Failed(why.to_owned())
    }

    #[test]
    fn an_endpoint_is_suspended_after_five_days_without_an_accepted_delivery() {
        let first = endpoint().after(&failed("503"), at(1)).expect("a change");
        assert_eq!((first.state, first.failing_since), (EndpointState::Active, Some(at(1))));
        assert_eq!(first.after(&failed("500"), at(120)), None, "known to fail");
        let last = first.after(&failed("500"), at(121)).expect("a change");
        assert_eq!((last.state, &*last.state_detail), (EndpointState::Suspended, "500"));
        assert!(!last.wants(&[Event::Done]));
        assert_eq!(last.after(&failed("500"), at(200)), None);

        let well = first.after(&DeliveryEnd::Accepted, at(119)).expect("a change");
        assert_eq!((well.state, well.failing_since), (EndpointState::Active, None));
        assert_eq!(well.after(&DeliveryEnd::Accepted, at(122)), None);
        let later = well.after(&failed("503"), at(300)).expect("a change");
        assert_eq!(later.state, EndpointState::Active, "the days count anew");
    }

    #[test]
    fn a_suspended_endpoint_resumes_by_hand_or_by_an_accepted_delivery() {
        let suspended =
            Endpoint { state: EndpointState::Suspended, failing_since: Some(at(0)), ..endpoint() };
        for resumed in [suspended.resumed(at(1)), suspended.after(&DeliveryEnd::Accepted, at(1))] {
            let resumed = resumed.expect("a change");
            assert_eq!((resumed.state, resumed.failing_since), (EndpointState::Active, None));
            assert_eq!(resumed.resumed(at(2)), None);
        }
    }

    #[test]
    fn a_receiver_that_is_gone_is_called_again_only_when_it_is_resumed_by_hand() {
        let gone = endpoint().after(&DeliveryEnd::Gone, at(1)).expect("a change");
        assert_eq!(gone.state, EndpointState::Disabled);
        for end in [DeliveryEnd::Accepted, DeliveryEnd::Gone, failed("x")] {
            assert_eq!(gone.after(&end, at(2)), None, "{end:?}");
        }
        assert_eq!(gone.resumed(at(3)).expect("a change").state, EndpointState::Active);
    }

    #[test]
    fn former_secrets_sign_until_the_overlap_is_over() {
        let ids = |endpoint: &Endpoint, now| {
            let ids = endpoint.signing_secrets(now).map(|secret| secret.id.clone());
            ids.collect::<Vec<_>>()
        };
        let two = endpoint().rotated(secret("second", 1), HOUR * 5, at(1)).expect("room");
        assert_eq!(ids(&two, at(5)), ["second", "first"]);
        assert_eq!(ids(&two, at(6)), ["second"]);
        let three = two.rotated(secret("third", 2), HOUR * 10, at(2)).expect("room");
        assert_eq!(ids(&three, at(5)), ["third", "second", "first"]);
        assert_eq!(ids(&three, at(6)), ["third", "second"], "a later overlap adds no time");
        let now = three.rotated(secret("fourth", 7), Duration::ZERO, at(7)).expect("room");
        assert_eq!(ids(&now, at(7)), ["fourth"]);
        assert_eq!(now.secrets.len(), 1, "invalid secrets are forgotten");
    }

    #[test]
    fn a_rotation_is_refused_while_many_secrets_are_used() {
        let mut full = endpoint();
        for number in 1..MAX_ENDPOINT_SECRETS {
            full = full.rotated(secret("s", number as u64), HOUR * 100, at(1)).expect("room");
        }
        let refused = full.clone().rotated(secret("s", 9), HOUR, at(2));
        assert_eq!(refused, Err(TooManySecrets));
        full.rotated(secret("s", 9), Duration::ZERO, at(2)).expect("room, as none overlaps");
    }

    #[test]
    fn a_key_is_not_in_what_logs_show() {
        let text = format!("{:?}", secret("first", 7));
        assert!(!text.contains("7, 7") && text.contains("first"), "{text}");
    }
}
