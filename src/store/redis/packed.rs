//! A MessagePack array of numbers and byte strings, which a script reads faster than arguments of its own.

/// The array so far.
pub(super) struct Packed {
    bytes: Vec<u8>,
    count: u32,
}

impl Packed {
    /// An empty array.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut packed = Vec::with_capacity(HEADER + bytes);
        packed.extend([ARRAY, 0, 0, 0, 0]);
        Self { bytes: packed, count: 0 }
    }

    /// How many elements it has.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: u64) {
        match number {
            0..0x80 => self.bytes.push(number as u8),
            0x80..0x1_0000 => {
                self.bytes.push(UINT_16);
                self.bytes.extend((number as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(UINT_64);
                self.bytes.extend(number.to_be_bytes());
            }
        }
        self.count += 1;
    }

    /// Adds a number that [`Self::set`] fills in. Returns where.
    pub(super) fn later(&mut self) -> usize {
        self.bytes.extend([UINT_32, 0, 0, 0, 0]);
        self.count += 1;
        self.bytes.len() - 4
    }

    /// Fills in a number.
    pub(super) fn set(&mut self, place: usize, number: u32) {
        self.bytes[place..place + 4].copy_from_slice(&number.to_be_bytes());
    }

    /// Adds a byte string made of these parts.
    pub(super) fn string(&mut self, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        match length {
            0..0x20 => self.bytes.push(FIXSTR | length as u8),
            0x20..0x100 => self.bytes.extend([STR_8, length as u8]),
            _ => {
                self.bytes.push(STR_32);
                self.bytes.extend((length as u32).to_be_bytes());
            }
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.count += 1;
    }

    /// The whole array.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[1..HEADER].copy_from_slice(&self.count.to_be_bytes());
        self.bytes
    }
}

const HEADER: usize = 5;
const ARRAY: u8 = 0xdd;
const FIXSTR: u8 = 0xa0;
const STR_8: u8 = 0xd9;
const STR_32: u8 = 0xdb;
const UINT_16: u8 = 0xcd;
const UINT_32: u8 = 0xce;
const UINT_64: u8 = 0xcf;
