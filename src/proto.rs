//! The Rust of the definitions under `proto/`, written by the build.
#![expect(
    missing_docs,
    reason = "methods that prost generates carry no comments; messages and fields carry those of the definitions"
)]
#![expect(clippy::all, clippy::pedantic, clippy::allow_attributes, reason = "generated code")]

pub mod codec;
pub mod encoded;

/// What grpc.io defines.
pub mod grpc {
    /// Health checking.
    pub mod health {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("grpc.health.v1");
        }
    }
}

/// What Google's API definitions hold.
pub mod google {
    /// Annotations.
    pub mod api {
        tonic::include_proto!("google.api");
    }
    /// Well-known types that longhaul holds differently from `prost-types`.
    pub mod protobuf {
        use bytes::Bytes;

        /// A message of any type. The same on the wire as that of `prost-types`; a clone shares the payload.
        #[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
        pub struct Any {
            /// What type it is.
            #[prost(string, tag = "1")]
            pub type_url: String,
            /// The encoded message.
            #[prost(bytes = "bytes", tag = "2")]
            pub value: Bytes,
        }

        impl Any {
            /// Packs a message.
            pub fn from_msg<M: prost::Name>(message: &M) -> Self {
                Self { type_url: M::type_url(), value: message.encode_to_vec().into() }
            }
        }
    }
    /// The published Operations service.
    pub mod longrunning {
        tonic::include_proto!("google.longrunning");
    }
    /// Statuses and their details.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// What longhaul adds.
pub mod longhaul {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("longhaul.v1");
    }
    /// The stored form.
    pub mod store {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("longhaul.store.v1");
        }
    }
}

/// Every definition that reflection serves, as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/served.binpb"));

/// The same definitions as they were written, comments included: paths below the folder for protoc, and texts.
pub const SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The definition of the stored form, as an encoded `FileDescriptorSet`.
pub const STORED_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stored.binpb"));

/// The comments of those definitions: full names and texts, in the order of the names.
pub const COMMENTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/comments.rs"));
