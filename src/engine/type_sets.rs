//! Type sets: create, get, delete.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::access::Caller;
use super::context::Context;
use super::error::{Error, Reason, Result};
use super::parent_types::ParentTypes;
use super::reading::reader::Reader;
use super::transact::{Assumed, Decision, Ended, Transaction, Transactor};
use crate::clock::Timestamp;
use crate::limits::{MAX_TYPE_SETS, MAX_TYPE_SETS_BYTES};
use crate::operation::lease::Fingerprint;
use crate::operation::name::{Id, Parent, TypeSetName};
use crate::record::type_sets::{Content, TypeSet, TypeSets};
use crate::record::{Before, Change};
use crate::store::{BodyKey, CommitError, Key};
use crate::types::{BadSet, Registry, SetSummary};

/// A type set to create.
#[derive(Clone, Debug)]
pub struct NewTypeSet {
    /// The parent.
    pub parent: Parent,
    /// The id within the parent; without one it gets a UUID.
    pub id: Option<Id>,
    /// The descriptors.
    pub descriptors: Bytes,
    /// What tells a repeated request; empty without one.
    pub request_id: String,
    /// A hash of the request.
    pub fingerprint: Fingerprint,
    /// Only check it.
    pub validate_only: bool,
}

/// A type set as callers get it.
#[derive(Clone, Debug)]
pub struct ShownTypeSet {
    /// The full name.
    pub name: TypeSetName,
    /// The set.
    pub set: TypeSet,
    /// The descriptors, in the full view.
    pub descriptors: Bytes,
}

/// Which type set to delete, and how.
#[derive(Clone, Debug)]
pub struct TypeSetDeletion {
    /// The set.
    pub name: TypeSetName,
    /// Only if it has this etag; an empty one fits all.
    pub etag: String,
    /// It is no error if there is none.
    pub allow_missing: bool,
    /// Only check it.
    pub validate_only: bool,
}

/// Creates, reads and deletes type sets.
pub(super) struct TypeSetCalls {
    pub(super) context: Arc<Context>,
    pub(super) reader: Arc<Reader>,
    types: Arc<ParentTypes>,
    transactor: Transactor<ParentTypes>,
}

impl TypeSetCalls {
    pub(super) fn new(context: Arc<Context>, reader: Arc<Reader>, types: Arc<ParentTypes>) -> Self {
        let transactor = Transactor::new(context.clone(), reader.clone(), types.clone());
        Self { context, reader, types, transactor }
    }

    /// Creates a type set, or finds the one that the same request created before.
    pub(super) async fn create(&self, caller: &Caller, new: NewTypeSet) -> Result<ShownTypeSet> {
        let name = TypeSetName { parent: new.parent.clone(), id: self.id(caller, &new) };
        let key = self.key(&name.parent);
        let uid = Uuid::new_v4();
        for _ in 0..TRIES {
            let before = self.read(&name.parent).await?;
            let record = before.as_ref().map(|before| &before.record);
            if let Some(found) = record.and_then(|record| record.find(&name.id)) {
                return recognise(&name, found, &new);
            }
            let Some(summary) = self.check(&name, key, record, &new.descriptors).await? else {
                continue;
            };
            let set = TypeSet {
                id: name.id.clone(),
                uid,
                create_time: self.context.now(key),
                content: Content::Here(new.descriptors.clone()),
                size: new.descriptors.len(),
                files: summary.files,
                messages: summary.messages,
                request_id: new.request_id.clone(),
                fingerprint: new.fingerprint,
            };
            if new.validate_only || self.add(&name, key, before, &set).await? {
                return Ok(ShownTypeSet { name, set, descriptors: Bytes::new() });
            }
        }
        Err(busy(&name.parent))
    }

    /// A type set with its descriptors.
    pub(super) async fn get(&self, name: &TypeSetName, full: bool) -> Result<ShownTypeSet> {
        for _ in 0..TRIES {
            let before = self.read(&name.parent).await?;
            let set = before.as_ref().and_then(|before| before.record.find(&name.id));
            let set = set.ok_or_else(|| not_found(name))?;
            if let Some(shown) = self.shown(name.clone(), set, full).await? {
                return Ok(shown);
            }
        }
        Err(busy(&name.parent))
    }

    /// Deletes a type set.
    pub(super) async fn delete(&self, wanted: &TypeSetDeletion) -> Result<()> {
        let name = &wanted.name;
        let mut remove = Remove { key: self.key(&name.parent), wanted, refusal: None };
        if wanted.validate_only {
            let before = self.read(&name.parent).await?;
            remove.refusal = remove.after(before.as_ref()).err().flatten();
        } else {
            let ended = self.transactor.transact_one(&mut remove).await;
            check_end(&name.parent, ended)?;
        }
        remove.refusal.map_or(Ok(()), Err)
    }

