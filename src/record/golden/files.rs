//! The golden files.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use uuid::Uuid;

use super::jobs;
use super::outbox;
use super::records::records;
use super::values::{
    STAMPS, bare_server, endpoint, endpoint_with_pair, gates, queue, server, token, type_sets,
};
use crate::record::kind::Kind;
use crate::store::{Keyspace, Record as Stored};

/// The names of all files, without their ending.
pub(super) fn found() -> BTreeSet<String> {
    LazyLock::force(&WRITTEN);
    let files = fs::read_dir(folder()).expect("the folder of golden files");
    let name = |file: std::io::Result<fs::DirEntry>| {
        file.expect("a file").file_name().into_string().expect("a plain name")
    };
    files.map(name).map(|file| file.trim_end_matches(".bin").to_owned()).collect()
}

/// The record of a golden file, as a store returns it.
pub(super) fn stored(file: &str) -> Stored {
    Stored {
        revision: STAMPS.revision,
        visible_revision: STAMPS.visible,
        fencing_number: STAMPS.fencing,
        value: Bytes::from(golden(file)),
    }
}

/// The stored values of all golden records of operations.
pub(in crate::record) fn values() -> Vec<Vec<u8>> {
    records().into_iter().map(|(file, _)| golden(file)).collect()
}

/// The bytes of a golden file.
pub(super) fn golden(file: &str) -> Vec<u8> {
    LazyLock::force(&WRITTEN);
    let path = path(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes the missing files on request; once, before any test reads.
static WRITTEN: LazyLock<()> = LazyLock::new(|| {
    if std::env::var_os("LONGHAUL_WRITE_GOLDEN").is_none() {
        return;
    }
    fs::create_dir_all(folder()).expect("the folder of golden files");
    let root = Keyspace::new(Uuid::from_u128(ID), 3, SECRET).encode();
    let values = records().into_iter().map(|(file, record)| (file, record.encode().to_vec()));
    let served = server().encode().to_vec();
    let server = bare_server().encode().to_vec();
    let sets = type_sets().encode().to_vec();
    let gates = gates().into_iter().map(|(file, gate)| (file, gate.encode().to_vec()));
    let values = values.chain(gates);
    let jobs = jobs::values().into_iter().map(|(file, value)| (file, value.to_vec()));
    let values = values.chain(jobs).chain(outbox::written());
    let queue = queue().encode().to_vec();
    let endpoint = endpoint().encode().to_vec();
    let token = token().encode().to_vec();
    let others = [
        (ROOT, root),
        (SERVER, server),
        (TYPE_SETS, sets),
        (QUEUE, queue),
        (SERVING, served),
        (TOKEN, token),
        (ENDPOINT, endpoint),
        (ENDPOINT_WITH_PAIR, endpoint_with_pair().encode().to_vec()),
    ];
    for (file, value) in values.chain(others) {
        if !path(file).exists() {
            fs::write(path(file), value).expect("a golden file written");
        }
    }
});

fn path(file: &str) -> PathBuf {
    folder().join(file).with_extension("bin")
}

pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

pub(super) const QUEUE: &str = "queue";
pub(super) const ROOT: &str = "root";
pub(super) const SERVER: &str = "server";
pub(super) const SERVING: &str = "server-serving";
pub(super) const TYPE_SETS: &str = "type-sets";
pub(super) const TOKEN: &str = "token";
pub(super) const ENDPOINT: &str = "endpoint";
pub(super) const ENDPOINT_WITH_PAIR: &str = "endpoint-with-pair";
pub(super) const ID: u128 = 0x3132_3334_3536_3738_393a_3b3c_3d3e_3f40;
const SECRET: [u8; 32] = [0x5a; 32];
