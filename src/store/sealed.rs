//! A store whose records and bodies are encrypted at rest.
//!
//! Wraps any store. Values are sealed before they are written and opened after they were read, each bound to its key, so that
//! none can be put in the place of another. Keys, index entries, counters and hints stay as they are: they hold names of
//! parents and queues, times and hashes.
//!
//! The first key seals, all keys open. What was written without a key is read as it is. A value whose key is missing is passed
//! on as it is stored: to the layer above it is a record of a kind that it does not know, which it leaves alone.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use prost::encoding::{
    WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
};

use super::backend::{Committed, Durability, Record, Store};
use super::error::{CommitError, StoreError};
use super::feed::Feed;
use super::index::{Entry, Scan};
use super::key::{BodyKey, Key, Partition};
use super::keyspace::Keyspace;
use super::write_set::{Check, Mark, Put, WriteSet};
use crate::clock::Timestamp;

/// The field of a stored record that holds a sealed one.
const SEALED_NUMBER: u32 = 1_000;

/// The wrapper.
pub struct Sealed {
    inner: Arc<dyn Store>,
    keys: SealingKeys,
}

/// What became of a record that was to be sealed with the first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resealing {
    /// It was, or it is gone.
    Needless,
    /// It is now.
    Done,
    /// It cannot be read, so it is as it was.
    Unread,
}

/// Keys that seal what is stored. Not shown by `Debug`.
#[derive(Clone)]
pub struct SealingKeys(Arc<[SealingKey]>);

#[derive(Clone)]
struct SealingKey {
    /// Tells which key has sealed a value.
    id: [u8; ID_BYTES],
    cipher: XChaCha20Poly1305,
}

impl SealingKeys {
    /// The keys in a text, one a line, each 32 bytes as base64: the first seals, all open.
    ///
    /// # Errors
    /// Says what a key looks like, and not what was given.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.split(['\n', ',']).map(str::trim).filter(|line| !line.is_empty());
        let keys: Result<Vec<SealingKey>, String> = lines.map(SealingKey::parse).collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err(format!("there is no key; {FORM}"));
        }
        Ok(Self(keys.into()))
    }

    fn seal(&self, bound_to: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(ID_BYTES + NONCE_BYTES + plain.len() + TAG_BYTES);
        // There is at least one.
        let Some(key) = self.0.first() else { return sealed };
        let nonce = nonce();
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let payload = Payload { msg: plain, aad: bound_to };
        // Fails only for values beyond 256 GiB.
        sealed.extend(key.cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default());
        sealed
    }

    /// The plain value; `None` if no key opens it.
    fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Bytes> {
        let (id, rest) = sealed.split_first_chunk::<ID_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let key = self.0.iter().find(|key| key.id == *id)?;
        let payload = Payload { msg: sealed, aad: bound_to };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(Bytes::from)
    }
}

impl SealingKey {
    fn parse(text: &str) -> Result<Self, String> {
        let bytes = BASE64_STANDARD.decode(text).ok();
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| format!("a key is not 32 bytes as base64; {FORM}"))?;
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(
            &blake3::derive_key("longhaul 2026 id of a sealing key", &bytes)[..ID_BYTES],
        );
        let own = blake3::derive_key("longhaul 2026 sealing of stored values", &bytes);
        Ok(Self { id, cipher: XChaCha20Poly1305::new(&own.into()) })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} sealing keys", self.0.len())
    }
}