    /// A set with its descriptors if they are wanted; `None` if they are gone.
    pub(super) async fn shown(
        &self,
        name: TypeSetName,
        set: &TypeSet,
        full: bool,
    ) -> Result<Option<ShownTypeSet>> {
        let mut descriptors = Bytes::new();
        if full {
            let body: Vec<BodyKey> = set.body(self.key(&name.parent)).into_iter().collect();
            let Some(found) = self.types.contents(&body).await? else { return Ok(None) };
            descriptors = found.into_iter().next().unwrap_or_default();
        }
        Ok(Some(ShownTypeSet { name, set: set.clone(), descriptors }))
    }

    /// Whether a set fits with what is known and with the other sets of its parent; `None` if these change meanwhile.
    async fn check(
        &self,
        name: &TypeSetName,
        key: Key,
        record: Option<&TypeSets>,
        descriptors: &Bytes,
    ) -> Result<Option<SetSummary>> {
        let others = record.map(|record| &record.sets[..]).unwrap_or_default();
        check_room(&name.parent, others, descriptors.len())?;
        let bodies: Vec<BodyKey> = others.iter().filter_map(|set| set.body(key)).collect();
        let Some(contents) = self.types.contents(&bodies).await? else { return Ok(None) };
        let names: Vec<String> = record
            .map(|record| record.sets.iter().map(|set| record.name_of(set).to_string()).collect())
            .unwrap_or_default();
        let (own, new) = (self.types.own().clone(), descriptors.clone());
        let others = names.into_iter().zip(contents).collect();
        let checked = tokio::task::spawn_blocking(move || summary(&own, others, &new));
        checked.await.map_err(|error| Error::internal(&error))?.map(Some)
    }

    /// Adds a set to the record that it was checked against; `false` if that has changed.
    async fn add(
        &self,
        name: &TypeSetName,
        key: Key,
        before: Option<Before<TypeSets>>,
        set: &TypeSet,
    ) -> Result<bool> {
        let checked = before.as_ref().map(|before| before.stamps.revision);
        let parent = name.parent.clone();
        let mut add = Add { key, before, checked, parent, set, outdated: false };
        let ended = self.transactor.transact_one(&mut add).await;
        if matches!(ended, Ended::Failed(CommitError::Conflict)) {
            return Ok(false);
        }
        check_end(&name.parent, ended)?;
        Ok(!add.outdated)
    }

    pub(super) async fn read(&self, parent: &Parent) -> Result<Option<Before<TypeSets>>> {
        let found = self.reader.read_each::<TypeSets>(&[self.key(parent)]).await?.pop();
        found.map_or(Ok(None), |found| found.map_err(|_| unreadable(parent)))
    }

    fn key(&self, parent: &Parent) -> Key {
        TypeSets::key(self.context.store.keyspace(), parent.as_str())
    }

    /// The id that was given, one that follows from the request id, or a new one.
    fn id(&self, caller: &Caller, new: &NewTypeSet) -> Id {
        let keyspace = self.context.store.keyspace();
        match &new.id {
            Some(id) => id.clone(),
            None if new.request_id.is_empty() => Id::from_uuid(Uuid::new_v4()),
            None => {
                let seed = [&caller.id, new.parent.as_str(), &new.request_id].join("\0");
                let bytes = keyspace.hash("type set request id", seed.as_bytes());
                Id::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
            }
        }
    }
}

/// Adds a set to the sets of its parent.
struct Add<'a> {
    key: Key,
    /// The record that the set was checked against, and its revision.
    before: Option<Before<TypeSets>>,
    checked: Option<u64>,
    parent: Parent,
    set: &'a TypeSet,
    /// The record is another now.
    outdated: bool,
}

impl Transaction for Add<'_> {
    type Kind = TypeSets;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<TypeSets> {
        self.before.take().map_or(Assumed::Absent, Assumed::Read)
    }

    fn decide(
        &mut self,
        before: Option<&Before<TypeSets>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<TypeSets> {
        let record = before.map(|before| &before.record);
        let found = record.and_then(|record| record.find(&self.set.id));
        if found.is_some_and(|found| found.uid == self.set.uid) {
            return Decision::Keep;
        }
        self.outdated = before.map(|before| before.stamps.revision) != self.checked;
        if self.outdated {
            return Decision::Keep;
        }
        let empty = || TypeSets { parent: self.parent.clone(), sets: Vec::new() };
        let after = record.cloned().unwrap_or_else(empty).with(self.set.clone());
        Decision::Commit(Box::new(Change { visible: true, ..Change::of(Some(after)) }))
    }

    fn competes(&self) -> bool {
        false
    }
}

/// Removes a set from the sets of its parent.
struct Remove<'a> {
    key: Key,
    wanted: &'a TypeSetDeletion,
    refusal: Option<Box<Error>>,
}

