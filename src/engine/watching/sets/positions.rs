//! How far a watch has come in the hints of each partition: the content of a resume token.

use crate::store::Hint;

/// The last hint of a partition that counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Position {
    /// Its sequence.
    pub(super) sequence: u64,
    /// The low bits of its revision, which tell it from another hint of that sequence after a failover; 0 if not known.
    pub(super) check: u32,
}

/// One position for each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Positions(pub(super) Vec<Position>);

impl Position {
    pub(super) const fn of(hint: &Hint) -> Self {
        Self { sequence: hint.sequence, check: hint.revision as u32 }
    }

    /// Whether both can be the same hint.
    pub(super) const fn agrees(self, hint: Self) -> bool {
        self.check == 0 || hint.check == 0 || self.check == hint.check
    }
}

impl Positions {
    /// The bytes of a token.
    pub(in crate::engine) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for position in &self.0 {
            bytes.extend(position.sequence.to_be_bytes());
            bytes.extend(position.check.to_be_bytes());
        }
        bytes
    }

    /// Reads them; `None` if another version wrote them.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Option<Self> {
        let (_, rest) = bytes.split_first().filter(|(version, _)| **version == VERSION)?;
        let positions = rest.chunks(LENGTH).map(|bytes| {
            let (sequence, check) = bytes.split_first_chunk()?;
            let check = u32::from_be_bytes(check.try_into().ok()?);
            Some(Position { sequence: u64::from_be_bytes(*sequence), check })
        });
        positions.collect::<Option<Vec<_>>>().map(Self)
    }
}

const VERSION: u8 = 1;
const LENGTH: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_and_other_bytes_do_not() {
        let positions =
            Positions(vec![Position { sequence: 1 << 40, check: 7 }, Position::default()]);
        let bytes = positions.encode();
        assert_eq!(Positions::decode(&bytes), Some(positions));
        for wrong in [&[][..], &[2], &bytes[..bytes.len() - 1]] {
            assert_eq!(Positions::decode(wrong), None);
        }
    }
}
