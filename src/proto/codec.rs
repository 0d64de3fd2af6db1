//! How the services write their messages.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Protobuf, with a smaller buffer than `tonic_prost`: an idle watcher holds its own for as long as it watches.
#[derive(Clone, Debug)]
pub struct ServiceCodec<T, U>(PhantomData<(T, U)>);

/// The encoder of [`ServiceCodec`].
#[derive(Clone, Debug)]
pub struct ServiceEncoder<T>(PhantomData<T>);

impl<T, U> Default for ServiceCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ServiceCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ServiceEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ServiceEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::default())
    }
}

impl<T: Message> Encoder for ServiceEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // All at once, since a buffer that grows while it is written is copied several times.
        buffer.reserve(item.encoded_len());
        item.encode_raw(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, FRAME_BYTES)
    }
}

/// Most messages and their heads, of one event or one operation.
const BUFFER_BYTES: usize = 1 << 10;
/// A stream gathers up to so many bytes of messages that are ready before it sends them, as `tonic_prost` does.
const FRAME_BYTES: usize = 32 << 10;
