//! The known message types, and payloads decoded by them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorError, DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, Value,
};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::limits::{
    MAX_DESCRIPTOR_SET_BYTES, MAX_MESSAGE_DEPTH, MAX_PAYLOAD_BYTES, MAX_TYPE_SET_DEPTH,
    MAX_TYPE_SET_FILES,
};
use crate::operation::payload::type_name;
use crate::proto::DESCRIPTORS;
use crate::proto::google::protobuf::Any;

/// The types that are known: the well-known ones, google.rpc, ours, and those of further descriptor sets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    pool: DescriptorPool,
    /// The files that are not built in, by their paths, as they came.
    added: Arc<BTreeMap<String, Bytes>>,
}

/// Why a descriptor set is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSet {
    /// Its size.
    #[error(
        "the descriptor set has {bytes} bytes; the most are {most}: leave out files that no payload needs"
    )]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most.
        most: usize,
    },
    /// The number of its files.
    #[error(
        "the descriptor set has {0} files; the most are {MAX_TYPE_SET_FILES}: leave out files that no payload needs"
    )]
    TooManyFiles(usize),
    /// Messages that are defined within messages, too many of them.
    #[error(
        "{0} defines messages within messages, more than {MAX_TYPE_SET_DEPTH} deep; define them beside each other"
    )]
    TooDeep(String),
    /// It has nothing in it.
    #[error(
        "the descriptor set has no files; make one with protoc --include_imports --descriptor_set_out=FILE"
    )]
    Empty,
    /// Its bytes.
    #[error(
        "this is not a serialized google.protobuf.FileDescriptorSet ({0}); make one with protoc --include_imports --descriptor_set_out=FILE"
    )]
    NoSet(String),
    /// A file without a name.
    #[error("a file of the descriptor set has no name")]
    Unnamed,
    /// A file in a package whose types are built in.
    #[error(
        "{file} defines types in the package {package}, which is built in; give it a package of its own"
    )]
    Reserved {
        /// The file.
        file: String,
        /// Its package.
        package: String,
    },
    /// The same file with other content.
    #[error(
        "{file} is known already with other content; {name} differs: load one version of it, or give the other a path and a package of its own"
    )]
    Conflict {
        /// The file.
        file: String,
        /// The first definition that differs.
        name: String,
    },
    /// A file in a language that is not known.
    #[error("{file} is written in {syntax:?}; only proto2 and proto3 are known")]
    Syntax {
        /// The file.
        file: String,
        /// The syntax that it names.
        syntax: String,
    },
    /// A name that is defined twice, or one that is missing.
    #[error(
        "the definitions do not fit together: {0}; include every imported file (protoc --include_imports), each under the path that others import it by"
    )]
    Unresolved(String),
}

/// Why a payload cannot be looked into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecoded {
    /// Its type is not known here.
    #[error("the type {0} is not known")]
    UnknownType(String),
    /// It is too large.
    #[error("the payload has {0} bytes; the most that are decoded are {MAX_PAYLOAD_BYTES}")]
    TooLarge(usize),
    /// Its bytes are no message of its type.
    #[error("the payload is not a {0}")]
    Malformed(String),
    /// Messages within messages, too many of them.
    #[error("the payload holds messages within messages, more than {MAX_MESSAGE_DEPTH} deep")]
    TooDeep,
}

impl Registry {
    /// What every longhaul knows.
    pub fn builtin() -> Self {
        BUILTIN.clone()
    }

    /// A registry that knows the types of a serialized `FileDescriptorSet` besides its own. A file that is built in, such as
    /// `google/rpc/status.proto`, is taken as it is built in.
    ///
    /// # Errors
    /// Says which definition is in the way.
    pub fn with(&self, set: &[u8]) -> Result<Self, BadSet> {
        if set.len() > MAX_DESCRIPTOR_SET_BYTES {
            return Err(BadSet::TooLarge { bytes: set.len(), most: MAX_DESCRIPTOR_SET_BYTES });
        }
        let no_set = |error: prost::DecodeError| BadSet::NoSet(error.to_string());
        let decoded = FileDescriptorSet::decode(set).map_err(no_set)?;
        let encoded = EncodedSet::decode(set).map_err(no_set)?;
        let (mut added, mut new) = (BTreeMap::clone(&self.added), EncodedSet::default());
        for (file, bytes) in decoded.file.iter().zip(encoded.files) {
            if admits(&added, file)? {
                added.insert(file.name().to_owned(), bytes.clone());
                new.files.push(bytes);
            }
        }
        Ok(Self { pool: joined(&self.pool, &new)?, added: Arc::new(added) })
    }

