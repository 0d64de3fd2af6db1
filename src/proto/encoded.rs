//! Messages that are encoded already.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, skip_field};

/// A message in two encoded parts, which readers merge: one that several receivers share, and one of this receiver's own.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The part that is encoded once for all receivers.
    pub shared: Bytes,
    /// The part that differs between them.
    pub own: Bytes,
}

impl prost::Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.shared);
        buffer.put_slice(&self.own);
    }

    fn encoded_len(&self) -> usize {
        self.shared.len() + self.own.len()
    }

    /// It is only ever sent.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buffer, context)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
