//! Random bytes as stored records: they are read or refused.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::any::AnyRecord;
use super::note::Note;
use crate::clock::Timestamp;
use crate::store::{Key, Keyspace, Record};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn any_bytes_are_a_record_or_refused(noise in vec(any::<u8>(), 0..300)) {
        read(&Bytes::from(noise.clone()));
        // A known kind around them.
        for kind in 1..16_u8 {
            let mut value = vec![kind << 3 | 2, (noise.len() % 128) as u8];
            value.extend(&noise[..noise.len() % 128]);
            read(&value.into());
        }
        Note::decode(&noise);
        drop(Keyspace::decode("a test", &noise));
    }

    #[test]
    fn any_damage_to_a_stored_record_is_noticed_or_harmless(
        file in any::<prop::sample::Index>(),
        places in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let files = super::golden::values();
        let mut value = files[file.index(files.len())].clone();
        for (place, byte) in places {
            let place = place.index(value.len());
            value[place] = byte;
        }
        read(&value.clone().into());
        value.truncate(cut.index(value.len()));
        read(&value.into());
    }
}

fn read(value: &Bytes) {
    let (keyspace, key) = (Keyspace::generate(1), Key::from_bytes([1; 16]));
    let record =
        Record { revision: 1, visible_revision: 1, fencing_number: 0, value: value.clone() };
    if let Ok(record) = AnyRecord::read_at(&keyspace, key, &record) {
        record.derived(key);
    }
    if let Ok(before) = super::reading::read::<crate::operation::Record>(&record) {
        super::kind::Derived::of(&before.record, key);
    }
    drop(super::operation::glance(&record, || Timestamp::EPOCH));
}