    /// The descriptor of a message, by its full name.
    pub fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(name)
    }

    /// Full names of all messages, for those who look for one of a similar name.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.pool.all_messages().map(|message| message.full_name().to_owned())
    }

    /// Decodes a payload of bounded size and depth.
    ///
    /// # Errors
    /// Says why its content cannot be read.
    pub fn decode(&self, any: &Any) -> Result<DynamicMessage, Undecoded> {
        if any.value.len() > MAX_PAYLOAD_BYTES {
            return Err(Undecoded::TooLarge(any.value.len()));
        }
        self.decoded(type_name(&any.type_url), &any.value)
    }

    /// Decodes a message that lies within one that [`Self::decode`] has decoded.
    ///
    /// # Errors
    /// Says why its content cannot be read.
    pub fn decode_within(&self, any: &Any) -> Result<DynamicMessage, Undecoded> {
        self.shallow(type_name(&any.type_url), &any.value)
    }

    pub(super) fn decoded(&self, name: &str, bytes: &[u8]) -> Result<DynamicMessage, Undecoded> {
        let message = self.shallow(name, bytes)?;
        self.check_depth(&message, MAX_MESSAGE_DEPTH)?;
        Ok(message)
    }

    /// The files that are not built in, as a serialized `FileDescriptorSet`.
    pub fn added_set(&self) -> Vec<u8> {
        EncodedSet { files: self.added.values().cloned().collect() }.encode_to_vec()
    }

    /// Whether it was made of the same sets as `other`, and not only of equal ones.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.added, &other.added)
    }

    /// A number that no registry of other sets has while this one or a clone of it lives.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.added).addr()
    }

    /// Full names of the services that longhaul itself defines.
    pub fn builtin_services() -> Vec<String> {
        BUILTIN.pool.services().map(|service| service.full_name().to_owned()).collect()
    }

    fn shallow(&self, name: &str, bytes: &[u8]) -> Result<DynamicMessage, Undecoded> {
        let descriptor =
            self.message(name).ok_or_else(|| Undecoded::UnknownType(name.to_owned()))?;
        DynamicMessage::decode(descriptor, bytes).map_err(|_| Undecoded::Malformed(name.to_owned()))
    }

    /// The decoder bounds the depth of one message, but each `Any` begins a new one.
    fn check_depth(&self, message: &DynamicMessage, left: usize) -> Result<(), Undecoded> {
        let left = left.checked_sub(1).ok_or(Undecoded::TooDeep)?;
        if message.descriptor().full_name() == "google.protobuf.Any" {
            let Ok(any) = message.transcode_to::<Any>() else { return Ok(()) };
            let Some(descriptor) = self.message(type_name(&any.type_url)) else { return Ok(()) };
            return match DynamicMessage::decode(descriptor, &any.value[..]) {
                Ok(inner) => self.check_depth(&inner, left),
                Err(_) => Ok(()),
            };
        }
        message.fields().try_for_each(|(_, value)| self.check_value(value, left))
    }

    fn check_value(&self, value: &Value, left: usize) -> Result<(), Undecoded> {
        match value {
            Value::Message(message) => self.check_depth(message, left),
            Value::List(values) => {
                values.iter().try_for_each(|value| self.check_value(value, left))
            }
            Value::Map(values) => {
                values.values().try_for_each(|value| self.check_value(value, left))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a file adds something to those that are known.
fn admits(added: &BTreeMap<String, Bytes>, file: &FileDescriptorProto) -> Result<bool, BadSet> {
    let (name, package) = (file.name(), file.package());
    if name.is_empty() {
        return Err(BadSet::Unnamed);
    }
    if BUILTIN.pool.get_file_by_name(name).is_some() {
        return Ok(false);
    }
    if !["", "proto2", "proto3"].contains(&file.syntax()) {
        return Err(BadSet::Syntax { file: name.to_owned(), syntax: file.syntax().to_owned() });
    }
    if RESERVED.contains(&package) || package.starts_with("longhaul.") {
        return Err(BadSet::Reserved { file: name.to_owned(), package: package.to_owned() });
    }
    let Some(known) = added.get(name) else { return Ok(true) };
    let known = FileDescriptorProto::decode(&known[..]).unwrap_or_default();
    match difference(&known, file) {
        None => Ok(false),
        Some(differing) => Err(BadSet::Conflict { file: name.to_owned(), name: differing }),
    }
}

/// The pool with these files.
fn joined(pool: &DescriptorPool, new: &EncodedSet) -> Result<DescriptorPool, BadSet> {
    let mut pool = pool.clone();
    // prost-reflect panics at some definitions that no compiler makes; the pool is dropped then.
    let joining = AssertUnwindSafe(|| {
        pool.decode_file_descriptor_set(&new.encode_to_vec()[..])?;
        Ok(pool)
    });
    match catch_unwind(joining) {
        Ok(joined) => {
            joined.map_err(|error: DescriptorError| BadSet::Unresolved(error.to_string()))
        }
        Err(_) => Err(BadSet::Unresolved("no compiler made them".to_owned())),
    }
}

/// A descriptor set whose files are left as they are: decoding them would lose options that are extensions.
#[derive(Clone, PartialEq, Message)]
struct EncodedSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

/// The first definition that differs; comments and positions do not count.
fn difference(one: &FileDescriptorProto, other: &FileDescriptorProto) -> Option<String> {
    let bare =
        |file: &FileDescriptorProto| FileDescriptorProto { source_code_info: None, ..file.clone() };
    let (one, other) = (bare(one), bare(other));
    if one == other {
        return None;
    }
    let messages =
        first_difference(&one.message_type, &other.message_type, |message| message.name());
    let enums = || first_difference(&one.enum_type, &other.enum_type, |one| one.name());
    let name = messages.or_else(enums);
    Some(name.map_or_else(
        || "its package, an import or an option".to_owned(),
        |name| {
            if other.package().is_empty() { name } else { format!("{}.{name}", other.package()) }
        },
    ))
}

fn first_difference<T: PartialEq>(
    one: &[T],
    other: &[T],
    name: impl Fn(&T) -> &str,
) -> Option<String> {
    let mut paired = one.iter().zip(other);
    let differing = paired.find(|(one, other)| one != other).map(|(_, other)| other);
    let extra = || one.get(other.len()).or_else(|| other.get(one.len()));
    differing.or_else(extra).map(|found| name(found).to_owned())
}

static BUILTIN: LazyLock<Registry> = LazyLock::new(|| Registry {
    pool: DescriptorPool::decode(DESCRIPTORS).expect("build.rs has compiled these definitions"),
    added: Arc::default(),
});

/// Packages whose types are built in, beside `longhaul.*`.
const RESERVED: [&str; 4] = ["google.protobuf", "google.rpc", "google.longrunning", "longhaul"];