impl Remove<'_> {
    /// What is left then, or why nothing is deleted; it need not be an error that there is no such set.
    fn after(
        &self,
        before: Option<&Before<TypeSets>>,
    ) -> std::result::Result<Option<TypeSets>, Option<Box<Error>>> {
        let TypeSetDeletion { name, etag, allow_missing, .. } = self.wanted;
        let record = before.map(|before| &before.record);
        let found = record.and_then(|record| Some((record, record.find(&name.id)?)));
        let Some((record, set)) = found else {
            return Err((!allow_missing).then(|| not_found(name)));
        };
        if !etag.is_empty() && *etag != set.etag() {
            return Err(Some(changed(name, set)));
        }
        Ok(record.clone().without(&name.id))
    }
}

impl Transaction for Remove<'_> {
    type Kind = TypeSets;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<TypeSets>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<TypeSets> {
        match self.after(before) {
            Err(refusal) => {
                self.refusal = refusal;
                Decision::Keep
            }
            Ok(left) => {
                self.refusal = None;
                Decision::Commit(Box::new(Change { visible: true, ..Change::of(left) }))
            }
        }
    }

    fn recognises_itself(&self) -> bool {
        false
    }
}

/// The set that has the name already, if an earlier request of the same id created it.
fn recognise(name: &TypeSetName, found: &TypeSet, new: &NewTypeSet) -> Result<ShownTypeSet> {
    if new.request_id.is_empty() || found.request_id != new.request_id {
        let message = format!(
            "{name} exists already; choose another type_set_id, or send the request_id that it was created with"
        );
        return Err(about(Reason::TypeSetAlreadyExists, name, message));
    }
    if found.fingerprint != new.fingerprint {
        let message = format!(
            "request_id {:?} created {name} with other content before; use a new request_id",
            new.request_id
        );
        return Err(about(Reason::RequestIdReused, name, message).with("field", "request_id"));
    }
    Ok(ShownTypeSet { name: name.clone(), set: found.clone(), descriptors: Bytes::new() })
}

fn check_room(parent: &Parent, others: &[TypeSet], size: usize) -> Result<()> {
    let place = place(parent);
    if others.len() >= MAX_TYPE_SETS {
        let message =
            format!("{place} has {MAX_TYPE_SETS} type sets, which are the most; delete one");
        return Err(Error::new(Reason::LimitExceeded, message).with("limit", MAX_TYPE_SETS));
    }
    let bytes = others.iter().map(|set| set.size).sum::<usize>() + size;
    if bytes > MAX_TYPE_SETS_BYTES {
        let message = format!(
            "the type sets of {place} would have {bytes} bytes together; the most are {MAX_TYPE_SETS_BYTES}: delete one, or leave out files that no payload needs"
        );
        return Err(Error::new(Reason::LimitExceeded, message).with("limit", MAX_TYPE_SETS_BYTES));
    }
    Ok(())
}

/// What a set holds, if it fits with the other sets, which have these names.
fn summary(own: &Registry, others: Vec<(String, Bytes)>, new: &Bytes) -> Result<SetSummary> {
    let summary = SetSummary::of(new).map_err(|bad| refused(&bad))?;
    let alone = own.with(new).map_err(|bad| refused(&bad))?;
    for (name, other) in others {
        // A set that is there is not in the way unless it is known itself.
        if let (Ok(_), Err(bad)) = (own.with(&other), alone.with(&other)) {
            let message = format!("type_set does not fit with {name}: {bad}");
            return Err(Error::field(FIELD, message).with("typeSet", name));
        }
    }
    Ok(summary)
}

fn refused(bad: &BadSet) -> Box<Error> {
    Error::field(FIELD, format!("type_set is refused: {bad}"))
}

fn check_end(parent: &Parent, ended: Ended<TypeSets>) -> Result<()> {
    match ended {
        Ended::Failed(CommitError::Unavailable(error)) => Err(error.into()),
        Ended::Failed(_) | Ended::Unknown => Err(busy(parent)),
        Ended::Unreadable(_) => Err(unreadable(parent)),
        Ended::Written { .. } | Ended::Kept { .. } => Ok(()),
    }
}

fn not_found(name: &TypeSetName) -> Box<Error> {
    about(Reason::TypeSetNotFound, name, format!("there is no type set {name}"))
}

fn changed(name: &TypeSetName, set: &TypeSet) -> Box<Error> {
    let message = format!("{name} is another type set now; read it, then decide again");
    about(Reason::EtagMismatch, name, message).with("etag", set.etag())
}

fn about(reason: Reason, name: &TypeSetName, message: String) -> Box<Error> {
    Error::on(reason, name.to_string(), message)
}

fn busy(parent: &Parent) -> Box<Error> {
    Error::busy(&format!("the list of type sets of {}", place(parent)))
}

fn unreadable(parent: &Parent) -> Box<Error> {
    let place = place(parent);
    let message =
        format!("the type sets of {place} cannot be read; the server's log has the cause");
    Error::new(Reason::Internal, message)
}

fn place(parent: &Parent) -> &str {
    if parent.as_str().is_empty() { "the root" } else { parent.as_str() }
}

const FIELD: &str = "type_set.file_descriptor_set";
/// How often a call reads again what has changed meanwhile.
const TRIES: usize = 10;