impl Sealed {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn Store>, keys: SealingKeys) -> Arc<Self> {
        Arc::new(Self { inner, keys })
    }

    /// Seals a record and its bodies with the first key, unless they are. `bodies` names the bodies of a record; `None` if the
    /// record cannot be read.
    ///
    /// # Errors
    /// If the store does not answer, or a body cannot be opened.
    pub async fn reseal(
        &self,
        key: Key,
        bodies: &(dyn Fn(&Record) -> Option<Vec<BodyKey>> + Sync),
    ) -> Result<Resealing, StoreError> {
        for _ in 0..TRIES {
            let stored = self.inner.get(&[key]).await?.pop().flatten();
            let Some(stored) = stored else { return Ok(Resealing::Needless) };
            let opened = self.open_record(key, stored.clone());
            let Some(names) = bodies(&opened) else { return Ok(Resealing::Unread) };
            let partition = self.inner.keyspace().partition(key);
            let mut set = WriteSet::new(partition, Check::At(key, stored.revision));
            for (name, body) in names.iter().zip(self.inner.bodies(&names).await?) {
                // One that is missing was replaced: the check of the commit finds that out.
                let old = body.filter(|body| !self.is_by_first(body.strip_prefix(BODY_MARK)));
                let opened = old.map(|body| self.open_body(*name, body)).transpose()?;
                set.body_puts.extend(opened.map(|body| (*name, self.seal_body(*name, &body))));
            }
            if self.is_by_first(sealed_part(&stored.value)) && set.body_puts.is_empty() {
                return Ok(Resealing::Needless);
            }
            let visible = Mark::Keep(stored.visible_revision);
            let fencing = Mark::Keep(stored.fencing_number);
            let value = self.seal_record(key, &opened.value);
            set.puts.push(Put { key, visible, fencing, value });
            match self.inner.commit(vec![set]).await.pop() {
                Some(Ok(_)) => return Ok(Resealing::Done),
                Some(Err(CommitError::Unavailable(error))) => return Err(error),
                // It has changed meanwhile.
                Some(Err(_)) | None => {}
            }
        }
        Err(StoreError::Away(format!("{key:?} changes more often than it can be read")))
    }

    /// Whether the first key has sealed that.
    fn is_by_first(&self, sealed: Option<&[u8]>) -> bool {
        let first = self.keys.0.first().map(|key| &key.id[..]);
        sealed.and_then(|sealed| sealed.get(..ID_BYTES)) == first && first.is_some()
    }

    fn seal_record(&self, key: Key, value: &[u8]) -> Bytes {
        let sealed = self.keys.seal(key.as_bytes(), value);
        let length = sealed.len();
        let head = key_len(SEALED_NUMBER) + encoded_len_varint(length as u64);
        let mut stored = BytesMut::with_capacity(head + length);
        encode_key(SEALED_NUMBER, WireType::LengthDelimited, &mut stored);
        encode_varint(length as u64, &mut stored);
        stored.put_slice(&sealed);
        stored.freeze()
    }

    fn open_record(&self, key: Key, record: Record) -> Record {
        let opened =
            sealed_part(&record.value).and_then(|sealed| self.keys.open(key.as_bytes(), sealed));
        match opened {
            Some(value) => Record { value, ..record },
            None => record,
        }
    }

    fn seal_body(&self, key: BodyKey, body: &[u8]) -> Bytes {
        [BODY_MARK, &self.keys.seal(&bound(key), body)].concat().into()
    }

    fn open_body(&self, key: BodyKey, body: Bytes) -> Result<Bytes, StoreError> {
        let Some(sealed) = body.strip_prefix(BODY_MARK) else { return Ok(body) };
        self.keys.open(&bound(key), sealed).ok_or_else(|| {
            StoreError::Damaged(format!(
                "a payload is encrypted with a key that is missing: {REMEDY}"
            ))
        })
    }
}

/// The sealed bytes in the value of a record.
fn sealed_part(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    let is_sealed = decode_key(&mut rest).ok()? == (SEALED_NUMBER, WireType::LengthDelimited);
    let length = decode_varint(&mut rest).ok()?;
    (is_sealed && length == rest.len() as u64).then_some(rest)
}

/// A body is bound to its key.
fn bound(key: BodyKey) -> Vec<u8> {
    [&key.record.as_bytes()[..], &[key.slot], &key.nonce].concat()
}

/// Random: of 24 bytes all but eight bits.
fn nonce() -> [u8; NONCE_BYTES] {
    let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let mut nonce = [0; NONCE_BYTES];
    nonce[..16].copy_from_slice(one.as_bytes());
    nonce[16..].copy_from_slice(&other.as_bytes()[8..]);
    nonce
}

#[async_trait]
impl Store for Sealed {
    fn keyspace(&self) -> &Keyspace {
        self.inner.keyspace()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        let records = self.inner.get(keys).await?;
        let opened = records.into_iter().zip(keys);
        Ok(opened.map(|(record, key)| Some(self.open_record(*key, record?))).collect())
    }

