//! Reads. Each includes the metas of its partitions, so that a Redis that lost its data never reports a record as absent.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;
use redis::{Pipeline, Value};

use super::link::Link;
use super::shared::SharedLink;
use super::trial;
use crate::store::backend::Record;
use crate::store::error::StoreError;
use crate::store::index::{Entry, Scan};
use crate::store::key::{BodyKey, Key, Partition};

impl SharedLink {
    /// Reads records.
    pub(super) async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let places = keys.iter().map(|key| {
                let partition = self.keyspace.partition(*key);
                (partition, self.keys.record(partition, *key))
            });
            for value in self.read(&self.link, places.collect()).await? {
                records.push(value.map(|bytes| record(&bytes)).transpose()?);
            }
        }
        Ok(records)
    }

    /// Reads bodies, a few at a time and on the connection for them.
    pub(super) async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut bodies = Vec::with_capacity(keys.len());
        for keys in keys.chunks(BODIES_AT_ONCE) {
            let places = keys.iter().map(|key| {
                let partition = self.keyspace.partition_of_body(*key);
                (partition, self.keys.body(partition, *key))
            });
            bodies.extend(self.read(&self.bulk, places.collect()).await?);
        }
        Ok(bodies)
    }

    /// Reads index entries. Reads little more than its share from each partition, and more from those that may have more.
    pub(super) async fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StoreError> {
        if scan.limit == 0 {
            return Ok(Vec::new());
        }
        let partitions: Vec<Partition> =
            scan.partition.map_or_else(|| self.keyspace.all().collect(), |one| vec![one]);
        let share = match partitions.len() {
            1 => scan.limit,
            several => (scan.limit / several).saturating_add(SPARE_ROWS).min(scan.limit),
        };
        let first = partitions
            .into_iter()
            .map(|partition| Range { partition, after: None, rows: share })
            .collect();
        let (entries, ends) = self.ranges(scan, first).await?;
        let mut merged = scan.merge(entries);
        // A partition whose last row comes after the last of the page cannot add to it.
        let cut = merged.get(scan.limit - 1).cloned();
        let precedes =
            |entry: &Entry, cut: &Entry| if scan.descending { entry > cut } else { entry < cut };
        let open =
            |end: &Entry| share < scan.limit && cut.as_ref().is_none_or(|cut| precedes(end, cut));
        let more: Vec<Range> = ends
            .into_iter()
            .filter(open)
            .map(|end| Range {
                partition: end.partition,
                after: Some(end.member),
                rows: scan.limit - share,
            })
            .collect();
        if !more.is_empty() {
            merged.extend(self.ranges(scan, more).await?.0);
            merged = scan.merge(merged);
        }
        Ok(merged)
    }

    /// Keys of records after `after`, in ascending order. Redis lists its keys in no order and may repeat some.
    pub(super) async fn record_keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        let prefix = self.keys.records(partition);
        let pattern = [glob(&prefix), b"*".to_vec()].concat();
        let (mut found, mut cursor) = (BTreeSet::new(), b"0".to_vec());
        loop {
            let mut request = redis::cmd("SCAN");
            request.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(KEYS_LOOKED_AT);
            let reply = self.bulk.read_one(&request).await.map_err(|error| self.away(&error))?;
            let (next, keys): (Vec<u8>, Vec<Vec<u8>>) =
                redis::from_redis_value(reply).map_err(|_| self.unexpected())?;
            for key in keys {
                let key = key.strip_prefix(&prefix[..]).and_then(|key| key.try_into().ok());
                found.extend(key.map(Key::from_bytes).filter(|key| Some(*key) > after));
            }
            while found.len() > limit {
                found.pop_last();
            }
            cursor = next;
            if cursor == b"0" {
                break;
            }
        }
        // A Redis that has lost its data lists no keys either.
        self.send(&self.bulk, redis::pipe(), &BTreeSet::from([partition])).await?;
        Ok(found.into_iter().collect())
    }
    /// Sums counters.
    pub(super) async fn counters(
        &self,
        family: &str,
        names: &[Bytes],
    ) -> Result<Vec<i64>, StoreError> {
        let partitions: BTreeSet<Partition> = self.keyspace.all().collect();
        let mut sums = Vec::with_capacity(names.len());
        for names in names.chunks(KEYS_AT_ONCE) {
            let mut request = redis::pipe();
            for partition in &partitions {
                request.cmd("HMGET").arg(self.keys.counters(*partition, family));
                for name in names {
                    request.arg(&name[..]);
                }
            }
            let mut some = vec![0_i64; names.len()];
            for value in self.send(&self.link, request, &partitions).await? {
                let shares: Vec<Option<i64>> =
                    redis::from_redis_value(value).map_err(|_| self.unexpected())?;
                for (sum, share) in some.iter_mut().zip(shares) {
                    *sum = sum.saturating_add(share.unwrap_or(0));
                }
            }
            sums.extend(some);
        }
        Ok(sums)
    }

    /// The names of counters.
    pub(super) async fn counter_names(
        &self,
        family: &str,
        limit: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut names = BTreeSet::new();
        let mut cursors: Vec<(Partition, u64)> =
            self.keyspace.all().map(|partition| (partition, 0)).collect();
        while !cursors.is_empty() && names.len() < limit {
            let mut request = redis::pipe();
            for (partition, cursor) in &cursors {
                let key = self.keys.counters(*partition, family);
                request.cmd("HSCAN").arg(key).arg(*cursor).arg("COUNT").arg(KEYS_AT_ONCE);
            }
            let partitions = cursors.iter().map(|(partition, _)| *partition).collect();
            let replies = self.send(&self.link, request, &partitions).await?;
            for ((_, cursor), value) in cursors.iter_mut().zip(replies) {
                let (next, fields): (u64, Vec<Vec<u8>>) =
                    redis::from_redis_value(value).map_err(|_| self.unexpected())?;
                names.extend(fields.into_iter().step_by(2).map(Bytes::from));
                *cursor = next;
            }
            cursors.retain(|(_, cursor)| *cursor != 0);
        }
        Ok(names.into_iter().take(limit).collect())
    }

    /// The sequence of the last hint of each partition.
    pub(super) async fn hint_positions(&self) -> Result<Vec<u64>, StoreError> {
        let mut request = redis::cmd("MGET");
        for meta in self.keys.metas() {
            request.arg(meta);
        }
        let reply = self.link.read_one(&request).await.map_err(|error| self.away(&error))?;
        let Value::Array(metas) = reply else { return Err(self.unexpected()) };
        let position = |meta| self.own_meta(meta).map(|meta| meta.sequence);
        metas.iter().map(|meta| position(meta).ok_or_else(|| self.foreign())).collect()
    }

    /// Checks that all partitions exist, and tries whether a commit could be written.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.send(&self.link, redis::pipe(), &self.keyspace.all().collect()).await?;
        let tried = trial::write(&self.link, &self.keys, self.dial.place()).await;
        let missing = tried.as_ref().err().filter(|refusal| refusal.forbidden);
        self.fitness.permission(missing.map(|refusal| refusal.error.to_string()));
        if let Some(refusal) = self.fitness.refusal() {
            return Err(refusal);
        }
        tried.map_err(|refusal| match refusal.cause {
            Some(cause) => self.away(&cause),
            None => refusal.error,
        })
    }

    /// Reads strings, in the order of `places`.
    async fn read(
        &self,
        link: &Link,
        places: Vec<(Partition, Vec<u8>)>,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let partitions: BTreeSet<Partition> =
            places.iter().map(|(partition, _)| *partition).collect();
        let count = places.len();
        // One command costs less than two in a pipeline, and its values are from one moment.
        let mut request = redis::cmd("MGET");
        for (_, key) in places {
            request.arg(key);
        }
        for partition in &partitions {
            request.arg(self.keys.meta(*partition));
        }
        let reply = link.read_one(&request).await.map_err(|error| self.away(&error))?;
        let Value::Array(mut values) = reply else { return Err(self.unexpected()) };
        if values.len() != count + partitions.len() {
            return Err(self.unexpected());
        }
        let metas = values.split_off(count);
        for (partition, meta) in partitions.iter().zip(&metas) {
            self.check_meta(*partition, meta)?;
        }
        let string = |value| match value {
            Value::BulkString(bytes) => Ok(Some(bytes.into())),
            Value::Nil => Ok(None),
            _ => Err(self.unexpected()),
        };
        values.into_iter().map(string).collect()
    }

    /// Reads one range of each of some partitions. Also returns the last row of those that may hold more.
    async fn ranges(
        &self,
        scan: &Scan,
        ranges: Vec<Range>,
    ) -> Result<(Vec<Entry>, Vec<Entry>), StoreError> {
        let mut request = redis::pipe();
        for range in &ranges {
            range.write(scan, self.keys.index(range.partition, &scan.index), &mut request);
        }
        let partitions = ranges.iter().map(|range| range.partition).collect();
        let replies = self.send(&self.link, request, &partitions).await?;
        let (mut entries, mut ends) = (Vec::new(), Vec::new());
        for (range, reply) in ranges.iter().zip(replies) {
            let Value::Array(members) = reply else { return Err(self.unexpected()) };
            let full = members.len() >= range.rows;
            for member in members {
                let Value::BulkString(member) = member else { return Err(self.unexpected()) };
                entries.push(Entry { member: member.into(), partition: range.partition });
            }
            ends.extend(entries.last().filter(|_| full).cloned());
        }
        Ok((entries, ends))
    }

    /// Sends a pipeline followed by a read of the metas of its partitions.
    async fn send(
        &self,
        link: &Link,
        request: Pipeline,
        partitions: &BTreeSet<Partition>,
    ) -> Result<Vec<Value>, StoreError> {
        if partitions.is_empty() {
            return Ok(vec![Value::Array(Vec::new())]);
        }
        // After it, so that a loss between the two is noticed as well.
        let mut request = request;
        request.cmd("MGET");
        for partition in partitions {
            request.arg(self.keys.meta(*partition));
        }
        let mut replies = link.read(&request).await.map_err(|error| self.away(&error))?;
        let Some(Value::Array(metas)) = replies.pop() else { return Err(self.unexpected()) };
        for (partition, meta) in partitions.iter().zip(&metas) {
            self.check_meta(*partition, meta)?;
        }
        Ok(replies)
    }
}

