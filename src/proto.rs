//! The Rust of the definitions under `proto/`, written by the build.
#![expect(
    missing_docs,
    reason = "methods that prost generates carry no comments; messages and fields carry those of the definitions"
)]
#![expect(clippy::all, clippy::pedantic, clippy::allow_attributes, reason = "generated code")]

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
