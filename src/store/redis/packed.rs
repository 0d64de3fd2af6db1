//! MessagePack arrays of numbers and byte strings: a script reads one faster than many arguments, and we read one faster than
//! a reply of many parts.

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

/// An element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    Number(u64),
    String(&'a [u8]),
}

/// Reads an array; `None` if it is not one, or has elements of another type.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let (first, mut rest) = bytes.split_first()?;
    let count = match *first {
        short @ 0x90..=0x9f => u64::from(short & 0x0f),
        ARRAY_16 => number(&mut rest, 2)?,
        ARRAY => number(&mut rest, 4)?,
        _ => return None,
    };
    let elements: Option<Vec<_>> = (0..count).map(|_| element(&mut rest)).collect();
    elements.filter(|_| rest.is_empty())
}

fn element<'a>(rest: &mut &'a [u8]) -> Option<Element<'a>> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    let length = match *first {
        short @ 0..=0x7f => return Some(Element::Number(short.into())),
        width @ UINT_8..=UINT_64 => {
            return number(rest, 1 << (width - UINT_8)).map(Element::Number);
        }
        short @ FIXSTR..=0xbf => u64::from(short & 0x1f),
        width @ STR_8..=STR_32 => number(rest, 1 << (width - STR_8))?,
        _ => return None,
    };
    let (string, after) = rest.split_at_checked(length as usize)?;
    *rest = after;
    Some(Element::String(string))
}

/// A big-endian number of so many bytes.
fn number(rest: &mut &[u8], width: usize) -> Option<u64> {
    let (bytes, after) = rest.split_at_checked(width)?;
    *rest = after;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

const HEADER: usize = 5;
const ARRAY: u8 = 0xdd;
const FIXSTR: u8 = 0xa0;
const STR_8: u8 = 0xd9;
const STR_32: u8 = 0xdb;
const ARRAY_16: u8 = 0xdc;
const UINT_8: u8 = 0xcc;
const UINT_16: u8 = 0xcd;
const UINT_32: u8 = 0xce;
const UINT_64: u8 = 0xcf;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_reads_back_and_what_is_cut_off_does_not() {
        let numbers = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, u64::MAX];
        let strings = [0, 1, 31, 32, 255, 256, 70_000].map(|length| vec![7; length]);
        let mut packed = Packed::with_capacity(0);
        for number in numbers {
            packed.number(number);
        }
        let place = packed.later();
        for string in &strings {
            let (head, tail) = string.split_at(string.len() / 2);
            packed.string(&[head, tail]);
        }
        packed.set(place, packed.count());
        let bytes = packed.finish();

        let numbers = numbers.into_iter().chain([17]).map(Element::Number);
        let expected: Vec<_> =
            numbers.chain(strings.iter().map(|string| Element::String(string))).collect();
        assert_eq!(read(&bytes), Some(expected));
        for end in (0..200).chain([bytes.len() - 1]) {
            assert_eq!(read(&bytes[..end]), None, "{end}");
        }
        assert_eq!(read(&[0x91, 0xc0]), None);
        assert_eq!(read(&[0x91, 0xcd, 1, 2]), Some(vec![Element::Number(0x102)]));
        assert_eq!(read(&[0xdc, 0, 1, 0xda, 0, 1, 9]), Some(vec![Element::String(&[9])]));
    }
}
