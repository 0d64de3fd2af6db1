//! Conversions for `longhaul.v1.TypeSets`.

use super::fields::{Fingerprinter, own};
use super::operations::page_size;
use super::starts::{in_field, request_id};
use crate::engine::{
    Error, NewTypeSet, Result, ShownTypeSet, TypeSetDeletion, TypeSetPage, TypeSetQuery,
};
use crate::limits::MAX_TYPE_PARENT_PAIRS;
use crate::operation::name::{Id, Parent, ParentPattern, TypeSetName};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::TypeSetView;

/// Reads a create.
pub fn create(request: pb::CreateTypeSetRequest) -> Result<NewTypeSet> {
    let parent = Parent::parse(TypeSetName::parent_of_list(&request.parent));
    let parent = parent.map_err(in_field("parent"))?;
    if parent.pairs() > MAX_TYPE_PARENT_PAIRS {
        let message = format!(
            "parent has {} pairs of collection and id; type sets are kept for at most {MAX_TYPE_PARENT_PAIRS}",
            parent.pairs()
        );
        return Err(Error::field("parent", message).with("limit", MAX_TYPE_PARENT_PAIRS));
    }
    let id = match request.type_set_id.as_str() {
        "" => None,
        id => Some(Id::parse(id).map_err(in_field("type_set_id"))?),
    };
    let Some(set) = request.type_set else {
        return Err(Error::field("type_set", "type_set must be set"));
    };
    let (descriptors, request_id) = (own(set.file_descriptor_set), request_id(request.request_id)?);
    let mut fingerprint = Fingerprinter::default();
    fingerprint.part(&descriptors);
    let (fingerprint, validate_only) = (fingerprint.finish(), request.validate_only);
    Ok(NewTypeSet { parent, id, descriptors, request_id, fingerprint, validate_only })
}

/// Reads a get: of which set, and whether with its descriptors.
pub fn get(request: &pb::GetTypeSetRequest) -> Result<(TypeSetName, bool)> {
    Ok((name(&request.name)?, is_full(request.view, true)?))
}

/// Reads a list; the parent may name the collection.
pub fn list(request: pb::ListTypeSetsRequest) -> Result<TypeSetQuery> {
    let parent = ParentPattern::parse(TypeSetName::parent_of_list(&request.parent));
    Ok(TypeSetQuery {
        parent: parent.map_err(in_field("parent"))?,
        page_size: page_size(request.page_size)?,
        page_token: request.page_token,
        full: is_full(request.view, false)?,
    })
}

/// Reads a deletion.
pub fn delete(request: pb::DeleteTypeSetRequest) -> Result<TypeSetDeletion> {
    let pb::DeleteTypeSetRequest { etag, allow_missing, validate_only, .. } = request;
    Ok(TypeSetDeletion { name: name(&request.name)?, etag, allow_missing, validate_only })
}

/// A type set.
pub fn shown(shown: ShownTypeSet) -> pb::TypeSet {
    let ShownTypeSet { name, set, descriptors } = shown;
    pb::TypeSet {
        name: name.to_string(),
        file_descriptor_set: descriptors,
        uid: set.uid.to_string(),
        etag: set.etag(),
        create_time: Some(set.create_time.into()),
        file_count: set.files as i32,
        message_count: set.messages as i32,
        size_bytes: set.size as i64,
    }
}

/// A page of a list.
pub fn list_reply(page: TypeSetPage) -> pb::ListTypeSetsResponse {
    let type_sets = page.sets.into_iter().map(shown).collect();
    pb::ListTypeSetsResponse { type_sets, next_page_token: page.next_page_token }
}

fn name(text: &str) -> Result<TypeSetName> {
    TypeSetName::parse(text).map_err(|error| Box::<Error>::from(error).with("field", "name"))
}

fn is_full(view: i32, unset: bool) -> Result<bool> {
    match TypeSetView::try_from(view) {
        Ok(TypeSetView::Unspecified) => Ok(unset),
        Ok(TypeSetView::Basic) => Ok(false),
        Ok(TypeSetView::Full) => Ok(true),
        Err(_) => {
            let message = format!("view is {view}; TYPE_SET_VIEW_BASIC is 1, TYPE_SET_VIEW_FULL 2");
            Err(Error::field("view", message))
        }
    }
}