/// A part of an index.
struct Range {
    partition: Partition,
    after: Option<Bytes>,
    rows: usize,
}

impl Range {
    fn write(&self, scan: &Scan, key: Vec<u8>, request: &mut Pipeline) {
        let after = self.after.clone().map(Bound::Excluded);
        let (from, to) = match (after, scan.descending) {
            (None, _) => (scan.from.clone(), scan.to.clone()),
            (Some(after), false) => (after, scan.to.clone()),
            (Some(after), true) => (scan.from.clone(), after),
        };
        let (from, to) = (bound(&from, b"-"), bound(&to, b"+"));
        request.cmd("ZRANGE").arg(key);
        if scan.descending {
            request.arg(to).arg(from).arg("BYLEX").arg("REV");
        } else {
            request.arg(from).arg(to).arg("BYLEX");
        }
        request.arg("LIMIT").arg(0).arg(i64::try_from(self.rows).unwrap_or(i64::MAX));
    }
}

/// A pattern that matches this text alone.
fn glob(text: &[u8]) -> Vec<u8> {
    let escaped = |byte: &u8| match byte {
        b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-' => vec![b'\\', *byte],
        byte => vec![*byte],
    };
    text.iter().flat_map(escaped).collect()
}

/// How Redis writes the end of a range.
fn bound(bound: &Bound<Bytes>, unbounded: &[u8]) -> Vec<u8> {
    match bound {
        Bound::Included(member) => [b"[", &member[..]].concat(),
        Bound::Excluded(member) => [b"(", &member[..]].concat(),
        Bound::Unbounded => unbounded.to_vec(),
    }
}

/// Takes a stored record apart.
fn record(bytes: &Bytes) -> Result<Record, StoreError> {
    let number = |at: usize| {
        bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map(u64::from_be_bytes)
    };
    let (Some(revision), Some(visible_revision), Some(fencing_number)) =
        (number(0), number(8), number(16))
    else {
        return Err(StoreError::Damaged(format!("{} bytes are too few", bytes.len())));
    };
    Ok(Record { revision, visible_revision, fencing_number, value: bytes.slice(24..) })
}

const KEYS_AT_ONCE: usize = 500;
/// Keys that one call of SCAN looks at, some 0.2 ms in which Redis serves no one else.
const KEYS_LOOKED_AT: usize = 1_000;
const BODIES_AT_ONCE: usize = 8;
/// Rows beyond its share that are read from each partition: most pages then need no second request (measured).
const SPARE_ROWS: usize = 8;
