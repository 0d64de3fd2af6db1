//! Webhook endpoints: one record each, all in one partition, listed by an index.

use bytes::Bytes;
use uuid::Uuid;

use super::due::DueIndex;
use super::kind::Kind;
use super::note::Note;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::operation::Stamps;
use crate::operation::name::{EndpointName, Id, Parent};
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1::callback::Event;
use crate::store::{Index, IndexEntry, Key, Keyspace, Partition};
use crate::webhook::endpoint::{
    Endpoint, EndpointSecret, EndpointSettings, EndpointState, SecretAlgorithm,
};

/// The index of all endpoints; a member is the parent, a zero, the id, a zero, and the record's key.
pub const ENDPOINTS: &str = "endpoints";
/// The partition of their records, in every keyspace.
pub const PARTITION: Partition = Partition(0);

/// The key of an endpoint's record. It leads to [`PARTITION`], and no name of an operation leads there.
pub fn key(keyspace: &Keyspace, name: &EndpointName) -> Key {
    let mut key = [0; Key::LENGTH];
    let hash = keyspace.hash::<12>("webhook endpoint", name.to_string().as_bytes());
    key[4..].copy_from_slice(&hash);
    Key::from_bytes(key)
}

/// The first bytes of the member of an endpoint in [`ENDPOINTS`]: its parent and its id.
fn place(parent: &str, id: &str) -> Vec<u8> {
    [parent, "\0", id, "\0"].concat().into_bytes()
}

/// The etag of an endpoint, which is another one after every change.
pub fn etag(endpoint: &Endpoint) -> String {
    blake3::hash(&endpoint.encode()).to_hex()[..16].to_owned()
}

impl Kind for Endpoint {
    const NAME: &'static str = "a webhook endpoint";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        self::key(keyspace, &self.name) == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        match unwrap(value)? {
            stored::record::Kind::Endpoint(stored) => decode(stored),
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        wrap(NUMBER, &encode(self))
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let mut member = place(self.name.parent.as_str(), self.name.id.as_str());
        member.extend(key.as_bytes());
        vec![IndexEntry { index: Index::new(ENDPOINTS), member: member.into() }]
    }

    /// Servers look endpoints up when they need them.
    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        None
    }
}

fn encode(endpoint: &Endpoint) -> stored::Endpoint {
    let settings = &endpoint.settings;
    stored::Endpoint {
        parent: endpoint.name.parent.as_str().to_owned(),
        id: endpoint.name.id.as_str().to_owned(),
        uid: Bytes::copy_from_slice(endpoint.uid.as_bytes()),
        uri: settings.uri.clone(),
        events: settings.events.iter().map(|event| *event as u32).collect(),
        filter: settings.filter.clone(),
        format: settings.format as u32,
        include_result: settings.include_result,
        headers: settings.headers.clone(),
        handshake: settings.handshake,
        state: endpoint.state as u32,
        state_detail: endpoint.state_detail.clone(),
        failing_since: endpoint.failing_since.map(Timestamp::as_micros),
        secrets: endpoint.secrets.iter().map(encode_secret).collect(),
        create_time: endpoint.create_time.as_micros(),
        update_time: endpoint.update_time.as_micros(),
        request_id: endpoint.request_id.clone(),
        fingerprint: Bytes::copy_from_slice(&endpoint.fingerprint),
    }
}

fn decode(stored: stored::Endpoint) -> Option<Endpoint> {
    let secrets: Option<Vec<_>> = stored.secrets.into_iter().map(decode_secret).collect();
    Some(Endpoint {
        name: EndpointName {
            parent: Parent::parse(&stored.parent).ok()?,
            id: Id::parse(&stored.id).ok()?,
        },
        uid: Uuid::from_slice(&stored.uid).ok()?,
        settings: EndpointSettings {
            uri: stored.uri,
            events: stored.events.into_iter().filter_map(event).collect(),
            filter: stored.filter,
            format: (stored.format as i32).try_into().unwrap_or_default(),
            include_result: stored.include_result,
            headers: stored.headers,
            handshake: stored.handshake,
        },
        state: state(stored.state)?,
        state_detail: stored.state_detail,
        failing_since: stored.failing_since.map(Timestamp::from_micros),
        secrets: secrets?,
        create_time: Timestamp::from_micros(stored.create_time),
        update_time: Timestamp::from_micros(stored.update_time),
        request_id: stored.request_id,
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
    })
}

fn event(number: u32) -> Option<Event> {
    Event::try_from(number as i32).ok()
}

const fn state(number: u32) -> Option<EndpointState> {
    match number {
        1 => Some(EndpointState::Active),
        2 => Some(EndpointState::Suspended),
        3 => Some(EndpointState::Disabled),
        _ => None,
    }
}

fn encode_secret(secret: &EndpointSecret) -> stored::EndpointSecret {
    stored::EndpointSecret {
        id: secret.id.clone(),
        key: Bytes::copy_from_slice(&secret.key),
        // Secrets of HMAC-SHA256 are stored as they were before there were others.
        algorithm: match secret.algorithm {
            SecretAlgorithm::HmacSha256 => 0,
            other @ SecretAlgorithm::Ed25519 => other as u32,
        },
        create_time: secret.create_time.as_micros(),
        expire_time: secret.expire_time.map(Timestamp::as_micros),
        request_id: secret.request_id.clone(),
    }
}

fn decode_secret(stored: stored::EndpointSecret) -> Option<EndpointSecret> {
    Some(EndpointSecret {
        id: stored.id,
        algorithm: match stored.algorithm {
            0 => SecretAlgorithm::default(),
            number => SecretAlgorithm::from_number(number)?,
        },
        key: stored.key.as_ref().try_into().ok()?,
        create_time: Timestamp::from_micros(stored.create_time),
        expire_time: stored.expire_time.map(Timestamp::from_micros),
        request_id: stored.request_id,
    })
}

/// The number of the kind in a stored record.
const NUMBER: u32 = 12;
