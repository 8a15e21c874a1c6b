//! The canonical encoding: what is signed, hashed and kept on disk.
//!
//! Integers are big-endian, variable parts carry a `u32` byte count, lists a `u32` item count.
//! One value has exactly one encoding, so equal values have equal hashes; protobuf, which does
//! not promise that, is used on the wire only. Decoding never allocates more than the input holds.

use bytes::Bytes;

/// Why bytes are not the canonical encoding of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a field.
    #[error("ends too early")]
    Truncated,
    /// The input goes on after the value.
    #[error("has bytes after its end")]
    Trailing,
    /// A field holds a value this format does not allow.
    #[error("field {0} is not valid")]
    Invalid(&'static str),
    /// A list or byte string is longer than its limit.
    #[error("field {0} is over its limit")]
    TooLong(&'static str),
    /// Written by a newer program.
    #[error("has unknown format version {0}")]
    UnknownVersion(u8),
}

/// A value with one canonical encoding.
pub trait Canonical: Sized {
    /// Appends the encoding of `self`.
    fn encode(&self, out: &mut Writer);

    /// Reads one value and leaves the rest.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not such a value.
    fn decode(input: &mut Reader) -> Result<Self, DecodeError>;

    /// The whole encoding of `self`.
    fn to_canonical(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.encode(&mut out);
        out.0
    }

    /// Reads a value that must take up all of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not exactly one such value.
    fn from_canonical(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes.into());
        let value = Self::decode(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

/// Builds a canonical encoding.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends a big-endian `u16`.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a big-endian `u32`.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a big-endian `u64`.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends bytes whose count both sides know.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends a byte count and the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.fixed(bytes);
    }

    /// Appends an item count and the items.
    pub fn list<T: Canonical>(&mut self, items: &[T]) {
        self.count(items.len());
        for item in items {
            item.encode(self);
        }
    }

    /// Appends a count.
    ///
    /// # Panics
    /// When `count` exceeds `u32::MAX`: every list and byte string here is far below it.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("a count fits 32 bits"));
    }

    /// The bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The finished bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a canonical encoding apart. Byte strings are shared with the input, not copied.
#[derive(Debug)]
pub struct Reader(Bytes);

impl Reader {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if self.0.len() < len {
            return Err(DecodeError::Truncated);
        }
        Ok(self.0.split_to(len))
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end of the input.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads a big-endian `u16`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end of the input.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Reads a big-endian `u32`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end of the input.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Reads a big-endian `u64`.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end of the input.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end of the input.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        bytes.as_ref().try_into().map_err(|_| DecodeError::Truncated)
    }

    /// Reads a byte count, refuses it above `max`, and reads the bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when there are too few or too many bytes.
    pub fn bytes(&mut self, field: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let len = self.count(field, max)?;
        self.take(len)
    }

    /// Reads a UTF-8 string of at most `max` bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when it is too long or not UTF-8.
    pub fn string(&mut self, field: &'static str, max: usize) -> Result<String, DecodeError> {
        String::from_utf8(self.bytes(field, max)?.to_vec()).map_err(|_| DecodeError::Invalid(field))
    }

    /// Reads a string that people are shown: without control characters, which would let whoever
    /// wrote it move about on their terminals.
    ///
    /// # Errors
    /// [`DecodeError`] when it is too long, not UTF-8 or holds a control character.
    pub fn text(&mut self, field: &'static str, max: usize) -> Result<String, DecodeError> {
        let text = self.string(field, max)?;
        match text.chars().any(char::is_control) {
            true => Err(DecodeError::Invalid(field)),
            false => Ok(text),
        }
    }

    /// Reads an item count, refuses it above `max`, and reads the items.
    ///
    /// # Errors
    /// [`DecodeError`] when an item is not valid or the count is over the limit.
    pub fn list<T: Canonical>(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(field, max)?;
        // Every item takes at least one byte, so a lying count cannot reserve beyond the input.
        let mut items = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            items.push(T::decode(self)?);
        }
        Ok(items)
    }

    /// Reads a count of at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above `max`.
    pub fn count(&mut self, field: &'static str, max: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > max { Err(DecodeError::TooLong(field)) } else { Ok(count) }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when something is.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}
