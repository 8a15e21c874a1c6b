//! Length-delimited frames: a big-endian `u32` byte count, then that many bytes of protobuf.
//!
//! Pure: bytes in, frames out; sockets live in [`crate::peer`]. The count is checked against the
//! limit of the connection before anything is allocated: a hostile peer can lose its connection,
//! not our memory.

use std::io;

use bytes::{BufMut, BytesMut};
use prost::Message;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use crate::wire::proto::{Frame, frame::Kind};

/// Splits bytes into frames and back.
#[derive(Debug)]
pub(crate) struct FrameCodec(LengthDelimitedCodec);

/// Why bytes are not frames.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame is longer than this connection allows")]
    TooLong,
    #[error("a frame is not a protobuf message")]
    Protobuf(#[from] prost::DecodeError),
    #[error("a frame has no content this version knows")]
    Empty,
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        // The codec reports an oversized count as invalid data.
        match error.kind() {
            io::ErrorKind::InvalidData => Self::TooLong,
            _ => Self::Io(error),
        }
    }
}

impl FrameCodec {
    /// The codec for the greeting, when nothing is known of the peer.
    pub(crate) fn greeting() -> Self {
        let codec = LengthDelimitedCodec::builder()
            .length_field_length(4)
            .max_frame_length(GREETING_BYTES_MAX)
            .new_codec();
        Self(codec)
    }

    /// Allows what calls need, once the peer is known.
    pub(crate) fn allow_calls(&mut self) {
        self.0.set_max_frame_length(FRAME_BYTES_MAX);
    }
}

impl Decoder for FrameCodec {
    type Item = (u32, Kind);
    type Error = FrameError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Self::Item>, FrameError> {
        let Some(frame) = self.0.decode(bytes)? else { return Ok(None) };
        let frame = Frame::decode(frame.freeze())?;
        Ok(Some((frame.stream, frame.kind.ok_or(FrameError::Empty)?)))
    }
}

impl Encoder<(u32, Kind)> for FrameCodec {
    type Error = FrameError;

    fn encode(
        &mut self,
        (stream, kind): (u32, Kind),
        out: &mut BytesMut,
    ) -> Result<(), FrameError> {
        let frame = Frame { stream, kind: Some(kind) };
        // As the codec does it, but straight to its place: bodies are not copied twice.
        let len = u32::try_from(frame.encoded_len()).ok();
        let len = len.filter(|len| *len as usize <= self.0.max_frame_length());
        let len = len.ok_or(FrameError::TooLong)?;
        out.reserve(4 + len as usize);
        out.put_u32(len);
        frame.encode(out).map_err(|_| FrameError::TooLong)
    }
}

/// Whether a frame can be sent once the peer is known.
pub(crate) fn fits(stream: u32, kind: &Kind) -> bool {
    let head = Frame { stream, kind: None };
    head.encoded_len() + kind.encoded_len() <= FRAME_BYTES_MAX
}

/// A frame from a peer that has not proved who it is.
pub(crate) const GREETING_BYTES_MAX: usize = 4 * 1024;
/// Any other frame: a layout snapshot or a page of records. Bodies travel in smaller slices.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// One slice of a body: a more urgent call waits for no more than this.
pub(crate) const SLICE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::Ping;

    fn ping(nonce: u64) -> (u32, Kind) {
        (0, Kind::Ping(Ping { nonce, unix_ms: 0 }))
    }

    #[test]
    fn frames_come_back_however_the_bytes_arrive() {
        let mut codec = FrameCodec::greeting();
        let mut bytes = BytesMut::new();
        codec.encode(ping(7), &mut bytes).unwrap();
        codec.encode(ping(8), &mut bytes).unwrap();
        let mut arriving = BytesMut::new();
        let mut seen = Vec::new();
        for byte in bytes {
            arriving.extend_from_slice(&[byte]);
            seen.extend(codec.decode(&mut arriving).unwrap());
        }
        assert_eq!(seen, [ping(7), ping(8)]);
    }

    #[test]
    fn a_golden_frame_pins_the_bytes() {
        let mut bytes = BytesMut::new();
        FrameCodec::greeting().encode(ping(7), &mut bytes).unwrap();
        assert_eq!(bytes[..], [0, 0, 0, 4, 0x2a, 2, 8, 7]);
    }

    #[test]
    fn an_oversized_count_is_refused_before_its_bytes_arrive() {
        let mut codec = FrameCodec::greeting();
        let mut bytes = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(matches!(codec.decode(&mut bytes), Err(FrameError::TooLong)));
        assert!(bytes.capacity() <= GREETING_BYTES_MAX);
    }

    #[test]
    fn garbage_is_refused() {
        let mut codec = FrameCodec::greeting();
        for (count, content, why) in
            [(3, &b"\xff\xff\xff"[..], "no protobuf"), (0, b"", "no content")]
        {
            let mut bytes = BytesMut::from(&[0, 0, 0, count][..]);
            bytes.extend_from_slice(content);
            assert!(codec.decode(&mut bytes).is_err(), "{why}");
        }
    }
}