    async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let bodies = self.inner.bodies(keys).await?;
        let opened = bodies.into_iter().zip(keys);
        opened.map(|(body, key)| body.map(|body| self.open_body(*key, body)).transpose()).collect()
    }

    async fn commit(&self, mut sets: Vec<WriteSet>) -> Vec<Result<Committed, CommitError>> {
        for set in &mut sets {
            for put in &mut set.puts {
                put.value = self.seal_record(put.key, &put.value);
            }
            for (key, body) in &mut set.body_puts {
                *body = self.seal_body(*key, body);
            }
        }
        self.inner.commit(sets).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        self.inner.scan(scan).await
    }

    async fn keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        self.inner.keys(partition, after, limit).await
    }

    async fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError> {
        self.inner.counters(family, names).await
    }

    async fn counter_names(&self, family: &str, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        self.inner.counter_names(family, limit).await
    }

    fn feed(&self) -> Feed {
        self.inner.feed()
    }

    async fn hint_positions(&self) -> Result<Vec<u64>, StoreError> {
        self.inner.hint_positions().await
    }

    fn now(&self, partition: Partition) -> Timestamp {
        self.inner.now(partition)
    }

    fn answering_since(&self, partition: Partition) -> Option<Timestamp> {
        self.inner.answering_since(partition)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    fn remark(&self) -> Option<String> {
        self.inner.remark()
    }

    async fn raise_min_writer(&self, format: u32) -> Result<(), StoreError> {
        self.inner.raise_min_writer(format).await
    }

    async fn finish_import(&self) -> Result<(), StoreError> {
        self.inner.finish_import().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// What to do about a value whose key is missing.
const REMEDY: &str = "add that key to encryption.key_file or encryption.keys";
const FORM: &str = "write 32 random bytes as base64, such as those of `openssl rand -base64 32`";
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// A record may change between its read and its commit, but hardly this often in a row.
const TRIES: usize = 10;
/// How a sealed body begins.
const BODY_MARK: &[u8] = b"\0longhaul sealed 1\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::store::conformance::{Harness, suite};
    use crate::store::memory::MemoryStore;

    const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const OTHER: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(text).expect("keys")
    }

    /// One record and one body of it.
    fn set(key: Key, value: &'static str) -> WriteSet {
        let mut set = WriteSet::new(Partition(0), Check::Absent(key));
        let value = Bytes::from(value);
        set.body_puts.push((body_of(key), value.clone()));
        set.puts.push(Put { key, visible: Mark::New, fencing: Mark::New, value });
        set
    }

    const fn body_of(key: Key) -> BodyKey {
        BodyKey { record: key, slot: 1, nonce: [7; 8] }
    }

    async fn value(store: &dyn Store, key: Key) -> Bytes {
        store.get(&[key]).await.expect("open").remove(0).expect("a record").value
    }

    #[tokio::test]
    async fn nothing_that_is_stored_shows_its_content_and_an_older_key_still_opens_it() {
        let plain = MemoryStore::new(Keyspace::generate(1), SystemClock::new());
        let [first, second, third] = [1, 2, 3].map(|byte| Key::from_bytes([byte; 16]));
        let before = Sealed::new(plain.clone(), keys(ONE));
        let rotated = Sealed::new(plain.clone(), keys(&format!("{OTHER}\n{ONE}")));
        for (store, key) in [(&*plain as &dyn Store, first), (&*before, second), (&*rotated, third)]
        {
            store.commit(vec![set(key, "a secret")]).await.remove(0).expect("committed");
        }
        for key in [second, third] {
            let stored = value(&*plain, key).await;
            let body = plain.bodies(&[body_of(key)]).await.expect("open").remove(0);
            for bytes in [stored, body.expect("a body")] {
                assert!(!bytes.windows(8).any(|part| part == b"a secret"), "{bytes:?}");
            }
        }
        for key in [first, second, third] {
            assert_eq!(value(&*rotated, key).await, "a secret");
            let body = rotated.bodies(&[body_of(key)]).await.expect("open").remove(0);
            assert_eq!(body.as_deref(), Some(&b"a secret"[..]));
        }
        // Without the newer key, the record is one of an unknown kind, and its body cannot be read.
        let stored = value(&*before, third).await;
        assert_eq!(sealed_part(&stored).map(<[u8]>::is_empty), Some(false));
        let error = before.bodies(&[body_of(third)]).await.expect_err("no key");
        assert!(error.to_string().contains("encryption.key"), "{error}");
    }

    #[tokio::test]
    async fn what_another_key_or_none_has_sealed_is_sealed_with_the_first_and_keeps_its_stamps() {
        let plain = MemoryStore::new(Keyspace::generate(1), SystemClock::new());
        let [clear, old, new] = [1, 2, 3].map(|byte| Key::from_bytes([byte; 16]));
        let before = Sealed::new(plain.clone(), keys(ONE));
        let rotated = Sealed::new(plain.clone(), keys(&format!("{OTHER}\n{ONE}")));
        for (store, key) in [(&*plain as &dyn Store, clear), (&*before, old), (&*rotated, new)] {
            store.commit(vec![set(key, "a secret")]).await.remove(0).expect("committed");
        }
        let stamps = |record: &Record| (record.visible_revision, record.fencing_number);
        let earlier = rotated.get(&[clear, old]).await.expect("open");
        let bodies = |record: &Record| (record.value == "a secret").then(|| vec![body_of(old)]);
        let unread = before.reseal(new, &bodies).await.expect("an answer");
        assert_eq!(unread, Resealing::Unread, "its key is missing");
        for (key, ends) in [
            (clear, Resealing::Done),
            (old, Resealing::Done),
            (old, Resealing::Needless),
            (new, Resealing::Needless),
            (Key::from_bytes([9; 16]), Resealing::Needless),
        ] {
            let bodies = |record: &Record| (record.value == "a secret").then(|| vec![body_of(key)]);
            assert_eq!(rotated.reseal(key, &bodies).await.expect("an answer"), ends, "{key:?}");
        }
        let later = rotated.get(&[clear, old]).await.expect("open");
        for (earlier, later) in earlier.into_iter().zip(later) {
            let (earlier, later) = (earlier.expect("a record"), later.expect("a record"));
            assert_eq!(stamps(&earlier), stamps(&later));
        }
        // The former key is of no more use.
        let only = Sealed::new(plain, keys(OTHER));
        for key in [clear, old, new] {
            assert_eq!(value(&*only, key).await, "a secret");
            let body = only.bodies(&[body_of(key)]).await.expect("open").remove(0);
            assert_eq!(body.as_deref(), Some(&b"a secret"[..]));
        }
    }

    #[tokio::test]
    async fn a_sealed_value_in_the_place_of_another_is_not_opened() {
        let plain = MemoryStore::new(Keyspace::generate(1), SystemClock::new());
        let sealed = Sealed::new(plain.clone(), keys(ONE));
        let [own, foreign] = [1, 2].map(|byte| Key::from_bytes([byte; 16]));
        sealed.commit(vec![set(own, "a secret")]).await.remove(0).expect("committed");
        let moved = value(&*plain, own).await;
        let mut copy = set(foreign, "");
        copy.puts[0].value = moved.clone();
        plain.commit(vec![copy]).await.remove(0).expect("committed");
        assert_eq!(value(&*sealed, foreign).await, moved);
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_shown() {
        for text in ["", "c2VjcmV0", "not base64!", &ONE[1..]] {
            let refusal = SealingKeys::parse(text).expect_err(text);
            assert!(refusal.contains("openssl rand"), "{refusal}");
            assert!(text.is_empty() || !refusal.contains(text), "{refusal}");
        }
        assert_eq!(format!("{:?}", keys(ONE)), "1 sealing keys");
    }

    fn sealed_in_memory() -> std::future::Ready<Harness> {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let inner = MemoryStore::new(Keyspace::generate(4), clock.clone());
        std::future::ready(Harness::new(Sealed::new(inner, keys(ONE)), clock, None))
    }

    suite!(sealed_in_memory);
}
